"""Turn, scale and cut a face by its five landmarks, as GenD's makers do (yermandy/GenD e03532d, `align_face` of detector.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from visavox.faces import Detections, FaceDetector

PLACES = np.array([[0.34, 0.46], [0.66, 0.46], [0.5, 0.64], [0.37, 0.82], [0.63, 0.82]])
"""Where both eyes, the nose and the corners of the mouth come to lie, in shares of the face's square before the margin."""
SCALE = 1.3
"""The square that is cut, in sides of the face's square."""


def natural_size(landmarks: np.ndarray, scale: float = SCALE) -> int:
    """Return the side in pixels at which a face is neither enlarged nor shrunk: landmarks (5, 2) xy pixels."""
    first, second = np.triu_indices(len(PLACES), k=1)
    points = landmarks.astype(np.float32)
    found = np.linalg.norm(points[first] - points[second], axis=1)
    wanted = np.linalg.norm(PLACES[first] - PLACES[second], axis=1)
    return max(1, int(np.round(np.mean(found / wanted) * scale)))


def align(frame: np.ndarray, landmarks: np.ndarray, size: int | None = None, scale: float = SCALE) -> np.ndarray | None:
    """Return the aligned face: frame (H, W, 3) uint8 RGB, landmarks (5, 2) -> (size, size, 3) uint8, black outside the frame.

    Args:
        size: in pixels; None takes `natural_size`, as published.

    Returns:
        The face; None where no similarity fits the landmarks, such as five equal points.
    """
    side = size or natural_size(landmarks, scale)
    margin = side * (scale - 1) / 2
    places = PLACES.astype(np.float32)  # (5, 2)
    for step in (lambda xy: xy * side, lambda xy: xy + margin, lambda xy: xy * (side / (side + 2 * margin))):
        places = step(places.astype(np.float64)).astype(np.float32)  # rounded as published: the resampling shows it
    matrix = cv2.estimateAffinePartial2D(landmarks.astype(np.float32), places, method=cv2.LMEDS)[0]
    if matrix is None:
        return None
    return cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_LINEAR)


class LargestFace:
    """The largest face of a frame, aligned.

    Args:
        faces: finds faces and their landmarks.
    """

    def __init__(self, faces: FaceDetector, scale: float = SCALE) -> None:
        self.faces, self.scale = faces, scale

    def __call__(self, frame: np.ndarray) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB -> the aligned face at its natural size, or None without one."""
        return self.of([frame])[0]

    def of(self, frames: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Return the face of each frame."""
        return [self._aligned(frame, found) for frame, found in zip(frames, self.faces.detect(frames), strict=True)]

    def _aligned(self, frame: np.ndarray, found: Detections) -> np.ndarray | None:
        boxes, landmarks = found.boxes, found.landmarks
        if not len(boxes):
            return None
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return align(frame, landmarks[int(np.argmax(areas))], scale=self.scale)
