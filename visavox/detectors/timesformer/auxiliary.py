"""Where and when a made fake is forged, learnt beside whether it is: the auxiliary targets of FakeSTormer (ICCV 2025).

A heat map per frame is highest on the blending boundary, h = 4 m (1 - m) of the mask m in [0, 1]; a value per frame says how
much of the forgery is blended in. The head over frames is this project's own: two convolutions over the frames' mean tokens
and their distance from the clip's mean, so that a frame is told from the others.

    B clips · n faces of a clip · g patches along a side · D embed_dims
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

if TYPE_CHECKING:
    from visavox.pseudofakes.make import Fake


CLASS, HEAT, TIME = 0.8, 100.0, 0.2
"""What cross-entropy of half the logit, squared error of the heat map and cross-entropy over time count for (FakeSTormer)."""
WIDTH = 64
"""Channels between the two convolutions over frames."""
REACH = 5
"""Frames that each of them sees."""


COLD = -4.0
"""Logit of the heat at first: nearly everywhere is genuine. Without the sigmoid, squared error times 100 blows up at the rates
that small networks learn at from nothing."""


class TaughtClip(NamedTuple):
    """A clip of which is known where and when it is forged; see `clip.Clip`."""

    frames: Tensor
    """(3, T, S, S) float32 in [-1, 1]."""
    latency: Tensor
    """(V + 2,) float32."""
    heat: Tensor
    """(n, g, g) float32 in [0, 1]: 4 m (1 - m), its mean over each patch; 0 where nothing is blended."""
    forged: Tensor
    """(n,) float32 in [0, 1]: how much of the forgery is blended into each moment; 0 where it is genuine."""


class Auxiliary(nn.Module):
    """Two heads over the tokens of TimeSformer's patches.

    Args:
        parts: tokens of a moment that are put side by side: those of its face, and of its mel image where there is one.
    """

    def __init__(self, dims: int, parts: int) -> None:
        super().__init__()
        self.heat = nn.Linear(dims, 1)
        nn.init.constant_(self.heat.bias, COLD)
        self.time = nn.Sequential(
            nn.Conv1d(2 * parts * dims, WIDTH, REACH, padding=REACH // 2, padding_mode="replicate"),
            nn.GELU(),
            nn.Conv1d(WIDTH, 1, REACH, padding=REACH // 2, padding_mode="replicate"),
        )

    def forward(self, tokens: Tensor, faces: int) -> tuple[Tensor, Tensor]:
        """tokens (B, T, P, D), of which the first `faces` frames are faces -> heat (B, n, g, g), logits over time (B, n)."""
        side = round(tokens.shape[2] ** 0.5)
        heat = torch.sigmoid(self.heat(tokens[:, :faces])).squeeze(3).unflatten(2, (side, side))  # (B, n, g, g)
        means = tokens.mean(2).unflatten(1, (-1, faces))  # (B, parts, n, D)
        means = torch.cat([means, means - means.mean(2, keepdim=True)], dim=3)  # and how far from the clip's own
        return heat, self.time(means.transpose(2, 3).flatten(1, 2)).squeeze(1)  # (B, n)


def targets(fake: Fake | None, frames: np.ndarray, masks: np.ndarray | None, side: int) -> tuple[Tensor, Tensor]:
    """Return heat (n, side, side) and forged (n,) of a made fake, or of the real clip beside it (None).

    Args:
        frames: (n,) int, which frames of the fake's bundle the faces are.
        masks: (n, S, S) uint8 of these, augmented as they are; None where the fake has no outline.
    """
    heat, forged = np.zeros((len(frames), side, side), np.float32), np.zeros(len(frames), np.float32)
    for segment in fake.segments if fake else ():
        forged[(segment.first <= frames) & (frames < segment.last)] = 1
    if masks is not None:
        share = masks.astype(np.float32) / 255  # (n, S, S)
        forged = np.where(share.any((1, 2)), share.max((1, 2)), forged).astype(np.float32)
        boundary = 4 * share * (1 - share)
        heat = np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_AREA) for each in boundary])
    return torch.from_numpy(heat), torch.from_numpy(forged)


def loss(logits: Tensor, labels: Tensor, heat: Tensor, time: Tensor, clip: TaughtClip) -> Tensor:
    """Return the loss of logits (B,), heat (B, n, g, g) and time (B, n) against what is known of the clips."""
    of_class = binary_cross_entropy_with_logits(logits / 2, labels)
    return (
        CLASS * of_class + HEAT * mse_loss(heat, clip.heat) + TIME * binary_cross_entropy_with_logits(time, clip.forged)
    )
