"""The numbers of a report: overall, per value of each column, macro averages, run times, worst errors, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from visavox.evaluation.intervals import FEW_GROUPS, RESAMPLES, Estimate, estimate, polarity_warning
from visavox.evaluation.scores import groups_of, were_scored

BREAKDOWNS = ("corpus", "method", "kind", "category", "quality", "gender", "race", "audio_label", "video_label")
"""Columns that split a report into parts."""
CORPUS = "corpus"
LEAST_REAL = 5
"""Real clips of a corpus: with fewer it is not set against another."""
SOURCE_LIMIT = 0.6
"""AUC between the real clips of two corpora from which a report warns."""
MOST_VALUES = 40
"""A column with more values is no breakdown."""


def analyse(
    rows: pd.DataFrame, *, threshold: float = 0.5, group: str | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """What report.json holds about the scores.

    Args:
        rows: as `scores.join` gives them.
        threshold: from the validation split; a clip at or above it is called fake.
        group: column that says whose clip it is; None looks for one.
    """
    groups, column = groups_of(rows, group)
    how = {"threshold": threshold, "resamples": resamples, "seed": seed}
    overall = measure(rows, groups, **how)
    parts = {name: breakdown(rows, name, groups, **how) for name in BREAKDOWNS if name in rows}
    between = real_sources(rows, groups, **how)
    labels, called = rows["label"].to_numpy(), rows["probability"].to_numpy() >= threshold
    return {
        "overall": overall,
        "breakdowns": {name: part for name, part in parts.items() if part["values"]},
        "confusion": {
            f"{truth}_called_{said}": int(((labels == value) & (called == verdict)).sum())
            for truth, value in (("real", 0), ("fake", 1))
            for said, verdict in (("real", False), ("fake", True))
        },
        "group_column": column,
        "cross_corpus": cross_corpus(overall, parts.get(CORPUS)),
        "real_sources": between,
        "statuses": {str(name): int(n) for name, n in rows["status"].value_counts().items() if name},
        "gate": gate_of(rows) if "exited" in rows else None,
        "run_time": run_time(rows["seconds"]) if "seconds" in rows else [],
        "warnings": [*warnings_of(rows, overall, column), *source_warnings(between)],
        "bootstrap": {"resamples": resamples, "seed": seed, "level": 0.95},
    }


def measure(rows: pd.DataFrame, groups: np.ndarray | None, **how: Any) -> dict[str, Any]:
    """Counts and every metric with its interval."""
    labels = rows["label"].to_numpy()
    numbers = estimate(labels, rows["probability"].to_numpy(), groups, **how)
    return {
        "n_real": int((labels == 0).sum()),
        "n_fake": int((labels == 1).sum()),
        "groups": len(rows) if groups is None else len(set(groups)),
        "metrics": {name: _plain(number) for name, number in numbers.items()},
    }


def breakdown(rows: pd.DataFrame, column: str, groups: np.ndarray | None, **how: Any) -> dict[str, Any]:
    """Every value of a column, the lowest AUC first, and the macro average over those where AUC is defined.

    A value that only fakes have (a method, say) is measured against all real clips; one that only real clips have is
    not measured.
    """
    cells = rows[column].astype(str).to_numpy()
    labels = rows["label"].to_numpy()
    names = sorted(set(cells) - {"", "nan", "None", "-"})
    values: dict[str, Any] = {}
    if 1 < len(names) <= MOST_VALUES or (len(names) == 1 and (cells == "-").any()):
        for name in names:
            chosen = cells == name
            if not (labels[chosen] == 1).any():
                continue
            own_reals = bool((labels[chosen] == 0).any())
            if not own_reals:
                chosen = chosen | (labels == 0)
            if not (labels[chosen] == 0).any():
                continue
            part = measure(rows[chosen], None if groups is None else groups[chosen], **how)
            values[name] = part | {"against": "real clips of the same value" if own_reals else "all real clips"}
    values = dict(sorted(values.items(), key=lambda item: _from_worst(item[1]["metrics"]["auc"]["value"])))
    return {"values": values, "macro": macro([part["metrics"] for part in values.values()])}


def _from_worst(auc: float | None) -> tuple[bool, float]:
    return auc is None, auc or 0.0


def cross_corpus(overall: dict[str, Any], corpora: dict[str, Any] | None) -> dict[str, float | None] | None:
    """Return the AUC over all corpora pooled beside the average of their own AUCs; None where there are not two corpora.

    Pooling asks that one threshold serve every corpus, which no average over corpora does.
    """
    if corpora is None or len(corpora["values"]) < 2:
        return None
    return {"pooled": overall["metrics"]["auc"]["value"], "average": corpora["macro"].get("auc")}


def real_sources(rows: pd.DataFrame, groups: np.ndarray | None, **how: Any) -> list[dict[str, Any]]:
    """Return how well the scores tell the *real* clips of each two corpora apart: a detector that does reads the corpus.

    AUC is that of the corpus that scores higher above the lower one, so never below 0.5; the most telling pair first.
    """
    if CORPUS not in rows:
        return []
    real = rows["label"].to_numpy() == 0
    cells = rows[CORPUS].astype(str).to_numpy()
    names = [
        name
        for name in sorted(set(cells[real]) - {"", "nan", "None", "-"})
        if (real & (cells == name)).sum() >= LEAST_REAL
    ]
    scores, found = rows["probability"].to_numpy(), []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            chosen = real & np.isin(cells, (a, b))
            labels = (cells[chosen] == b).astype(int)
            auc = estimate(labels, scores[chosen], None if groups is None else groups[chosen], **how)["auc"]
            lower, higher = a, b
            if auc.value < 0.5:
                lower, higher, auc = b, a, Estimate(1 - auc.value, 1 - auc.high, 1 - auc.low)
            counts = {"n_lower": int((cells[chosen] == lower).sum()), "n_higher": int((cells[chosen] == higher).sum())}
            found.append({"lower": lower, "higher": higher, **counts, "auc": _plain(auc)})
    return sorted(found, key=lambda pair: -pair["auc"]["value"])


def source_warnings(pairs: Sequence[dict[str, Any]]) -> list[str]:
    """Say which corpora the scores tell apart by their real clips alone, beyond doubt."""
    return [
        f"real clips of {pair['higher']} score above real clips of {pair['lower']} (AUC {pair['auc']['value']:.3f}): the "
        "scores read the corpus, not forgery"
        for pair in pairs
        if pair["auc"]["value"] >= SOURCE_LIMIT and pair["auc"]["low"] is not None and pair["auc"]["low"] > 0.5
    ]


def macro(parts: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean of each metric over parts, each counting alike whatever its size."""
    if not parts:
        return {}
    means = {}
    for name in parts[0]:
        values = [part[name]["value"] for part in parts if part[name]["value"] is not None]
        if values:
            means[name] = float(np.mean(values))
    return means


