"""One labelled clip, or a batch of them."""

import logging
from typing import Any, NamedTuple

from torch import Tensor

log = logging.getLogger(__name__)


class Example(NamedTuple):
    """One labelled clip, or a batch of them once collated."""

    clip: Any
    """What `clip_of` gave: a NamedTuple of tensors."""
    label: Tensor
    """() or (B,) float32: 1 = fake."""
    index: Tensor
    """() or (B,) int64: row of the split."""
