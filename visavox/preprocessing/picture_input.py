"""How a picture becomes what a published network was trained on, as data that code reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet, RGB in [0, 1]."""
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and deviation of OpenAI's CLIP, RGB in [0, 1] (openai/CLIP, `_transform`)."""
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class PictureInput:
    """Resize to a square, scale to [0, 1], standardise."""

    size: int
    """Side in pixels."""
    resample: Literal["bilinear", "bicubic"]
    """The filter, which averages where it shrinks."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rounded: bool = True
    """Whether Pillow resizes in 8 bits, or torch what was scaled to [0, 1], without rounding."""

    def __call__(self, picture: np.ndarray) -> torch.Tensor:
        """(H, W, 3) uint8 RGB, any size -> (3, size, size) float32. Sides are resized apart: the proportion is not kept."""
        import torch
        from PIL import Image
        from torch.nn.functional import interpolate

        side = (self.size, self.size)
        if picture.shape[:2] != side and self.rounded:
            filtered = Image.Resampling[self.resample.upper()]
            picture = np.asarray(Image.fromarray(picture).resize(side, filtered))
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255  # (3, h, w)
        if pixels.shape[1:] != side:
            pixels = interpolate(pixels[None], side, mode=self.resample, antialias=True)[0]  # (3, S, S)
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]

    def seen(self, standardised: torch.Tensor) -> np.ndarray:
        """Return what the network sees as a picture: (3, size, size) float32 -> (size, size, 3) uint8 RGB."""
        import torch

        pixels = standardised * torch.tensor(self.std)[:, None, None] + torch.tensor(self.mean)[:, None, None]
        return (255 * pixels).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
