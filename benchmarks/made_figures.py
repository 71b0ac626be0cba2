"""Shared by the parts of the benchmark of made fakes: training that goes on, scores, AUC over folds, intervals over people."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Part = tuple[list[tuple[float, str]], list[tuple[float, str]]]
"""(score, person) of the real clips of a fold, and of its fakes."""


def interval(parts: Sequence[Part], draws: int = 1000) -> dict[str, Any]:
    """Return the mean AUC of folds and its 95 % interval, `auc`, `low` and `high`, by drawing people with replacement."""
    rng = np.random.default_rng(0)
    people = sorted({person for reals, fakes in parts for _, person in [*reals, *fakes]})
    sampled = []
    for _ in range(draws):
        times = dict(zip(people, rng.multinomial(len(people), np.full(len(people), 1 / len(people)))))
        again: list[Any] = [
            tuple([one for one in side for _ in range(times[one[1]])] for side in part) for part in parts
        ]
        sampled.append(mean_auc(again))
    low, high = np.nanquantile(sampled, [0.025, 0.975])
    return {"auc": round(mean_auc(parts), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def mean_auc(parts: Sequence[Any]) -> float:
    """AUC of each fold, averaged; folds that lack a class are left out."""
    from visavox.evaluation.metrics import auc

    found = []
    for reals, fakes in parts:
        if reals and fakes:
            labels = np.array([0] * len(reals) + [1] * len(fakes))
            found.append(auc(labels, np.array([score for score, _ in [*reals, *fakes]])))
    return float(np.mean(found)) if found else float("nan")


def cell(figure: dict[str, Any] | None) -> str:
    """A figure of `interval` as a cell of a table."""
    if figure is None:
        return "-"
    return f"{figure['auc']:.3f}" + (f" [{figure['low']:.2f}, {figure['high']:.2f}]" if "low" in figure else "")


def scores_of(detector: Any, name: str, paths: Sequence[str | Path]) -> list[float]:
    """P(fake) of bundles; of `patches` the patches' mean logit, without the fusion over the other branches."""
    import torch

    from visavox.bundle.trim import load_trimmed
    from visavox.detectors.fiveway.tiny import cut_patches

    found = []
    for path in paths:
        bundle = load_trimmed(path, detector.config)
        if name != "patches":
            found.append(float(detector.score([bundle])[0]))
            continue
        faces = torch.from_numpy(cut_patches(bundle.faces[::4])).flatten(0, 1)
        with torch.inference_mode():
            found.append(float(detector.tiny(detector._tiny_input(faces)).mean()))
    return found


def train_on(config: Any, run: Path, name: str, pret_version: str = "none") -> None:
    """Train `name` into `run`; one that was stopped goes on from its last finished epoch."""
    from visavox.commands.train import train

    begun = any(run.rglob("last.ckpt"))
    if not begun:
        shutil.rmtree(run, ignore_errors=True)
    train(config, data_version=name, code_version=name, pret_version=pret_version, resume=begun)
