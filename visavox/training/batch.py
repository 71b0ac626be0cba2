"""One labelled clip, or a batch of them."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from torch import Tensor

log = logging.getLogger(__name__)


class Example(NamedTuple):
    """One labelled clip, or a batch of them once collated."""

    clip: Any
    """What `Detector.prepare` gave: a NamedTuple of tensors."""
    label: Tensor
    """() or (B,) float32: 1 = fake; or int64, the place of its class (`visavox.splits.classes`)."""
