"""Where in a face crop the face is: outlines from five landmarks, steadied over time, and the masks they make.

T frames · S side of a crop in pixels · P points of an outline

The outlines are a model: fixed polygons in the frame that eyes and mouth span, x in distances between the eyes from the middle
between them, y in distances from there to the middle of the mouth. Breadth and chin are those of anthropometry (face breadth
137 mm over 63 mm between the pupils; chin to mouth 0.65 of mouth to eyes); what a face turned aside lacks of it is cut off by
the face box, with which every mask is intersected.
"""

from __future__ import annotations

import json

import cv2
import numpy as np

from visavox.faces.cropping import to_crop
from visavox.pseudofakes.footage import Footage

CHEEK = [(1.09, 0.1), (1.07, 0.5), (0.98, 0.9), (0.8, 1.25), (0.5, 1.52), (0.2, 1.64)]
RIGHT_HALVES = {
    "face": [(0.3, -0.4), (0.7, -0.42), (0.98, -0.25), *CHEEK],
    "whole": [(0.3, -0.8), (0.7, -0.7), (0.98, -0.35), *CHEEK],
    "lower": [(0.25, 0.45), (0.75, 0.55), *CHEEK[2:]],
    "lips": [(0.2, 0.74), (0.42, 0.84), (0.56, 1.0), (0.46, 1.2), (0.2, 1.32)],
}
"""Outlines, their right halves: `face` is the hull of 68 landmarks, `whole` that of 81 (with the forehead), both as modelled."""
STILL, STEP = 0.35, 0.2
"""Pixels of a 224-pixel crop: landmarks that move further than STILL advance by about STEP a frame (FakeSTormer, 2025)."""
LAG = 3.0
"""Pixels of a 224-pixel crop by which they stay behind at most; without it a turning head leaves its mask."""


def outlines(landmarks: np.ndarray, part: str, jitter: np.ndarray | None = None) -> np.ndarray:
    """Outline of a part of the face: landmarks (T, 5, 2) crop pixels -> (T, P, 2) float32.

    Args:
        part: a key of RIGHT_HALVES.
        jitter: (P, 2), added to the outline in its own frame.
    """
    right = np.array(RIGHT_HALVES[part])
    outline = np.concatenate([right, right[::-1] * [-1, 1]])  # (P, 2), closed
    outline = outline if jitter is None else outline + jitter[: len(outline)]
    left_eye, right_eye, _, left_corner, right_corner = np.moveaxis(landmarks.astype(np.float64), 1, 0)  # (T, 2) each
    middle, mouth = (left_eye + right_eye) / 2, (left_corner + right_corner) / 2
    x, y = right_eye - left_eye, mouth - middle
    placed = middle[:, None] + outline[None, :, :1] * x[:, None] + outline[None, :, 1:] * y[:, None]
    return placed.astype(np.float32)  # (T, P, 2)


def steady(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Landmarks that do not tremble: (T, 5, 2) crop pixels of crops of this size -> (T, 5, 2) float32."""
    unit = size / 224
    out = landmarks.astype(np.float64).copy()
    for t in range(1, len(out)):
        step = landmarks[t] - out[t - 1]
        far = float(np.linalg.norm(step, axis=1).mean())
        if far > STILL * unit:
            share = max(1 / max(1, round(far / (STEP * unit))), 1 - LAG * unit / far)
            out[t] = out[t - 1] + share * step
    return out.astype(np.float32)


def face_boxes(footage: Footage) -> np.ndarray:
    """Return the face boxes in crop pixels, (T, 4) float64 xyxy."""
    boxes = footage.bundle.boxes[footage.chosen].astype(np.float64)
    margin, size = json.loads(footage.bundle.settings)["face_margin"], footage.frames.shape[1]
    return to_crop(boxes.reshape(-1, 2, 2), boxes, size, margin).reshape(-1, 4)


def filled(outline: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Mask of an outline (P, 2) within a box (4,) xyxy: (size, size) float32, 0 or 1."""
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [np.round(cv2.convexHull(outline)).astype(np.int32)], 1.0)
    x0, y0, x1, y1 = np.clip(np.round(box), 0, size).astype(int)
    inside = np.zeros_like(mask)
    inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    return inside
