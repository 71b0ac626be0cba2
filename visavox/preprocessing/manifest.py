"""The manifest of a folder of bundles, and the names of bundles."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from visavox.files import parse_json, replacing
from visavox.remote import is_file, sha256_of
from visavox.status import Status

MANIFEST = "manifest.jsonl"
LONGEST_BUNDLE_NAME = 240
"""Bytes; the rest of what a file system allows is for the endings of previews."""


def bundle_names(inputs: dict[str, Path]) -> list[Path]:
    """Return where each bundle goes below the output folder: video.mp4 -> video.npz, or video.mp4.npz beside a video.avi.

    No two are equal, also where letter case and composition of letters do not count; a name that would still be, or would be
    too long, ends in eight digits of its hash.
    """
    stems = Counter(_alike(Path(name).with_suffix("")) for name in inputs)
    taken: set[str] = set()
    places = []
    for name in inputs:
        alone = stems[_alike(Path(name).with_suffix(""))] == 1
        place = Path(name).with_suffix(".npz") if alone else Path(f"{name}.npz")
        if _alike(place) in taken or len(os.fsencode(place.name)) > LONGEST_BUNDLE_NAME:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            stem = os.fsencode(Path(name).name)[: LONGEST_BUNDLE_NAME - 16].decode("utf-8", "ignore")
            place = Path(name).with_name(f"{stem}.{digest}.npz")
        taken.add(_alike(place))
        places.append(place)
    return places


def _alike(place: Path) -> str:
    """What names that some file systems take for one have in common."""
    return unicodedata.normalize("NFC", str(place)).casefold()


@dataclass(frozen=True)
class ManifestRow:
    """What became of one video."""

    input: str
    """Path below the folder of the videos, with forward slashes."""
    status: Status
    """What became of it."""
    reason: str = ""
    """Why there is no bundle, for people; empty where there is one."""
    code: str = ""
    """Why there is no bundle, for programs: one of `visavox.errors.CODES`; empty where there is one."""
    bundle: str | None = None
    """Path of the bundle below the manifest's folder, None where there is none."""
    prep_hash: str = ""
    """Of the settings it was cropped with."""
    source_sha256: str | None = None
    """sha256 of the video; None where it could not be read."""
    kept: bool = False
    """Whether the bundle is that of an earlier run."""
    notes: tuple[str, ...] = ()
    """What is unusual about the video, for people."""
    frames: int | None = None
    """Frames of the face track; None where there is no bundle."""
    frames_read: int | None = None
    """Frames of the video that were read; the track may leave some out. None where a bundle was kept whose row is lost."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds it took."""

    def to_json(self) -> dict[str, Any]:
        """Return the row as the manifest holds it, without what a video that was kept or lost does not have."""
        row = asdict(self)
        absent = [] if self.kept else ["kept"]
        absent += ["notes", "frames", "frames_read"] if self.frames is None else []
        return {name: value for name, value in row.items() if name not in absent}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read a row of a manifest, also one of an earlier version or of another program; unknown keys are left out.

        A row without a status has that of its bundle: ok, or failed where there is none.

        Raises:
            ValueError: it is no row, or names no input.
        """
        if not isinstance(row, Mapping):
            raise ValueError(f"a row is an object, found {type(row).__name__}")
        row = {"status": "ok" if row.get("bundle") else "failed", **row}
        values = {each.name: row[each.name] for each in fields(cls) if each.name in row}
        values["notes"] = tuple(values.get("notes", ()))
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(str(error).partition(" ")[2]) from None


class Manifest:
    """One JSON line per input; appended to while the work goes on, rewritten sorted at the end."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = {row.input: row for row in self._read()}

    def settled(self, name: str, path: Path, prep_hash: str) -> ManifestRow | None:
        """Return the earlier row of a video that cannot give a bundle, if neither it nor the settings have changed."""
        row = self.rows.get(name)
        if row is None or row.status not in ("no_face", "too_short") or row.prep_hash != prep_hash:
            return None
        return row if is_file(path) and sha256_of(path) == row.source_sha256 else None

    def with_frames(self, kept: ManifestRow) -> ManifestRow:
        """Return the row of a kept bundle with what its earlier row says of frames, if that is of this video and settings."""
        row = self.rows.get(kept.input)
        if row is None or (row.prep_hash, row.source_sha256) != (kept.prep_hash, kept.source_sha256):
            return kept
        return replace(kept, notes=row.notes, frames=row.frames, frames_read=row.frames_read)

    def append(self, row: ManifestRow) -> None:
        """Write a row at the end of the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row.to_json()) + "\n")

    def rewrite(self, rows: Iterable[ManifestRow]) -> None:
        """Write the file anew with these rows."""
        with replacing(self.path) as beside:
            beside.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows), encoding="utf-8")

    def _read(self) -> Iterator[ManifestRow]:
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield ManifestRow.from_json(parse_json(line))
            except ValueError:  # the line that was being written when an earlier run was killed
                continue
