"""Boxes: overlap and matching."""

from __future__ import annotations

import numpy as np


def match(a: np.ndarray, b: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Return the pairs (i, j) of boxes a (N, 4) and b (M, 4) with IoU >= least whose IoUs have the largest sum."""
    overlap = iou(a[:, None], b[None])  # (N, M)
    overlap = np.where(overlap >= least, overlap, 0)
    rows, columns = (each.tolist() for each in np.nonzero(overlap))
    if len(rows) == len(set(rows)) == len(set(columns)):  # no box has a choice
        return list(zip(rows, columns))
    from scipy.optimize import linear_sum_assignment  # half of the start of a process that crops

    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(-overlap)) if overlap[i, j] > 0]


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes (..., 4) and (..., 4), broadcast -> (...)."""
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.clip(overlap, 0, None).prod(-1)
    union = area(a) + area(b) - common
    return np.divide(common, union, out=np.zeros_like(union), where=union > 0)


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (...) of boxes (..., 4), square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
