"""Score files and labels, joined to one table: what every report, comparison and calibration starts from."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from visavox.splits.table import LABELS

GROUP_COLUMNS = ("group", "identity", "source", "speaker")
"""Columns that say whose clip it is; the first one that is there groups the bootstrap."""


class ScoresError(ValueError):
    """Score file or labels cannot be read or joined; the message holds the cure."""


def join(
    scores: Path,
    labels: Path | None,
    *,
    label_map: dict[str, int] = LABELS,
    scores_of: str = "fake",
) -> pd.DataFrame:
    """The labelled rows of a score file: filename, probability (of fake), label (1 = fake), status, seconds, path, and
    every column of the labels.

    Args:
        scores: CSV with filename,probability (or filename,label of the DFDC form); statuses and seconds are taken from
            the details file that eval.py wrote beside it.
        labels: CSV with filename,label and more columns, a split CSV for example; None where `scores` has both columns.
        label_map: what labels mean there, as `visavox.splits.table.label_map` gives it.
        scores_of: `real` turns scores round that are P(real).

    Raises:
        ScoresError: a column is missing, a label or score is unreadable, or no file is labelled.
    """
    table = read_scores(scores)
    if labels is None:
        if "label" not in table:
            raise ScoresError(f"{scores}: lacks the column label; give --labels CSV with filename,label")
        joined = table.assign(label=_as_labels(table["label"], scores, label_map))
    else:
        joined = look_up(table, read_labels(labels, label_map), labels)
    if scores_of == "real":
        joined["probability"] = 1 - joined["probability"]
    return joined


def read_scores(path: Path) -> pd.DataFrame:
    """filename, probability and, from the details file beside it, status, seconds (dict) and raw where there are any."""
    table = _read_csv(path)
    if "probability" not in table and "label" in table:
        table = table.rename(columns={"label": "probability"})
    _require(table, ("filename", "probability"), path)
    numbers = pd.to_numeric(table["probability"], errors="coerce")
    wrong = table.index[~numbers.between(0, 1)]
    if len(wrong):
        raise ScoresError(f"{path}:{wrong[0] + 2}: probability is {table['probability'][wrong[0]]!r}, expected 0 to 1")
    if table["filename"].duplicated().any():
        raise ScoresError(f"{path}: {table['filename'][table['filename'].duplicated()].iloc[0]} has two rows; keep one")
    table["probability"] = numbers
    details = {row["filename"]: row for row in read_details(path)}
    if "status" not in table:
        table["status"] = [details.get(name, {}).get("status", "") for name in table["filename"]]
    table["seconds"] = [details.get(name, {}).get("seconds", {}) for name in table["filename"]]
    return table


def read_details(scores: Path) -> Iterator[dict[str, Any]]:
    """The rows of the details file that eval.py writes beside a submission, none if there is none."""
    path = scores.with_name(f"{scores.stem}.details.jsonl")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def read_labels(path: Path, label_map: dict[str, int] = LABELS) -> pd.DataFrame:
    table = _read_csv(path)
    _require(table, ("filename", "label"), path)
    table["label"] = _as_labels(table["label"], path, label_map)
    return table


def of_split(rows: pd.DataFrame, split: str | None) -> tuple[pd.DataFrame, str]:
    """The rows to report on and a sentence about those left out: `split`, or test where there are splits, or all."""
    if "split" not in rows:
        if split not in (None, "all"):
            raise ScoresError(f"--split {split}: the labels have no column split")
        return rows, ""
    wanted = split or ("test" if (rows["split"] == "test").any() else "all")
    if wanted == "all":
        return rows, f"all splits together ({_counts(rows['split'])}); clips that were trained on are among them"
    chosen = rows[rows["split"] == wanted]
    if not len(chosen):
        raise ScoresError(f"--split {wanted}: no scored clip belongs to it; found {_counts(rows['split'])}")
    left = rows[rows["split"] != wanted]
    return chosen.reset_index(drop=True), f"split {wanted}" + (
        f"; left out: {_counts(left['split'])}" if len(left) else ""
    )


def groups_of(rows: pd.DataFrame, column: str | None = None) -> tuple[np.ndarray | None, str]:
    """Identity of each clip, (N,) str, and the column it comes from; None where no column says it.

    A clip without an entry is a group of its own.
    """
    if column is not None and column not in rows:
        raise ScoresError(f"--group {column}: no such column; found {', '.join(rows.columns)}")
    found = column or next((name for name in GROUP_COLUMNS if name in rows and _filled(rows[name]).any()), "")
    if not found:
        return None, ""
    filled = _filled(rows[found])
    names = np.where(filled, rows[found].astype(str), "clip " + rows["filename"].astype(str))
    return names.astype(str), found


def look_up(table: pd.DataFrame, labels: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Rows that the labels name: by path, by path without suffix (video.npz is video.mp4), by bare name if that is unique."""
    places: list[dict[str, int]] = []
    for key in KEYS:
        names = [key(name) for name in labels["filename"]]
        count = Counter(names)
        places.append({name: i for i, name in enumerate(names) if count[name] == 1})
    found = [
        next((place[key(name)] for key, place in zip(KEYS, places) if key(name) in place), -1)
        for name in table["filename"]
    ]
    known = np.array(found) >= 0
    if not known.any():
        raise ScoresError(
            f"{path}: names none of the {len(table)} scored files; first file: {table['filename'].iloc[0]}, "
            f"first label: {labels['filename'].iloc[0] if len(labels) else 'none'}"
        )
    extra = labels.iloc[np.array(found)[known]].drop(columns=["filename"], errors="ignore").reset_index(drop=True)
    own = table[known].drop(columns=[name for name in extra if name in table]).reset_index(drop=True)
    return pd.concat([own, extra], axis=1)


KEYS = (
    str,
    lambda name: str(PurePosixPath(name).with_suffix("")),
    lambda name: PurePosixPath(name).name,
    lambda name: PurePosixPath(name).stem,
)


def _as_labels(cells: pd.Series, path: Path, label_map: dict[str, int]) -> list[int]:
    values = [label_map.get(str(cell).strip().lower()) for cell in cells]
    if None in values:
        line = values.index(None)
        raise ScoresError(f"{path}:{line + 2}: label is {cells.iloc[line]!r}, expected one of {', '.join(label_map)}")
    return values


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except FileNotFoundError:
        raise ScoresError(f"{path}: no such file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ScoresError(f"{path}: not a readable CSV ({error})") from None
    return table.rename(columns=str.strip)


def _require(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    missing = [name for name in names if name not in table]
    if missing:
        raise ScoresError(f"{path}:1: lacks the column {' and '.join(missing)}; found {', '.join(table.columns)}")
    if not len(table):
        raise ScoresError(f"{path}: has no rows")


def _filled(column: pd.Series) -> pd.Series:
    return ~column.astype(str).isin(["", "nan", "None", "-"])


def _counts(column: pd.Series) -> str:
    return ", ".join(f"{count} {value}" for value, count in column.value_counts(sort=False).items())
