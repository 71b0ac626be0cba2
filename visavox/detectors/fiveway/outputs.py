"""What is left in a run's folder: the features of validation and test clips, the heads, and what each of them is worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from visavox.bundle.trim import load_trimmed
from visavox.detectors.fiveway.fusion import Fusion
from visavox.evaluation.intervals import chance_of, estimate
from visavox.files import replacing
from visavox.progress import progress
from visavox.splits.groups import group_of
from visavox.splits.text_table import table_for_people

if TYPE_CHECKING:
    from visavox.detectors.fiveway.detector import FiveWayDetector

SPLITS = ("val", "test")


def write_outputs(detector: FiveWayDetector, run: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Write fusion.json, features.csv, ablation.csv and gate.json; return the features.

    Args:
        rows: a checked split CSV, as `read_split` gives it.
    """
    fitted = detector.verdicts.fusion
    assert fitted is not None, "outputs are of a finished run"
    fitted.save(run / "fusion.json")
    table = feature_table(detector, rows[rows["split"].isin(SPLITS)])
    with replacing(run / "features.csv") as beside:
        table_for_people(table).to_csv(beside, index=False, lineterminator="\n")
    test = table[table["split"] == "test"]
    if test["label"].nunique() == 2:
        with replacing(run / "ablation.csv") as beside:
            ablation(fitted, test).to_csv(beside, index=False, lineterminator="\n")
    with replacing(run / "gate.json") as beside:
        beside.write_text(json.dumps(gate_report(detector, table), indent=1) + "\n", encoding="utf-8")
    return table


def feature_table(detector: FiveWayDetector, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the features of bundles: columns of `rows`, `group`, the twelve features, and `seconds_BRANCH`.

    No clip exits early. Columns of the rows that the features would hide are replaced.

    Args:
        rows: columns path, filename, label, as `read_split` gives them.
    """
    made = []
    with progress("features", len(rows)) as step:
        for path in rows["path"]:
            judged = detector.examine(load_trimmed(path, detector.config), early_exit=False)
            made.append(judged.row | {f"seconds_{branch}": s for branch, s in judged.seconds.items()})
            step()
    found = pd.DataFrame(made, index=rows.index)
    kept = rows.drop(columns=[name for name in ("group", *found.columns) if name in rows])
    return pd.concat([kept.assign(group=group_of(rows)), found], axis=1)


def predictions(fitted: Fusion, table: pd.DataFrame, name: str) -> np.ndarray:
    """P(fake) by one head, (N,) float64; NaN where a clip lacks its features."""
    head = fitted[name]
    with np.errstate(invalid="ignore"):
        return 1 / (1 + np.exp(-head.logit(table[list(head.features)].to_numpy(np.float64))))


def ablation(fitted: Fusion, table: pd.DataFrame) -> pd.DataFrame:
    """A row for each head on the clips of a table: AUC, accuracy, F1 and Brier score with 95 % intervals by group.

    Args:
        table: as `feature_table` gives it, of clips that the fusion was not fitted on.
    """
    lines: list[dict[str, Any]] = []
    for head in fitted.heads:
        p = predictions(fitted, table, head.name)
        there = np.isfinite(p)
        labels = table["label"].to_numpy()[there]
        if len(np.unique(labels)) < 2:
            continue
        found = estimate(labels, p[there], table["group"].to_numpy()[there])
        line: dict[str, Any] = {"head": head.name, "branches": "+".join(head.branches), "clips": int(there.sum())}
        for metric in ("auc", "accuracy", "f1", "brier"):
            value = found[metric]
            line |= {metric: value.value, f"{metric}_low": value.low, f"{metric}_high": value.high}
        lines.append(line | {"temperature": head.temperature})
    return pd.DataFrame(lines).sort_values(["auc"], ascending=False, ignore_index=True)


def by_kind(fitted: Fusion, table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A row for each head and kind of fake: AUC against all real clips of a table with its 95 % interval by group, what it would
    be by chance for these people, and the p value of that.

    Args:
        table: as `feature_table` gives it, with a column kind, of clips that the fusion was not fitted on.
        names: of heads.
    """
    labels, kinds, groups = (table[column].to_numpy() for column in ("label", "kind", "group"))
    lines = []
    for name in names:
        p = predictions(fitted, table, name)
        for kind in sorted(set(kinds[labels == 1])):
            some = ((labels == 0) | (kinds == kind)) & np.isfinite(p)
            found = estimate(labels[some], p[some], groups[some])["auc"]
            chance, p_value = chance_of(labels[some], p[some], groups[some])
            line = {"head": name, "kind": kind, "auc": found.value, "low": found.low, "high": found.high}
            lines.append(line | {"chance": chance, "p_value": p_value})
    return pd.DataFrame(lines)


def gate_report(detector: FiveWayDetector, table: pd.DataFrame) -> dict[str, Any]:
    """Return the operating point of the gate, and per split what it let through and the seconds that were saved."""
    gate = detector.verdicts.gate
    if gate is None:
        return {}
    report: dict[str, Any] = dict(gate._asdict()) | {"open": gate.open, "said": str(gate)}
    every = [name for name in table if name.startswith("seconds_")]
    for split, part in table.groupby("split"):
        exits = part["tiny_prob_max"].map(gate.lets_out)
        whole = part[every].sum(axis=1)
        gated = whole.where(~exits, part["seconds_tiny"])
        report[str(split)] = {
            "exits": float(exits.mean()),
            "exits_real": _share(exits[part["label"] == 0]),
            "exits_fake": _share(exits[part["label"] == 1]),
            "seconds_per_clip": float(whole.mean()),
            "seconds_per_clip_with_gate": float(gated.mean()),
        }
    return report


def _share(which: pd.Series) -> float | None:
    """Of those that are; None where there are none, which JSON can hold."""
    return float(which.mean()) if len(which) else None
