"""emotion2vec: self-supervised speech emotion features (Ma et al., ACL 2024; github.com/ddlBoJack/emotion2vec).

n windows · N samples at 16 kHz · M frames of 20 ms · D = 768
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from visavox.detectors.td3mf.backbones.base import State, device_of, windows
from visavox.detectors.td3mf.backbones.data2vec import Block, Context
from visavox.detectors.td3mf.network import AudioInput

RATE = 16_000
CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
"""Kernel and stride of the layers that read the waveform: 320 samples, 20 ms, to a frame."""
EXTRA = 10
"""Learnt tokens before the frames."""


@dataclass(frozen=True)
class Size:
    dim: int
    depth: int
    prenet: int
    heads: int
    channels: int = 512
    groups: int = 16
    eps: float = 1e-5


SIZES = {"emotion2vec": Size(768, 8, 4, 12), "emotion2vec_tiny": Size(16, 1, 1, 2, channels=8, groups=4)}


class Emotion2vec:
    """One vector per window of a second, the mean of its frames.

    2D3MF gives it a second of sound at 44.1 kHz; here it hears the 16 kHz that it was trained on.
    """

    kind: ClassVar[Literal["audio"]] = "audio"
    sample_rate = RATE

    def __init__(self, name: str) -> None:
        self.name = name
        self.dim = SIZES[name].dim
        self.network = Emotion2vecEncoder(SIZES[name])
        self.parts: dict[str, nn.Module] = {"emotion2vec_base" if name == "emotion2vec" else name: self.network}

    def named(self, part: str, state: State) -> tuple[State, tuple[str, ...]]:
        return state, ("modality_encoders.AUDIO.decoder.*", "_ema*", "proj.*")

    def inputs(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        """Windows of sound, (n, N)."""
        return windows(audio, RATE, starts)

    def encode(self, inputs: Tensor) -> Tensor:
        return self.network(layer_norm(inputs, inputs.shape[1:])).mean(dim=1)

    @torch.inference_mode()
    def features(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        sound = torch.from_numpy(self.inputs(audio, starts)).to(device_of(self.network))
        return self.encode(sound).float().cpu().numpy()

    def input(self, steps: int) -> AudioInput:
        return AudioInput("vectors", self.dim, steps)


class Emotion2vecEncoder(nn.Module):
    """The encoder under the published names."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.modality_encoders = nn.ModuleDict({"AUDIO": AudioEncoder(size)})
        self.blocks = nn.ModuleList(Block(size.dim, size.heads, size.eps) for _ in range(size.depth))

    def forward(self, sound: Tensor) -> Tensor:
        """sound (n, N) of mean 0 and deviation 1 -> (n, M, D)."""
        x, bias = self.modality_encoders["AUDIO"](sound)
        for block in self.blocks:
            x = block(x, bias)
        return x[:, EXTRA:]


class AudioEncoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.extra_tokens = nn.Parameter(torch.zeros(1, EXTRA, size.dim))
        nn.init.normal_(self.extra_tokens[:, 1:])
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, size.heads, 1, 1))
        self.local_encoder = Waveform(size.channels)
        self.project_features = nn.Sequential(
            Transpose(), nn.LayerNorm(size.channels), nn.Linear(size.channels, size.dim)
        )
        self.relative_positional_encoder = nn.Sequential(
            Transpose(), *(_positional(size.dim, size.groups) for _ in range(5)), Transpose()
        )
        self.context_encoder = Context(size.dim, size.heads, size.prenet, size.eps)

    def forward(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        """sound (n, N) -> x (n, 10 + M, D), and the bias (1, heads, 10 + M, 10 + M) that the attention goes on with."""
        x = self.project_features(self.local_encoder(sound))  # (n, M, D)
        x = x + self.relative_positional_encoder(x)
        bias = distances(x.shape[1], self.alibi_scale.shape[2]).to(x) * self.alibi_scale[0].clamp(min=0)
        bias = pad(bias, (EXTRA, 0, EXTRA, 0))
        return self.context_encoder(torch.cat([self.extra_tokens.expand(len(x), -1, -1), x], dim=1), bias), bias


class Waveform(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList()
        for i, (kernel, stride) in enumerate(CONVOLUTIONS):
            conv = nn.Conv1d(channels if i else 1, channels, kernel, stride, bias=False)
            norm = nn.Sequential(Transpose(), nn.LayerNorm(channels), Transpose())
            self.conv_layers.append(nn.Sequential(conv, nn.Identity(), norm, nn.GELU()))

    def forward(self, sound: Tensor) -> Tensor:
        """sound (n, N) -> (n, channels, M)."""
        x = sound[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x


class Transpose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(-2, -1)


def _positional(dim: int, groups: int) -> nn.Sequential:
    norm = nn.LayerNorm(dim, elementwise_affine=False)
    conv = nn.Conv1d(dim, dim, 19, padding=9, groups=groups)
    return nn.Sequential(conv, nn.Identity(), Transpose(), norm, Transpose(), nn.GELU())


def distances(frames: int, heads: int) -> Tensor:
    """Return the ALiBi bias (Press et al., 2022), minus the distance times the slope of a head: (1, heads, M, M)."""
    steps = torch.arange(frames, dtype=torch.float32)
    return -_slopes(heads)[None, :, None, None] * (steps[:, None] - steps).abs()


def _slopes(heads: int) -> Tensor:
    """Powers of 2^(-8 / heads); where heads are no power of two, those of the next lower one and every second of the next."""
    power = 2 ** int(math.log2(heads))
    slopes = 2.0 ** (-8 / power * torch.arange(1, power + 1))
    return slopes if power == heads else torch.cat([slopes, _slopes(2 * power)[::2][: heads - power]])
