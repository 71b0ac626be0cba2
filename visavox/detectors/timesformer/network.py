"""TimeSformer, Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (ICML 2021), with the
parameter names of mmaction2 1.2.0, so that its checkpoints load unchanged.

    B clips · T frames · P patches of a frame · D embed_dims · S side of a frame in pixels
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from visavox.detectors.timesformer.pretrained import AttentionType, resize_time

log = logging.getLogger(__name__)


class TimeSformer(nn.Module):
    """Vision transformer over space and time; parameter names and shapes of mmaction2 1.2.0.

    Args:
        num_frames: length of the time embedding. A clip of another length is seen through the embedding resized by
            nearest neighbour, as in the authors' code (facebookresearch/TimeSformer).
        img_size: side of a frame in pixels, a multiple of patch_size.
        num_layers: transformer layers; layer i of n drops its branches with probability i / (n - 1) * drop_path_rate.
        attention_type: `divided_space_time` attends along time at each patch, then over the patches of each frame;
            `space_only` over the patches of each frame, frames averaged at the end; `joint_space_time` over everything.
        checkpoint_activations: recompute each layer in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        num_frames: int,
        img_size: int,
        patch_size: int,
        embed_dims: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        drop_path_rate: float = 0.1,
        attention_type: AttentionType = "divided_space_time",
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"patch_size={patch_size} does not divide img_size={img_size}")
        if embed_dims % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide embed_dims={embed_dims}")
        self.img_size = img_size
        self.attention_type = attention_type
        self.checkpoint_activations = checkpoint_activations

        projection = nn.Conv2d(3, embed_dims, patch_size, patch_size)
        self.patch_embed = nn.Sequential(OrderedDict(projection=projection))
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dims))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (img_size // patch_size) ** 2, embed_dims))
        if attention_type != "space_only":
            self.time_embed = nn.Parameter(torch.zeros(1, num_frames, embed_dims))
        layer = DividedLayer if attention_type == "divided_space_time" else PlainLayer
        rates = np.linspace(0, drop_path_rate, num_layers).tolist()
        layers = nn.ModuleList(layer(embed_dims, num_heads, rate) for rate in rates)
        self.transformer_layers = nn.ModuleDict({"layers": layers})
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)

        nn.init.kaiming_normal_(projection.weight, mode="fan_in", nonlinearity="linear")
        assert projection.bias is not None
        nn.init.zeros_(projection.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, frames: Tensor) -> Tensor:
        """frames (B, 3, T, S, S) float RGB in [-1, 1] -> class token (B, D)."""
        x, length = self._encode(frames, class_only=True), frames.shape[2]
        return self._class_token(x, length)  # (B, D)

    def with_patches(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class token (B, D) and those of all patches (B, T, P, D) of frames (B, 3, T, S, S)."""
        x, length = self._encode(frames, class_only=False), frames.shape[2]
        if self.attention_type == "space_only":
            patches = rearrange(x[:, 1:], "(b t) p d -> b t p d", t=length)
        else:
            patches = rearrange(x[:, 1:], "b (p t) d -> b t p d", t=length)
        return self._class_token(x, length), self.norm(patches)

    def _class_token(self, x: Tensor, length: int) -> Tensor:
        """Tokens of the last layer, the class token first -> (B, D)."""
        cls = x[:, 0]
        if self.attention_type == "space_only":
            cls = rearrange(cls, "(b t) d -> b t d", t=length).mean(1)
        return self.norm(cls)

    def _encode(self, frames: Tensor, class_only: bool) -> Tensor:
        """What the last layer gives: (B, 1 + P*T, D); space_only (B*T, 1 + P, D); class_only: the class token alone."""
        clips, _, length, height, width = frames.shape
        if (height, width) != (self.img_size, self.img_size):
            raise ValueError(
                f"frames are {height}x{width}, this TimeSformer was built for {self.img_size}x{self.img_size}"
            )
        patches = self.patch_embed(rearrange(frames, "b c t h w -> (b t) c h w"))  # (B*T, D, h, w)
        tokens = rearrange(patches, "(b t) d h w -> b (h w) t d", b=clips)  # (B, P, T, D)
        tokens = tokens + self.pos_embed[:, 1:, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(clips, -1, -1)  # (B, 1, D)

        if self.attention_type == "space_only":
            tokens = rearrange(tokens, "b p t d -> (b t) p d")
            cls = repeat(cls, "b 1 d -> (b t) 1 d", t=length)
        else:
            tokens = tokens + resize_time(self.time_embed, length)[:, None]
            tokens = rearrange(tokens, "b p t d -> b (p t) d")
        x = torch.cat([cls, tokens], dim=1)  # (B, 1 + P*T, D); space_only (B*T, 1 + P, D)

        *layers, last = self.layers
        steps: list[Callable[..., Tensor]] = [
            *layers,
            partial(last, class_only=class_only),
        ]
        for layer in steps:
            if self.checkpoint_activations and self.training:
                x = checkpoint(layer, x, length, use_reentrant=False)
            else:
                x = layer(x, length)
        return x

    @property
    def layers(self) -> nn.ModuleList:
        return cast(nn.ModuleList, self.transformer_layers["layers"])

    @torch.no_grad()
    def attention_over_time(self, frames: Tensor) -> Tensor:
        """How much each frame reads from each other: frames (B, 3, T, S, S) -> (layers, B, T, T), rows sum to 1.

        Mean over heads and patches; for divided_space_time, where time has an attention of its own.
        """
        if self.attention_type != "divided_space_time":
            raise ValueError(f"attention_type={self.attention_type} has no attention of its own along time")
        maps: list[Tensor] = []

        def keep(attention: Attention, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            each = attention.weights(inputs[0]).mean(1)  # (B*P, T, T)
            maps.append(rearrange(each, "(b p) t u -> b p t u", b=len(frames)).mean(1))

        hooks = [
            layer.over_time.attn.register_forward_hook(keep) for layer in self.layers if isinstance(layer, DividedLayer)
        ]
        try:
            self(frames)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(maps)


class DividedLayer(nn.Module):
    """Attention along time, attention over space, feed-forward; each normalises its input and adds its own residual."""

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        attentions = [TemporalAttention(dims, heads, drop_path), SpatialAttention(dims, heads, drop_path)]
        self.attentions = nn.ModuleList(attentions)
        self.ffns = nn.ModuleList([FeedForward(dims, drop_path)])
        self.ffns[0].norm = nn.LayerNorm(dims, eps=1e-6)

    @property
    def over_time(self) -> TemporalAttention:
        return cast(TemporalAttention, self.attentions[0])

    def forward(self, x: Tensor, frames: int, class_only: bool = False) -> Tensor:
        """x (B, 1 + P*T, D) -> the same shape; class_only: its class token alone, (B, 1, D)."""
        x = self.attentions[1](self.over_time(x, frames), frames, class_only)
        ffn = cast(FeedForward, self.ffns[0])
        return x + ffn(ffn.norm(x))


class PlainLayer(nn.Module):
    """Pre-norm transformer layer over all tokens it is given: those of a frame (space_only) or of a clip (joint)."""

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([nn.ModuleDict({"attn": Attention(dims, heads)})])
        self.norms = nn.ModuleList(nn.LayerNorm(dims, eps=1e-6) for _ in range(2))
        self.ffns = nn.ModuleList([FeedForward(dims, drop_path)])
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor, frames: int, class_only: bool = False) -> Tensor:
        """x (N, L, D) -> the same shape, (N, 1, D) for the class token alone."""
        queries = 1 if class_only else None
        attention = cast(nn.ModuleDict, self.attentions[0])["attn"]
        x = x[:, :queries] + self.drop_path(attention(self.norms[0](x), queries))
        return x + self.ffns[0](self.norms[1](x))


class TemporalAttention(nn.Module):
    """Each patch attends to the same patch of the other frames; the class token passes by. `temporal_fc` starts at zero,
    so that a network that starts from image weights first ignores time."""

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims, eps=1e-6)
        self.attn = Attention(dims, heads)
        self.drop_path = StochasticDepth(drop_path, "row")
        self.temporal_fc = nn.Linear(dims, dims)
        nn.init.zeros_(self.temporal_fc.weight)
        nn.init.zeros_(self.temporal_fc.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x (B, 1 + P*T, D), class token first, then patch by patch -> the same shape, the attention added."""
        cls, tokens = x[:, :1], x[:, 1:]  # (B, 1, D), (B, P*T, D)
        along = rearrange(tokens, "b (p t) d -> (b p) t d", t=frames)  # (B*P, T, D)
        change = self.temporal_fc(self.drop_path(self.attn(self.norm(along))))  # (B*P, T, D)
        return torch.cat([cls, tokens + rearrange(change, "(b p) t d -> b (p t) d", b=x.shape[0])], dim=1)


class SpatialAttention(nn.Module):
    """The patches of each frame attend to each other and to the class token, whose changes are averaged over frames."""

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims, eps=1e-6)
        self.attn = Attention(dims, heads)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor, frames: int, class_only: bool = False) -> Tensor:
        """x (B, 1 + P*T, D) -> the same shape, the attention added; class_only: its class token alone, (B, 1, D)."""
        cls = repeat(x[:, :1], "b 1 d -> (b t) 1 d", t=frames)  # (B*T, 1, D)
        tokens = rearrange(x[:, 1:], "b (p t) d -> (b t) p d", t=frames)  # (B*T, P, D)
        seen = self.norm(torch.cat([cls, tokens], dim=1))
        change = self.drop_path(self.attn(seen, queries=1 if class_only else None))  # (B*T, 1 + P, D), or (B*T, 1, D)
        cls = rearrange(change[:, :1], "(b t) 1 d -> b t d", t=frames).mean(1, keepdim=True)
        if class_only:
            return x[:, :1] + cls
        tokens = rearrange(change[:, 1:], "(b t) p d -> b (p t) d", t=frames)
        return x + torch.cat([cls, tokens], dim=1)


