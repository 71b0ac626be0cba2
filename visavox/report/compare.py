"""Two detectors on the same clips, and many detectors on many corpora."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from visavox.evaluation.intervals import RESAMPLES, delong, estimate, paired_bootstrap
from visavox.evaluation.metrics import METRICS
from visavox.evaluation.scores import ScoresError, groups_of
from visavox.files import shown
from visavox.report.page import render_matrix

COMPARED = ("auc", "ap", "eer", "balanced_accuracy", "brier", "ece")


def compare(
    a: pd.DataFrame, b: pd.DataFrame, *, group: str | None = None, threshold: float = 0.5, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Compare b with a on the clips that both scored: paired bootstrap by identity group for each metric, DeLong for AUC.

    Raises:
        ScoresError: they share no clip, or disagree about a label.
    """
    both = a.merge(b[["filename", "probability", "label"]], on="filename", suffixes=("", "_b"))
    if not len(both):
        raise ScoresError("the two score files have no clip in common; file names must be equal")
    if (both["label"] != both["label_b"]).any():
        name = both["filename"][both["label"] != both["label_b"]].iloc[0]
        raise ScoresError(f"the two score files disagree about the label of {name}")
    labels, first, second = (both[name].to_numpy() for name in ("label", "probability", "probability_b"))
    groups, column = groups_of(both, group)
    metrics = {
        name: paired_bootstrap(
            labels, first, second, groups, metric=name, threshold=threshold, resamples=resamples
        )._asdict()
        for name in COMPARED
    }
    return {
        "clips": len(both),
        "only_in_a": len(a) - len(both),
        "only_in_b": len(b) - len(both),
        "groups": len(both) if groups is None else len(set(groups)),
        "group_column": column,
        "paired_bootstrap": {
            name: {"a": d["auc_a"], "b": d["auc_b"], **{key: d[key] for key in ("value", "low", "high", "p")}}
            for name, d in metrics.items()
        },
        "delong": delong(labels, first, second)._asdict(),
    }


def describe_comparison(numbers: dict[str, Any], names: tuple[str, str]) -> str:
    """Return the comparison as plain text."""
    unit = (
        f"{numbers['groups']} groups ({numbers['group_column']})"
        if numbers["group_column"]
        else "clips taken as independent"
    )
    lines = [
        f"{numbers['clips']} clips scored by both, {unit}; only in a {numbers['only_in_a']}, only in b {numbers['only_in_b']}",
        f"a = {shown(names[0])}\nb = {shown(names[1])}\n",
        f"{'':28}{'a':>8}{'b':>8}{'b - a':>9}   95 % interval          p",
    ]
    for name, d in numbers["paired_bootstrap"].items():
        lines.append(_line(METRICS[name], d["a"], d["b"], d))
    d = numbers["delong"]
    lines.append(_line("ROC AUC, DeLong (no groups)", d["auc_a"], d["auc_b"], d))
    return "\n".join(lines)


def _line(name: str, a: float, b: float, d: dict[str, float]) -> str:
    return f"{name:28}{a:8.4f}{b:8.4f}{d['value']:+9.4f}   [{d['low']:+.4f}, {d['high']:+.4f}]   {d['p']:8.2g}"


def matrix(
    tables: dict[str, pd.DataFrame], *, column: str = "corpus", group: str | None = None, resamples: int = 1000
) -> pd.DataFrame:
    """Measure the AUC of every detector on every corpus, their mean, and the AUC of all of them pooled.

    Args:
        tables: detector -> its labelled scores.
        column: which column of the labels names the corpus.

    Returns:
        One row for each: detector, corpus (or `average`, `pooled`), value, low, high, n_real, n_fake.

    Raises:
        ScoresError: there is no such column, or no corpus holds both classes.
    """
    rows = []
    for detector, table in tables.items():
        column = column if column in table else column.lower()  # as the reader writes names of columns
        if column not in table:
            raise ScoresError(f"{detector}: no column {column}; found {', '.join(table.columns)}")
        values = []
        for corpus, part in table.groupby(column, sort=True):
            labels = part["label"].to_numpy()
            if len(set(labels)) < 2:
                continue
            groups, _ = groups_of(part, group)
            auc = estimate(labels, part["probability"].to_numpy(), groups, resamples=resamples)["auc"]
            values.append(auc.value)
            counts = {"n_real": int((labels == 0).sum()), "n_fake": int((labels == 1).sum())}
            rows.append({"detector": detector, "corpus": corpus, **auc._asdict(), **counts})
        if not values:
            raise ScoresError(f"{detector}: no {column} holds both classes, so there is no AUC")
        rows.append(
            {"detector": detector, "corpus": "average", "value": float(np.mean(values)), "low": np.nan, "high": np.nan}
        )
        pooled = estimate(
            table["label"].to_numpy(), table["probability"].to_numpy(), groups_of(table, group)[0], resamples=resamples
        )
        rows.append({"detector": detector, "corpus": "pooled", **pooled["auc"]._asdict()})
    return pd.DataFrame(rows)


CAPTION = "AUC with 95 % interval of each detector on each corpus; average counts corpora alike, pooled is all at once"


def matrix_page(cells: pd.DataFrame) -> str:
    """Return the matrix as a page that loads nothing."""

    corpora, grid = _grid(cells)
    return render_matrix("Cross-corpus AUC", CAPTION, corpora, grid)


def describe_matrix(cells: pd.DataFrame) -> str:
    """Return the matrix as plain text, one line per detector, average and pooled last."""
    corpora, grid = _grid(cells)
    rows = [["detector", *map(shown, corpora)]]
    rows += [[shown(detector), *(_cell(numbers[corpus]) for corpus in corpora)] for detector, numbers in grid.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)


def _grid(cells: pd.DataFrame) -> tuple[list[str], dict[str, dict[str, dict[str, float | None] | None]]]:
    """Return the corpora, average and pooled last, and detector -> corpus -> value, low and high, or None."""
    last = [name for name in ("average", "pooled") if (cells["corpus"] == name).any()]
    corpora = [*sorted(set(cells["corpus"].astype(str)) - set(last)), *last]
    grid: dict[str, dict[str, dict[str, float | None] | None]] = {}
    for row in cells.itertuples():
        numbers = {name: getattr(row, name) for name in ("value", "low", "high")}
        numbers = {name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}
        grid.setdefault(row.detector, dict.fromkeys(corpora))[str(row.corpus)] = numbers
    return corpora, grid


def _cell(numbers: dict[str, float | None] | None) -> str:
    if numbers is None:
        return "–"
    span = "" if numbers["low"] is None else f" [{numbers['low']:.3f}, {numbers['high']:.3f}]"
    return f"{numbers['value']:.3f}{span}"


def named(words: Sequence[str]) -> dict[str, Path]:
    """Name score files: `ours=a.csv b.csv` -> {"ours": a.csv, "b": b.csv}.

    Raises:
        ScoresError: two have the same name.
    """
    found = {}
    for word in words:
        name, equals, path = word.partition("=")
        place = Path(path if equals else word)
        found[name if equals else place.stem] = place
    if len(found) < len(words):
        raise ScoresError("two score files have the same name; write NAME=FILE.csv")
    return found
