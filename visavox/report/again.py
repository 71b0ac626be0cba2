"""The numbers of a report, made again from the rows that it wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

CHECKED = ("overall", "breakdowns", "confusion", "group_column", "statuses", "run_time")
"""Parts of report.json that follow from its rows; its origin does not stand in them."""
SAME = 1e-9
"""Numbers that differ by no more are one."""


def measured_again(rows: pd.DataFrame, report: Path) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Measure labelled rows as the report beside them did.

    Args:
        rows: of a report's scores.csv, as `visavox.evaluation.scores.join` reads it.
        report: its report.json, which says by which threshold and resamples; where it is missing the defaults are taken.

    Returns:
        what report.json holds, or None; the numbers made anew.

    Raises:
        ValueError: report.json is damaged.
    """
    from visavox.report.analysis import analyse

    if not report.is_file():
        return None, analyse(rows)
    try:
        written = json.loads(report.read_text(encoding="utf-8"))
        how = {
            "threshold": written["threshold"]["value"],
            "group": written["group_column"] or None,
            "resamples": written["bootstrap"]["resamples"],
            "seed": written["bootstrap"]["seed"],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{report}: no report.json of visavox report ({error!r}); make the report again") from None
    return written, analyse(rows, **how)


def differences(written: dict[str, Any], numbers: dict[str, Any]) -> list[str]:
    """Return `place: written, again` for each number that is another one; run times only where the rows hold them."""
    parts = [part for part in CHECKED if part != "run_time" or numbers.get(part)]
    return [line for part in parts for line in _differ(part, written.get(part), numbers.get(part))]


def _differ(place: str, a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from _differ(f"{place}.{key}", a.get(key), b.get(key))
    elif isinstance(a, int | float) and isinstance(b, int | float):
        if abs(a - b) > SAME:
            yield f"{place}: {a}, again {b}"
    elif a != b:
        yield f"{place}: {a}, again {b}"
