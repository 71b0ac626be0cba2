"""EfficientFace: a light expression network (Zhao, Liu and Zhou, AAAI 2021; github.com/zengqunzhao/EfficientFace).

N images · S = 224 · D = 1024
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from visavox.detectors.td3mf.backbones.base import FPS, Frame, State, device_of, resized, step_by_step

MEAN, STD = (0.57535914, 0.44928582, 0.40079932), (0.20735591, 0.18981615, 0.18132027)
"""Of RGB in [0, 1], by the published training code. 2D3MF's extraction feeds BGR from 0 to 255 instead."""
IMAGES = 10
"""Images of a step."""


@dataclass(frozen=True)
class Size:
    repeats: tuple[int, int, int]
    channels: tuple[int, int, int, int, int]
    image: int = 224


SIZES = {
    "efficientface": Size((4, 8, 4), (29, 116, 232, 464, 1024)),
    "efficientface_tiny": Size((1, 1, 1), (4, 16, 16, 16, 24), image=64),
}


class EfficientFace:
    """Ten images spread over each second of the track, to the mean of their features.

    2D3MF keeps the features of the first ten frames of a video, which are 0.4 s, beside ten seconds of sound.
    """

    kind: ClassVar[Literal["video"]] = "video"
    sample_rate = FPS
    step = 1.0

    def __init__(self, name: str) -> None:
        self.name, self.size = name, SIZES[name]
        self.dim = self.size.channels[-1]
        self.network = EfficientFaceNetwork(self.size)
        self.parts: dict[str, nn.Module] = {name: self.network}

    def named(self, part: str, state: State) -> tuple[State, tuple[str, ...]]:
        return state, ("fc.*", "conv1d_*", "classifier_1.*")

    def inputs(self, frame: Frame, count: int, steps: int) -> np.ndarray:
        """Images of each step, (n, 10, S, S, 3) uint8 RGB."""
        return np.stack(
            [[resized(frame(t), self.size.image) for t in moments] for moments in second_frames(count, steps)]
        )

    def encode(self, inputs: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, device=inputs.device).view(3, 1, 1) for v in (MEAN, STD))
        images = inputs.flatten(0, 1).permute(0, 3, 1, 2).float() / 255  # (n * 10, 3, S, S)
        return self.network((images - mean) / std).unflatten(0, inputs.shape[:2]).mean(dim=1)

    def features(self, frame: Frame, count: int, steps: int) -> np.ndarray:
        return step_by_step(self, frame, count, steps, device_of(self.network))


def second_frames(count: int, steps: int) -> list[list[int]]:
    """Return which frames of a track of `count` are seen: 10 spread over each whole second, or over what there is of one."""
    whole = min(count // FPS, steps)
    length = FPS if whole else count
    return [
        [second * FPS + (2 * i + 1) * length // (2 * IMAGES) for i in range(IMAGES)] for second in range(max(1, whole))
    ]


class EfficientFaceNetwork(nn.Module):
    """ShuffleNet-v2 stages with a local feature extractor and a channel-spatial modulator, up to the pooled features."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        channels = size.channels
        self.conv1 = _conv_bn_relu(3, channels[0], 3, stride=2, padding=1)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage2 = _stage(channels[0], channels[1], size.repeats[0])
        self.stage3 = _stage(channels[1], channels[2], size.repeats[1])
        self.stage4 = _stage(channels[2], channels[3], size.repeats[2])
        self.local = LocalFeatures(channels[0], channels[1])
        self.modulator = Modulator(channels[1])
        self.conv5 = _conv_bn_relu(channels[3], channels[4], 1)

    def forward(self, images: Tensor) -> Tensor:
        """images (N, 3, S, S), standardised RGB -> (N, D)."""
        x = self.maxpool(self.conv1(images))  # (N, 29, S / 4, S / 4)
        x = self.modulator(self.stage2(x)) + self.local(x)  # (N, 116, S / 8, S / 8)
        return self.conv5(self.stage4(self.stage3(x))).mean(dim=(2, 3))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        if stride > 1:
            self.branch1 = nn.Sequential(
                _depthwise(inputs, inputs, stride),
                nn.BatchNorm2d(inputs),
                *_conv_bn_relu(inputs, half, 1),
            )
        self.branch2 = nn.Sequential(
            *_conv_bn_relu(inputs if stride > 1 else half, half, 1),
            _depthwise(half, half, stride),
            nn.BatchNorm2d(half),
            *_conv_bn_relu(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            kept, worked = x.chunk(2, dim=1)
            x = torch.cat([kept, self.branch2(worked)], dim=1)
        else:
            x = torch.cat([self.branch1(x), self.branch2(x)], dim=1)
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)  # channels shuffled in two groups


class LocalFeatures(nn.Module):
    """A small network for each quarter of the face: (N, 29, 56, 56) -> (N, 116, 28, 28)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        for quarter in range(1, 5):
            setattr(self, f"conv{quarter}_1", _depthwise(inputs, outputs, 2))
            setattr(self, f"bn{quarter}_1", nn.BatchNorm2d(outputs))
            setattr(self, f"conv{quarter}_2", _depthwise(outputs, outputs, 1))
            setattr(self, f"bn{quarter}_2", nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=3)
        quarters = [*left.chunk(2, dim=2), *right.chunk(2, dim=2)]  # two at the left, then two at the right
        done = [self._quarter(i + 1, quarter) for i, quarter in enumerate(quarters)]
        return torch.cat([torch.cat(done[:2], dim=2), torch.cat(done[2:], dim=2)], dim=3)

    def _quarter(self, number: int, x: Tensor) -> Tensor:
        for layer in (1, 2):
            conv, norm = getattr(self, f"conv{number}_{layer}"), getattr(self, f"bn{number}_{layer}")
            x = torch.relu(norm(conv(x)))
        return x


class Modulator(nn.Module):
    """Gates of channels times gates of places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_att = ChannelGate(channels, channels // 16)
        self.spatial_att = SpatialGate(channels, channels // 16)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.channel_att(x) * self.spatial_att(x)) * x


class ChannelGate(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.gate_c = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                gate_c_fc_0=nn.Linear(channels, inner),
                gate_c_bn_1=nn.BatchNorm1d(inner),
                gate_c_relu_1=nn.ReLU(),
                gate_c_fc_final=nn.Linear(inner, channels),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.gate_c(x.mean(dim=(2, 3)))[..., None, None]  # (N, channels, 1, 1)


class SpatialGate(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            gate_s_conv_reduce0=nn.Conv2d(channels, inner, 1),
            gate_s_bn_reduce0=nn.BatchNorm2d(inner),
            gate_s_relu_reduce0=nn.ReLU(),
        )
        for i in range(2):
            layers[f"gate_s_conv_di_{i}"] = nn.Conv2d(inner, inner, 3, padding=4, dilation=4)
            layers[f"gate_s_bn_di_{i}"] = nn.BatchNorm2d(inner)
            layers[f"gate_s_relu_di_{i}"] = nn.ReLU()
        layers["gate_s_conv_final"] = nn.Conv2d(inner, 1, 1)
        self.gate_s = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate_s(x)  # (N, 1, H, W)


def _stage(inputs: int, outputs: int, repeats: int) -> nn.Sequential:
    return nn.Sequential(
        InvertedResidual(inputs, outputs, 2), *(InvertedResidual(outputs, outputs, 1) for _ in range(repeats - 1))
    )


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _depthwise(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False, groups=inputs)