class Attention(nn.Module):
    """Multi-head self-attention under the parameter names and initial values of `nn.MultiheadAttention`."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = nn.Linear(dims, dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """x (N, L, D) -> (N, L, D), or (N, queries, D) where only the first so many tokens ask."""
        query, key, value = self._heads(x, queries)
        heads = F.scaled_dot_product_attention(query, key, value)  # (N, heads, L, D / heads)
        return self.out_proj(rearrange(heads, "n h l d -> n l (h d)"))

    def weights(self, x: Tensor) -> Tensor:
        """x (N, L, D) -> (N, heads, L, L): what `forward` weighs the values with."""
        query, key, _ = self._heads(x)
        return (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)

    def _heads(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        if queries is None:
            qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
            query, key, value = rearrange(qkv, "n l (three h d) -> three n h l d", three=3, h=self.heads)
            return query, key, value
        dims = x.shape[-1]
        query = F.linear(x[:, :queries], self.in_proj_weight[:dims], self.in_proj_bias[:dims])
        pair = F.linear(x, self.in_proj_weight[dims:], self.in_proj_bias[dims:])
        key, value = rearrange(pair, "n l (two h d) -> two n h l d", two=2, h=self.heads)
        return rearrange(query, "n l (h d) -> n h l d", h=self.heads), key, value


class FeedForward(nn.Module):
    """D -> 4 D -> D with GELU, and the layer's stochastic depth. `layers.0.0` and `layers.1` are mmcv's names."""

    norm: nn.LayerNorm
    """Of its input, where a `DividedLayer` gave it one."""

    def __init__(self, dims: int, drop_path: float) -> None:
        super().__init__()
        widen = nn.Sequential(nn.Linear(dims, 4 * dims), nn.GELU())
        self.layers = nn.Sequential(widen, nn.Linear(4 * dims, dims))
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        """x (N, L, D) -> (N, L, D)."""
        return self.drop_path(self.layers(x))
