"""What of a corpus lies on the disk: its videos below the root, their bundles below the folder crop.py wrote for it.

The rule: `python crop.py --input ROOT --output BUNDLES` with the root that the reader gets, so that paths agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from visavox.files import VIDEO_SUFFIXES, find_inputs
from visavox.preprocessing.manifest import MANIFEST, Manifest, ManifestRow
from visavox.splits.table import SplitError, count_and_first


class Disk:
    """Files of a corpus.

    Args:
        root: the corpus as downloaded, or None.
        bundles: the folder that crop.py wrote for it, or None.
        suffixes: of the files below the root that count.
    """

    def __init__(self, root: Path | None, bundles: Path | None, suffixes: frozenset[str] = VIDEO_SUFFIXES):
        for folder in (root, bundles):
            if folder is not None and not folder.is_dir():
                raise SplitError(f"{folder}: no such folder")
        self.root = root
        self.bundle_root = bundles
        self.videos = _videos(root, suffixes)
        self.bundles = (
            sorted(path.relative_to(bundles).as_posix() for path in bundles.rglob("*.npz")) if bundles else []
        )
        self.manifest = Manifest(bundles / MANIFEST).rows if bundles else {}

    def names(self) -> list[str]:
        """Paths without suffix of everything there is, video or bundle: what corpora without metadata are read from."""
        videos = {_stem(name): name for name in self.videos}
        bundles = (name.removesuffix(".npz") for name in self.bundles)
        return sorted(videos.keys() | {videos_stem(name, self.videos) for name in bundles})

    def find(self, pattern: str) -> list[Path]:
        """Metadata files below the root (else below the bundles) with a name such as `*.json`, sorted."""
        folder = self.root or self.bundle_root
        return sorted(folder.rglob(pattern)) if folder else []


def videos_stem(name: str, videos: Container[str]) -> str:
    """Path without suffix of a bundle's video: a.mp4.npz stands beside an a.avi, its name keeps the suffix."""
    return _stem(name) if name in videos else name


class Missing(NamedTuple):
    """What metadata promises and the disk lacks, and the other way round."""

    promised: int
    videos: int
    """Promised clips whose video is there."""
    absent: list[str]
    """Promised clips with neither video nor bundle."""
    uncut: list[str]
    """Promised clips with a video and no bundle."""
    reasons: Counter
    """Why crop.py gave no bundle, as far as its manifest says: status -> clips."""
    unknown: list[str]
    """Videos on disk that the metadata does not know."""

    def __str__(self) -> str:
        lines = [f"{self.promised} clips in the metadata, {self.videos} of their videos on disk"]
        if self.absent:
            lines.append(f"{len(self.absent)} with neither video nor bundle: {count_and_first(self.absent)}")
        if self.uncut:
            reasons = ", ".join(f"{n} {status}" for status, n in sorted(self.reasons.items()))
            lines.append(
                f"{len(self.uncut)} without bundle{f' ({reasons})' if reasons else ''}: {count_and_first(self.uncut)}"
            )
        if self.unknown:
            lines.append(f"{len(self.unknown)} videos that the metadata does not know: {count_and_first(self.unknown)}")
        return "\n".join(lines)


def match(rows: pd.DataFrame, disk: Disk, key: Callable[[str], str]) -> tuple[pd.DataFrame, Missing]:
    """Find the video and the bundle of each clip.

    Args:
        rows: column filename: paths below the root as the metadata says, with or without suffix.
        key: path without suffix -> what metadata and disk have in common.

    Returns:
        The rows with filename as on disk, bundle (path below the bundles, "" for none) and content (sha256 of the video,
        as far as crop.py's manifest says); and what is missing.
    """
    videos = {key(_stem(name)): name for name in disk.videos} | {key(name): name for name in disk.videos}
    bundles = {key(name.removesuffix(".npz")): name for name in disk.bundles}
    found = []
    for name in rows["filename"]:
        video = videos.get(key(name)) or videos.get(key(_stem(name)))
        bundle = next((bundles[k] for k in (key(video or name), key(_stem(video or name))) if k in bundles), "")
        found.append((video, bundle))
    known = {video for video, _ in found}
    uncut = [video for video, bundle in found if video and not bundle]
    missing = Missing(
        promised=len(rows),
        videos=sum(video is not None for video, _ in found),
        absent=[name for name, (video, bundle) in zip(rows["filename"], found) if not video and not bundle],
        uncut=uncut if disk.bundle_root else [],
        reasons=Counter(disk.manifest[video].status for video in uncut if video in disk.manifest),
        unknown=[name for name in disk.videos if name not in known],
    )
    made = {row.bundle: row for row in disk.manifest.values() if row.bundle}
    rows = rows.assign(
        filename=[
            video or (made[bundle].input if bundle in made else name)
            for name, (video, bundle) in zip(rows["filename"], found)
        ],
        bundle=[bundle for _, bundle in found],
        content=[_content(made.get(bundle)) for _, bundle in found],
    )
    return rows, missing


def _content(row: ManifestRow | None) -> str:
    """Return a name for a file's content, half of its sha256: what two copies under different names have in common."""
    return f"content:{row.source_sha256[:32]}" if row and row.source_sha256 else ""


def _videos(root: Path | None, suffixes: frozenset[str]) -> dict[str, Path]:
    try:
        return find_inputs(root, suffixes) if root else {}
    except FileNotFoundError:  # bundles alone are enough
        return {}


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
