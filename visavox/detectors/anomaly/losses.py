"""What the stage `sync` minimises: own sound close, other clips' and the clip's own moved sound far.

B clips · n windows of each · N = B * n · T steps · D width
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from visavox.detectors.anomaly.streams import Fusion, unit


class SyncLoss(NamedTuple):
    contrastive: Tensor
    """() InfoNCE over windows, both ways."""
    match: Tensor
    """() of the fused features' own verdict, per step."""
    accuracy: Tensor
    """() share of windows whose own sound is the nearest of all."""
    fused: Tensor
    """(N, T, D) of windows with their own sound."""


def sync_loss(
    seen: Tensor, heard: Tensor, starts: Tensor, fusion: Fusion, *, temperature: float, least_offset: int
) -> SyncLoss:
    """InfoNCE (van den Oord et al., 2018) between windows of sight and of sound, and the loss of the fusion.

    Two windows are as close as the mean cosine of their steps, step 1 against step 1 and so on: positions say nothing. A
    window's negatives are the sound of all other clips, and its own clip's from `least_offset` frames away on; what lies
    nearer is left out.

    Args:
        seen, heard: (B, n, T, D) of windows of B real clips.
        starts: (B, n) the windows' first frames.
    """
    B, n, T = seen.shape[:3]
    v, a = seen.flatten(0, 1).float(), heard.flatten(0, 1).float()  # (N, T, D)
    clip = torch.arange(B, device=v.device).repeat_interleave(n)  # (N,)
    start = starts.flatten()
    same = clip[:, None] == clip
    far = (start[:, None] - start).abs() >= least_offset
    own = torch.eye(B * n, dtype=torch.bool, device=v.device)
    with torch.autocast(v.device.type, enabled=False):
        closeness = torch.einsum("itd,jtd->ij", unit(v), unit(a)) / T / temperature  # (N, N)
        closeness = closeness.masked_fill(same & ~far & ~own, -torch.inf)
        target = torch.arange(B * n, device=v.device)
        contrastive = (cross_entropy(closeness, target) + cross_entropy(closeness.mT, target)) / 2
        moved = _draw(same & far, otherwise=~own)
        foreign = _draw(~same, otherwise=~own)
        fused = fusion(v, a)
        logits = torch.stack(
            [fusion.match(fused), fusion.match(fusion(v, a[moved])), fusion.match(fusion(v, a[foreign]))]
        )
        truth = torch.zeros_like(logits)
        truth[0] = 1
        each = (
            binary_cross_entropy_with_logits(logits.float(), truth.float(), reduction="none").flatten(1).mean(1)
        )  # (3,)
        match = each[0] / 2 + each[1:].mean() / 2
    accuracy = (closeness.argmax(1) == target).float().mean()
    return SyncLoss(contrastive, match, accuracy, fused)


def _draw(allowed: Tensor, otherwise: Tensor) -> Tensor:
    """For each row of allowed (N, N) one allowed column, (N,) int64; one of `otherwise` in rows that allow none."""
    allowed = allowed.where(allowed.any(1, keepdim=True), otherwise)
    return torch.multinomial(allowed.float(), 1)[:, 0]
