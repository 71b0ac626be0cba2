"""What a face detector is and gives."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Detections(NamedTuple):
    """The N faces of one frame."""

    boxes: np.ndarray  # (N, 4) float32 xyxy source pixels
    scores: np.ndarray  # (N,) float32 in (0, 1]
    landmarks: np.ndarray  # (N, 5, 2) float32 source pixels


class FaceDetector(Protocol):
    """Anything that finds faces. What it returns is taken for a face: thresholds are the detector's own."""

    name: str
    landmark_source: str  # "retinaface", or "template" where landmarks are guessed from the box

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Frames (H, W, 3) uint8 RGB -> the faces of each, independent of what else is in the batch."""
