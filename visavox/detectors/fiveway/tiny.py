"""Tiny-LaDeDa, the cheap patch gate, and LaDeDa-9, which it can be distilled from (Cavia et al., 2024).

Parameter names and sizes are those of barcavia/RealTime-DeepfakeDetection-in-the-RealWorld, so its weights load unchanged.

    N images or patches · H, W their sides in pixels · n faces of a clip · P patches of a face
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, mse_loss

Preprocess = Literal["raw", "npr", "x_grad", "y_grad", "left_diag", "right_diag"]
"""What the first convolution sees: the image, what nearest-neighbour resampling loses of it, or a gradient."""
GRADIENTS = {
    "x_grad": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "y_grad": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "left_diag": ((0, 1, 2), (-1, 0, 1), (-2, -1, 0)),
    "right_diag": ((-2, -1, 0), (-1, 0, 1), (0, 1, 2)),
}
PATCH = 32
"""Side of the patches in pixels that the seed's gate reads."""
TEACHER_FIELD, TEACHER_STRIDE = 9, 8
"""Receptive field and step in pixels of one logit of LaDeDa-9."""


class TinyLaDeDa(nn.Module):
    """1,297 trainable parameters; each logit sees 5 x 5 pixels (7 x 7 with a gradient before it), every second one."""

    kernel: Tensor

    def __init__(self, preprocess: Preprocess = "right_diag") -> None:
        super().__init__()
        self.preprocess = preprocess
        self.register_buffer("kernel", gradient_kernel(preprocess), persistent=False)
        self.conv1 = nn.Conv2d(3, 8, 1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8, momentum=0.001)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(_Step(8))
        self.fc = nn.Linear(8, 1)
        _initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 8, H', W') with H' = (H - 5) // 2 + 1."""
        x = preprocessed(x, self.preprocess, self.kernel)
        return self.layer1(self.relu(self.bn1(self.conv2(self.conv1(x)))))

    def patch_map(self, x: Tensor) -> Tensor:
        """Return one logit per position: (N, 3, H, W) -> (N, H', W'), 224 -> 110."""
        return self.fc(self.features(x).movedim(1, 3))[..., 0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean logit of all positions: (N, 3, H, W) float, RGB in [0, 1] or normalised -> (N,)."""
        return self.fc(_pooled(self.features(x)))[:, 0]


class LaDeDa9(nn.Module):
    """The teacher: a ResNet-50 whose logits see 9 x 9 pixels every 8, fc 2048 -> 1.

    Args:
        width: channels of the first layer; 64 as published, fewer for tests.
    """

    kernel: Tensor
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, preprocess: Preprocess = "npr", width: int = 64) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.register_buffer("kernel", gradient_kernel(preprocess), persistent=False)
        self.conv1 = nn.Conv2d(3, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width, momentum=0.001)
        self.relu = nn.ReLU()
        inside = width
        for i, (blocks, stride, wide) in enumerate(((3, 2, 3), (4, 2, 3), (6, 2, 1), (3, 1, 1))):
            middle = width * 2**i
            layer = [_Bottleneck(inside, middle, stride, wide)]
            layer += [_Bottleneck(4 * middle, middle, 1, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*layer))
            inside = 4 * middle
        self.fc = nn.Linear(inside, 1)
        _initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 32 * width, H', W')."""
        x = preprocessed(x, self.preprocess, self.kernel)
        x = self.relu(self.bn1(self.conv2(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def patch_map(self, x: Tensor) -> Tensor:
        """Return one logit per 9 x 9 patch, every 8 pixels: (N, 3, H, W) -> (N, H', W')."""
        return self.fc(self.features(x).movedim(1, 3))[..., 0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean logit of all patches: (N, 3, H, W) -> (N,)."""
        return self.fc(_pooled(self.features(x)))[:, 0]


def distillation_loss(student: TinyLaDeDa, teacher: LaDeDa9, images: Tensor) -> Tensor:
    """Return the mean squared difference of the two on equal patches, as published: images (N, 3, H, W) -> ().

    The teacher's logit of a patch of 9 pixels is compared with the student's mean logit on the 10 pixels from the same corner,
    which are the least that give it 3 x 3 whole positions.
    """
    with torch.no_grad():
        wanted = teacher.patch_map(images)  # (N, h, w)
    size = TEACHER_FIELD + 1
    cut = images.unfold(2, size, TEACHER_STRIDE).unfold(3, size, TEACHER_STRIDE)  # (N, 3, h', w', 10, 10)
    rows, columns = min(cut.shape[2], wanted.shape[1]), min(cut.shape[3], wanted.shape[2])
    cut = cut[:, :, :rows, :columns].permute(0, 2, 3, 1, 4, 5).flatten(0, 2)  # (N * h * w, 3, 10, 10)
    return mse_loss(student(cut), wanted[:, :rows, :columns].flatten())


def cut_patches(faces: np.ndarray, size: int = PATCH) -> np.ndarray:
    """Return nine patches of each face about a 3 x 3 grid, row by row: faces (n, S, S, 3) -> (n, 9, size, size, 3).

    The grid lies at a quarter, a half and three quarters of the side: 56, 112 and 168 of 224.

    Raises:
        ValueError: the outer patches would overhang the face.
    """
    side = faces.shape[1]
    centres = np.linspace(side // 4, side * 3 // 4, 3).astype(int)
    if centres[0] < size // 2 or centres[-1] + size // 2 > side:
        raise ValueError(f"patches of {size} pixels overhang faces of {side}; crop with frame_size={2 * size} or more")
    spans = [slice(c - size // 2, c - size // 2 + size) for c in centres]
    return np.stack([faces[:, rows, columns] for rows in spans for columns in spans], axis=1)


def preprocessed(x: Tensor, how: Preprocess, kernel: Tensor) -> Tensor:
    """(N, 3, H, W) -> the same shape."""
    if how == "raw":
        return x
    if how == "npr":  # neighbouring pixel relationships (Tan et al., 2024)
        half = interpolate(x, scale_factor=0.5, mode="nearest", recompute_scale_factor=True)
        return x - interpolate(half, scale_factor=2.0, mode="nearest", recompute_scale_factor=True)
    return conv2d(x, kernel, groups=3, padding="same")


def gradient_kernel(how: Preprocess) -> Tensor:
    """(3, 1, 3, 3), one gradient per colour; empty where there is none."""
    if how not in get_args(Preprocess):
        raise ValueError(f"preprocess={how!r} is unknown; expected one of {', '.join(get_args(Preprocess))}")
    if how not in GRADIENTS:
        return torch.empty(0)
    return torch.tensor(GRADIENTS[how], dtype=torch.float32).expand(3, 1, 3, 3).clone()


class _Step(nn.Module):
    """Two convolutions, the second with stride 2; no skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=2, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)))


class _Bottleneck(nn.Module):
    """A ResNet bottleneck without padding: what is skipped loses the rows and columns that the convolution loses."""

    def __init__(self, inside: int, middle: int, stride: int, wide: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, wide, stride=stride, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, 4 * middle, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * middle)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or inside != 4 * middle:
            project = nn.Conv2d(inside, 4 * middle, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(4 * middle))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        skipped = x if self.downsample is None else self.downsample(x)
        return self.relu(y + skipped[..., : y.shape[2], : y.shape[3]])


def _pooled(x: Tensor) -> Tensor:
    """Mean over positions, summed in the published order: (N, C, H, W) -> (N, C)."""
    return avg_pool2d(x, x.shape[2:]).flatten(1)


def _initialise(network: nn.Module) -> None:
    """He's deviation over outgoing connections, as published."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            nn.init.normal_(layer.weight, 0, (2 / fan) ** 0.5)
