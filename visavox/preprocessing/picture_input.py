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
    """Pillow's filter, which averages where it shrinks."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, picture: np.ndarray) -> torch.Tensor:
        """(H, W, 3) uint8 RGB, any size -> (3, size, size) float32. Sides are resized apart: the proportion is not kept."""
        import torch
        from PIL import Image

        image = Image.fromarray(picture)
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling[self.resample.upper()])
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255  # (3, S, S)
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]
