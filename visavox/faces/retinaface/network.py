"""RetinaFace (Deng et al., CVPR 2020, arXiv:1905.00641) under the parameter names of its published PyTorch weights.

`mobilenet0.25` is the network of github.com/biubug6/Pytorch_Retinaface; `resnet50` is that of
github.com/ternaus/retinaface (release resnet50_2020-07-20), whose parameter names and shapes are also those of
biubug6's own Resnet50 weights. The attribute names below (fpn.output1, ssh1.conv7x7_3, ClassHead, ...) are those
names, upper and lower case included, so that published state dicts load strictly.

B images · P = 2 anchors per cell of three feature maps with strides 8, 16 and 32
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from visavox.faces.retinaface.anchors import ANCHORS_PER_CELL, STRIDES

NetworkName = Literal["mobilenet0.25", "resnet50"]


class Predictions(NamedTuple):
    """What the network says of each anchor, undecoded (see `retinaface.anchors`)."""

    boxes: Tensor  # (B, P, 4) offsets of centre and log size
    logits: Tensor  # (B, P, 2) background, face
    landmarks: Tensor  # (B, P, 10) offsets of five points, x and y in turn


class RetinaFace(nn.Module):
    """Backbone, feature pyramid, context modules (SSH) and three heads shared by no scale.

    Input (B, 3, H, W) float, in the colour order and normalisation of the weights (`retinaface.Preprocessing`); any
    H and W.
    """

    def __init__(self, network: NetworkName) -> None:
        super().__init__()
        self.body: MobileNetBody | ResNetBody
        if network == "mobilenet0.25":
            self.body, channels, width = MobileNetBody(), (64, 128, 256), 64
        elif network == "resnet50":
            self.body, channels, width = ResNetBody(), (512, 1024, 2048), 256
        else:
            raise ValueError(f"network is {network!r}; expected one of {', '.join(get_args(NetworkName))}")
        self.fpn = FeaturePyramid(channels, width)
        self.ssh1 = ContextModule(width)
        self.ssh2 = ContextModule(width)
        self.ssh3 = ContextModule(width)
        self.ClassHead = nn.ModuleList(Head(width, 2) for _ in STRIDES)
        self.BboxHead = nn.ModuleList(Head(width, 4) for _ in STRIDES)
        self.LandmarkHead = nn.ModuleList(Head(width, 10) for _ in STRIDES)

    def forward(self, images: Tensor) -> Predictions:
        pyramid = self.fpn(self.body(images))
        context = [ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), pyramid)]
        boxes, logits, landmarks = (
            torch.cat([head(level) for head, level in zip(heads, context)], dim=1)  # (B, P, 4 | 2 | 10)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return Predictions(boxes, logits, landmarks)


class MobileNetBody(nn.Module):
    """MobileNet v1 at a quarter of its width: features of 64, 128, 256 channels at strides 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            convolution(3, 8, stride=2, slope=0.1),
            depthwise(8, 16),
            depthwise(16, 32, stride=2),
            depthwise(32, 32),
            depthwise(32, 64, stride=2),
            depthwise(64, 64),
        )
        self.stage2 = nn.Sequential(depthwise(64, 128, stride=2), *(depthwise(128, 128) for _ in range(5)))
        self.stage3 = nn.Sequential(depthwise(128, 256, stride=2), depthwise(256, 256))

    def forward(self, images: Tensor) -> list[Tensor]:
        stage1 = self.stage1(images)
        stage2 = self.stage2(stage1)
        return [stage1, stage2, self.stage3(stage2)]


class ResNetBody(nn.Module):
    """torchvision's ResNet-50 without its classifier: features of 512, 1024, 2048 channels at strides 8, 16, 32."""

    conv1: nn.Module
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50  # it takes 170 MB, which MobileNet does without

        for name, module in resnet50(weights=None).named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)

    def forward(self, images: Tensor) -> list[Tensor]:
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        stride8 = self.layer2(self.layer1(stem))
        stride16 = self.layer3(stride8)
        return [stride8, stride16, self.layer4(stride16)]


class FeaturePyramid(nn.Module):
    """Each level reduced to `width` channels; the coarser level, enlarged, is added to the finer one and merged."""

    def __init__(self, channels: tuple[int, int, int], width: int) -> None:
        super().__init__()
        slope = leaky_slope(width)
        self.output1, self.output2, self.output3 = (convolution(c, width, kernel=1, slope=slope) for c in channels)
        self.merge1 = convolution(width, width, slope=slope)
        self.merge2 = convolution(width, width, slope=slope)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        stride8, stride16, stride32 = (
            reduce(level) for reduce, level in zip((self.output1, self.output2, self.output3), features)
        )
        stride16 = self.merge2(stride16 + F.interpolate(stride32, size=stride16.shape[-2:], mode="nearest"))
        stride8 = self.merge1(stride8 + F.interpolate(stride16, size=stride8.shape[-2:], mode="nearest"))
        return [stride8, stride16, stride32]


