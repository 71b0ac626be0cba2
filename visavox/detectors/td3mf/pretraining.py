"""Train a backbone on clips of one's own, to be frozen afterwards: for sizes that nobody publishes weights for.

N clips · n steps of a clip · D width of a feature
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from visavox.detectors.td3mf.backbones.base import Backbone, device_of
from visavox.evaluation.metrics import auc

log = logging.getLogger(__name__)


class Examples(NamedTuple):
    """Clips of one modality as a backbone is given them."""

    inputs: list[np.ndarray]
    """N of (n, ...), as `inputs` of the backbone gives them."""
    labels: np.ndarray
    """(N,) 0 or 1: this modality is fake."""


class Trained(NamedTuple):
    """What became of a backbone, whose parameters are those of its best epoch."""

    epoch: int
    """From 1."""
    val_auc: float


def pretrain(
    backbone: Backbone,
    train: Examples,
    val: Examples,
    *,
    epochs: int = 40,
    batch: int = 8,
    lr: float = 2e-3,
    seed: int = 0,
) -> Trained:
    """Train a backbone and a linear map on the mean of a clip's steps; keep the epoch of the highest AUC of `val`.

    Real and fake clips are drawn equally often, AdamW, rate by one cycle. Afterwards the backbone is frozen, the linear map gone.

    Raises:
        ValueError: train or val lacks a class.
    """
    for name, some in (("train", train), ("val", val)):
        if len(set(some.labels)) < 2:
            raise ValueError(f"{backbone.name}: the {name} split has one class only, {len(some.labels)} clips")
    networks = list(backbone.parts.values())
    device = device_of(networks[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(backbone.dim, 1).to(device)
    frozen = {id(p) for network in networks for name, p in network.named_parameters() if _fixed(name)}
    learnt = [p.requires_grad_() for network in networks for p in network.parameters() if id(p) not in frozen]
    optimiser = torch.optim.AdamW([*learnt, *head.parameters()], lr=lr, weight_decay=0.01)
    steps = -(-len(train.labels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=epochs * steps)
    rng = np.random.default_rng(seed)
    weights = np.where(train.labels == 1, 0.5 / (train.labels == 1).sum(), 0.5 / (train.labels == 0).sum())
    best, kept = Trained(0, -1.0), [copy.deepcopy(network.state_dict()) for network in networks]
    for epoch in range(1, epochs + 1):
        for network in networks:
            network.train()
        loss = 0.0
        for drawn in np.array_split(rng.choice(len(train.labels), len(train.labels), p=weights), steps):
            logits = _logits(backbone, head, [train.inputs[i] for i in drawn], device)
            error = binary_cross_entropy_with_logits(logits, torch.from_numpy(train.labels[drawn]).float().to(device))
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
            schedule.step()
            loss += error.item() / steps
        value = auc(val.labels, _scores(backbone, head, val.inputs, batch))
        log.info("%s: epoch %d of %d, loss %.4f, val AUC %.4f", backbone.name, epoch, epochs, loss, value)
        if value > best.val_auc:
            best = Trained(epoch, value)
            kept = [copy.deepcopy(network.state_dict()) for network in networks]
    for network, state in zip(networks, kept):
        network.load_state_dict(state)
        network.requires_grad_(False).eval()
    return best


def _scores(backbone: Backbone, head: nn.Module, inputs: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """Return logits of clips, (N,) float64, higher = more fake; in eval mode."""
    for network in backbone.parts.values():
        network.eval()
    device = device_of(next(iter(backbone.parts.values())))
    with torch.inference_mode():
        parts = [
            _logits(backbone, head, inputs[i : i + batch], device).double().cpu() for i in range(0, len(inputs), batch)
        ]
    return torch.cat(parts).numpy()


def _logits(backbone: Backbone, head: nn.Module, inputs: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Clips of any number of steps -> (N,) logits of their mean."""
    counts = [len(steps) for steps in inputs]
    encoded = backbone.encode(torch.from_numpy(np.concatenate(inputs)).to(device))  # (sum of n, D)
    return head(torch.stack([steps.mean(dim=0) for steps in encoded.split(counts)]))[:, 0]


def _fixed(name: str) -> bool:
    """Whether a parameter is a table of sinusoids, which is a parameter in the published code and is never trained."""
    return name.endswith(("pos_embedding.emb", "fixed_positional_encoder.positions"))
