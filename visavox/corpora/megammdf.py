"""Mega-MMDF (Zhao et al., 2025): ROOT/{train,val,test}.json, ROOT/attributes.json, and the videos that they name.

train.json: ["Mega-MMDF/RARV/....mp4", ...], paths below the folder that ROOT lies in; attributes.json: {path: {...,
"partial_fake_segments": [start, end]}, ...}. The four kinds RARV, RAFV, FARV and FAFV (real or fake audio, real or fake video)
stand in the paths. This is what the reader of its makers' benchmark expects (SCLBD/DeepfakeBench-MM at e105943,
preprocess/megammdf_preprocessor.py); the corpus itself was not at hand, so folders below the kind, and whatever else
attributes.json holds, are not relied on. Nobody is named: groups are single files until `visavox groups` finds who is who.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Json, no_duplicates
from visavox.splits.table import SPLITS, SplitError

ATTRIBUTES = "attributes.json"
SEGMENT = "partial_fake_segments"
KIND = re.compile(r"(?<![A-Za-z])(R|F)A(R|F)V(?![A-Za-z])")


def read(disk: Disk, metadata: Path | None = None) -> Corpus:
    """Every file that the lists name.

    Args:
        metadata: one list in place of train.json, val.json and test.json; its name says which split it is.
    """
    found = [metadata] if metadata else [path for split in SPLITS for path in disk.find(f"{split}.json")]
    if not found:
        raise SplitError(f"{disk.root or disk.bundle_root}: no train.json, val.json or test.json below it")
    beside = [path.parent / ATTRIBUTES for path in found]
    attributes: dict[str, Any] = {}
    for path in sorted({path for path in beside if path.is_file()}):
        attributes |= Json(path).expect(dict, dict)
    listed = [pair for path in found for pair in _list(path, attributes)]
    no_duplicates((clip.filename, where) for clip, where in listed)
    notes = ["Mega-MMDF names nobody here: groups are single files; --groups takes what `visavox groups` found"]
    if not attributes:
        notes.append(f"no {ATTRIBUTES} beside the lists: fake seconds are not known")
    return Corpus("megammdf", [clip for clip, _ in listed], key=below_the_corpus, notes=notes)


def below_the_corpus(name: str) -> str:
    """Return a path from the folder of its kind on: the lists begin a folder above ROOT, the disk in it."""
    parts = PurePosixPath(name).parts
    first = next((i for i, part in enumerate(parts) if KIND.search(part)), 0)
    return PurePosixPath(*parts[first:]).as_posix() if parts else name


def _list(path: Path, attributes: dict[str, Any]) -> list[tuple[Clip, Json]]:
    if path.stem not in SPLITS:
        raise SplitError(f"{path}: is it train, val or test? Name the list so")
    listing = Json(path)
    return [
        (_clip(name.replace("\\", "/"), path.stem, listing, attributes), listing) for name in listing.expect(list, str)
    ]


def _clip(name: str, split: str, listing: Json, attributes: dict[str, Any]) -> Clip:
    kinds = set(KIND.findall(name))
    if len(kinds) != 1:
        raise SplitError(f"{listing.where(name)}: {name} has to name one of RARV, RAFV, FARV, FAFV, found {len(kinds)}")
    sound, picture = kinds.pop()
    audio, video = int(sound == "F"), int(picture == "F")
    segment = attributes.get(name, {}).get(SEGMENT)
    if segment is not None and not (
        isinstance(segment, list) and len(segment) == 2 and all(isinstance(at, (int, float)) for at in segment)
    ):
        raise SplitError(
            f"{listing.where(name)}: {SEGMENT} of {name} in {ATTRIBUTES} is {segment!r}; expected [start, end]"
        )
    return Clip(
        filename=name,
        label=max(audio, video),
        source=f"megammdf:{below_the_corpus(name)}",
        split=split,
        method="real" if not (audio or video) else "",
        category=f"{sound}A{picture}V",
        fake_segments=[segment] if segment is not None else None if audio or video else [],
        audio_label=audio,
        video_label=video,
    )
