"""AV-Deepfake1M (Cai et al., 2024) and AV-Deepfake1M++ (2025): ROOT/{train,val}/**/*.mp4, ROOT/{train,val}_metadata.json.

[{"file": "id00012/21Uxsk56VDQ/00001/real.mp4", "original": null, "split": "train", "modify_type": "real",
"fake_segments": [], "audio_model": ..., "video_model": ... (++), ...}, ...]. The published loader compares modify_type with
`both-modified`, the files say `both_modified`; both are read. People are VoxCeleb2's where the path says so, as in
FakeAVCeleb; else a group is the folder of a video and its fakes. The test split has no labels and is not read.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Json, no_duplicates
from visavox.splits.table import SplitError

TYPES = {  # modify_type -> video_label, audio_label
    "real": (0, 0),
    "visual_modified": (1, 0),
    "audio_modified": (0, 1),
    "both_modified": (1, 1),
    "both-modified": (1, 1),
}
SPLIT_NAMES = {"train": "train", "val": "val", "test": "test"}


def read(disk: Disk, metadata: Path | None = None) -> Corpus:
    """Every file that the metadata lists.

    Args:
        metadata: one JSON in place of *_metadata.json below the root.
    """
    found = [metadata] if metadata else disk.find("*_metadata.json")
    if not found:
        raise SplitError(f"{disk.root or disk.bundle_root}: no train_metadata.json or val_metadata.json below it")
    clips = []
    for path in found:
        listing = Json(path)
        entries = listing.expect(list, dict)
        no_duplicates((listing.cell(entry, "file", "file"), listing) for entry in entries)
        clips += [_clip(listing, entry) for entry in entries]
    return Corpus("avdeepfake1m", clips)


def _clip(listing: Json, entry: dict[str, Any]) -> Clip:
    name = listing.cell(entry, "file", "file")
    video, audio = listing.cell(entry, "modify_type", name, TYPES)
    split = listing.cell(entry, "split", name, SPLIT_NAMES)
    models = [entry.get(kind) for kind in ("video_model", "audio_model")]
    return Clip(
        filename=name if PurePosixPath(name).parts[0] == split else f"{split}/{name}",
        label=max(video, audio),
        source=_person(name),
        split=split,
        method="+".join(model for model in models if model) if video or audio else "real",
        category=entry["modify_type"].replace("-", "_"),
        fake_segments=listing.cell(entry, "fake_segments", name),
        audio_label=audio,
        video_label=video,
    )


def _person(name: str) -> str:
    people = [part for part in PurePosixPath(name).parts if re.fullmatch(r"id\d{5}", part)]
    return f"voxceleb2:{people[0]}" if people else f"avdeepfake1m:{PurePosixPath(name).parent}"
