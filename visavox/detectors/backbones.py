"""Image networks by their names in timm."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, cast

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    class ImageNetwork(nn.Module):
        """What is used of the networks of timm, which has no types."""

        num_features: int
        forward_features: Callable[[Tensor], Tensor]
        """(N, 3, H, W) -> (N, num_features, h, w)."""
        forward_head: Callable[..., Tensor]
        """(N, num_features, h, w) -> (N, classes); with pre_logits=True (N, num_features)."""
        get_classifier: Callable[[], nn.Module]
        """The layer (N, num_features) -> (N, classes)."""


def timm_network(name: str, field: str, classes: int = 0) -> ImageNetwork:
    """Return a network of timm with fresh weights: (N, 3, H, W) -> (N, classes), or its features (N, num_features).

    Args:
        name: as timm calls it.
        field: the setting below `detector.` that named it, for the message.
        classes: 0 leaves the classifier out.

    Raises:
        ValueError: timm has no such network; the message names those that are near.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"detector.{field}={name}: timm has no such network; near: {', '.join(near) or 'none'}")
    return cast("ImageNetwork", timm.create_model(name, pretrained=False, num_classes=classes))
