"""The sync branch: does this sound belong to this mouth. Windows of one against windows of the other, or the seed's clip means.

B clips · L frames, 25 a second · n windows of a clip · T frames of a window · N = B * n · D width · s side of a mouth in pixels
F mel bins · STEPS mel steps in a frame
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

STEPS = 4
"""Mel steps of 10 ms in a frame of 40 ms."""


class ClipHead(nn.Module):
    """The seed's head: clip means of the visual features and the audio embedding -> one logit, higher = in step.

    Args:
        inside: 512 of the picture and 256 of the sound.
    """

    def __init__(self, inside: int = 768, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inside, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:
        """seen (B, 512), heard (B, 256) -> (B,) logits."""
        return self.net(torch.cat([seen, heard], dim=1))[:, 0]


class WindowSync(nn.Module):
    """Mouths and log-mel, frame by frame, into one space: a window is in step where the mean cosine of its frames is high."""

    def __init__(self, n_mels: int = 80, width: int = 32, dim: int = 128) -> None:
        super().__init__()
        self.lips = _Lips(width, dim)
        self.voice = _Voice(n_mels, 2 * width, dim)
        self.scale = nn.Parameter(torch.tensor(8.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def see(self, mouths: Tensor) -> Tensor:
        """mouths (B, L, s, s, 3) uint8 RGB -> (B, L, D), each of length 1."""
        return normalize(self.lips(mouths), dim=-1)

    def hear(self, mel: Tensor) -> Tensor:
        """mel (B, F, STEPS * L) -> (B, L, D), each of length 1."""
        return normalize(self.voice(mel), dim=-1)

    def logit(self, closeness: Tensor) -> Tensor:
        """Mean cosine in [-1, 1] -> logit, higher = in step."""
        return self.scale * closeness + self.bias

    def windows(self, mouths: Tensor, mel: Tensor, T: int, stride: int) -> tuple[Tensor, Tensor]:
        """Judge a clip window by window: mouths (L, s, s, 3), mel (F, STEPS * L) -> first frames (n,), logits (n,).

        The last window ends with the clip; a clip shorter than T is one window.
        """
        close = (self.see(mouths[None])[0] * self.hear(mel[None])[0]).sum(-1)  # (L,)
        T = min(T, len(close))
        starts = torch.arange(0, len(close) - T + 1, stride)
        if starts[-1] != len(close) - T:
            starts = torch.cat([starts, torch.tensor([len(close) - T])])
        starts = starts.to(close.device)
        return starts, self.logit(close[starts[:, None] + torch.arange(T, device=close.device)].mean(1))


class SyncLoss(NamedTuple):
    contrastive: Tensor
    """() own sound among all others', InfoNCE both ways."""
    match: Tensor
    """() cross-entropy of own against moved and foreign sound, both halves weighing the same."""
    accuracy: Tensor
    """() share of windows whose own sound is the closest."""


