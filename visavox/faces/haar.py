"""Faces by OpenCV's bundled Haar cascade: the detector that needs no download."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from cv2.data import haarcascades

from visavox.faces.detection import FAINT, Detections

# Of the bundled frontal cascades "alt" has the fewest false faces at as many found: on every 24th frame of 36
# talking-face clips (352 frames with one face each, longer side 480) alt misses 3 and adds 5, alt2 3 and 12.
CASCADE = "haarcascade_frontalface_alt.xml"
MIN_FACE = 24  # pixels of the searched picture; the cascade's own window is 20
SCALE_FACTOR = 1.1
MIN_NEIGHBORS = 3

# What turns the cascade's square (brow to chin, cheeks included) into a box as RetinaFace draws it (hairline to
# chin, no ears), in sides of the square: medians over the same frames, whose median IoU rises from 0.73 to 0.86.
CENTER_Y, WIDTH, HEIGHT = 0.025, 0.825, 1.137

# The last stage's sum of votes: true faces have 107.1 (1st percentile) to 110.8, false ones 106.3 to 107.0. A score of
# 0.9, at a sum of 107.0, parts them as it does RetinaFace's: 347 of 352 found, none added.
VOTES_HALF, VOTES_SCALE = 105.9, 0.5

# RetinaFace's landmarks in its own boxes, in box widths and heights: medians over the same clips.
TEMPLATE = np.array([[0.26, 0.386], [0.72, 0.383], [0.49, 0.568], [0.31, 0.751], [0.69, 0.747]], np.float32)


class HaarDetector:
    """Upright frontal faces. Frames whose longer side exceeds `max_size` pixels are shrunk to it, and a face must be
    MIN_FACE wide there; faces scored above `threshold` are kept. The landmarks are a template in the box.
    """

    name = "haar"
    landmark_source = "template"

    def __init__(self, *, max_size: int = 480, threshold: float = 0.9):
        self.max_size, self.threshold = max_size, threshold
        self.cascade = cv2.CascadeClassifier(haarcascades + CASCADE)

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the faces of each frame (H, W, 3) uint8 RGB."""
        return [self._detect_one(frame) for frame in frames]

    def _detect_one(self, frame: np.ndarray) -> Detections:
        scale = min(1.0, self.max_size / max(frame.shape[:2]))
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        squares, _, votes = self.cascade.detectMultiScale3(
            grey,
            scaleFactor=SCALE_FACTOR,
            minNeighbors=MIN_NEIGHBORS,
            minSize=(MIN_FACE, MIN_FACE),
            outputRejectLevels=True,
        )
        scores = 1 / (1 + np.exp((VOTES_HALF - np.reshape(votes, -1)) / VOTES_SCALE))
        kept = np.argsort(-scores, kind="stable")[: (scores > FAINT * self.threshold).sum()]
        boxes = as_retinaface(np.reshape(squares, (-1, 4))[kept] / scale)
        corner, extent = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
        found = Detections(boxes, scores[kept].astype(np.float32), corner + extent * TEMPLATE)
        return found.parted(self.threshold)


def as_retinaface(squares: np.ndarray) -> np.ndarray:
    """The cascade's squares (N, 4), x y width height -> boxes (N, 4) float32 xyxy as RetinaFace would draw them."""
    x, y, width, height = squares.T
    center_x, center_y = x + width / 2, y + height * (0.5 + CENTER_Y)
    half_width, half_height = width * WIDTH / 2, height * HEIGHT / 2
    sides = [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height]
    return np.stack(sides, -1).astype(np.float32)
