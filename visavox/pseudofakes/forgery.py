"""What a generator gives, and the parts of a clip in which it forges.

T frames of the stretch
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from visavox.pseudofakes.footage import Footage

Where = Literal["picture", "sound"]
Span = tuple[int, int]
"""First frame and one past the last."""
SHORT = (0.2, 2.0)
"""Seconds of a planted segment."""


class Segment(NamedTuple):
    """A stretch of frames that are forged, counted from the first of the clip."""

    first: int
    last: int
    """One past the last."""
    where: Where
    """What is forged there."""


class Forgery(NamedTuple):
    """Footage in which something is forged."""

    footage: Footage
    segments: tuple[Segment, ...]
    """All that is forged, in order; outside of it picture and sound are bit for bit those that were given."""
    masks: np.ndarray | None = None
    """(T, S, S) uint8: 255 times the share of the forgery in each pixel; None where it has no outline."""


Generator = Callable[[Footage, Span, np.random.Generator, Footage | None], Forgery]
"""(footage, frames that may be forged, randomness, a clip of somebody else or None) -> Forgery."""


def gates(
    span: Span, rng: np.random.Generator, fps: float, seconds: tuple[float, float], hop: float = 1.0, on: float = 0.6
) -> list[Span]:
    """Draw the windows in which something is forged: one begins every `hop` seconds, each is on with probability `on`.

    Args:
        seconds: shortest and longest window; windows that touch are one.

    Returns:
        At least one window, in order, all within the span; the span itself where it is no longer than the shortest.
    """
    first, last = span
    if last - first <= seconds[0] * fps:
        return [span]
    windows: list[Span] = []
    every = max(1, round(hop * fps))
    starts = np.arange(first + int(rng.integers(every)), last, every)
    starts = starts if len(starts) else np.array([first])
    drawn = rng.random(len(starts)) < on
    drawn[rng.integers(len(starts))] = True
    for start, go in zip(starts.tolist(), drawn):
        length = max(1, round(rng.uniform(*seconds) * fps))
        if not go or last - start < 2:
            continue
        if windows and windows[-1][1] >= start:
            windows[-1] = (windows[-1][0], max(windows[-1][1], min(last, start + length)))
        else:
            windows.append((start, min(last, start + length)))
    return windows or [(max(first, last - round(seconds[0] * fps)), last)]


def short_span(span: Span, rng: np.random.Generator, fps: float, seconds: tuple[float, float] = SHORT) -> Span:
    """Draw one window of so many seconds within a span."""
    first, last = span
    length = min(last - first, max(2, round(rng.uniform(*seconds) * fps)))
    start = int(rng.integers(first, last - length + 1))
    return start, start + length


def ramp(windows: Sequence[Span], length: int, rise: int) -> np.ndarray:
    """Weights that rise and fall within their windows: (length,) float64 in [0, 1], 0 outside, above 0 everywhere inside."""
    weights = np.zeros(length)
    for first, last in windows:
        at = np.arange(last - first)
        near = np.minimum(at, at[::-1]) + 1  # steps from the nearer end
        weights[first:last] = np.minimum(1.0, near / (rise + 1))
    return weights
