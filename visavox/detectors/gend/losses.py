"""Losses that keep features of length 1 apart and together (Wang and Isola, 2020), as GenD weighs them beside cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-6
"""Below it the mean of the uniformity is not let fall, so that its logarithm stays finite."""


def uniformity(features: Tensor, t: float = 2.0) -> Tensor:
    """Return log of the mean over pairs of exp(-t d^2): features (N, D) of length 1 -> (); lower is more spread out."""
    if len(features) < 2:
        return features.sum() * 0
    return torch.pdist(features).pow(2).mul(-t).exp().mean().clamp(min=LEAST).log()


def alignment(features: Tensor, labels: Tensor, power: float = 2.0) -> Tensor:
    """Return the mean over pairs of one label of d^power: features (N, D) of length 1, labels (N,) -> (); 0 without pairs."""
    same = (labels[:, None] == labels[None, :]).triu(diagonal=1)
    first, second = same.nonzero(as_tuple=True)
    if not len(first):
        return features.sum() * 0
    return (features[first] - features[second]).norm(dim=1).pow(power).mean()
