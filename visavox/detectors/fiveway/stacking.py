"""Fusion of any detectors' score files: each detector is a branch with one feature, the log-odds of its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from visavox.detectors.fiveway import fusion
from visavox.detectors.fiveway.fusion import Fusion, FusionError
from visavox.evaluation.calibration import log_odds
from visavox.evaluation.intervals import estimate
from visavox.evaluation.scores import groups_of, join, of_split, read_scores, were_scored


def parse_scores(words: Sequence[str]) -> dict[str, Path]:
    """Return the score file of each detector: `NAME=FILE` words.

    Raises:
        FusionError: a word is not of that form, or a name stands twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path) or not name.replace("_", "").replace("-", "").isalnum():
            raise FusionError(f"--score {word}: write NAME=FILE, a name of letters and digits and a CSV of eval.py")
        if name in found:
            raise FusionError(f"--score {word}: the name {name} stands there twice")
        found[name] = Path(path)
    return found


def stack(scores: Mapping[str, Path], labels: Path | None, split: str | None) -> tuple[pd.DataFrame, str]:
    """Return the clips that all files know with their labels, and a sentence about what was left out.

    Args:
        scores: detector -> CSV with filename,probability.
        labels: CSV with filename,label and more, a split CSV for example.
        split: val, test, train or all; None takes val where the labels have splits.

    Returns:
        Columns filename, label, group, and for each detector the log-odds of its score, NaN where it gave none.
    """
    tables, said = [], ""
    for name, path in scores.items():
        rows = join(path, labels)
        if "split" in rows:
            rows, said = of_split(rows, split or "val")
        rows = rows.reset_index(drop=True)
        groups, column = groups_of(rows)
        scored = were_scored(rows)
        odds = np.where(scored, log_odds(rows["probability"].to_numpy()), np.nan)
        group = groups if groups is not None else rows["filename"].astype(str).to_numpy()
        key = [str(PurePosixPath(file).with_suffix("")) for file in rows["filename"]]
        tables.append(pd.DataFrame({"filename": key, "label": rows["label"].to_numpy(), "group": group, name: odds}))
        if not column:
            said = f"{said}; no column says who is in a clip, so each clip is a group of its own".lstrip("; ")
    whole = tables[0]
    for table in tables[1:]:
        both = whole.merge(table, on="filename", how="inner", suffixes=("", "_other"))
        if (both["label"] != both["label_other"]).any():
            first = both.loc[both["label"] != both["label_other"], "filename"].iloc[0]
            raise FusionError(f"{first} is labelled differently in two score files; give --labels")
        whole = both.drop(columns=["label_other", "group_other"])
    if whole.empty:
        raise FusionError(
            f"the score files have no clip in common; first of each: {', '.join(t['filename'].iloc[0] for t in tables)}"
        )
    lost = max(len(table) for table in tables) - len(whole)
    return whole, f"{said}; {lost} clips are not in every file" if lost else said


def fit_stack(table: pd.DataFrame, names: Sequence[str], *, fitted_on: str, folds: int, seed: int) -> Fusion:
    """Fit heads for every set of detectors: `table` as `stack` gives it."""
    return fusion.fit(
        {name: table[name].to_numpy() for name in names},
        table["label"].to_numpy(),
        table["group"].to_numpy(),
        branches={name: (name,) for name in names},
        fitted_on=f"{fitted_on}: {len(table)} clips",
        folds=folds,
        seed=seed,
    )


def apply_stack(fitted: Fusion, scores: Mapping[str, Path], prior: float) -> pd.DataFrame:
    """Return fused scores of every file that any detector scored: filename, probability, head.

    Where no detector scored a file the row is at the prior, and its head is empty.
    """
    known = {name for head in fitted.heads for name in head.features}
    if strange := [name for name in scores if name not in known]:
        raise FusionError(f"--score {strange[0]}: the fusion knows {', '.join(sorted(known))}")
    rows: dict[str, dict[str, float]] = {}
    for name, path in scores.items():
        table = read_scores(path)
        scored = were_scored(table)
        odds = np.where(scored, log_odds(table["probability"].to_numpy()), np.nan)
        for file, value in zip(table["filename"], odds):
            rows.setdefault(str(file), dict.fromkeys(known, float("nan")))[name] = float(value)
    lines = []
    for file, row in rows.items():
        if np.isfinite(list(row.values())).any():
            logit, head = fitted.logit(row)
            lines.append((file, float(1 / (1 + np.exp(-logit))), head.name))
        else:
            lines.append((file, prior, ""))
    return pd.DataFrame(lines, columns=["filename", "probability", "head"])


def describe(fitted: Fusion, table: pd.DataFrame) -> str:
    """A line for each head: AUC on held-out people with its 95 % interval, temperature, coefficients, warnings."""
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    lines = []
    for head in fitted.heads:
        out = fitted.validated[head.name].logits
        there = np.isfinite(out)
        auc = "not held out"
        if len(np.unique(labels[there])) == 2:
            found = estimate(labels[there], 1 / (1 + np.exp(-out[there])), groups[there])["auc"]
            auc = f"AUC {found}"
        weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in zip(head.features, head.weights))
        lines.append(f"{head.name}: {auc}, T {head.temperature:.3g}; {weights}")
        lines += [f"  warning: {warning}" for warning in head.warnings]
    return "\n".join(lines)
