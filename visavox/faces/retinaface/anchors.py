"""RetinaFace's anchors and what the network's offsets mean: everything in pixels of the network's input.

Two square anchors sit on the centre of each cell of three feature maps, row by row, the finest map first. The published
code divides them by the image's size and multiplies the decoded boxes by it again; in pixels both steps fall away.
Variances as published (0.1 for positions, 0.2 for log sizes), after Liu et al., SSD, ECCV 2016.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

STRIDES = (8, 16, 32)
ANCHOR_SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
ANCHORS_PER_CELL = 2
POSITION_VARIANCE = 0.1
SIZE_VARIANCE = 0.2


@lru_cache(maxsize=16)
def anchors(height: int, width: int, device: str | torch.device = "cpu") -> Tensor:
    """Anchors (P, 4) of an input of height x width pixels: centre x, centre y, width, height. Shared: do not modify."""
    levels = []
    for stride, sizes in zip(STRIDES, ANCHOR_SIZES):
        y = (torch.arange(ceil(height / stride), device=device) + 0.5) * stride
        x = (torch.arange(ceil(width / stride), device=device) + 0.5) * stride
        cy, cx, size = torch.meshgrid(y, x, torch.tensor(sizes, device=device), indexing="ij")  # (h, w, 2) each
        levels.append(torch.stack([cx, cy, size, size], dim=-1).reshape(-1, 4))  # (h * w * 2, 4)
    return torch.cat(levels)  # (P, 4)


def decode_boxes(offsets: Tensor, priors: Tensor) -> Tensor:
    """Offsets (N, 4) from anchors (N, 4) -> boxes (N, 4) xyxy, in the anchors' pixels."""
    centre = priors[:, :2] + POSITION_VARIANCE * offsets[:, :2] * priors[:, 2:]
    half = priors[:, 2:] * torch.exp(SIZE_VARIANCE * offsets[:, 2:]) / 2
    return torch.cat([centre - half, centre + half], dim=1)


def decode_landmarks(offsets: Tensor, priors: Tensor) -> Tensor:
    """Offsets (N, 10) from anchors (N, 4) -> five points (N, 5, 2), x and y in the anchors' pixels."""
    return priors[:, None, :2] + POSITION_VARIANCE * offsets.reshape(-1, 5, 2) * priors[:, None, 2:]
