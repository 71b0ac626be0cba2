"""Calibration from what people have said of a service's verdicts: labelled scores, a JSON file each.

Whoever sends feedback chooses of which clips: mostly of those that were wrong. So the report says how many there are, and
compares before and after on clips that were held out; whether to use the calibration is for people to decide.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visavox.evaluation.calibration import Calibration, CalibrationError, Method, Objective, fit
from visavox.evaluation.metrics import METRICS, Ranked
from visavox.files import sha256_of
from visavox.logs import say

FOLDS = 5
"""Parts of which each is held out once."""
LEAST = 2 * FOLDS
"""Clips of each class below which nothing is fitted."""


class Feedback(NamedTuple):
    """Labelled scores of one checkpoint."""

    names: list[str]
    labels: np.ndarray
    """(N,) 0 real, 1 fake."""
    scores: np.ndarray
    """(N,) P(fake) as the service gave it."""
    checkpoint: str
    """sha256."""


def read(folder: Path, checkpoint: str = "") -> Feedback:
    """Return what a service has kept.

    Args:
        checkpoint: sha256 of the one wanted; empty where all feedback is of one.

    Raises:
        CalibrationError: there is none, it cannot be read, or it is of several checkpoints.
    """
    rows = []
    for path in sorted(folder.glob("*.json")):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            rows.append((path.stem, int(row["label"]), float(row["probability"]), str(row["checkpoint"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CalibrationError(f"{path}: no feedback of the service ({type(error).__name__}: {error})") from None
    kept = [row for row in rows if checkpoint in ("", row[3])]
    found = sorted({row[3] for row in kept})
    if len(found) != 1:
        said = ", ".join(each[:12] for each in found) or "none"
        raise CalibrationError(f"{folder}: feedback of one checkpoint is needed, found {said}; give --checkpoint FILE")
    names, labels, scores, _ = zip(*kept)
    return Feedback(list(names), np.array(labels), np.array(scores, np.float64), found[0])


def held_out(
    feedback: Feedback, method: Method, objective: Objective, prior: float | None = None, seed: int = 0
) -> np.ndarray:
    """Return calibrated P(fake), (N,): each from a calibration that was fitted on the other parts."""
    order = np.random.default_rng(seed).permutation(len(feedback.labels))
    part = np.empty(len(order), np.int64)
    for label in (0, 1):  # the classes are dealt out apart, so that each part has its share
        of_class = order[feedback.labels[order] == label]
        part[of_class] = np.arange(len(of_class)) % FOLDS
    calibrated = np.empty(len(order))
    for fold in range(FOLDS):
        inside = part != fold
        made = fit(feedback.labels[inside], feedback.scores[inside], method, objective=objective, target_prior=prior)
        calibrated[~inside] = made(feedback.scores[~inside])
    return calibrated


def fit_feedback(arguments: argparse.Namespace) -> Calibration:
    """Fit on a folder of feedback, and print what it changes on clips held out."""
    checkpoint = sha256_of(arguments.checkpoint) if arguments.checkpoint else ""
    feedback = read(arguments.from_feedback, checkpoint)
    real, fake = int((feedback.labels == 0).sum()), int((feedback.labels == 1).sum())
    if min(real, fake) < LEAST:
        raise CalibrationError(
            f"{real} real and {fake} fake clips with feedback; {LEAST} of each are needed to hold some out"
        )
    after = held_out(feedback, arguments.method, arguments.objective, arguments.prior)
    once = np.ones((1, len(after)))
    was, now = (Ranked(feedback.labels, scores).metrics(once, 0.5) for scores in (feedback.scores, after))
    for name in ("brier", "ece"):
        change = f"{was[name][0]:.4f} before, {now[name][0]:.4f} after"
        say(f"{METRICS[name]}: {change}, on held-out clips ({real} real, {fake} fake)")
    return fit(
        feedback.labels,
        feedback.scores,
        arguments.method,
        objective=arguments.objective,
        target_prior=arguments.prior,
        checkpoint=feedback.checkpoint,
        clips=feedback.names,
    )
