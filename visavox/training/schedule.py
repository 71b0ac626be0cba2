"""Learning rates over the steps of a run."""

from __future__ import annotations

import logging
import math

log = logging.getLogger(__name__)


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate at a step: linear to 1 over `warmup` steps, then half a cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
