"""The split CSV (`filename, filepath, split, label`): read and checked whole, made and balanced.

filename    name of the video, for people
filepath    its bundle, absolute or relative to root_path
split       train, val or test
label       0 = real, 1 = fake
"""

import csv
import difflib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from visavox.files import replacing

COLUMNS = ("filename", "filepath", "split", "label")
SPLITS = ("train", "val", "test")
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "real": 0, "fake": 1}
"""How a label may be written; letter case does not matter."""
SHOWN = 5
"""Faulty lines that a message names; the rest is counted."""


class SplitError(ValueError):
    """The split CSV cannot be trained on; the message lists every fault with its line numbers and cure."""


def label_map(text: str | None) -> dict[str, int]:
    """What --label-map says: `1=real,0=fake` (or `bonafide=real,spoof=fake`) -> what each label means, 1 = fake.

    The usual ones stay as well, and are all there is without a text.

    Raises:
        SplitError: not such a text.
    """
    if not text:
        return LABELS
    pairs = [[part.strip().lower() for part in pair.split("=")] for pair in text.split(",")]
    if not all(len(pair) == 2 and pair[0] and pair[1] in ("real", "fake") for pair in pairs):
        raise SplitError(f"--label-map {text!r}: write what each label means, for example 1=real,0=fake")
    return (
        LABELS
        | {f"{name}.0": LABELS[means] for name, means in pairs if name.isdigit()}
        | {name: LABELS[means] for name, means in pairs}
    )


def read_split(path: str | Path, root: str | Path, *, part: bool = False) -> pd.DataFrame:
    """Read and check a split CSV.

    Comma, semicolon and tab are understood, as are a byte order mark and blanks around cells. Columns beyond the four
    are kept as they are.

    Args:
        path: the CSV.
        root: folder that relative file paths start from.
        part: the CSV is one of several and may lack a split or a class.

    Returns:
        One row per clip, in the order of the file: the columns of the CSV with label int, plus `path` (resolved, str).
        The index is the line number.

    Raises:
        SplitError: lists all faults at once.
    """
    rows = _read_text_table(Path(path))
    rows["path"] = [os.path.realpath(Path(root, name)) for name in rows["filepath"]]
    faults = list(_faults(rows, Path(root), part))
    if faults:
        raise SplitError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(f"  - {fault}" for fault in faults))
    rows["label"] = [LABELS[label.lower()] for label in rows["label"]]
    return rows


def write_split(rows: pd.DataFrame, path: Path, root: Path, *, part: bool = False) -> None:
    """Write a split CSV and read it back; a faulty one leaves the earlier file alone.

    Args:
        part: as `read_split`.

    Raises:
        SplitError: as `read_split`.
    """
    with replacing(path) as beside:
        rows.to_csv(beside, index=False, encoding="utf-8", lineterminator="\n")
        try:
            read_split(beside, root, part=part)
        except SplitError as error:
            raise SplitError(str(error).replace(str(beside), str(path))) from None


def warnings(rows: pd.DataFrame) -> list[str]:
    """What does not stop training but should be known: a test split without AUC."""
    labels = set(rows.loc[rows["split"] == "test", "label"])
    if len(labels) == 2:
        return []
    found = "is empty" if not labels else f"holds {'fake' if 1 in labels else 'real'} clips only"
    return [f"the test split {found}; its AUC is not defined"]


def describe(rows: pd.DataFrame) -> str:
    """`train 40 real 40 fake · val 8 real 8 fake · test ...`."""
    counts = rows.groupby(["split", "label"]).size()
    return " · ".join(f"{split} {counts.get((split, 0), 0)} real {counts.get((split, 1), 0)} fake" for split in SPLITS)


def count_and_first(things: Sequence[object]) -> str:
    """`a, b, c, d, e and 7 more`."""
    more = f" and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return ", ".join(str(thing) for thing in things[:SHOWN]) + more


