"""Early exit: clips whose patches are all surely real skip the heavy branches, at a stated recall."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Gate(NamedTuple):
    """Lets a clip exit where the gate's score lies below the threshold."""

    threshold: float
    """On `tiny_prob_max`, the largest mean probability of a face's patches; 0 lets nothing exit."""
    recall: float
    """Share of fake validation clips that do not exit."""
    low: float
    """95 % interval of that recall, exact (Clopper and Pearson, 1934)."""
    high: float
    fakes: int
    exits: float
    """Share of real validation clips that exit."""

    def warning(self, wanted: float) -> str:
        """Return what to say where so few fakes cannot vouch for the recall that was asked for, else ""."""
        if self.low >= wanted:
            return ""
        return f"{self.fakes} fake validation clips cannot vouch for a recall of {wanted:g}: it may be {self.low:.3f}"

    def __str__(self) -> str:
        return (
            f"gate: exit below {self.threshold:.4f}; recall {self.recall:.4f} [{self.low:.4f}, {self.high:.4f}] of "
            f"{self.fakes} fake validation clips, {self.exits:.1%} of the real ones exit"
        )


def fit_gate(labels: np.ndarray, scores: np.ndarray, recall: float) -> Gate:
    """Choose the highest threshold that keeps `recall` of the fakes: labels (N,) 0 or 1, scores (N,) P(fake).

    Raises:
        ValueError: there are no fakes, or `recall` is no share.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"a gate needs a recall above 0 and up to 1, found {recall}")
    fakes, reals = np.sort(scores[labels == 1]), scores[labels == 0]
    if not len(fakes):
        raise ValueError("a gate is chosen on fake validation clips, and there are none")
    lost = math.floor((1 - recall) * len(fakes) + 1e-9)
    threshold = float(fakes[lost])
    kept = int((fakes >= threshold).sum())
    low, high = exact_interval(kept, len(fakes))
    exits = float((reals < threshold).mean()) if len(reals) else float("nan")
    return Gate(threshold, kept / len(fakes), low, high, len(fakes), exits)


def exact_interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share of independent trials (Clopper and Pearson, 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = beta.ppf(tail, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, count - hits) if hits < count else 1.0
    return float(low), float(high)
