"""Two detectors on the same clips, and many detectors on many corpora."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from visavox.evaluation.intervals import RESAMPLES, delong, estimate, paired_bootstrap
from visavox.evaluation.metrics import METRICS
from visavox.evaluation.scores import ScoresError, groups_of
from visavox.files import shown

COMPARED = ("auc", "ap", "eer", "balanced_accuracy", "brier", "ece")


def compare(
    a: pd.DataFrame, b: pd.DataFrame, *, group: str | None = None, threshold: float = 0.5, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """b against a on the clips that both scored: paired bootstrap by identity group for each metric, DeLong for AUC.

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
    """The comparison as plain text."""
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
    """AUC of every detector on every corpus and their mean, long form: detector, corpus, value, low, high, n_real, n_fake.

    Args:
        tables: detector -> its labelled scores.
        column: which column of the labels names the corpus.
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
    return pd.DataFrame(rows)


def matrix_page(cells: pd.DataFrame) -> str:
    from visavox.report.page import escape, page, table

    return page(
        "Cross-corpus AUC",
        table(CAPTION, *_grid(cells, "<small>{:.3f} – {:.3f}</small>", escape)),
    )


def describe_matrix(cells: pd.DataFrame) -> str:
    header, rows = _grid(cells, " [{:.3f}, {:.3f}]", shown)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in [header, *rows])


CAPTION = "AUC with 95 % interval of each detector on each corpus; the average counts every corpus alike"


def _grid(cells: pd.DataFrame, span: str, safe: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """Header and one row per detector, the average last."""
    corpora = [*sorted(set(cells["corpus"].astype(str)) - {"average"}), "average"]
    found = {(row.detector, str(row.corpus)): row for row in cells.itertuples()}

    def cell(detector: str, corpus: str) -> str:
        row = found.get((detector, corpus))
        if row is None:
            return "–"
        return f"{row.value:.3f}" + (span.format(row.low, row.high) if np.isfinite(row.low) else "")

    rows = [[safe(name), *(cell(name, corpus) for corpus in corpora)] for name in dict.fromkeys(cells["detector"])]
    return ["detector", *map(safe, corpora)], rows


def named(words: Sequence[str]) -> dict[str, Path]:
    """`ours=a.csv b.csv` -> {"ours": a.csv, "b": b.csv}."""
    found = {}
    for word in words:
        name, equals, path = word.partition("=")
        place = Path(path if equals else word)
        found[name if equals else place.stem] = place
    if len(found) < len(words):
        raise ScoresError("two score files have the same name; write NAME=FILE.csv")
    return found
