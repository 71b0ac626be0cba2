"""Settings of GenD: which vision transformer is tuned, and how its features are kept apart."""

from typing import Literal

from pydantic import Field

from visavox.config.base import Settings


class GenDConfig(Settings):
    """A foundation model for pictures over aligned faces, of which only the layer norms are tuned (GenD, WACV 2026)."""

    name: Literal["gend"] = "gend"
    """Which detector; each has settings of its own."""
    backbone: str = "clip_l14"
    """`clip_l14`, `dinov3_l16` (both need the extra `foundation`), or a vision transformer by its name in timm, such as
    `vit_pe_core_large_patch14_336`."""
    layers: int | None = Field(None, ge=1)
    """Layers of clip_l14 or dinov3_l16; null takes the published 24."""
    head: Literal["linear", "LinearNorm"] = "LinearNorm"
    """`LinearNorm` brings features to length 1 before the linear layer."""
    size: int = Field(224, ge=32)
    """Side in pixels of the aligned faces that the network sees."""
    train: Literal["norms", "all"] = "norms"
    """Which parameters are trained beside the head: the layer norms (0.03 % as published), or all."""
    uniformity: float = Field(0.5, ge=0)
    """Weight of the loss that spreads features over the sphere."""
    alignment: float = Field(0.1, ge=0)
    """Weight of the loss that draws features of one class together."""
    max_frames: int = Field(32, ge=1)
    """Faces of a clip that are scored; the mean of their probabilities is the clip's."""