def gate_of(rows: pd.DataFrame) -> dict[str, float | int | None]:
    """Return how many clips met a gate, and which share of all, of the real and of the fake ones exited early."""
    met = rows[rows["exited"].notna()]

    def share(some: pd.DataFrame) -> float | None:
        return float(some["exited"].astype(bool).mean()) if len(some) else None

    of = {"real": met[met["label"] == 0], "fake": met[met["label"] == 1]}
    return {"clips": len(met), "exited": share(met)} | {f"exited_{name}": share(some) for name, some in of.items()}


def run_time(seconds: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    """Per stage: clips that went through it, mean, median, 95th percentile and sum of seconds; longest first.

    `total` is the worker's time for the clip, waiting included; `score` is the network's and comes on top of it.
    """
    stages: dict[str, list[float]] = {}
    for clip in seconds:
        for stage, value in (clip or {}).items():
            stages.setdefault(stage, []).append(value)
    rows = [
        {
            "stage": stage,
            "clips": len(values),
            "mean": float(np.mean(values)),
            "median": float(np.median(values)),
            "p95": float(np.quantile(values, 0.95)),
            "sum": float(np.sum(values)),
        }
        for stage, values in stages.items()
    ]
    return sorted(rows, key=lambda row: (row["stage"] != "total", -row["sum"]))


def worst_errors(rows: pd.DataFrame, count: int = 6) -> pd.DataFrame:
    """The fakes with the lowest and the reals with the highest scores, worst first, `count` of each."""
    fakes = rows[rows["label"] == 1].sort_values("probability", kind="stable").head(count)
    reals = rows[rows["label"] == 0].sort_values("probability", ascending=False, kind="stable").head(count)
    return pd.concat([fakes, reals])


def warnings_of(rows: pd.DataFrame, overall: dict[str, Any], group_column: str) -> list[str]:
    """What a reader must know before quoting a number."""
    said = []
    auc = overall["metrics"]["auc"]
    if auc["value"] is not None and auc["high"] is not None:
        said.append(polarity_warning(Estimate(auc["value"], auc["low"], auc["high"])))
    fewest = min(overall["n_real"], overall["n_fake"])
    if not fewest:
        said.append("only one class is there: AUC and what follows from it are not defined")
    elif fewest < 30:
        said.append(f"{overall['n_real']} real and {overall['n_fake']} fake clips: too few to call a difference one")
    if not group_column:
        said.append("no identity column: clips count as independent, so the intervals are probably too narrow")
    elif overall["groups"] < FEW_GROUPS:
        said.append(
            f"{overall['groups']} identity groups ({group_column}); with fewer than {FEW_GROUPS} an interval is a rough guess"
        )
    lost = ~were_scored(rows)
    if lost.any():
        said.append(f"{int(lost.sum())} of {len(rows)} clips could not be scored and stand at the failure prior")
    return [text for text in said if text]


def _plain(number: Estimate) -> dict[str, float | None]:
    """For JSON, which has no NaN."""
    return {name: float(value) if np.isfinite(value) else None for name, value in number._asdict().items()}