def window_loss(
    net: WindowSync,
    seen: Tensor,
    heard: Tensor,
    starts: Tensor,
    moved: Tensor,
    T: int,
    *,
    least_shift: int,
    heat: float,
) -> SyncLoss:
    """Train on windows of clips in step: aligned ones against moved ones and those of the other clips.

    Args:
        seen, heard: (B, L, D) of length 1.
        starts: (B, n) first frames of the windows.
        moved: (B, n) first frames of sound that is out of step with them by `least_shift` frames at least.
        heat: temperature of the contrastive part (van den Oord et al., 2018).
    """
    v, a, wrong = (_cut(x, first, T).flatten(0, 1) for x, first in ((seen, starts), (heard, starts), (heard, moved)))
    N = len(v)
    clip = torch.arange(len(starts), device=v.device).repeat_interleave(starts.shape[1])  # (N,)
    first, first_wrong = starts.flatten(), moved.flatten()
    with torch.autocast(v.device.type, enabled=False):
        close = torch.einsum("itd,jtd->ij", v.float(), torch.cat([a, wrong]).float()) / T  # (N, 2N)
    own = torch.eye(N, 2 * N, dtype=torch.bool, device=v.device)
    sounds, clips = torch.cat([first, first_wrong]), torch.cat([clip, clip])
    near = (clip[:, None] == clips) & ((first[:, None] - sounds).abs() < least_shift) & ~own
    masked = (close / heat).masked_fill(near, -torch.inf)
    target = torch.arange(N, device=v.device)
    back = masked[:, :N].mT
    contrastive = (cross_entropy(masked, target) + cross_entropy(back, target)) / 2
    foreign = (clip[:, None] != clip).float()
    alone = foreign.sum(1) == 0  # a batch of one clip has nobody else's sound
    logits = net.logit(close)
    parts = [binary_cross_entropy_with_logits(logits.diagonal(), torch.ones(N, device=v.device))]
    false = [binary_cross_entropy_with_logits(logits[:, N:].diagonal(), torch.zeros(N, device=v.device))]
    if not alone.all():
        other = torch.multinomial(foreign, 1)[:, 0]
        false.append(binary_cross_entropy_with_logits(logits[target, other], torch.zeros(N, device=v.device)))
    parts.append(torch.stack(false).mean())
    accuracy = (masked.argmax(1) == target).float().mean()
    return SyncLoss(contrastive, torch.stack(parts).mean(), accuracy)


def moved_starts(starts: Tensor, last: Tensor, least: int, most: int) -> Tensor:
    """First frames `least` to `most` frames away, at random: starts (B, n), last (B,) that are possible -> (B, n).

    Raises:
        ValueError: a clip has no such frame.
    """
    places = torch.arange(int(last.max()) + 1, device=starts.device)
    apart = (places - starts[..., None]).abs()  # (B, n, R)
    allowed = (apart >= least) & (apart <= most) & (places <= last[:, None, None])
    if not allowed.any(-1).all():
        raise ValueError(f"a clip is too short for sound moved by {least} frames; leave it out")
    return torch.multinomial(allowed.flatten(0, 1).float(), 1).view(starts.shape)


class _Lips(nn.Module):
    """Five frames at a time through a 3-D convolution, then each moment through 2-D ones."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, 5, stride=(1, 2, 2), padding=2, bias=False), nn.BatchNorm3d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            *_block2(width, 2 * width), *_block2(2 * width, 2 * width), *_block2(2 * width, 4 * width)
        )
        self.project = nn.Linear(16 * width, dim)

    def forward(self, mouths: Tensor) -> Tensor:
        x = mouths.permute(0, 4, 1, 2, 3).float() / 127.5 - 1  # (B, 3, L, s, s)
        x = self.stem(x).transpose(1, 2)  # (B, L, C, s / 2, s / 2)
        B, L = x.shape[:2]
        x = nn.functional.adaptive_avg_pool2d(self.blocks(x.flatten(0, 1)), 2)  # (B * L, 4 * width, 2, 2)
        return self.project(x.flatten(1)).unflatten(0, (B, L))


class _Voice(nn.Module):
    """Log-mel in time, two strides of 2: one feature a frame."""

    def __init__(self, n_mels: int, width: int, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *_block1(n_mels, width, 5, 1), *_block1(width, 2 * width, 5, 2), *_block1(2 * width, 2 * width, 5, 2)
        )
        self.project = nn.Conv1d(2 * width, dim, 1)

    def forward(self, mel: Tensor) -> Tensor:
        frames = mel.shape[2] // STEPS
        return self.project(self.net(mel))[..., :frames].transpose(1, 2)  # (B, L, D)


def _block2(inside: int, outside: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]


def _block1(inside: int, outside: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv1d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outside),
        nn.ReLU(),
    ]


def _cut(x: Tensor, starts: Tensor, T: int) -> Tensor:
    """T frames from each start: x (B, L, D), starts (B, n) -> (B, n, T, D)."""
    steps = starts[..., None] + torch.arange(T, device=x.device)
    return x[torch.arange(len(x), device=x.device)[:, None, None], steps]
