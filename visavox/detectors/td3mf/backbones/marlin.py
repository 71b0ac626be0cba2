"""MARLIN: a video masked autoencoder over faces (Cai et al., CVPR 2023; github.com/ControlNet/MARLIN, src/marlin_pytorch).

B clips of 16 frames · S = 224 · N = 1568 tokens, tubes of 2 frames and 16x16 pixels · D width
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from visavox.detectors.td3mf.backbones.base import FPS, Frame, State, device_of, resized, step_by_step

FRAMES, RATE = 16, 2
STRIDE = FRAMES * RATE
"""Frames of the track from one clip to the next; 32, so that clips do not overlap."""


@dataclass(frozen=True)
class Size:
    dim: int
    depth: int
    heads: int
    image: int = 224


SIZES = {
    "marlin_vit_small_ytf": Size(384, 12, 6),
    "marlin_vit_base_ytf": Size(768, 12, 12),
    "marlin_vit_large_ytf": Size(1024, 24, 16),
    "marlin_vit_tiny": Size(24, 2, 2, image=32),
}


class Marlin:
    """Clips of every second of 32 frames, RGB in [0, 1], each to the mean of its tokens."""

    kind: ClassVar[Literal["video"]] = "video"
    sample_rate = FPS
    step = STRIDE / FPS

    def __init__(self, name: str) -> None:
        self.name, self.size = name, SIZES[name]
        self.dim = self.size.dim
        self.encoder = MarlinEncoder(self.size)
        self.parts: dict[str, nn.Module] = {name: self.encoder}

    def named(self, part: str, state: State) -> tuple[State, tuple[str, ...]]:
        return {key.removeprefix("encoder."): value for key, value in state.items()}, (
            "decoder.*",
            "enc_dec_proj.*",
            "discriminator*",
        )

    def inputs(self, frame: Frame, count: int, steps: int) -> np.ndarray:
        """Clips of a track, (n, 16, S, S, 3) uint8 RGB."""
        return np.stack(
            [[resized(frame(t), self.size.image) for t in moments] for moments in clip_frames(count, steps)]
        )

    def encode(self, inputs: Tensor) -> Tensor:
        return self.encoder(inputs.permute(0, 4, 1, 2, 3).float() / 255)  # from (n, 3, 16, S, S)

    def features(self, frame: Frame, count: int, steps: int) -> np.ndarray:
        return step_by_step(self, frame, count, steps, device_of(self.encoder))


def clip_frames(count: int, steps: int) -> list[list[int]]:
    """Return which frames of a track of `count` are seen, 16 per clip, of at most `steps` clips.

    As published: every second frame of each 32, whole clips only. A track below 32 frames gives its first 16, one after the
    other, and one below 16 repeats its last. (Published code reads 16 in a row at exactly 32 frames too, and leaves the last
    clip out where the length is a multiple of 32.)
    """
    whole = min(count // STRIDE, steps)
    if whole:
        return [list(range(first, first + STRIDE, RATE)) for first in range(0, whole * STRIDE, STRIDE)]
    return [[min(t, count - 1) for t in range(FRAMES)]]


class MarlinEncoder(nn.Module):
    """ViT over tubes of a clip; names as published, below `encoder.` there."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        tokens = FRAMES // 2 * (size.image // 16) ** 2
        self.patch_embedding = PatchEmbedding(size.dim)
        self.pos_embedding = Positions(tokens, size.dim)
        self.norm = nn.LayerNorm(size.dim)
        self.blocks = nn.ModuleList(Block(size.dim, size.heads) for _ in range(size.depth))

    def forward(self, clips: Tensor) -> Tensor:
        """clips (B, 3, 16, S, S) in [0, 1] -> (B, D)."""
        x = self.patch_embedding(clips) + self.pos_embedding.emb  # (B, N, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x.mean(dim=1))


class PatchEmbedding(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv3d(3, dim, (2, 16, 16), stride=(2, 16, 16))

    def forward(self, clips: Tensor) -> Tensor:
        return self.projection(clips).flatten(2).transpose(1, 2)


class Positions(nn.Module):
    """Fixed sinusoids, sine and cosine in turn over the width."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        angles = torch.arange(tokens)[:, None] / 10000.0 ** (2 * (torch.arange(dim) // 2) / dim)
        angles[:, 0::2], angles[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
        self.emb = nn.Parameter(angles[None], requires_grad=False)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Queries and values have a bias, keys have none."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, D / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Linear(dim, inner), Linear(inner, dim)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[1](nn.functional.gelu(self.layers[0](x)))


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)
