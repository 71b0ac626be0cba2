"""FakeAVCeleb v1.2 (Khalid et al., 2021): ROOT/[FakeAVCeleb/]<type>/<race>/<gender>/<source>/<file>, meta_data.csv.

The published `meta_data.csv` ends its header with a comma: the column called `path` holds the file name and the one without
a name the folder. pandas calls the latter `Unnamed: 9`, and mirrors rename the two to `filename` and `path`; all three are
read. Races are written `Asian (East)` or `Asian_East`.

Methods are never read from file names, which do not follow a rule. A published list that has no targets (`source, category,
path`) is read too: then donors are the ids in the file names, which misses those of 532 clips.

People are VoxCeleb2's, as in AV-Deepfake1M.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Line, no_duplicates, read_table
from visavox.splits.table import SPLITS, SplitError

TYPES = {  # type -> category, video_label, audio_label
    "RealVideo-RealAudio": ("A", 0, 0),
    "RealVideo-FakeAudio": ("B", 0, 1),
    "FakeVideo-RealAudio": ("C", 1, 0),
    "FakeVideo-FakeAudio": ("D", 1, 1),
}
FACTS = ("source", "target1", "target2", "method", "category", "type", "race", "gender")
LISTED = ("source", "category", "path")
SPLIT_NAMES = {split: split for split in SPLITS} | {"dev": "val", "valid": "val", "validation": "val"}


def read(disk: Disk, metadata: Path | None = None, published: Path | None = None) -> Corpus:
    """The 21,544 clips of the metadata.

    Args:
        metadata: the CSV; by default the meta_data.csv below the root.
        published: CSV with path and split (or published_split), a split of others; by default there is none.
    """
    path = metadata or _find(disk)
    header = _header(path)
    table = _from_list if "target1" not in header and set(LISTED) <= header else _from_metadata
    listed = list(table(path))
    no_duplicates((key(clip.filename), line.where) for clip, line in listed)
    clips = [clip for clip, _ in listed]
    notes = []
    if table is _from_list:
        notes.append(f"{path} names no targets: donors are the ids in file names, methods are unknown")
    if published:
        splits = _published(published)
        clips = [clip._replace(split=splits.get(key(clip.filename), "")) for clip in clips]
    return Corpus("fakeavceleb", clips, key, notes)


def key(name: str) -> str:
    """type/race/gender/source/file without the folders above and without suffix, races in one spelling."""
    *folders, file = PurePosixPath(name).parts[-5:]
    return "/".join([*(re.sub(r"[^\w-]+", "_", part).strip("_") for part in folders), file.removesuffix(".mp4")])


def _find(disk: Disk) -> Path:
    found = disk.find("meta_data.csv")
    if not found:
        raise SplitError(f"{disk.root or disk.bundle_root}: no meta_data.csv below it; give it with --metadata CSV")
    return found[0]


def _header(path: Path) -> set[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return {name.strip() for name in file.readline().split(",")}
    except FileNotFoundError:
        raise SplitError(f"{path}: no such file; give the corpus's own meta_data.csv") from None


def _from_metadata(path: Path) -> Iterator[tuple[Clip, Line]]:
    for line in read_table(path, FACTS, unnamed="Unnamed: 9"):
        category, video, audio = line.pick("type", TYPES)
        if line["category"] != category:
            raise SplitError(f"{line.where}: category {line['category']!r}, but type {line['type']} is {category}")
        if video + audio and line["method"] in ("", "-", "real"):
            raise SplitError(f"{line.where}: method {line['method']!r} of a {line['type']}; name how it was made")
        clip = Clip(
            filename=_place(line),
            label=max(video, audio),
            source=_person(line["source"], line),
            donors=tuple(_person(line[name], line) for name in ("target1", "target2") if line[name] not in ("-", "")),
            method=line["method"],
            category=category,
            race=line["race"],
            gender=line["gender"],
            audio_label=audio,
            video_label=video,
        )
        yield clip, line


def _place(line: Line) -> str:
    """Folder and file of a line of any of the three forms."""
    if "Unnamed: 9" in line:
        folder, file = line["Unnamed: 9"], line["path"]
    elif "filename" in line:
        folder, file = line["path"], line["filename"]
    else:
        raise SplitError(
            f"{line.where}: lacks the folder; the columns are path and one without a name, or filename and path"
        )
    if not file.endswith(".mp4") or "/" in file or folder.count("/") < 4:
        raise SplitError(
            f"{line.where}: file {file!r} in folder {folder!r}; expected NAME.mp4 and FakeAVCeleb/TYPE/RACE/..."
        )
    return f"{folder.rstrip('/')}/{file}"


def _from_list(path: Path) -> Iterator[tuple[Clip, Line]]:
    categories = {category: (kind, video, audio) for kind, (category, video, audio) in TYPES.items()}
    for line in read_table(path, LISTED):
        kind, video, audio = line.pick("category", categories)
        parts = PurePosixPath(line["path"]).parts
        if len(parts) < 5 or parts[-5] != kind:
            raise SplitError(
                f"{line.where}: {line['path']} is no path of a {kind}, FakeAVCeleb/{kind}/RACE/GENDER/ID/FILE"
            )
        split = line.get("published_split", line.get("split", ""))
        clip = Clip(
            filename=line["path"],
            label=max(video, audio),
            source=_person(line["source"], line),
            donors=tuple(f"voxceleb2:{name}" for name in re.findall(r"id\d{5}", parts[-1])),
            split=SPLIT_NAMES.get(split, ""),
            method="" if video + audio else "real",
            category=line["category"],
            race=parts[-4],
            gender=parts[-3],
            audio_label=audio,
            video_label=video,
        )
        yield clip, line


def _person(name: str, line: Line) -> str:
    if not re.fullmatch(r"id\d{5}", name):
        raise SplitError(f"{line.where}: {name!r} is no identity such as id00076")
    return f"voxceleb2:{name}"


def _published(path: Path) -> dict[str, str]:
    """Key of a clip -> its split in a published list."""
    splits = {}
    for line in read_table(path, ("path",)):
        column = "published_split" if "published_split" in line else "split"
        if column not in line:
            raise SplitError(f"{path}:1: lacks the column split (or published_split)")
        splits[key(line["path"])] = line.pick(column, SPLIT_NAMES)
    return splits
