"""Published weights under TimeSformer's names: mmaction2, Hugging Face and image ViT checkpoints.

    report = load_pretrained(timesformer, state)     # whose names these are is recognised

The maps are pure functions from a state dict to one with the names of mmaction2 1.2.0, which TimeSformer carries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from visavox.weights.loading import fit

if TYPE_CHECKING:
    from visavox.detectors.timesformer.network import TimeSformer

State = dict[str, Tensor]
AttentionType = Literal["divided_space_time", "space_only", "joint_space_time"]


class LoadReport(NamedTuple):
    """What became of each tensor of a pretrained file."""

    source: str
    """mmaction2, huggingface or vit."""
    loaded: list[str]
    """Parameters that now hold the file's values."""
    resized: list[str]
    """Of these, embeddings interpolated to this model's frames or patches."""
    dropped: list[str]
    """The file's classification head and other parts that a backbone never has."""


def load_pretrained(model: TimeSformer, state: State) -> LoadReport:
    """Load published or earlier weights into a TimeSformer, whichever names they have; all of it, or nothing.

    Args:
        model: `model.TimeSformer`.
        state: a state dict of mmaction2's TimeSformer (recogniser, backbone or its ViT start file), of Hugging Face's
            TimesformerModel, of timm's VisionTransformer, or of a MultimodalDetector.

    Raises:
        WeightsError: counts and names parameters that are missing, left over, or of another shape.
        ValueError: the names are none of these.
    """
    source, mapped = _translate(state, model.attention_type)
    dropped = [name for name in mapped if name.startswith(_NOT_BACKBONE)]
    found = {name: value for name, value in mapped.items() if name not in dropped}
    wanted = model.state_dict()

    resized = []
    for name, resize, size in (
        ("time_embed", resize_time, lambda embed: embed.shape[1]),
        ("pos_embed", resize_grid, lambda embed: embed.shape[1] - 1),
    ):
        if name in found and name in wanted and size(found[name]) != size(wanted[name]):
            found[name] = resize(found[name], size(wanted[name]))
            resized.append(name)

    fit(model, found, what=f"a file of {source} weights")
    return LoadReport(source, sorted(found), resized, dropped)


def _translate(state: State, attention_type: AttentionType) -> tuple[str, State]:
    """Recognise whose names these are, and give them mmaction2's."""

    def has(part: str) -> bool:
        return any(part in name for name in state)

    if has("patch_embeddings.projection"):
        return "huggingface", from_huggingface(state)
    if has("transformer_layers.") and has("time_embed"):
        return "mmaction2", from_mmaction2(state)
    if has("transformer_layers.") or (has("patch_embed.proj.") and has("blocks.")):
        return "vit", from_vit(state, attention_type)
    raise ValueError(
        f"no TimeSformer or ViT weights: the names start with {sorted(state)[:3]}. Known are mmaction2's TimeSformer, "
        "Hugging Face's TimesformerModel and timm's VisionTransformer"
    )


def from_mmaction2(state: State) -> State:
    """mmaction2's recogniser (`backbone.…`, `cls_head.…`) or our detector (`timesformer.…`) -> names of TimeSformer."""
    return {re.sub(r"^(backbone|timesformer)\.", "", name): value for name, value in state.items()}


def from_huggingface(state: State, mean: float = 0.45, std: float = 0.225) -> State:
    """Hugging Face's TimesformerModel or TimesformerForVideoClassification -> names of TimeSformer.

    Those weights (facebook/timesformer-base-finetuned-k400) saw pixels in [0, 1] less `mean`, over `std`; TimeSformer here
    sees [-1, 1]. The patch projection is linear and has no padding, so that the difference goes into it exactly.
    """
    renamed = _rename(state, _HUGGINGFACE)
    weight, bias = renamed["patch_embed.projection.weight"], renamed["patch_embed.projection.bias"]
    renamed["patch_embed.projection.weight"] = weight * (0.5 / std)
    renamed["patch_embed.projection.bias"] = bias + weight.sum(dim=(1, 2, 3)) * ((0.5 - mean) / std)
    return renamed


