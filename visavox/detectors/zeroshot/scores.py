"""Four scores of a clip from its curves; every one higher = more fake.

distance     mean distance at the best shift: a voice that fits no shift is far at all of them
cosine       minus the highest mean cosine over shifts (SpeechForensics, Liang et al., NeurIPS 2024)
centre       log-mean-exp over time of -log softmax at shift 0 (AVH-Align, Smeu et al., CVPR 2025, without its network)
percentile   minus the 3rd percentile over time of the cosine at shift 0 (FACTOR, Reiss et al., 2023)

n windows · V shifts
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visavox.detectors.zeroshot.curves import Curves

PERCENTILE = 3.0


class Scores(NamedTuple):
    """Of one clip."""

    clip: float
    """NaN where there is no window."""
    windows: np.ndarray
    """(n,) float64: the same, of each window by itself."""


def score(curves: Curves, name: str, temperature: float = 0.1) -> Scores:
    """Return one of the four scores, by name.

    Raises:
        ValueError: there is no score of that name.
    """
    if name not in SCORES:
        raise ValueError(f"detector.score={name!r}; there are {', '.join(SCORES)}")
    if not len(curves.starts):
        return Scores(float("nan"), np.zeros(0))
    return SCORES[name](curves, temperature)


def _distance(curves: Curves, temperature: float) -> Scores:
    means = _means(curves.distance)
    best = int(np.nanargmin(means))
    return Scores(float(means[best]), _filled(curves.distance[:, best]))


def _cosine(curves: Curves, temperature: float) -> Scores:
    means = _means(curves.cosine)
    best = int(np.nanargmax(means))
    return Scores(float(-means[best]), _filled(-curves.cosine[:, best]))


def _centre(curves: Curves, temperature: float) -> Scores:
    logits = np.where(np.isnan(curves.cosine), -np.inf, curves.cosine / temperature)  # (n, V)
    top = logits.max(1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(1))
    lack = total - logits[:, logits.shape[1] // 2]  # (n,) -log softmax at shift 0
    highest = lack.max()
    return Scores(float(highest + np.log(np.exp(lack - highest).mean())), lack)


def _percentile(curves: Curves, temperature: float) -> Scores:
    centre = curves.cosine[:, curves.cosine.shape[1] // 2]
    return Scores(float(-np.percentile(centre, PERCENTILE)), -centre)


def _means(values: np.ndarray) -> np.ndarray:
    """(n, V) -> (V,) means over windows; NaN for a shift at which none has a partner, as of speech at the very beginning."""
    there = ~np.isnan(values)
    count = there.sum(0)
    return np.divide(np.where(there, values, 0).sum(0), count, out=np.full(values.shape[1], np.nan), where=count > 0)


def _filled(values: np.ndarray) -> np.ndarray:
    """(n,) -> windows without a partner at this shift get the mean of the others."""
    return np.where(np.isnan(values), np.nanmean(values), values)


SCORES = {"distance": _distance, "cosine": _cosine, "centre": _centre, "percentile": _percentile}
