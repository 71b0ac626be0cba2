"""ResNet-18 over MFCC images, trained by 2D3MF on RAVDESS (aiden200/2D3MF, src/audio_resnet/audio_resnet18.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from visavox.detectors.td3mf.backbones.base import State, device_of, windows
from visavox.detectors.td3mf.backbones.mfcc import RATE, mfcc
from visavox.detectors.td3mf.network import AudioInput

SIZES = {"resnet": (64, 2), "resnet_tiny": (4, 1)}
"""Channels of the first stage, blocks per stage."""


class AudioResNet:
    """One vector per window of a second, of its MFCC image."""

    kind: ClassVar[Literal["audio"]] = "audio"
    sample_rate = RATE

    def __init__(self, name: str) -> None:
        self.name = name
        channels, blocks = SIZES[name]
        self.dim = 8 * channels
        self.network = AudioResNetNetwork(channels, blocks)
        self.parts: dict[str, nn.Module] = {"audio_resnet18_ravdess" if name == "resnet" else name: self.network}

    def named(self, part: str, state: State) -> tuple[State, tuple[str, ...]]:
        return state, ("fc.*",)

    def inputs(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        """MFCC of each window, (n, 10, 87)."""
        return mfcc(windows(audio, RATE, starts), RATE)

    def encode(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)

    @torch.inference_mode()
    def features(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        images = torch.from_numpy(self.inputs(audio, starts)).to(device_of(self.network))
        return self.encode(images).float().cpu().numpy()

    def input(self, steps: int) -> AudioInput:
        return AudioInput("vectors", self.dim, steps)


class AudioResNetNetwork(nn.Module):
    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.layer1 = _layer(channels, channels, blocks, 1)
        self.layer2 = _layer(channels, 2 * channels, blocks, 2)
        self.layer3 = _layer(2 * channels, 4 * channels, blocks, 2)
        self.layer4 = _layer(4 * channels, 8 * channels, blocks, 2)

    def forward(self, images: Tensor) -> Tensor:
        """images (n, 10, 87) -> (n, 512)."""
        x = self.conv1(images[:, None])
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.left(x) + self.shortcut(x))


def _layer(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
