"""The guard against features that say nothing.

Likelihood can be had for nothing: features that are the same for every clip are predicted perfectly, and training streams
and decoder together on likelihood alone goes there. What differs *between clips at
the same step of a window* is watched, since positions make steps differ whatever the clip.
"""

from __future__ import annotations

import torch
from torch import Tensor

FOLLOW = 0.9
"""Share of the past in the running mean."""
PATIENCE = 20
"""Training steps that the running mean has to stay below the bound."""


class Collapse(RuntimeError):
    """Features have become the same for every clip; the message holds the cure."""


class Guard:
    """Follows the share of the features' power that differs between clips; stops training where it stays below a bound."""

    def __init__(self, bound: float, grace: int = 0, patience: int = PATIENCE):
        self.bound = bound
        self.grace = grace
        self.patience = patience
        self.mean: float | None = None
        self.below = 0
        self.seen = 0

    def look(self, features: Tensor) -> float:
        """features (N, T, D) of a training step -> their spread.

        Raises:
            Collapse: after the first `grace` steps, in which those of fresh networks may be alike, the running mean lay
                below the bound for `patience` steps in a row.
        """
        now = spread(features)
        self.mean = now if self.mean is None else FOLLOW * self.mean + (1 - FOLLOW) * now
        self.seen += 1
        low = self.seen > self.grace and not self.mean >= self.bound  # NaN counts as below
        self.below = self.below + 1 if low else 0
        if self.below >= self.patience:
            raise Collapse(
                f"features collapsed: {self.mean:.1e} of their power differs between clips, below "
                f"detector.collapse_bound={self.bound:g} for {self.below} steps. Constant features are predicted perfectly "
                "and say nothing. Train in two stages (detector.joint=false), lower lr, or look for clips that are all "
                "the same; detector.collapse_bound=0 trains on regardless"
            )
        return now


@torch.no_grad()
def spread(features: Tensor) -> float:
    """Variance between the N windows at each step, over mean square: features (N, T, D) -> 0 (constant) to 1."""
    x = features.detach().double()
    power = x.square().mean()
    return float(x.var(0, correction=0).mean() / power) if power > 0 else 0.0
