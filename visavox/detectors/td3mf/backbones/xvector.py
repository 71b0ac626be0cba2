"""x-vectors (Snyder et al., ICASSP 2018), as speechbrain/spkrec-xvect-voxceleb has them: 24 mel bands at 16 kHz, a TDNN.

n windows · M steps of 10 ms · F = 24 bands
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, log_softmax, pad

from visavox.detectors.td3mf.backbones.base import State, device_of, windows
from visavox.detectors.td3mf.network import AudioInput

RATE = 16_000
BANDS = 24
KERNELS, DILATIONS = (5, 3, 3, 1, 1), (1, 2, 3, 1, 1)


@dataclass(frozen=True)
class Size:
    channels: tuple[int, int, int, int, int]
    dim: int
    speakers: int


FULL, TINY = Size((512, 512, 512, 512, 1500), 512, 7205), Size((8, 8, 8, 8, 12), 12, 11)
SIZES = {"xvectors": FULL, "xvectors_posteriors": FULL, "xvectors_tiny": TINY, "xvectors_posteriors_tiny": TINY}


class XVectors:
    """One vector per window of a second: the embedding, or with `posteriors` the log posteriors of 7205 speakers.

    2D3MF takes the log posteriors, of sound at 44.1 kHz given to a network for 16 kHz; here it hears 16 kHz.
    """

    kind: ClassVar[Literal["audio"]] = "audio"
    sample_rate = RATE

    def __init__(self, name: str) -> None:
        self.name = name
        size = SIZES[name]
        self.posteriors = "posteriors" in name
        self.dim = size.speakers if self.posteriors else size.dim
        self.tdnn = Tdnn(size)
        self.parts: dict[str, nn.Module] = {"xvector_voxceleb": self.tdnn}
        if self.posteriors:
            self.classifier = Classifier(size)
            self.parts["xvector_voxceleb_classifier"] = self.classifier

    def named(self, part: str, state: State) -> tuple[State, tuple[str, ...]]:
        return state, ()

    def inputs(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        """Windows of sound, (n, N)."""
        return windows(audio, RATE, starts)

    def encode(self, inputs: Tensor) -> Tensor:
        bands = filterbank(inputs)  # (n, M, F)
        x = self.tdnn(bands - bands.mean(dim=1, keepdim=True))
        return self.classifier(x) if self.posteriors else x

    @torch.inference_mode()
    def features(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        sound = torch.from_numpy(self.inputs(audio, starts)).to(device_of(self.tdnn))
        return self.encode(sound).float().cpu().numpy()

    def input(self, steps: int) -> AudioInput:
        return AudioInput("posteriors" if self.posteriors else "vectors", self.dim, steps)


def filterbank(sound: Tensor) -> Tensor:
    """Return mel bands in dB, not below 80 under the loudest of the window: (n, N) in [-1, 1] -> (n, M, 24).

    25 ms Hamming frames of 400 points, centred, zeros beyond the ends; triangles whose both sides are as wide as the step to
    the next centre (speechbrain.processing.features).
    """
    spectrum = torch.stft(
        sound, 400, 160, window=torch.hamming_window(400, device=sound.device), pad_mode="constant", return_complex=True
    )
    power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)  # (n, M, 201)
    db = 10 * torch.log10((power @ _triangles().to(sound.device)).clamp(min=1e-10))
    return torch.maximum(db, db.amax(dim=(1, 2), keepdim=True) - 80)


def _triangles() -> Tensor:
    """Weights of 24 bands from 0 to 8 kHz, equally spaced in 2595 log10(1 + f / 700): (201, 24)."""
    mel = torch.linspace(0, 2595 * math.log10(1 + RATE / 2 / 700), BANDS + 2)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    slope = (torch.linspace(0, RATE // 2, 201)[:, None] - hertz[1:-1]) / (hertz[1:-1] - hertz[:-2])
    return torch.minimum(slope + 1, 1 - slope).clamp(min=0)


class Tdnn(nn.Module):
    """Five time-delay layers, mean and deviation over time, a linear map.

    speechbrain adds noise below 1e-4 to the mean; we add none, so that equal sound has equal vectors.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = BANDS
        for outputs, kernel, dilation in zip(size.channels, KERNELS, DILATIONS):
            layers += [Convolution(inputs, outputs, kernel, dilation), nn.LeakyReLU(), Norm(outputs)]
            inputs = outputs
        self.blocks = nn.ModuleList([*layers, nn.Identity(), Linear(2 * inputs, size.dim)])

    def forward(self, bands: Tensor) -> Tensor:
        """bands (n, M, F), each band's mean taken off -> (n, 512)."""
        x = bands.transpose(1, 2)  # (n, F, M)
        for layer in self.blocks[:-2]:
            x = layer(x)
        return self.blocks[-1](torch.cat([x.mean(dim=2), x.std(dim=2) + 1e-5], dim=1))


class Classifier(nn.Module):
    """x-vectors to log posteriors of the speakers of VoxCeleb 1 and 2: (n, 512) -> (n, 7205)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm = Norm(size.dim)
        self.DNN = nn.ModuleDict({"block_0": Hidden(size.dim)})
        self.out = Linear(size.dim, size.speakers)

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(self.out(self.DNN["block_0"](self.norm(leaky_relu(x)))), dim=-1)


class Hidden(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = Linear(dim, dim)
        self.norm = Norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(leaky_relu(self.linear(x)))


class Convolution(nn.Module):
    """A convolution over time whose ends are reflected, so that it keeps the length."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
        self.padding = dilation * (kernel - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad(x, (self.padding, self.padding), mode="reflect"))


class Norm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.w = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.w(x)