def from_vit(state: State, attention_type: AttentionType = "divided_space_time") -> State:
    """An image ViT (timm's names, or those of mmaction2's start file) -> names of TimeSformer.

    As mmaction2 starts its training: attention along time begins as a copy of attention over space, behind a
    `temporal_fc` and a time embedding of zeros.
    """
    state = _rename(from_mmaction2(state), _TIMM)
    if attention_type != "space_only":
        state["time_embed"] = torch.zeros_like(state["cls_token"])  # (1, 1, D), resized to any number of frames
    if attention_type != "divided_space_time":
        return state
    divided = {}
    for name, value in _rename(state, _PLAIN_TO_DIVIDED).items():
        divided[name] = value
        if ".attentions.1." in name:
            divided[name.replace(".attentions.1.", ".attentions.0.")] = value.clone()
        if name.endswith(".attentions.1.attn.out_proj.weight"):
            temporal_fc = name.replace("attentions.1.attn.out_proj.weight", "attentions.0.temporal_fc")
            divided[f"{temporal_fc}.weight"] = torch.zeros_like(value)
            divided[f"{temporal_fc}.bias"] = value.new_zeros(len(value))
    return divided


def resize_time(embed: Tensor, frames: int) -> Tensor:
    """Time embedding (1, T, D) -> (1, frames, D), nearest neighbour as in facebookresearch/TimeSformer."""
    if embed.shape[1] == frames:
        return embed
    return F.interpolate(embed.mT, size=frames, mode="nearest").mT


def resize_grid(embed: Tensor, patches: int) -> Tensor:
    """Position embedding (1, 1 + P, D) of a square grid -> (1, 1 + patches, D), bicubic; the class token's stays."""
    cls, grid = embed[:, :1], embed[:, 1:]
    old, new = round(grid.shape[1] ** 0.5), round(patches**0.5)
    grid = rearrange(grid, "1 (h w) d -> 1 d h w", h=old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True)
    return torch.cat([cls, rearrange(grid, "1 d h w -> 1 (h w) d")], dim=1)


def _rename(state: State, rules: Sequence[tuple[str, str]]) -> State:
    """Apply regular expressions, in order, to every name."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


_LAYER = r"transformer_layers.layers.\1."

_HUGGINGFACE = (
    (r"^timesformer\.", ""),
    (r"^embeddings\.patch_embeddings\.", "patch_embed."),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.time_embeddings$", "time_embed"),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.(\d+)\.", _LAYER),
    (r"\.temporal_layernorm\.", ".attentions.0.norm."),
    (r"\.temporal_attention\.attention\.qkv\.", ".attentions.0.attn.in_proj_"),
    (r"\.temporal_attention\.output\.dense\.", ".attentions.0.attn.out_proj."),
    (r"\.temporal_dense\.", ".attentions.0.temporal_fc."),
    (r"\.layernorm_before\.", ".attentions.1.norm."),
    (r"\.attention\.attention\.qkv\.", ".attentions.1.attn.in_proj_"),
    (r"\.attention\.output\.dense\.", ".attentions.1.attn.out_proj."),
    (r"\.layernorm_after\.", ".ffns.0.norm."),
    (r"\.intermediate\.dense\.", ".ffns.0.layers.0.0."),
    (r"\.output\.dense\.", ".ffns.0.layers.1."),
)

_TIMM = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.(\d+)\.", _LAYER),
    (r"\.norm1\.", ".norms.0."),
    (r"\.attn\.qkv\.", ".attentions.0.attn.in_proj_"),
    (r"\.attn\.proj\.", ".attentions.0.attn.out_proj."),
    (r"\.norm2\.", ".norms.1."),
    (r"\.mlp\.fc1\.", ".ffns.0.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffns.0.layers.1."),
)

_PLAIN_TO_DIVIDED = (
    (r"\.attentions\.0\.", ".attentions.1."),
    (r"\.norms\.0\.", ".attentions.1.norm."),
    (r"\.norms\.1\.", ".ffns.0.norm."),
)

_NOT_BACKBONE = ("cls_head.", "classifier.", "head.", "pre_logits.", "latency.")