def _read_text_table(path: Path) -> pd.DataFrame:
    """A CSV as text cells without blanks around them, indexed by line number; lines without any text are left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SplitError(
            f"{path}: no such file; make it with `visavox corpora folder --root BUNDLES --output {path}`"
        ) from None
    except UnicodeDecodeError as error:
        raise SplitError(f"{path}: not UTF-8 ({error}); save it as CSV with UTF-8 encoding") from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [cell.strip() for cell in next(lines, [])]
        table = [(lines.line_num, [cell.strip() for cell in line]) for line in lines]
    except csv.Error as error:
        raise SplitError(f"{path}: line {lines.line_num}: {error}; check its quotes") from None
    missing = [_missing_column(name, columns) for name in COLUMNS if name not in columns]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    table = [(number, cells) for number, cells in table if any(cells)]
    ragged = [number for number, cells in table if len(cells) != len(columns)]
    faults = missing + [f"column {name} stands there twice" for name in twice]
    if ragged:
        faults.append(f"{_on(ragged)}: other than {len(columns)} cells; quote cells that hold the delimiter")
    if faults:
        raise SplitError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(f"  - {fault}" for fault in faults))
    return pd.DataFrame([cells for _, cells in table], index=[number for number, _ in table], columns=columns)


def _missing_column(name: str, columns: list[str]) -> str:
    written = {column.lower(): column for column in columns}
    near = difflib.get_close_matches(name, written, n=1, cutoff=0.6)
    hint = f"is it {written[near[0]]!r}?" if near else f"the file has {', '.join(columns) or 'none'}"
    return f"column {name} is missing; {hint}"


def _faults(rows: pd.DataFrame, root: Path, part: bool) -> Iterator[str]:
    """Every fault of a table of text cells that has the columns and `path`, in words."""
    unset = rows.isin(["", "nan", "NaN", "None"])
    for column in COLUMNS:
        if unset[column].any():
            yield f"{column} is empty ({_on(rows.index[unset[column]])})"
    yield from _unknown(rows["split"][~unset["split"]], SPLITS, "split")
    yield from _unknown(rows["label"][~unset["label"]], LABELS, "label", "write 0 for real, 1 for fake")
    named = rows[~unset["filepath"]]
    yield from _missing_files(named, root)
    yield from _repeated(named)
    if not part:
        yield from lopsided(rows)


def _unknown(cells: pd.Series, known: Iterable[str], column: str, cure: str | None = None) -> Iterator[str]:
    wrong = cells[~cells.str.lower().isin(list(known)) if column == "label" else ~cells.isin(list(known))]
    for value, where in wrong.groupby(wrong):
        yield f"{column} {value!r} is unknown ({_on(where.index)}); {cure or 'write ' + ', '.join(known)}"


def _missing_files(rows: pd.DataFrame, root: Path) -> Iterator[str]:
    other = rows[~rows["filepath"].str.lower().str.endswith(".npz")]
    if len(other):
        yield (
            f"{len(other)} of {len(rows)} file paths are no bundles (.npz): {count_and_first(list(other['filepath']))}; "
            "run `python crop.py --input VIDEOS --output BUNDLES` and list its bundles"
        )
    absent = rows[[not os.path.isfile(path) for path in rows["path"]]].drop(other.index, errors="ignore")
    if len(absent):
        yield (
            f"{len(absent)} of {len(rows)} files are missing: {count_and_first(list(absent['filepath']))} "
            f"({_on(absent.index)}); relative paths start from root_path, here {root.resolve()}; "
            "set root_path=FOLDER, or make them with `python crop.py --input VIDEOS --output BUNDLES`"
        )


def _repeated(rows: pd.DataFrame) -> Iterator[str]:
    """The same file, however its path is written, twice in a split or in two splits."""
    for _, same in rows[rows["path"].duplicated(keep=False)].groupby("path", sort=False):
        splits = list(dict.fromkeys(same["split"]))
        where = f"in {' and '.join(splits)}" if len(splits) > 1 else "more than once"
        labels = "" if same["label"].nunique() == 1 else ", with different labels"
        yield f"{same['filepath'].iloc[0]} is listed {where}{labels} ({_on(same.index)}); keep one line"


def lopsided(rows: pd.DataFrame) -> Iterator[str]:
    """Splits that nothing can be learnt or chosen on: empty, or of one class."""
    for split in ("train", "val"):
        texts = rows.loc[rows["split"] == split, "label"].astype(str).str.lower()
        labels = {LABELS[text] for text in texts if text in LABELS}
        if not len(texts):
            yield f"the {split} split is empty; give some lines split={split}"
        elif len(labels) == 1:
            only, lacking = ("real", "fake") if labels == {0} else ("fake", "real")
            yield f"the {split} split holds {only} clips only; add {lacking} ones, or AUC and training mean nothing"


def _on(lines: Iterable[int]) -> str:
    numbers = list(lines)
    return f"line{'s' if len(numbers) > 1 else ''} {count_and_first(numbers)}"
