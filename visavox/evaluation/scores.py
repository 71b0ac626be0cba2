"""Score files and labels, joined to one table: what every report, comparison and calibration starts from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from visavox.evaluation.rows import read_details
from visavox.evaluation.score_files import only, read_score_file
from visavox.files import excerpt, parse_json
from visavox.splits.names import match
from visavox.splits.table import LABELS
from visavox.splits.text_table import count_and_first, read_text_table
from visavox.status import SCORED

log = logging.getLogger(__name__)
GROUP_COLUMNS = ("group", "identity", "source", "speaker")
"""Columns that say whose clip it is; the first one that is there groups the bootstrap."""

OF_SCORES = ("probability", "raw", "seconds", "head", "exited")
"""Columns that labels never give, though a report's scores.csv may be used for labels."""
SAME = 1e-8
"""Scores that differ by no more are one: a submission is written with nine digits."""


class ScoresError(ValueError):
    """Score file or labels cannot be read or joined; the message holds the cure."""

    code = "BAD_TABLE"


def join(
    scores: Path,
    labels: Path | None,
    *,
    label_map: dict[str, int] = LABELS,
    scores_of: str = "fake",
    column: str | None = None,
    where: Sequence[str] = (),
    label_column: str = "label",
) -> pd.DataFrame:
    """Return the labelled rows of a score file: filename, probability (of fake), label (1 = fake), status, seconds, and
    every column of the labels.

    Args:
        scores: of any form that `visavox.evaluation.score_files` knows; statuses and seconds are taken from the details
            file that eval.py wrote beside it.
        labels: CSV with filename,label and more columns, a split CSV for example; None where `scores` has both columns.
        label_map: what labels mean there, as `visavox.splits.table.label_map` gives it.
        scores_of: `real` turns scores round that are P(real).
        column: of a file with several detectors, the one whose scores are meant.
        where: conditions `COLUMN=PATTERN` on the rows of the score file.
        label_column: of the score file, where `labels` is None.

    Raises:
        ScoresError: a column is missing, a label or score is unreadable, or no file is labelled.
    """
    table = read_scores(scores, column)
    table = only(table, where, scores, ScoresError)
    if labels is None:
        if label_column not in table:
            raise ScoresError(f"{scores}: lacks the column {label_column}; give --labels CSV with filename,label")
        joined = table.assign(label=_as_labels(table[label_column], scores, label_map)).reset_index(drop=True)
    else:
        joined = look_up(table, read_labels(labels, label_map), labels)
    if scores_of == "real":
        for name in joined.columns.intersection(["probability", "raw"]):
            joined[name] = 1 - joined[name]
    return joined


def read_scores(path: Path, column: str | None = None) -> pd.DataFrame:
    """Read a score file and the details file that eval.py wrote beside it.

    Args:
        column: of a file with several detectors, the one whose scores are meant.

    Returns:
        filename, probability, status ("" where unknown), seconds (dict); raw where scores were calibrated: P(fake) before the
        calibration, NaN for clips that were not scored; head and exited where the detector has several heads or a gate.

    Raises:
        ScoresError: a column is missing, a score is unreadable, a file has two rows, or the details are those of other scores.
    """
    table = _named(read_score_file(path, ScoresError, column), path).copy()
    table["probability"] = _as_scores(table["probability"], path)
    twice = table["filename"].duplicated()
    if twice.any():
        line = table.index[twice][0]
        raise ScoresError(f"{path}:{line}: {excerpt(table['filename'][line], 300)} has two rows; keep one")
    details = {row.filename.strip(): row for row in read_details(path)}
    rows = [details.get(name) for name in table["filename"]]
    if "status" not in table:
        table["status"] = [row.status if row else "" for row in rows]
    given = table["seconds"] if "seconds" in table else [""] * len(table)
    table["seconds"] = [row.seconds if row else _stages(text, path) for row, text in zip(rows, given)]
    if any(row and row.head for row in rows):
        table["head"] = [row.head if row else "" for row in rows]
    if any(row and row.exited is not None for row in rows):
        table["exited"] = [row.exited if row else None for row in rows]
    elif "exited" in table:  # of a report's scores.csv
        table["exited"] = table["exited"].str.strip().map({"True": True, "False": False}).astype(object)
    if "raw" in table:
        given = table["raw"] != ""
        table["raw"] = _as_scores(table["raw"][given], path, "raw").reindex(table.index)
    elif any(row and row.raw is not None for row in rows):
        table["raw"] = [row.raw if row and row.raw is not None else np.nan for row in rows]
    return table


def were_scored(table: pd.DataFrame) -> np.ndarray:
    """Return which rows of `read_scores` hold a score of the detector's own, not the prior: (N,) bool; unknown ones count."""
    own = table["status"].isin(["", *SCORED])
    return (own | (table["head"] != "") if "head" in table else own).to_numpy()


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
    """Read labels, a split CSV for example, indexed by line number.

    Args:
        label_map: what labels mean there, as `visavox.splits.table.label_map` gives it; letter case does not matter.

    Returns:
        filename, label int (1 = fake), split in small letters where there is one, and the other columns as text.

    Raises:
        ScoresError: a column is missing, a label is unknown, or two lines of one file differ; says file and line.
    """
    table = _read(path, ("filename", "label"))
    table["label"] = _as_labels(table["label"], path, label_map)
    if "split" in table:
        table["split"] = table["split"].str.lower()
    return table if "filepath" in table else _without_repeats(table, path)


