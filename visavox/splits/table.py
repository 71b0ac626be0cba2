"""The split CSV (`filename, filepath, split, label`): read and checked whole, made and balanced.

filename    name of the video, for people
filepath    its bundle, absolute or relative to root_path
split       train, val or test
label       0 = real, 1 = fake
audio_label, video_label    may be there: whether the sound, or the picture, is fake by itself; empty where that is not known
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from visavox.files import excerpt, is_there, replacing
from visavox.splits.text_table import count_and_first, on_lines, read_text_table

COLUMNS = ("filename", "filepath", "split", "label")
MODALITY_LABELS = ("audio_label", "video_label")
SPLITS = ("train", "val", "test")
DRAWN = "synthetic"
"""In the column `corpus`, where there is one: a clip that `visavox synthetic` drew."""
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "real": 0, "fake": 1}
"""How a label may be written; letter case does not matter."""


class SplitError(ValueError):
    """The split CSV cannot be trained on; the message lists every fault with its line numbers and cure."""

    code = "BAD_TABLE"


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

    It is read as `visavox.splits.text_table` does; the case of letters in names of columns, labels and splits does not
    matter. Cells of columns beyond the four are kept as they are.

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
    path = Path(path)
    if not path.is_file():
        raise SplitError(f"{path}: no such file; make it with `visavox corpora folder --root BUNDLES --output {path}`")
    rows = read_text_table(path, COLUMNS, SplitError)
    rows["split"] = [split.lower() if split.lower() in SPLITS else split for split in rows["split"]]
    rows["path"] = _resolved(Path(root), rows["filepath"])
    faults = list(_faults(rows, Path(root), part))
    if faults:
        raise SplitError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(f"  - {fault}" for fault in faults))
    rows["label"] = [LABELS[label.lower()] for label in rows["label"]]
    return rows


def labels_of(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Return what a detector learns of each clip: (N,) int64, 1 = fake.

    Args:
        rows: as `read_split` gives them.
        column: `label`, or `audio_label` or `video_label`, which fall back on `label` where they are empty or not there.
    """
    labels = rows["label"].to_numpy(np.int64)
    if column == "label" or column not in rows:
        return labels
    own = [LABELS.get(str(cell).lower()) for cell in rows[column]]
    return np.array([whole if one is None else one for one, whole in zip(own, labels)], np.int64)


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


def _resolved(root: Path, names: Iterable[str]) -> list[str]:
    """Return each path without links; where there is no such file, that of one written otherwise, if there is one.

    Otherwise: with / in place of Windows' separators, or with accents in the other Unicode form.
    """
    folders: dict[str, str] = {}
    paths = []
    for name in names:
        path = os.path.join(root, name)
        if ("\\" in name or not name.isascii()) and not os.path.isfile(path):
            slashes = path.replace("\\", "/")
            forms = (slashes, *(unicodedata.normalize(form, slashes) for form in ("NFC", "NFD")))
            path = next(filter(os.path.isfile, forms), path)
        folder, file = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        path = os.path.join(folders[folder], file)
        paths.append(os.path.realpath(path) if file in ("", ".", "..") or os.path.islink(path) else path)
    return paths


def _faults(rows: pd.DataFrame, root: Path, part: bool) -> Iterator[str]:
    """Every fault of a table of text cells that has the columns and `path`, in words."""
    unset = rows.isin(["", "nan", "NaN", "None"])
    for column in COLUMNS:
        if unset[column].any():
            yield f"{column} is empty ({on_lines(rows.index[unset[column]])})"
    yield from _unknown(rows["split"][~unset["split"]], SPLITS, "split")
    yield from _unknown(rows["label"][~unset["label"]], LABELS, "label", "write 0 for real, 1 for fake")
    for column in MODALITY_LABELS:
        if column in rows:
            given = rows[column][~unset[column] & (rows[column] != "-")]
            yield from _unknown(given, LABELS, column, "write 0 for real, 1 for fake, nothing where it is not known")
    named = rows[~unset["filepath"]]
    yield from _missing_files(named, root)
    yield from _repeated(named)
    if not part:
        yield from lopsided(rows)


def _unknown(cells: pd.Series, known: Iterable[str], column: str, cure: str | None = None) -> Iterator[str]:
    wrong = cells[~cells.isin(list(known)) if column == "split" else ~cells.str.lower().isin(list(known))]
    for value, where in wrong.groupby(wrong):
        yield f"{column} {excerpt(repr(value))} is unknown ({on_lines(where.index)}); {cure or 'write ' + ', '.join(known)}"


def _missing_files(rows: pd.DataFrame, root: Path) -> Iterator[str]:
    other = rows[~rows["filepath"].str.lower().str.endswith(".npz")]
    if len(other):
        yield (
            f"{len(other)} of {len(rows)} file paths are no bundles (.npz): {count_and_first(list(other['filepath']))}; "
            "run `python crop.py --input VIDEOS --output BUNDLES` and list its bundles"
        )
    absent = rows[[not is_there(path) for path in rows["path"]]].drop(other.index, errors="ignore")
    if len(absent):
        yield (
            f"{len(absent)} of {len(rows)} files are missing: {count_and_first(list(absent['filepath']))} "
            f"({on_lines(absent.index)}); relative paths start from root_path, here {root.resolve()}; "
            "set root_path=FOLDER, or make them with `python crop.py --input VIDEOS --output BUNDLES`"
        )


def _repeated(rows: pd.DataFrame) -> Iterator[str]:
    """The same file, however its path is written, twice in a split or in two splits."""
    for _, same in rows[rows["path"].duplicated(keep=False)].groupby("path", sort=False):
        splits = list(dict.fromkeys(same["split"]))
        where = f"in {' and '.join(splits)}" if len(splits) > 1 else "more than once"
        labels = "" if same["label"].nunique() == 1 else ", with different labels"
        yield f"{excerpt(same['filepath'].iloc[0], 300)} is listed {where}{labels} ({on_lines(same.index)}); keep one line"


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
