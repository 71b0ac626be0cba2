"""Early exit: clips whose patches are all surely real skip the heavy branches, where validation vouches for the recall."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""Of the interval whose lower bound has to reach the recall that is asked for."""


class Gate(NamedTuple):
    """Lets a clip exit where the gate's score lies below the threshold."""

    threshold: float
    """On `tiny_prob_max`, the largest mean probability of a face's patches; 0 lets nothing exit: the gate is shut."""
    recall: float
    """Share of fake validation clips that do not exit."""
    low: float
    """95 % interval of that recall, exact (Clopper and Pearson, 1934); clips count as independent."""
    high: float
    fakes: int
    """Fake validation clips."""
    exits: float
    """Share of real validation clips that exit; NaN without any."""
    wanted: float = 0.99
    """The recall that was asked for."""

    @property
    def open(self) -> bool:
        """Whether the interval vouches for the recall that was asked for, so that clips may exit."""
        return self.threshold > 0 and self.low >= self.wanted

    def lets_out(self, score: float) -> bool:
        """Return whether a clip of this `tiny_prob_max` exits."""
        return self.open and score < self.threshold

    def warning(self) -> str:
        """Return why the gate is shut, and what would open it; "" where it is open."""
        if self.open:
            return ""
        needed = fakes_needed(self.wanted)
        if self.fakes < needed:
            return (
                f"the gate stays shut: {self.fakes} fake validation clips cannot vouch for a recall of {self.wanted:g} "
                f"({1 - LEVEL:.0%} error), {needed} would; or ask for less with detector.gate_recall"
            )
        return "the gate stays shut: a fake validation clip scores 0, so no threshold lets real clips out and keeps it"

    def __str__(self) -> str:
        if not self.open:
            return self.warning()
        return (
            f"gate: exit below {self.threshold:.4f}; recall {self.recall:.4f} [{self.low:.4f}, {self.high:.4f}] of "
            f"{self.fakes} fake validation clips, asked for {self.wanted:g}; {self.exits:.1%} of the real ones exit"
        )


def fit_gate(labels: np.ndarray, scores: np.ndarray, recall: float) -> Gate:
    """Choose the highest threshold for which the fakes that it keeps vouch for `recall`; shut where none does.

    How many fakes may be lost follows from how many there are, not from their scores: as many as leave the lower bound of the
    exact interval at `recall` or above. So the recall on new clips of the same kind is at least `recall` with probability
    0.975, whatever the scores' distribution (Wilks, 1941: tolerance limits from order statistics).

    Args:
        labels: (N,) 0 or 1 = fake.
        scores: (N,) in [0, 1], higher = more fake.
        recall: share of fakes that must not exit, in (0, 1).

    Raises:
        ValueError: `recall` is no such share.
    """
    if not 0 < recall < 1:
        raise ValueError(
            f"a gate needs a recall between 0 and 1, found {recall}; no finite number of clips vouches for 1"
        )
    fakes, reals = np.sort(scores[labels == 1]), scores[labels == 0]
    lost = most_lost(len(fakes), recall)
    threshold = 0.0 if lost is None else float(fakes[lost])
    kept = int((fakes >= threshold).sum())
    low, high = exact_interval(kept, len(fakes)) if len(fakes) else (0.0, 1.0)
    exits = float((reals < threshold).mean()) if len(reals) else float("nan")
    return Gate(threshold, kept / len(fakes) if len(fakes) else 1.0, low, high, len(fakes), exits, recall)


def most_lost(fakes: int, recall: float) -> int | None:
    """Return how many of so many fakes may exit while the rest vouch for `recall`; None where not even all of them do."""
    if fakes < fakes_needed(recall):
        return None
    lost = 0
    while exact_interval(fakes - lost - 1, fakes)[0] >= recall:
        lost += 1
    return lost


def fakes_needed(recall: float) -> int:
    """Return how many fakes, all kept, have an interval whose lower bound is at `recall`: 368 for 0.99."""
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log(recall))


def exact_interval(hits: int, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share of independent trials (Clopper and Pearson, 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = beta.ppf(tail, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, count - hits) if hits < count else 1.0
    return float(low), float(high)
