"""A curve of scores over time to segments: thresholds, then soft non-maximum suppression.

T steps of a clip, 25 a second · P segments
"""

from __future__ import annotations

import numpy as np

ALPHA, T1, T2 = 0.7234, 0.1968, 0.4123
"""Soft-NMS as published for LAV-DF (BA-TFD+, Cai et al., 2023; `config/batfd_plus_default.toml`)."""
KEPT = 101
"""Segments kept of a clip, at most (`post_process.py` there)."""
LEVELS = 24
"""Thresholds that are tried, spread over the curve's range."""
MARGIN = 0.25
"""Of a segment's length: what lies this far beyond its ends is what it is compared with."""
LEAST_STEPS = 3
"""Steps of a segment, 0.12 s: what is shorter is noise."""


def propose(times: np.ndarray, curve: np.ndarray, step: float = 0.04) -> np.ndarray:
    """Return the segments in which a curve stands out, the highest score first: (P, 3) score, start, end in seconds.

    A segment is a run of steps at or above one of `LEVELS` thresholds between the curve's least and greatest value. Its score is
    the mean inside, times how far that stands above the mean of its surroundings (a quarter of its length on both sides; Shou et
    al., AutoLoc, ECCV 2018), with a half for a clip that is equally high throughout.

    Args:
        times: (T,) seconds at which steps begin, rising.
        curve: (T,) P(fake) in [0, 1].
        step: seconds of a step.
    """
    curve = np.asarray(curve, np.float64)
    if not len(curve):
        return np.zeros((0, 3))
    low, high = float(curve.min()), float(curve.max())
    levels = low + (high - low) * np.arange(1, LEVELS + 1) / (LEVELS + 1)
    runs = {(0, len(curve))}
    for level in levels:
        runs |= _runs(curve >= level)
    sums = np.concatenate([[0.0], np.cumsum(curve)])
    rows = [
        (_score(sums, first, last), float(times[first]), float(times[last - 1]) + step)
        for first, last in sorted(runs)
        if last - first >= min(LEAST_STEPS, len(curve))
    ]
    return soft_nms(np.array(rows))


def soft_nms(
    proposals: np.ndarray, alpha: float = ALPHA, t1: float = T1, t2: float = T2, kept: int = KEPT
) -> np.ndarray:
    """Lower the scores of segments that overlap a higher one, by exp(-overlap^2 / alpha): (P, 3) -> (at most `kept`, 3).

    Those are lowered whose overlap exceeds t1 + (t2 - t1) * seconds of the higher one (Bodla et al., 2017; the rule is that of
    BSN, Lin et al., 2018). The published loop leaves the last segment out; here it is kept.

    Args:
        proposals: score, start, end in seconds.
    """
    left = np.asarray(proposals, np.float64).reshape(-1, 3).copy()
    left = left[np.argsort(-left[:, 0], kind="stable")]
    chosen: list[np.ndarray] = []
    while len(left) and len(chosen) < kept:
        best = int(left[:, 0].argmax())
        _, start, end = left[best]
        shared = np.maximum(np.minimum(left[:, 2], end) - np.maximum(left[:, 1], start), 0)
        union = left[:, 2] - left[:, 1] - shared + end - start
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        chosen.append(left[best].copy())
        lowered = iou > t1 + (t2 - t1) * (end - start)
        left[lowered, 0] *= np.exp(-(iou[lowered] ** 2) / alpha)
        left = np.delete(left, best, axis=0)
    return np.array(chosen).reshape(-1, 3)


def _runs(on: np.ndarray) -> set[tuple[int, int]]:
    """First step and one past the last of each run of (T,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(np.int8), [0]])))
    return {(int(first), int(last)) for first, last in edges.reshape(-1, 2)}


def _score(sums: np.ndarray, first: int, last: int) -> float:
    """sums (T + 1,) of the curve up to each step -> score of steps first .. last - 1, in [0, 1]."""
    reach = max(1, round(MARGIN * (last - first)))
    left, right = max(0, first - reach), min(len(sums) - 1, last + reach)
    inside = (sums[last] - sums[first]) / (last - first)
    around = right - left - (last - first)
    if not around:
        return float(inside / 2)
    outside = (sums[right] - sums[left] - sums[last] + sums[first]) / around
    return float(inside * (1 + inside - outside) / 2)
