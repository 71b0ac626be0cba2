"""What a face detector is and gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

FAINT = 0.5
"""A face counts as faint from this share of the detector's threshold on."""


class Detections(NamedTuple):
    """The N faces of one frame, the most certain first; boxes may reach beyond the frame.

    Landmarks in order: left eye, right eye, nose, left and right corner of the mouth; left is the image's left.
    """

    boxes: np.ndarray
    """(N, 4) float32 xyxy, source pixels."""
    scores: np.ndarray
    """(N,) float32 in 0..1."""
    landmarks: np.ndarray
    """(N, 5, 2) float32 xy, source pixels."""
    faint: Detections | None = None
    """Faces scored between FAINT times the threshold and the threshold. They are evidence only where a face is expected,
    beside the last box of a track; None where the detector gives none."""

    def at(self, chosen: np.ndarray) -> Detections:
        """Return the detections chosen by a mask (N,) or by positions, without the faint ones."""
        return Detections(self.boxes[chosen], self.scores[chosen], self.landmarks[chosen])

    def parted(self, threshold: float) -> Detections:
        """Return the faces scored above the threshold, the others as their `faint`."""
        certain = self.scores > threshold
        return self.at(certain)._replace(faint=self.at(~certain))

    def joined(self) -> Detections:
        """Return all faces, the faint ones after the others."""
        if self.faint is None:
            return self
        boxes, scores, landmarks = (np.concatenate(both) for both in zip(self[:3], self.faint[:3], strict=True))
        return Detections(boxes, scores, landmarks)

    def unscaled(self, scale: np.ndarray) -> Detections:
        """Return the detections in pixels of the frame, where they were made in one resized by scale (2,) in x and y."""
        boxes = (self.boxes.reshape(-1, 2, 2) / scale).reshape(-1, 4)
        faint = None if self.faint is None else self.faint.unscaled(scale)
        return Detections(boxes, self.scores, self.landmarks / scale, faint)


class FaceDetector(Protocol):
    """Anything that finds faces. What it returns is taken for a face: thresholds are the detector's own."""

    name: str
    landmark_source: str
    """`retinaface`, or `template` where landmarks are guessed from the box."""

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the faces of each frame (H, W, 3) uint8 RGB, independent of what else is in the batch."""
