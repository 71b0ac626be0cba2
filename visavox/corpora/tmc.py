"""Trusted Media Challenge (Chen et al., 2022): ROOT/**/*.mp4 and a table `filename,label` (0 real, 1 fake).

Further columns are taken where the table has them: audio_label and video_label (0 or 1), method, identity (several joined
by `;`), split. Without identities nobody is known to appear in two clips, and a split by groups is one by files.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Line, no_duplicates, read_table
from visavox.splits.table import LABELS, SPLITS, SplitError


def read(disk: Disk, metadata: Path | None = None, label_map: dict[str, int] = LABELS) -> Corpus:
    """Every file that the table lists.

    Args:
        metadata: the CSV; by default the only one below the root.
        label_map: what its labels mean.
    """
    found = [metadata] if metadata else disk.find("*.csv")
    if len(found) != 1:
        names = ", ".join(str(path) for path in found) or "none"
        raise SplitError(
            f"{disk.root}: one CSV with filename,label is needed, found {names}; give it with --metadata CSV"
        )
    listed = [(_clip(line, label_map), line) for line in read_table(found[0], ("filename", "label"))]
    no_duplicates((clip.filename, line.where) for clip, line in listed)
    clips = [clip for clip, _ in listed]
    anonymous = sum(clip.source.startswith("tmc:file ") for clip in clips)
    notes = [f"{anonymous} clips name nobody: groups are single files"] if anonymous else []
    return Corpus("tmc", clips, key=lambda name: PurePosixPath(name).name, notes=notes)


def _clip(line: Line, label_map: dict[str, int]) -> Clip:
    line |= {name: line[name].lower() for name in ("label", "audio_label", "video_label") if name in line}
    label = line.pick("label", label_map)
    people = [f"tmc:{name.strip()}" for name in line.get("identity", "").split(";") if name.strip()]
    return Clip(
        filename=line["filename"],
        label=label,
        source=people[0] if people else f"tmc:file {line['filename']}",
        donors=tuple(people[1:]),
        split=line.pick("split", {name: name for name in ("", *SPLITS)}) if "split" in line else "",
        method=line.get("method", "") if label else "real",
        audio_label=_optional(line, "audio_label", label_map),
        video_label=_optional(line, "video_label", label_map),
    )


def _optional(line: Line, column: str, label_map: dict[str, int]) -> int | None:
    return line.pick(column, label_map) if line.get(column) else None
