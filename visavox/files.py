"""Files: the videos of a folder and their names, hashes, JSON, and writing that leaves no half files."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import socket
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where config.json, model.ckpt and the doors lie when the package runs from a checkout."""
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".vob")
    + (".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".mxf")
)
LONGEST_NAME = 255
"""Bytes of a file's name that the file systems in use allow."""
PREVIEW = ".preview"
"""What stands before the ending of a picture or video that crop.py makes beside a bundle: it is no input."""


def find_inputs(source: Path, suffixes: Iterable[str] = VIDEO_SUFFIXES) -> dict[str, Path]:
    """Relative POSIX name in UTF-8 -> path of every input of a folder (or of one file), sorted by name.

    A folder gives what ends like a video; a file is taken as it is. Hidden files and previews are left out.
    """
    if source.is_file():
        return {utf8_name(source.name): source}
    if not source.is_dir():
        raise FileNotFoundError(f"{utf8_name(str(source))}: no such file or folder")
    wanted = frozenset(suffixes)
    found = {}
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(folder, name)
            if is_input(name, wanted):
                found[utf8_name(path.relative_to(source).as_posix())] = path
    if not found:
        raise FileNotFoundError(f"{source}: holds no video; known endings are {' '.join(sorted(wanted))}")
    return dict(sorted(found.items()))


def is_input(name: str, wanted: frozenset[str]) -> bool:
    """Return whether a file of this name, its path below the input folder, is taken: not where it, or a folder, is hidden."""
    path = Path(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in wanted and not hidden and not path.stem.endswith(PREVIEW)


def utf8_name(name: str) -> str:
    """Return a file name as valid UTF-8, bytes that are none written as \\xNN: the exact name that CSV and JSON hold.

    It may still hold what a terminal obeys; `shown` makes it fit to be looked at.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, delete, C1: they move the cursor, clear the screen, ring, retitle the window
    "\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069"  # they turn the direction of what is read
    "\u2028\u2029"  # they break the line
    "\ud800-\udfff]"  # halves of a pair: no encoding holds them
)
"""Characters that a terminal, a log or a page obeys instead of showing them."""


def shown(text: object, *, lines: bool = False) -> str:
    """Return a name or somebody else's message fit for a terminal, a log line or a page: what they obey is escaped.

    Args:
        lines: keep the line breaks, of a text that is ours and has several lines.
    """
    return OBEYED.sub(lambda found: found[0] if lines and found[0] == "\n" else _escape(found[0]), str(text))


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def excerpt(text: object, most: int = 80) -> str:
    """Return what a cell, a value or a name holds, fit to be shown, its middle left out where it is long."""
    text = shown(text)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]} ({len(text)} characters)"


def parse_json(text: str) -> Any:
    """Return the value that a JSON text holds, whatever somebody made it of.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # Python's own, which tells how to lift its limit
        raise ValueError("a number has too many digits") from None


@contextmanager
def replacing(path: str | Path, ending: str = "") -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    A reader sees the old file or the new one, never half of it, and a process that is killed leaves `path` as it was; what it was
    writing is removed by `sweep`. Makes the folder where there is none.

    Args:
        ending: for writers that choose a format by the name's ending, such as `.avi`.

    Raises:
        OSError: the file could not be written; the message names `path` and says what to do.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{host()}.{os.getpid()}.part{ending}")
    if len(os.fsencode(beside.name)) > LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        beside = path.with_name(f"{digest}.{host()}.{os.getpid()}.part{ending}")
    try:
        yield beside
        to_disk(beside)
        beside.replace(path)
        to_disk(path.parent)
    except OSError as error:
        if error.filename not in (None, str(beside), os.fspath(beside)) or error.strerror is None:
            raise
        raise OSError(
            error.errno,
            f"{path} could not be written ({error.strerror}); free some space and resume, or choose another place",
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(output: Path) -> None:
    """Remove what killed processes of this machine were writing below a folder: files of `replacing` whose process is gone."""
    for part in output.rglob("*.part*"):
        written_by = re.search(r"\.(?:([0-9a-f]{8})\.)?(\d+)\.part(\.\w+)?$", part.name)
        if written_by and written_by[1] in (None, host()) and not is_alive(int(written_by[2])):
            part.unlink(missing_ok=True)


def host() -> str:
    """Eight hex digits of this machine's name: process numbers mean nothing on another."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def is_alive(pid: int) -> bool:
    """Return whether a process still runs; one that ended and waits to be collected (a zombie) does not."""
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


class MemberError(ValueError):
    """A tar file holds something else at the place that is named."""


class Member(io.RawIOBase):
    """The bytes of a tar file that are one of its members, read as a file of their own."""

    def __init__(self, tar: str, offset: int, size: int):
        self.name, self.base, self._size, self._at = tar, offset, size, 0
        self._tar = os.open(tar, os.O_RDONLY)

    @classmethod
    def of(cls, path: str | Path) -> Self | None:
        """Open the member that a path names as SHARD.tar/KEY@OFFSET+SIZE.ENDING; None where it names another kind of file.

        Raises:
            OSError: there is no such tar file.
            MemberError: what it holds there is not that member, by the header in front of it.
        """
        found = MEMBER.fullmatch(os.fspath(path))
        if not found:
            return None
        tar, name, offset, size, ending = found[1], found[2], int(found[3]), int(found[4]), found[5]
        with open(tar, "rb") as file:
            file.seek(max(0, offset - tarfile.BLOCKSIZE))
            try:
                header = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
            except tarfile.HeaderError:
                header = tarfile.TarInfo()
        if (header.name, header.size) != (name + ending, size):
            raise MemberError(
                f"the shard holds no {name}{ending} of {size} bytes there; the split is of other shards: `visavox shards` "
                "makes both"
            )
        return cls(tar, offset, size)

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size - self._at))
        count = os.preadv(self._tar, [memoryview(buffer)[:wanted]], self.base + self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "a place before the start")
        self._at = start + offset
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            os.close(self._tar)
        super().close()


MEMBER = re.compile(r"(.+\.tar)/([^/@]+)@(\d+)\+(\d+)(\.\w+)")
"""A member of a tar file: its name, where it begins, how many bytes it has, and the ending of its name."""


def is_there(path: str) -> bool:
    """Return whether there is a file, or a tar file that holds the member which the path names."""
    found = MEMBER.fullmatch(path)
    if not found:
        return os.path.isfile(path)
    return os.path.isfile(found[1]) and os.path.getsize(found[1]) >= int(found[3]) + int(found[4])


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
