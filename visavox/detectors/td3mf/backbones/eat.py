"""EAT: a self-supervised audio transformer (Chen et al., IJCAI 2024; github.com/cwx-worst-one/EAT), ViT-B on log-mel pictures.

M = 1024 steps of 10 ms · F = 128 bands · P = 512 patches of 16x16, 64 in time by 8 in frequency · D = 768
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from visavox.detectors.td3mf.backbones.base import State, device_of
from visavox.detectors.td3mf.backbones.data2vec import Block, Context
from visavox.detectors.td3mf.network import AudioInput

RATE = 16_000
BANDS, PATCH = 128, 16
ROWS = BANDS // PATCH
"""Patches of one moment."""
MEAN, STD = -4.268, 4.569
"""Of AudioSet; the picture is (x - MEAN) / (2 STD)."""
LONGEST = 768
"""Moments for which the published positions are made, two minutes."""


@dataclass(frozen=True)
class Size:
    dim: int
    depth: int
    heads: int
    steps: int = 1024
    longest: int = LONGEST


SIZES = {"eat": Size(768, 12, 12), "eat_tiny": Size(16, 2, 2, steps=128, longest=8)}

_HUGGING_FACE = {
    "model.local_encoder.proj.weight": "modality_encoders.IMAGE.local_encoder.proj.weight",
    "model.local_encoder.proj.bias": "modality_encoders.IMAGE.local_encoder.proj.bias",
    "model.extra_tokens": "modality_encoders.IMAGE.extra_tokens",
    "model.fixed_positional_encoder.positions": "modality_encoders.IMAGE.fixed_positional_encoder.positions",
    "model.pre_norm.weight": "modality_encoders.IMAGE.context_encoder.norm.weight",
    "model.pre_norm.bias": "modality_encoders.IMAGE.context_encoder.norm.bias",
}
"""Names of the file on Hugging Face that differ by more than the prefix `model.` from those of the published code."""


class Eat:
    """All patches of the first 10.24 s but those that begin after the sound has ended: up to (512, 768)."""

    kind: ClassVar[Literal["audio"]] = "audio"
    sample_rate = RATE

    def __init__(self, name: str) -> None:
        self.name, self.size = name, SIZES[name]
        self.dim = self.size.dim
        self.network = EatEncoder(self.size)
        self.parts: dict[str, nn.Module] = {"eat_base_epoch30" if name == "eat" else name: self.network}

    def named(self, part: str, state: State) -> tuple[State, tuple[str, ...]]:
        ours = {_HUGGING_FACE.get(key, key.removeprefix("model.")): value for key, value in state.items()}
        return ours, (
            "modality_encoders.IMAGE.decoder.*",
            "_ema*",
            "recon_proj.*",
            "cls_proj.*",
            "center",
            "fc_norm.*",
            "head.*",
        )

    def inputs(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        """The picture of all that is heard, (1, M, F)."""
        return picture(torch.from_numpy(audio), self.size.steps).numpy()[None]

    def encode(self, inputs: Tensor) -> Tensor:
        return self.network(inputs[:, None]).mean(dim=1)

    @torch.inference_mode()
    def features(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        mel = torch.from_numpy(self.inputs(audio, starts)).to(device_of(self.network))  # (1, M, F)
        heard = min(self.size.steps, max(1, math.ceil(len(audio) / (RATE // 100))))
        return self.network(mel[None])[0, : ROWS * math.ceil(heard / PATCH)].float().cpu().numpy()

    def input(self, steps: int) -> AudioInput:
        return AudioInput("vectors", self.dim, ROWS * (self.size.steps // PATCH))


def picture(audio: Tensor, steps: int) -> Tensor:
    """Return what EAT sees of sound: (N,) in [-1, 1] at 16 kHz -> (steps, 128), zeros in the log-mel beyond its end."""
    mel = fbank(audio - audio.mean())[:steps]
    return (pad(mel, (0, 0, 0, steps - len(mel))) - MEAN) / (2 * STD)


def fbank(audio: Tensor) -> Tensor:
    """Return Kaldi's log-mel filter bank: (N,) float32 at 16 kHz -> (M, 128), M = 1 + (N - 400) // 160 whole frames.

    25 ms Hann frames, each without its mean and pre-emphasised by 0.97, spectrum of 512 points, triangles equally spaced in
    1127 ln(1 + f / 700) from 20 Hz to 8 kHz, natural logarithm of the power (as torchaudio.compliance.kaldi.fbank with
    htk_compat, hanning, no dither). Sound shorter than a frame is taken as one frame with zeros.
    """
    audio = pad(audio, (0, max(0, 400 - len(audio))))
    frames = audio.unfold(0, 400, 160)  # (M, 400)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames - 0.97 * torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = frames * torch.hann_window(400, periodic=False, device=audio.device)
    power = torch.fft.rfft(frames, 512).abs().square()  # (M, 257)
    return (power @ _triangles().to(audio.device)).clamp(min=torch.finfo(torch.float32).eps).log()


@lru_cache
def _triangles() -> Tensor:
    """Weights of the bands, linear in mel: (257, 128)."""
    low, high = (1127 * math.log(1 + hertz / 700) for hertz in (20, RATE / 2))
    edges = low + torch.arange(BANDS + 2) * ((high - low) / (BANDS + 1))
    mel = (
        1127 * (1 + torch.arange(256) * (RATE / 512) / 700).log()[:, None]
    )  # the last point, 8 kHz, belongs to no band
    rise = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return pad(torch.minimum(rise, fall).clamp(min=0), (0, 0, 0, 1))


class EatEncoder(nn.Module):
    """The encoder under the names of the published code, which came out of data2vec's for images."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.modality_encoders = nn.ModuleDict({"IMAGE": PatchEncoder(size)})
        self.blocks = nn.ModuleList(Block(size.dim, size.heads, 1e-6) for _ in range(size.depth))

    def forward(self, mel: Tensor) -> Tensor:
        """mel (B, 1, M, F) -> (B, P, D) without the token of the whole clip; patches ordered by time, then frequency."""
        x = self.modality_encoders["IMAGE"](mel)
        for block in self.blocks:
            x = block(x)
        return x[:, 1:]


class PatchEncoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.extra_tokens = nn.Parameter(0.02 * torch.randn(1, 1, size.dim))
        self.local_encoder = Patches(size.dim)
        self.fixed_positional_encoder = Positions(size.longest, size.dim)
        self.context_encoder = Context(size.dim, size.heads, 0, 1e-6)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.local_encoder(mel)  # (B, P, D)
        x = x + self.fixed_positional_encoder.positions[:, : x.shape[1]]
        return self.context_encoder(torch.cat([self.extra_tokens.expand(len(x), -1, -1), x], dim=1))


class Patches(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, dim, PATCH, stride=PATCH)

    def forward(self, mel: Tensor) -> Tensor:
        return self.proj(mel).flatten(2).transpose(1, 2)


class Positions(nn.Module):
    """Fixed sinusoids, half of the width for the frequency and half for the time of a patch."""

    def __init__(self, moments: int, dim: int) -> None:
        super().__init__()
        rates = 1 / 10000.0 ** (torch.arange(dim // 4) / (dim / 4))
        time, row = (x.flatten() for x in torch.meshgrid(torch.arange(moments), torch.arange(ROWS), indexing="ij"))
        angles = [where[:, None] * rates for where in (row, time)]
        positions = torch.cat([x for angle in angles for x in (angle.sin(), angle.cos())], dim=1)  # (moments * 8, D)
        self.positions = nn.Parameter(positions[None], requires_grad=False)
