"""P(fake) of each step of a clip, 25 a second: what localisation reads of any detector that says something over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from visavox.detectors.analysis import Analysis, Segment

if TYPE_CHECKING:
    from visavox.bundle import Bundle
    from visavox.detectors.scorer import Scorer


class Steps(NamedTuple):
    """A detector's opinion over time."""

    times: np.ndarray
    """(T,) float64 seconds of the video's clock at which each frame of the track begins."""
    fake: np.ndarray
    """(T,) float64 P(fake) in [0, 1]."""


class NoCurve(ValueError):
    """The detector judges the clip as a whole; the message says so."""


@runtime_checkable
class Stepwise(Protocol):
    """A scorer that judges single steps by itself."""

    def steps(self, bundle: Bundle) -> Steps:
        """Return P(fake) of each frame of the track."""


def steps_of(scorer: Scorer, bundle: Bundle) -> Steps:
    """Return P(fake) of each frame of the track: the scorer's own, or the time line of its analysis.

    Raises:
        NoCurve: the detector has neither.
    """
    if isinstance(scorer, Stepwise):
        return scorer.steps(bundle)
    return from_analysis(scorer.explain(bundle), bundle.times.astype(np.float64), 1 / float(bundle.fps))


def from_analysis(analysis: Analysis, times: np.ndarray, step: float = 0.04) -> Steps:
    """Read the time line of an analysis at steps that begin at `times` (T,) seconds.

    A step has the mean of the segments that hold its middle, or of the nearest ones where none does. Where the clip as a whole
    has no time line, those of its branches count by the branches' weights, or alike where no weight is above 0.

    Raises:
        NoCurve: there is no time line at all.
    """
    middles = np.asarray(times, np.float64) + step / 2
    if analysis.timeline:
        return Steps(np.asarray(times, np.float64), _read(analysis.timeline, middles))
    branches = [branch for branch in analysis.branches if branch.timeline]
    if not branches:
        raise NoCurve(as_a_whole(analysis.card.detector))
    weights = np.array([branch.weight for branch in branches])
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(branches), 1 / len(branches))
    curves = np.stack([_read(branch.timeline, middles) for branch in branches])  # (branches, T)
    return Steps(np.asarray(times, np.float64), weights @ curves)


def as_a_whole(detector: str) -> str:
    """Return what is said of a detector without a curve."""
    return (
        f"{detector} judges a clip as a whole and says nothing of its seconds; xception_video, xception_audio, their fusion, "
        "anomaly, fiveway and zeroshot do, and timesformer_syncnet trained with detector.auxiliary=true"
    )


def timeline_of(steps: Steps, step: float, every: int = 5) -> list[Segment]:
    """Return a time line of segments of `every` steps, each with their mean.

    Args:
        step: seconds.
    """
    line = []
    for first in range(0, len(steps.times), every):
        times, fake = steps.times[first : first + every], steps.fake[first : first + every]
        line.append(Segment(round(float(times[0]), 3), round(float(times[-1]) + step, 3), float(fake.mean())))
    return line


def _read(timeline: Sequence[Segment], middles: np.ndarray) -> np.ndarray:
    """Mean P(fake) of the segments at each of (T,) seconds -> (T,)."""
    total, count = np.zeros((2, len(middles)))
    for part in timeline:
        held = (part.start <= middles) & (middles < part.end)
        total[held] += part.probability
        count[held] += 1
    known = count > 0
    if not known.any():
        centres = np.array([(part.start + part.end) / 2 for part in timeline])
        nearest = np.abs(centres[None] - middles[:, None]).argmin(1)
        return np.array([timeline[i].probability for i in nearest])
    values = total[known] / count[known]
    return np.interp(middles, middles[known], values)
