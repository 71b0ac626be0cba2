"""The videos of a folder: their names, where their bundles go, and the manifest that says what became of each."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".vob")
    + (".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".mxf")
)
MANIFEST = "manifest.jsonl"
PREVIEW = ".preview"
"""What stands before the ending of a picture or film that crop.py makes beside a bundle: it is no input."""


def find_inputs(source: Path, suffixes: Iterable[str] = VIDEO_SUFFIXES) -> dict[str, Path]:
    """Printable relative POSIX name -> path of every input of a folder (or of one file), sorted by name.

    A folder gives what ends like a video; a file is taken as it is. Hidden files and previews are left out.
    """
    if source.is_file():
        return {printable(source.name): source}
    if not source.is_dir():
        raise FileNotFoundError(f"{printable(str(source))}: no such file or folder")
    wanted = frozenset(suffixes)
    found = {}
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(folder, name)
            if path.suffix.lower() in wanted and not name.startswith(".") and not path.stem.endswith(PREVIEW):
                found[printable(path.relative_to(source).as_posix())] = path
    if not found:
        raise FileNotFoundError(f"{source}: holds no video; known endings are {' '.join(sorted(wanted))}")
    return dict(sorted(found.items()))


def bundle_names(inputs: dict[str, Path]) -> list[Path]:
    """Where each bundle goes below the output folder: video.mp4 -> video.npz, or video.mp4.npz beside a video.avi."""
    stems = Counter(str(Path(name).with_suffix("")) for name in inputs)
    return [
        Path(f"{name}.npz") if stems[str(Path(name).with_suffix(""))] > 1 else Path(name).with_suffix(".npz")
        for name in inputs
    ]


def printable(name: str) -> str:
    """A file name as valid UTF-8: bytes that are none are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Manifest:
    """One JSON line per input; appended to while the work goes on, rewritten sorted at the end."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = {row["input"]: row for row in self._read()}

    def settled(self, name: str, path: Path, prep_hash: str) -> dict[str, Any] | None:
        """The earlier row of a video that cannot give a bundle, if neither it nor the settings have changed."""
        row = self.rows.get(name)
        if row is None or row["status"] not in ("no_face", "too_short") or row["prep_hash"] != prep_hash:
            return None
        return row if path.is_file() and sha256_of(path) == row["source_sha256"] else None

    def append(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rewrite(self, rows: Iterable[dict[str, Any]]) -> None:
        beside = self.path.with_suffix(f".{os.getpid()}.part")
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        beside.replace(self.path)

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # the line that was being written when an earlier run was killed
                continue


def sweep(output: Path) -> None:
    """Remove what a killed run was writing: NAME.PID.part (or .part.avi) of processes that are gone."""
    for part in output.rglob("*.part*"):
        written_by = re.search(r"\.(\d+)\.part(\.avi)?$", part.name)
        if written_by and not _alive(int(written_by[1])):
            part.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
