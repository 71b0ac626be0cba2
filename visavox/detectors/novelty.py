"""How unlike a clip is to those that a model was trained or calibrated on: beyond them a score means little.

with Features(judge) as seen:
    analysis = judge("clip.mp4")
seen.vector                                # (D,) what the network's last layer was given, or None
Known.of(vectors, on="our clips", checkpoint=…).novelty(seen.vector)

The measure is the mean distance to the nearest neighbours among the known clips (Sun et al., 2022), features of every branch
brought to length 1; its quantile is the share of the known clips that lie nearer to their own neighbours among the others.

n known clips · D width of the features of all branches together
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import nn

from visavox.detectors.analysis import Novelty
from visavox.files import replacing

if TYPE_CHECKING:
    from visavox.detectors.judging import Judge

NEIGHBOURS = 5
"""Nearest known clips whose mean distance counts."""
CALIBRATED, TRAINED = "calibrated on", "trained on"
LEAST = 20
"""Known clips below which no quantile is stated."""


class Features:
    """What the last layers of a judge's networks are given while it judges: the clip's features.

    A last layer is the linear layer with one or two outputs that is used last, or one that says `is_head`.
    """

    def __init__(self, judge: Judge | nn.Module) -> None:
        self.networks = dict(_networks(judge))
        self._hooks: list[Any] = []
        self._given: dict[str, dict[nn.Module, list[np.ndarray]]] = {}

    def __enter__(self) -> Self:
        self._given = {branch: {} for branch in self.networks}
        for branch, network in self.networks.items():
            for module in network.modules():
                if _is_head(module):
                    self._hooks.append(module.register_forward_pre_hook(self._keeper(branch)))
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @property
    def vector(self) -> np.ndarray | None:
        """(D,) float32, the branches one after the other, each of length 1; None where no last layer was used."""
        parts = []
        for branch in sorted(self._given):
            if heads := self._given[branch]:
                last = list(heads.values())[-1]
                mean = np.concatenate(last).mean(0)
                parts.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
        return np.concatenate(parts).astype(np.float32) if parts else None

    def _keeper(self, branch: str) -> Any:
        def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
            heads = self._given[branch]
            kept = heads.pop(module, [])  # the one that is used last comes last
            heads[module] = [*kept, given[0].detach().float().flatten(0, -2).cpu().numpy()]  # (…, D) -> (m, D)

        return keep


@dataclass(frozen=True)
class Known:
    """Features of the clips that a model was trained or calibrated on."""

    on: str
    """Their name."""
    checkpoint: str
    """Of the model that made the features; those of another are of another kind."""
    vectors: np.ndarray
    """(n, D) float32."""
    own: np.ndarray
    """(n,) of each its distance to its neighbours among the others, ascending."""
    how: str = CALIBRATED
    """What they were to the model: `CALIBRATED` or `TRAINED`."""

    @classmethod
    def of(cls, vectors: np.ndarray, on: str, checkpoint: str, how: str = CALIBRATED) -> Self:
        """Measure how far known clips lie from one another: vectors (n, D)."""
        vectors = np.asarray(vectors, np.float32)
        own = [_distance(vector, np.delete(vectors, i, 0)) for i, vector in enumerate(vectors)]
        return cls(on, checkpoint, vectors, np.sort(own), how)

    def novelty(self, vector: np.ndarray | None) -> Novelty | None:
        """Return how unlike a clip with features (D,) is; None without features, or with too few known clips."""
        if vector is None or vector.shape != self.vectors.shape[1:] or len(self.vectors) < LEAST:
            return None
        distance = _distance(vector, self.vectors)
        quantile = float(np.searchsorted(self.own, distance) / len(self.own))
        return Novelty(distance, quantile, f"{self.how} {self.on}", len(self.own))

    def save(self, path: Path) -> None:
        """Write it as .npz."""
        with replacing(path) as beside, open(beside, "wb") as file:
            on, checkpoint, how = np.array(self.on), np.array(self.checkpoint), np.array(self.how)
            np.savez(file, vectors=self.vectors, own=self.own, on=on, checkpoint=checkpoint, how=how)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read what `save` wrote; None where there is none."""
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as kept:
            how = str(kept["how"]) if "how" in kept else CALIBRATED
            return cls(str(kept["on"]), str(kept["checkpoint"]), kept["vectors"], kept["own"], how)


def alike(vectors: Iterable[np.ndarray | None]) -> list[np.ndarray]:
    """Return the vectors (D,) of the commonest width: a clip without sound has fewer branches, and another width."""
    there = [vector for vector in vectors if vector is not None]
    widths = Counter(len(vector) for vector in there)
    return [vector for vector in there if len(vector) == widths.most_common(1)[0][0]]


def beside(checkpoint: Path) -> Path:
    """Return where the features of the clips lie that the detector of a checkpoint was trained on."""
    return checkpoint.with_suffix(".features.npz")


def _distance(vector: np.ndarray, others: np.ndarray) -> float:
    """Mean distance of (D,) to the nearest of (m, D)."""
    distances = np.linalg.norm(others - vector, axis=1)
    k = min(NEIGHBOURS, len(distances))
    return float(np.partition(distances, k - 1)[:k].mean()) if k else 0.0


def _is_head(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):
        return module.out_features <= 2
    return bool(getattr(module, "is_head", False))


def _networks(judge: Any, branch: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Branch -> network, of a judge and of those that it fuses; or the network itself."""
    if isinstance(judge, nn.Module):
        yield branch, judge
        return
    for name, each in getattr(judge, "judges", {}).items():
        yield from _networks(each, name)
    network = getattr(judge, "network", None) or getattr(judge, "scorer", None)
    if isinstance(network, nn.Module):
        yield branch, network