def of_split(rows: pd.DataFrame, split: str | None) -> tuple[pd.DataFrame, str]:
    """Return the rows to report on and a sentence about those left out: `split`, or test where there are splits, or all."""
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
    """Return the identity of each clip, (N,) str, and the column it comes from; None where no column says it.

    A clip without an entry is a group of its own.
    """
    if column is not None and column not in rows:
        column = column.lower()  # as the reader writes names of columns
    if column is not None and column not in rows:
        raise ScoresError(f"--group {column}: no such column; found {', '.join(rows.columns)}")
    found = column or next((name for name in GROUP_COLUMNS if name in rows and _filled(rows[name]).any()), "")
    if not found:
        return None, ""
    filled = _filled(rows[found])
    names = np.where(filled, rows[found].astype(str), "clip " + rows["filename"].astype(str))
    return names.astype(str), found


def look_up(table: pd.DataFrame, labels: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Join scored files with the lines that name them, as `visavox.splits.names` says; a warning counts those left out.

    A line names a file by its `filename`, else by its `filepath` if it has one.

    Args:
        table: of `read_scores`.
        labels: of `read_labels`.
        path: where the labels come from, for messages.

    Raises:
        ScoresError: no file is named.
    """
    lines, several = match(table["filename"].tolist(), labels["filename"].tolist())
    if "filepath" in labels and (lines < 0).any():
        more, _ = match(table["filename"].tolist(), labels["filepath"].tolist())
        found = (lines < 0) & (more >= 0) & ~np.isin(more, lines)
        lines, several = np.where(found, more, lines), several & ~found
    known = lines >= 0
    if not known.any():
        raise ScoresError(
            f"{path}: names none of the {len(table)} scored files; first file: {excerpt(table['filename'].iloc[0], 300)}, "
            f"first label: {excerpt(labels['filename'].iloc[0], 300)}{_in_doubt(table, several)}"
        )
    if not known.all():
        lost = table["filename"][~known]
        log.warning(
            "%s names %d of the %d scored files; without a label and left out: %s%s",
            path,
            known.sum(),
            len(table),
            count_and_first(list(lost)),
            _in_doubt(table, several),
        )
    extra = labels.iloc[lines[known]].drop(columns=["filename", *OF_SCORES], errors="ignore").reset_index(drop=True)
    own = table[known].drop(columns=[name for name in extra if name in table]).reset_index(drop=True)
    return pd.concat([own, extra], axis=1)


def _in_doubt(table: pd.DataFrame, several: np.ndarray) -> str:
    if not several.any():
        return ""
    names = count_and_first(list(table["filename"][several]))
    return f"; {several.sum()} fit more than one line, or share one with another file: {names}; write paths, not names"


def _without_repeats(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table without lines that stand there twice; two lines of one file that differ are refused."""
    table = table.drop_duplicates()
    twice = table["filename"].duplicated(keep=False)
    if twice.any():
        name = table["filename"][twice].iloc[0]
        lines = table.index[table["filename"] == name]
        raise ScoresError(
            f"{path}:{lines[1]}: {excerpt(name, 300)} has another line, {lines[0]}, with other cells; keep one"
        )
    return table


def _as_labels(cells: pd.Series, path: Path, label_map: dict[str, int]) -> pd.Series:
    values = cells.map({cell: label_map.get(cell.lower()) for cell in cells.unique()})
    if values.isna().any():
        line = values.index[values.isna()][0]
        raise ScoresError(
            f"{path}:{line}: label is {excerpt(repr(cells[line]))}, expected one of {', '.join(label_map)}; what others "
            "mean is said with --label-map, such as true=fake,false=real"
        )
    return values.astype(np.int64)


def _stages(text: object, path: Path) -> dict[str, float]:
    """Stage -> seconds, of the column `seconds` of a report's scores.csv (JSON), or of detect's (one number: `total`)."""
    words = str(text).strip()
    if words in ("", "nan"):
        return {}
    try:
        found = parse_json(words)
        stages = found if isinstance(found, dict) else {"total": found}
        return {str(stage): float(seconds) for stage, seconds in stages.items()}
    except (ValueError, TypeError):
        raise ScoresError(f"{path}: seconds is {excerpt(words)!r}, expected a number or stages with numbers") from None


def _as_scores(cells: pd.Series, path: Path, column: str = "probability") -> pd.Series:
    """Return numbers from 0 to 1; 0,5 is one too, as spreadsheets of many countries write it."""
    numbers = pd.to_numeric(cells.str.replace(",", ".", regex=False), errors="coerce")
    wrong = cells.index[~numbers.between(0, 1)]
    if len(wrong):
        raise ScoresError(f"{path}:{wrong[0]}: {column} is {excerpt(repr(cells[wrong[0]]))}, expected 0 to 1")
    return numbers.astype(np.float64)


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    return _named(read_text_table(path, columns, ScoresError), path)


def _named(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table if it has rows and each names a file."""
    if not len(table):
        raise ScoresError(f"{path}: has no rows; a line for each file is expected below the header")
    unnamed = table["filename"] == ""
    if unnamed.any():
        raise ScoresError(f"{path}:{table.index[unnamed][0]}: filename is empty; name the file, or remove the line")
    return table


def _filled(column: pd.Series) -> pd.Series:
    return ~column.astype(str).isin(["", "nan", "None", "-"])


def _counts(column: pd.Series) -> str:
    return ", ".join(f"{count} {value}" for value, count in column.value_counts(sort=False).items())
