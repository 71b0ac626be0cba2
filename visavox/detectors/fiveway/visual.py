"""The visual branch: a ResNet-18 over single face crops, with torchvision's parameter names and one logit.

N faces · D width of a feature, 8 * width: 512
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of RGB in [0, 1]."""


class FrameNet(nn.Module):
    """torchvision's resnet18 with `fc` to one logit; `features` is the same without `fc`.

    Args:
        width: channels of the first stage; 64 as published, fewer for tests.
        blocks: residual blocks of each stage, 2 as published.
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, width: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for i in range(4):
            inside, outside = (width if i == 0 else width * 2 ** (i - 1)), width * 2**i
            stage = [_block(inside, outside, stride=1 if i == 0 else 2)]
            stage += [_block(outside, outside, stride=1) for _ in range(blocks - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(8 * width, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) float, ImageNet mean and deviation -> (N, D)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N,) logits."""
        return self.fc(self.features(images))[:, 0]


def normalised(faces: Tensor) -> Tensor:
    """Faces as the ImageNet networks want them: (N, S, S, 3) uint8 RGB -> (N, 3, S, S) float32."""
    mean = torch.tensor(MEAN, device=faces.device).view(3, 1, 1)
    std = torch.tensor(STD, device=faces.device).view(3, 1, 1)
    return (faces.movedim(3, 1).float() / 255 - mean) / std


def _block(inside: int, outside: int, stride: int) -> BasicBlock:
    project = None
    if stride != 1 or inside != outside:
        project = nn.Sequential(nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside))
    return BasicBlock(inside, outside, stride, project)
