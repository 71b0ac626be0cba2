"""Score files and labels, joined to one table: what every report, comparison and calibration starts from."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from visavox.evaluation.rows import read_details
from visavox.splits.table import LABELS

GROUP_COLUMNS = ("group", "identity", "source", "speaker")
"""Columns that say whose clip it is; the first one that is there groups the bootstrap."""


SAME = 1e-8
"""Scores that differ by no more are one: a submission is written with nine digits."""


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
    """Read a score file and the details file that eval.py wrote beside it.

    Returns:
        filename, probability, status ("" where unknown), seconds (dict), and raw where scores were calibrated: P(fake)
        before the calibration, NaN for clips that were not scored.

    Raises:
        ScoresError: a column is missing, a score is unreadable, a file has two rows, or the details are those of other scores.
    """
    table = _read_csv(path)
    if "probability" not in table and "label" in table:
        table = table.rename(columns={"label": "probability"})
    _require(table, ("filename", "probability"), path)
    table["probability"] = _as_scores(table["probability"], path)
    if table["filename"].duplicated().any():
        raise ScoresError(f"{path}: {table['filename'][table['filename'].duplicated()].iloc[0]} has two rows; keep one")
    details = {row.filename.strip(): row for row in read_details(path)}
    rows = [details.get(name) for name in table["filename"]]
    if "status" not in table:
        table["status"] = [row.status if row else "" for row in rows]
    table["seconds"] = [row.seconds if row else {} for row in rows]
    if "raw" in table:
        given = table["raw"] != ""
        table["raw"] = _as_scores(table["raw"][given], path, "raw").reindex(table.index)
    elif any(row and row.raw is not None for row in rows):
        table["raw"] = [row.raw if row and row.raw is not None else np.nan for row in rows]
    return table


def already_calibrated(table: pd.DataFrame, scores: Path) -> np.ndarray:
    """Return which clips of `read_scores`, (N,) bool, have a calibrated score.

    The details file tells: it holds the raw score beside the calibrated one, or, written by an earlier version, the raw
    one alone, which then is not that of the score file.
    """
    own = {row.filename.strip(): row.probability for row in read_details(scores)}
    other = np.array(
        [abs(own.get(name, p) - p) > SAME for name, p in zip(table["filename"], table["probability"])], bool
    )
    return other | table["raw"].notna().to_numpy() if "raw" in table else other


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


def _as_scores(cells: pd.Series, path: Path, column: str = "probability") -> pd.Series:
    numbers = pd.to_numeric(cells, errors="coerce")
    wrong = cells.index[~numbers.between(0, 1)]
    if len(wrong):
        raise ScoresError(f"{path}:{wrong[0] + 2}: {column} is {cells[wrong[0]]!r}, expected 0 to 1")
    return numbers


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
