"""The videos of a folder: their names, where their bundles go, and the manifest that says what became of each."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where config.json, model.ckpt and the doors lie when the package runs from a checkout."""
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".vob")
    + (".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".mxf")
)
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


def printable(name: str) -> str:
    """A file name as valid UTF-8: bytes that are none are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
