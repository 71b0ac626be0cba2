"""Image networks by their names in timm."""

from __future__ import annotations

from torch import nn


def timm_network(name: str, field: str, classes: int = 0) -> nn.Module:
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
        import difflib

        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"detector.{field}={name}: timm has no such network; near: {', '.join(near) or 'none'}")
    return timm.create_model(name, pretrained=False, num_classes=classes)
