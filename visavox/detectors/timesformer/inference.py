"""TimeSformer for scoring alone: the same numbers sooner, in less memory.

B clips · T frames · P patches of a frame · D embed_dims
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from visavox.detectors.timesformer.pretrained import resize_time

CHUNK = 1568
"""Tokens that a CPU computes at once, what it calculates then staying in its cache and out of fresh memory; eight frames."""


class FoldedTimeSformer(nn.Module):
    """A TimeSformer of divided attention in eval mode, equal to it up to rounding.

    Time's projection and the `temporal_fc` that follows are one matrix. Weights lie there in `dtype`, where autocast would
    convert them in every pass; residuals and norms stay float32. What a layer adds is added in place, chunk by chunk. Of the
    last layer the class token alone is computed, for nothing else is read. The parts of `network` are taken over, converted:
    it is of no use afterwards.
    """

    @torch.no_grad()
    def __init__(self, network: Any, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.img_size = dtype, network.img_size
        self.projection = network.patch_embed.projection.to(dtype)
        self.cls_token, self.pos_embed, self.time_embed = network.cls_token, network.pos_embed, network.time_embed
        self.layers = nn.ModuleList(_Layer(layer, dtype) for layer in network.transformer_layers["layers"])
        self.norm = network.norm
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, frames: Tensor) -> Tensor:
        """frames (B, 3, T, S, S) float RGB in [-1, 1] -> class token (B, D) float32."""
        clips, _, length, height, width = frames.shape
        if (height, width) != (self.img_size, self.img_size):
            raise ValueError(
                f"frames are {height}x{width}, this TimeSformer was built for {self.img_size}x{self.img_size}"
            )
        with torch.autocast(frames.device.type, enabled=False):
            patches = self.projection(rearrange(frames, "b c t h w -> (b t) c h w").to(self.dtype))  # (B*T, D, h, w)
            tokens = rearrange(patches.float(), "(b t) d h w -> b (h w) t d", b=clips)  # (B, P, T, D)
            tokens = tokens + self.pos_embed[:, 1:, None] + resize_time(self.time_embed, length)[:, None]
            cls = (self.cls_token + self.pos_embed[:, :1]).expand(clips, -1, -1).clone()  # (B, 1, D)
            tokens = tokens.contiguous()
            *layers, last = cast("list[_Layer]", self.layers)
            for layer in layers:
                layer.over_time(tokens)
                layer.over_space(tokens, cls)
                layer.forward_each(tokens)
                layer.forward_each(cls)
            last.over_time(tokens)
            last.over_space(tokens, cls, class_only=True)
            last.forward_each(cls)
            return self.norm(cls[:, 0])


class _Layer(nn.Module):
    """One divided layer; each of its parts changes tokens (B, P, T, D) and class tokens (B, 1, D) in place."""

    def __init__(self, layer: Any, dtype: torch.dtype):
        super().__init__()
        time, space = layer.attentions
        after, out = time.temporal_fc, time.attn.out_proj
        folded = nn.Linear(out.weight.shape[0], out.weight.shape[1], device="meta")
        folded.weight = nn.Parameter(after.weight @ out.weight)
        folded.bias = nn.Parameter(after.weight @ out.bias + after.bias)
        self.time, self.space = _Attention(time, folded, dtype), _Attention(space, space.attn.out_proj, dtype)
        self.norm = layer.ffns[0].norm
        self.widen, self.narrow = layer.ffns[0].layers[0][0].to(dtype), layer.ffns[0].layers[1].to(dtype)

    def over_time(self, tokens: Tensor) -> None:
        each = tokens.flatten(0, 1)  # (B*P, T, D)
        for part in _chunks(each, tokens.shape[2]):
            part += self.time(part)

    def over_space(self, tokens: Tensor, cls: Tensor, class_only: bool = False) -> None:
        change = torch.zeros_like(cls)
        for clip, one, changed in zip(tokens, cls, change):  # (P, T, D), (1, D), (1, D)
            for part in _chunks(clip.transpose(0, 1), len(clip)):  # (t, P, D)
                seen = torch.cat([one.expand(len(part), 1, -1), part], dim=1)  # (t, 1 + P, D)
                new = self.space(seen, queries=1 if class_only else None)
                changed += new[:, 0].sum(0, dtype=torch.float32)
                if not class_only:
                    part += new[:, 1:]
        cls += change / tokens.shape[2]

    def forward_each(self, x: Tensor) -> None:
        """The feed-forward part, on tokens or on class tokens."""
        for part in _chunks(x.view(-1, x.shape[-1]), 1):
            part += self.narrow(F.gelu(self.widen(self.norm(part).to(self.widen.weight.dtype))))


class _Attention(nn.Module):
    def __init__(self, block: Any, out: nn.Linear, dtype: torch.dtype):
        super().__init__()
        self.norm, self.heads = block.norm, block.attn.heads
        self.weight = nn.Parameter(block.attn.in_proj_weight.to(dtype))
        self.bias = nn.Parameter(block.attn.in_proj_bias.to(dtype))
        self.out = out.to(dtype)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """x (N, L, D) -> what attention adds to it, (N, L, D), or to the first `queries` tokens."""
        x, dims = self.norm(x).to(self.weight.dtype), x.shape[-1]
        if queries is None:
            qkv = F.linear(x, self.weight, self.bias)
            query, key, value = rearrange(qkv, "n l (three h d) -> three n h l d", three=3, h=self.heads)
        else:
            pair = F.linear(x, self.weight[dims:], self.bias[dims:])
            key, value = rearrange(pair, "n l (two h d) -> two n h l d", two=2, h=self.heads)
            query = F.linear(x[:, :queries], self.weight[:dims], self.bias[:dims])
            query = rearrange(query, "n l (h d) -> n h l d", h=self.heads)
        seen = F.scaled_dot_product_attention(query, key, value)  # (N, heads, L, D / heads)
        return self.out(rearrange(seen, "n h l d -> n l (h d)"))


def _chunks(rows: Tensor, tokens: int) -> tuple[Tensor, ...]:
    """Rows of so many tokens each, up to CHUNK tokens together; on a GPU all at once."""
    return (rows,) if rows.is_cuda else rows.split(max(1, CHUNK // tokens))
