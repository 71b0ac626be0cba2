"""Score files of other people, brought to one form: filename, probability, and whatever else stands in them, as text.

| form | known by |
|---|---|
| `filename,probability` | its header: eval.py's, detect's, a report's scores.csv, the Trusted Media Challenge's |
| `filename,label` | its header: DFDC's, where the label is the score |
| `000001.mp4;0.9128` | no header, two cells, a number in the second: AV-Deepfake1M's prediction.txt (Task 1) |
| `id,label,ensemble_score,prob_NAME,...` | its header: deepsafe-bench's predictions_*.csv.gz, a matrix of detectors |

A file that is compressed with gzip is unpacked, within a bound.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from visavox.splits.text_table import read_cells, read_text_table

log = logging.getLogger(__name__)
NAMES = ("filename", "file", "id", "video", "path")
"""Columns that may name a clip, the first one that is there."""
SCORES = ("probability", "ensemble_score", "score", "label")
"""Columns that may hold a score where none is asked for, the first one that is there; `label` as DFDC means it."""


def read_score_file(path: Path, error: type[ValueError], column: str | None = None) -> pd.DataFrame:
    """Read a score file of any of the forms.

    Args:
        column: that holds the scores, or its name behind `prob_`; None takes the first of `SCORES`.
        error: class of what is raised.

    Returns:
        Text cells indexed by line number: filename, probability, and the other columns. Rows without a score, of a
        detector that was not run on them, are left out, which a warning counts.

    Raises:
        ValueError: as `error`: no such file or column, damaged.
    """
    header = read_cells(path, error).header
    if len(header) == 2 and _is_number(header[1]):
        table = read_text_table(path, (), error, names=("filename", "probability"))
    else:
        table = read_text_table(path, (), error)
    name = next((each for each in NAMES if each in table), None)
    if name is None:
        raise error(f"{path}: column filename is missing (or {', '.join(NAMES[1:])}); the file has {', '.join(table)}")
    score = _score_column(table, path, error, column)
    if score == "label":
        table = table.rename(columns={"label": "probability"})
    else:
        table = table.assign(probability=table[score])
    table = table.rename(columns={name: "filename"})
    there = table["probability"] != ""
    if not there.all() and (column is not None or score != "probability"):
        log.warning("%s: %d of %d rows have no %s and are left out", path, (~there).sum(), len(table), score)
        table = table[there]
    return table


def only(table: pd.DataFrame, conditions: Sequence[str], path: Path, error: type[ValueError]) -> pd.DataFrame:
    """Return the rows that meet all conditions `COLUMN=PATTERN`, or `COLUMN=PATTERN|PATTERN`, with `*` and `?`.

    Raises:
        ValueError: as `error`: no condition, no such column, or no row is left.
    """
    for condition in conditions:
        column, equals, patterns = condition.partition("=")
        if not equals or column not in table:
            raise error(f"--where {condition!r}: write COLUMN=PATTERN; the columns of {path} are {', '.join(table)}")
        wanted = patterns.split("|")
        values = table[column].astype(str)
        kept = values.map({value: any(fnmatch.fnmatchcase(value, each) for each in wanted) for value in set(values)})
        if not kept.any():
            known = sorted(set(values))
            raise error(f"--where {condition!r}: no row of {path} is like this; {column} is {', '.join(known[:20])}")
        table = table[kept]
    return table


def _score_column(table: pd.DataFrame, path: Path, error: type[ValueError], column: str | None) -> str:
    if column is None:
        found = next((each for each in SCORES if each in table), None)
        if found is None:
            raise error(f"{path}: column probability is missing; the file has {', '.join(table.columns)}")
        return found
    for each in (column, f"prob_{column}", f"{column}_score"):
        if each in table:
            return each
    raise error(f"{path}: has no column {column} nor prob_{column}; it has {', '.join(table.columns)}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
