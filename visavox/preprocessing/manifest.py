"""The manifest of a folder of bundles, and the names of bundles."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from visavox.files import sha256_of

MANIFEST = "manifest.jsonl"


def bundle_names(inputs: dict[str, Path]) -> list[Path]:
    """Where each bundle goes below the output folder: video.mp4 -> video.npz, or video.mp4.npz beside a video.avi."""
    stems = Counter(str(Path(name).with_suffix("")) for name in inputs)
    return [
        Path(f"{name}.npz") if stems[str(Path(name).with_suffix(""))] > 1 else Path(name).with_suffix(".npz")
        for name in inputs
    ]


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
    """Whether a process still runs; one that ended and waits to be collected (a zombie) does not."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
    except OSError:  # no such process, or no /proc on this system
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
