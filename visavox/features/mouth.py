"""The mouth of a face crop."""

from __future__ import annotations

import cv2
import numpy as np

EYE_DISTANCES = 1.5
"""Side of the mouth crop in distances between the eyes: lips and jaw, in a template's box too."""
MOUTH_ROW = 0.42
"""Height at which the corners of the mouth come to lie, 0 = top: the jaw needs more room than the upper lip."""


def mouth(face: np.ndarray, landmarks: np.ndarray, size: int) -> np.ndarray:
    """An upright square about the mouth: face (S', S', 3) uint8, landmarks (5, 2) pixels -> (size, size, 3)."""
    left_eye, right_eye, _, left_corner, right_corner = landmarks.astype(np.float64)
    (dx, dy), (x, y) = right_eye - left_eye, (left_corner + right_corner) / 2
    scale = size / EYE_DISTANCES / max(dx**2 + dy**2, 1.0)
    turn = scale * np.array([[dx, dy], [-dy, dx]])  # eyes level, size / EYE_DISTANCES apart
    shift = np.array([size / 2, size * MOUTH_ROW]) - turn @ (x, y)
    return cv2.warpAffine(face, np.column_stack([turn, shift]), (size, size), borderMode=cv2.BORDER_REPLICATE)
