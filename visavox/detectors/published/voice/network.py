"""WavLM and Nes2Net under the parameter names of DeepFense (Yaselley/deepfense-framework, PyPI 0.2.2, Apache-2.0).

network = VoiceNetwork(fake_index=0)       # names frontend.model.*, backend.*, losses.0.fc.*
network(sound)                             # (B, N) -> (B,) logits, higher = more fake

B windows · N samples · L steps of WavLM, one for 20 ms · D width of its features · C width of one of the groups of Nes2Net
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

GROUPS = 8
"""Into which Nes2Net parts the features, and each of its blocks its own again."""
DILATION, KERNEL, SQUEEZE = 2, 3, 8


class Size(NamedTuple):
    """Of WavLM."""

    layers: int
    width: int
    """D; divisible by 64, for Nes2Net parts it by 8 twice."""
    inner: int
    """Width of its feed-forward layers."""
    heads: int
    channels: int
    """Of the convolutions that read the sound."""


LARGE = Size(24, 1024, 4096, 16, 512)
TINY = Size(2, 64, 64, 4, 16)
"""For tests."""
LAYER = {
    "self_attn.": "attention.",
    "grep_a": "gru_rel_pos_const",
    "grep_linear": "gru_rel_pos_linear",
    "relative_attention_bias": "rel_attn_embed",
    "self_attn_layer_norm": "layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
}
"""A layer's names in Microsoft's code, which wrote the file -> those of transformers."""
AROUND = {
    "mask_emb": "masked_spec_embed",
    "post_extract_proj.": "feature_projection.projection.",
    "layer_norm.": "feature_projection.layer_norm.",
    "encoder.pos_conv.0.weight_g": "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    "encoder.pos_conv.0.weight_v": "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
    "encoder.pos_conv.0.bias": "encoder.pos_conv_embed.conv.bias",
}
"""The same outside the layers, by their beginnings."""
PREFIX = "frontend.model."


class MissingExtraError(ValueError):
    """transformers is not installed; the message names the extra."""

    code = "BAD_CONFIG"


class VoiceNetwork(nn.Module):
    """WavLM, Nes2Net, a mean over time and a linear layer with two classes.

    Args:
        fake_index: which of the classes means fake, as the registry says of the file.

    Raises:
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, fake_index: int, size: Size = LARGE) -> None:
        super().__init__()
        self.fake_index = fake_index
        self.frontend = _Named("model", _wavlm(size))
        self.backend = Nes2Net(size.width)
        self.losses = nn.ModuleList([_Named("fc", nn.Linear(size.width, 2))])

    def forward(self, sound: Tensor) -> Tensor:
        """(B, N) float32 in [-1, 1] at 16 kHz -> (B,) log-odds of fake."""
        logits = self.classes(sound)
        return logits[:, self.fake_index] - logits[:, 1 - self.fake_index]

    def classes(self, sound: Tensor) -> Tensor:
        """(B, N) -> (B, 2) logits in the file's own order."""
        return self.losses[0](self.features(sound))

    def features(self, sound: Tensor) -> Tensor:
        """(B, N) -> (B, D), means over time."""
        return self.backend(self.frontend(sound).last_hidden_state)  # (B, L, D) -> (B, D)


class Nes2Net(nn.Module):
    """Groups of channels one after the other, each with what the one before made of its own added (Liu et al., 2025)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        C = width // GROUPS
        self.Build_in_Res2Nets = nn.ModuleList(Block(C) for _ in range(GROUPS - 1))  # as published
        self.bns = nn.ModuleList(nn.BatchNorm1d(C) for _ in range(GROUPS - 1))
        self.bn = nn.BatchNorm1d(width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, L, D) -> (B, D)."""
        *groups, rest = features.transpose(1, 2).chunk(GROUPS, 1)  # (B, C, L) each
        made: list[Tensor] = []
        for group, block, norm in zip(groups, self.Build_in_Res2Nets, self.bns):
            made.append(norm(torch.relu(block(made[-1] + group if made else group))))
        return torch.relu(self.bn(torch.cat([*made, rest], 1))).mean(2)


class Block(nn.Module):
    """The same inside one group, with a gate over its channels and a way around it (Res2Net with squeeze and excitation)."""

    def __init__(self, C: int) -> None:
        super().__init__()
        c = C // GROUPS
        self.conv1, self.bn1 = nn.Conv1d(C, C, 1), nn.BatchNorm1d(C)
        self.convs = nn.ModuleList(
            nn.Conv1d(c, c, KERNEL, dilation=DILATION, padding=KERNEL // 2 * DILATION) for _ in range(GROUPS - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(c) for _ in range(GROUPS - 1))
        self.conv3, self.bn3 = nn.Conv1d(C, C, 1), nn.BatchNorm1d(C)
        gate = [nn.AdaptiveAvgPool1d(1), nn.Conv1d(C, C // SQUEEZE, 1), nn.ReLU(), nn.Conv1d(C // SQUEEZE, C, 1)]
        self.se = _Named("se", nn.Sequential(*gate, nn.Sigmoid()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        *groups, rest = self.bn1(torch.relu(self.conv1(x))).chunk(GROUPS, 1)
        made: list[Tensor] = []
        for group, conv, norm in zip(groups, self.convs, self.bns):
            made.append(norm(torch.relu(conv(made[-1] + group if made else group))))
        out = self.bn3(torch.relu(self.conv3(torch.cat([*made, rest], 1))))
        return out * self.se(out) + x


class _Named(nn.Module):
    """A module one name further down, where the published file has it."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.name = name
        setattr(self, name, module)

    def forward(self, x: Tensor) -> Any:
        return getattr(self, self.name)(x)


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published file's parameters as this network names them: WavLM's as transformers does."""
    return {_renamed(name): value for name, value in state.items()}


def _renamed(name: str) -> str:
    if not name.startswith(PREFIX):
        return name
    inside = name.removeprefix(PREFIX)
    if found := re.fullmatch(r"feature_extractor\.conv_layers\.(\d+)\.(0|2\.1)\.(weight|bias)", inside):
        part = "conv" if found[2] == "0" else "layer_norm"
        return f"{PREFIX}feature_extractor.conv_layers.{found[1]}.{part}.{found[3]}"
    if found := re.fullmatch(r"(encoder\.layers\.\d+\.)(.*)", inside):
        rest = found[2]
        for old, new in LAYER.items():
            rest = re.sub(rf"(^|\.){re.escape(old)}", rf"\g<1>{new}", rest)
        return f"{PREFIX}{found[1]}{rest}"
    for old, new in AROUND.items():
        if inside.startswith(old):
            return f"{PREFIX}{new}{inside.removeprefix(old)}"
    return name


def _wavlm(size: Size) -> Any:
    try:
        from transformers import WavLMConfig, WavLMModel
    except ImportError:
        raise MissingExtraError(
            "the voice model needs transformers: pip install 'visavox[foundation]'; without it the branch is left out"
        ) from None
    config = WavLMConfig(
        num_hidden_layers=size.layers,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_attention_heads=size.heads,
        conv_dim=(size.channels,) * 7,
        conv_kernel=(10, 3, 3, 3, 3, 2, 2),
        conv_stride=(5, 2, 2, 2, 2, 2, 2),
        conv_bias=False,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_buckets=320,
        max_bucket_distance=800,
    )
    return WavLMModel(config)
