"""What a search leaves: its table, best first, and its figure."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.files import replacing

if TYPE_CHECKING:
    import optuna

TABLE, FIGURE = "trials.csv", "search.png"
REFUSED = "refused"
"""State of a choice of which no detector can be made, and the attribute of its trial that says why."""
COLUMNS = ("auc", "low", "high", "seeds", "state", "settings", "reason")


def write(study: optuna.Study, folder: Path) -> list[dict[str, Any]]:
    """Write the table and the figure; return the rows, best first, those of refused choices last."""
    from optuna.trial import TrialState

    from visavox.splits.text_table import for_people

    rows, refused = [], {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)):
        row: dict[str, Any] = {
            "state": trial.state.name.lower(),
            "settings": " ".join(f"{key}={json.dumps(value)}" for key, value in trial.params.items()),
            "reason": "",
        }
        if trial.state != TrialState.FAIL:
            aucs = trial.user_attrs["aucs"]
            mean, half = sum(aucs) / len(aucs), half_width(aucs)
            rows.append({"auc": mean, "low": mean - half, "high": mean + half, "seeds": len(aucs)} | row)
        elif REFUSED in trial.user_attrs:  # others were killed, and begun again
            refused[row["settings"]] = row | {"seeds": 0, "state": REFUSED, "reason": trial.user_attrs[REFUSED]}
    rows.sort(key=lambda row: (-row["auc"], row["settings"]))
    if rows:
        draw(rows, folder / FIGURE)
    rows += [refused[settings] for settings in sorted(refused)]
    with replacing(folder / TABLE) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows({name: for_people(cell) for name, cell in row.items()} for row in rows)
    return rows


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean, by Student's t; NaN for a single value."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return math.nan
    mean = sum(values) / n
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    return float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A figure of the choices, best at the top, each with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(rows[:40])[::-1]
    figure = Figure(figsize=(9, 1.2 + 0.25 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    halves = [0.0 if math.isnan(row["low"]) else row["auc"] - row["low"] for row in shown]
    axes.errorbar([row["auc"] for row in shown], range(len(shown)), xerr=halves, fmt="o")
    axes.set_yticks(range(len(shown)), [row["settings"] for row in shown], fontsize=7)
    axes.set_xlabel("val/auc, mean over seeds and its 95 % interval")
    with replacing(path, ".png") as beside:
        figure.savefig(beside, dpi=120)
