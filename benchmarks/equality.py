"""What pipelines must have in common before their times are compared: their logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from visavox.detectors.timesformer import detector as model

Logits = dict[str, float]
SAME = 1e-3  # logits of float32 pipelines
ROUNDING = 5e-6  # what float32 may part the network's own logits by, before `scale_classifier` enlarges them and that with them
NEAR = 5e-2  # logits of bfloat16 against float32


class Unequal(RuntimeError):
    """Two pipelines that should agree do not; their times mean nothing."""


@dataclass(frozen=True)
class Run:
    """One pass of one pipeline over one clip, with every network."""

    pipeline: str
    clip: str
    seconds: dict[str, float]
    """Wall clock per stage, and `total N`, from file to logit with network N alone."""
    cpu: dict[str, float]
    """Seconds of all threads and finished child processes, `total N` as above."""
    logits: Logits


@torch.inference_mode()
def scale_classifier(network: model.MultimodalDetector, bundles: Sequence[Any]) -> float:
    """Standardise the latency network, then scale the classifier so that logits have mean 0 and deviation 1.01.

    Returns how many times larger logits are than the network's own: many times where clips are much alike, as the two of
    --quick are.

    Distances of random SyncNet weights hardly differ between clips; a floor of a twentieth of their mean keeps the latency
    network from enlarging that to more than it is.
    """
    network.fit_inputs(bundles)
    network.latency.std.clamp_(min=float(network.latency.mean[:-2].mean()) / 20)
    clips = [torch.utils.data.default_collate([network.prepare(bundle, None)]) for bundle in bundles]
    logits = torch.cat([network(network.transfer_batch_to_device(clip, network.device, 0)) for clip in clips])
    linear = network.classifier[1]
    factor = 1.01 / logits.std()
    linear.weight.copy_(linear.weight * factor)
    linear.bias.copy_((linear.bias - logits.mean()) * factor)
    return float(factor)


def compare(runs: Sequence[Run], where: str, near: float = NEAR, same: float = SAME) -> dict[str, float]:
    """Largest difference of logits between pipelines that should agree, over the clips and networks of `runs`."""
    # Random SyncNet weights give flat curves, whose minimum bfloat16 may move: d and e are printed, not held.
    limits = {
        ("b", "a"): same,
        ("b640", "a"): same,
        ("c", "c32"): near,
        ("c320", "c32"): np.inf,
        ("d", "c32"): np.inf,
        ("e", "c32"): np.inf,
    }
    found = {}
    for (one, other), most in limits.items():
        pairs = [
            (mine.logits[name], its.logits[name], f"{mine.clip} at {name} frames")
            for mine in runs
            for its in runs
            if (mine.pipeline, its.pipeline) == (one, other) and mine.clip == its.clip
            for name in mine.logits
        ]
        if not pairs:
            continue
        x, y, place = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
        found[f"{one} - {other}, {where}"] = abs(x - y)
        if not abs(x - y) <= most:
            raise Unequal(f"{place}: logit {x:.5f} by {one}, {y:.5f} by {other}; they may differ by {most:g}")
    return found