class ContextModule(nn.Module):
    """SSH (Najibi et al., ICCV 2017): receptive fields of 3, 5 and 7 cells, the larger ones by stacked 3x3 kernels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half, quarter, slope = width // 2, width // 4, leaky_slope(width)
        self.conv3X3 = convolution(width, half)
        self.conv5X5_1 = convolution(width, quarter, slope=slope)
        self.conv5X5_2 = convolution(quarter, quarter)
        self.conv7X7_2 = convolution(quarter, quarter, slope=slope)
        self.conv7x7_3 = convolution(quarter, quarter)

    def forward(self, level: Tensor) -> Tensor:
        shared = self.conv5X5_1(level)
        fields = [self.conv3X3(level), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))]
        return F.relu(torch.cat(fields, dim=1))


class Head(nn.Module):
    """`values` numbers for each anchor: (B, width, h, w) -> (B, h * w * ANCHORS_PER_CELL, values), row by row."""

    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(width, ANCHORS_PER_CELL * values, kernel_size=1)

    def forward(self, level: Tensor) -> Tensor:
        per_cell = self.conv1x1(level).permute(0, 2, 3, 1)  # (B, h, w, anchors * values)
        return per_cell.reshape(level.shape[0], -1, self.values)  # (B, h * w * anchors, values)


def convolution(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1, slope: float | None = None
) -> nn.Sequential:
    """Convolution and batch norm, then a leaky ReLU unless `slope` is None."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if slope is not None:
        layers.append(nn.LeakyReLU(slope, inplace=True))
    return nn.Sequential(*layers)


def depthwise(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution per channel, then a 1x1 across channels; one flat Sequential, as published."""
    return nn.Sequential(
        *convolution(inputs, inputs, stride=stride, groups=inputs, slope=0.1),
        *convolution(inputs, outputs, kernel=1, slope=0.1),
    )


def leaky_slope(width: int) -> float:
    """The published networks leak in pyramids of at most 64 channels and are plain ReLU above."""
    return 0.1 if width <= 64 else 0.0


def load_published(network: NetworkName, state_dict: Mapping[str, Any]) -> RetinaFace:
    """The network in eval mode with every parameter from `state_dict`; anything missing, left over or misshapen raises.

    A dict under the key `state_dict`, and prefixes `module.` (DataParallel) and `model.` (Lightning), are taken off.
    """
    with torch.device("meta"):  # nothing is initialised, so nothing random can remain
        model = RetinaFace(network)
    tensors = {
        key.removeprefix("module.").removeprefix("model."): value
        for key, value in state_dict.get("state_dict", state_dict).items()
    }
    expected = model.state_dict()
    # Batch norm counts its batches since PyTorch 0.4.1; older files lack the counters, and inference never reads them.
    counters = {key for key in expected if key.endswith(".num_batches_tracked")}
    missing = sorted(expected.keys() - tensors.keys() - counters)
    unexpected = sorted(tensors.keys() - expected.keys())
    misshapen = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    ]
    if missing or unexpected or misshapen:
        raise ValueError(
            f"not the weights of RetinaFace {network}: {_listed('missing', missing)}; "
            f"{_listed('unexpected', unexpected)}; {_listed('of another shape', misshapen)}; {_likely_network(tensors)}"
        )
    counted = {key: tensors.get(key, torch.tensor(0)) for key in counters}
    model.load_state_dict({**tensors, **counted}, strict=True, assign=True)
    return model.float().eval().requires_grad_(False)


def _listed(what: str, names: list[str], shown: int = 5) -> str:
    if not names:
        return f"{what} none"
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{what} {len(names)}: {', '.join(names[:shown])}{more}"


def _likely_network(tensors: Mapping[str, Tensor]) -> str:
    marks = {"body.stage1.0.0.weight": "mobilenet0.25", "body.layer1.0.conv1.weight": "resnet50"}
    found = [network for mark, network in marks.items() if mark in tensors]
    if found:
        return f"the body is that of {found[0]}: pass network={found[0]!r}, or the file of the network you want"
    return "neither published body is in it: check that the file is a RetinaFace checkpoint"


def fold(network: RetinaFace) -> RetinaFace:
    """A copy for inference: each batch norm folded into the convolution registered before it, memory channels-last."""
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        for (name, first), (norm_name, second) in pairwise(list(module.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, norm_name, nn.Identity())
    return folded.to(memory_format=torch.channels_last)
