"""DFDC (Dolhansky et al., 2020): ROOT/**/dfdc_train_part_N/{metadata.json, *.mp4}, and a test folder with labels.csv.

metadata.json: {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}, "b.mp4": {"label": "REAL", ...}, ...}.
Nobody is named: an original and all that was made of it stay together, two originals of one actor may not. Which modality
is fake is not said either; some sound is swapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Json, no_duplicates, read_table
from visavox.splits.table import SplitError, count_and_first

LABELS = {"REAL": 0, "FAKE": 1}
TEST_LABELS = {"0": 0, "1": 1}


def read(disk: Disk, metadata: Path | None = None) -> Corpus:
    """Every part below the root.

    Args:
        metadata: one metadata.json in place of those below the root.
    """
    parts = [metadata] if metadata else disk.find("metadata.json")
    tests = [] if metadata else disk.find("labels.csv")
    if not parts and not tests:
        raise SplitError(
            f"{disk.root}: no metadata.json below it; unpack the parts there, dfdc_train_part_0/metadata.json"
        )
    listed = [pair for path in parts for pair in _part(path, disk.root)]
    listed += [pair for path in tests for pair in _test(path, disk.root)]
    no_duplicates((clip.filename, where) for clip, where in listed)
    clips = [clip for clip, _ in listed]
    originals = {clip.source for clip in clips if not clip.label}
    orphans = sorted({clip.source for clip in clips if clip.label and not clip.split} - originals)
    notes = ["DFDC names nobody: groups are an original and its fakes, and one actor may stand in several"]
    if orphans:
        notes.append(f"{len(orphans)} originals of fakes are in no part that is here: {count_and_first(orphans)}")
    return Corpus("dfdc", clips, notes=notes)


def _part(path: Path, root: Path | None) -> Iterator[tuple[Clip, str]]:
    part = Json(path)
    for name, entry in part.expect(dict, dict).items():
        label = part.cell(entry, "label", name, LABELS)
        original = entry.get("original")
        if label and not original:
            raise SplitError(f"{part.where(name)}: {name} is FAKE and has no original; expected the name of a REAL one")
        clip = Clip(
            filename=f"{_below(path, root)}{name}",
            label=label,
            source=f"dfdc:{(original or name).removesuffix('.mp4')}",
            method="" if label else "real",
            audio_label=None if label else 0,
            video_label=None if label else 0,
        )
        yield clip, part.where(name)


def _test(path: Path, root: Path | None) -> Iterator[tuple[Clip, str]]:
    for line in read_table(path, ("filename", "label")):
        label = line.pick("label", TEST_LABELS)
        name = line["filename"]
        filename = f"{_below(path, root)}{name}"
        yield (
            Clip(filename, label, f"dfdc:{name.removesuffix('.mp4')}", (), "test", "" if label else "real"),
            line.where,
        )


def _below(path: Path, root: Path | None) -> str:
    """Folder of a metadata file below the root, with a slash."""
    folder = path.parent.relative_to(root).as_posix() if root and path.is_relative_to(root) else "."
    return "" if folder == "." else f"{folder}/"
