"""Which of many parts of a clip a network is shown: one of each of as many equal stretches."""

from __future__ import annotations

import numpy as np


def choose(kept: int, wanted: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Return positions (wanted,) int64, rising, one in each of `wanted` equal strata of range(kept): its centre, or at random.

    Where fewer are kept than wanted, neighbours are the same.
    """
    bounds = np.arange(wanted + 1) * kept // wanted
    if rng is None:
        chosen = (bounds[:-1] + bounds[1:]) // 2
    else:
        chosen = rng.integers(bounds[:-1], np.maximum(bounds[1:], bounds[:-1] + 1))
    return np.minimum(chosen, kept - 1)
