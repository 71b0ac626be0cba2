"""One file over HTTP: continued where it stopped, tried over several mirrors, checked before it is trusted."""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHUNK = 1 << 18
POINTER = b"version https://git-lfs"
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that a later try may answer differently


class DownloadError(Exception):
    """No source gave the file; the message has one line per source and try."""


class NoRoomError(DownloadError):
    """The disk (or a quota, or a file-size limit) does not hold the file; another mirror would not help."""


class _Refused(Exception):
    """This source will not give the file, however often it is asked."""


class _Interrupted(Exception):
    """This source may give the rest of the file at the next try."""


def download(
    urls: Sequence[str],
    part: Path,
    *,
    size: int | None,
    pinned: bool,
    complaint: Callable[[Path], str | None],
    timeout: float = 30.0,
    attempts: int = 3,
    pause: float = 1.0,
) -> None:
    """Fill `part` with the file that the first able source of `urls` gives and `complaint` accepts.

    `size` is the expected number of bytes, None when unknown. `complaint(path)` says what is wrong with a whole file,
    or None. Bytes already in `part` are kept: from any source when the file is `pinned` by its sha256, otherwise only
    from the source that gave them, as long as its validator (ETag, Last-Modified) has not changed. `attempts` counts
    tries in a row that bring nothing; each waits twice as long as the one before, from `pause` seconds.
    """
    failures = []
    for url in urls:
        fruitless = 0
        while fruitless < attempts:
            held = _size(part)
            try:
                _transfer(url, part, size=size, pinned=pinned, timeout=timeout)
            except _Refused as error:
                failures.append(f"{url}: {error}")
                break
            except _Interrupted as error:
                failures.append(f"{url}: {error}")
                fruitless = 0 if _size(part) > held else fruitless + 1
                if 0 < fruitless < attempts:
                    time.sleep(pause * 2 ** (fruitless - 1))
                continue
            wrong = complaint(part)
            if wrong is None:
                _origin_path(part).unlink(missing_ok=True)
                return
            discard(part)
            failures.append(f"{url}: {wrong}; the download was removed")
            if not held:
                break  # what came whole and wrong comes so again; what was continued deserves a fresh start
            fruitless += 1
    raise DownloadError("\n".join(dict.fromkeys(failures)))


def discard(part: Path) -> None:
    """Remove a partial download and the note of where it came from."""
    part.unlink(missing_ok=True)
    _origin_path(part).unlink(missing_ok=True)


def unlike_weights(head: bytes) -> str | None:
    """What the first bytes of a file betray: a Git-LFS pointer or a web page in the place of a binary file."""
    if head.startswith(POINTER):
        return "is a Git-LFS pointer, three lines of text in the place of the file (`git lfs pull` fetches the file)"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not the file (a log-in, consent or error page saved under its name)"
    return None


@contextmanager
def room(folder: Path, needed: int | None) -> Iterator[None]:
    """Turn 'disk full' of whatever is written inside into NoRoomError; `needed` is in bytes, None when unknown."""
    free = shutil.disk_usage(folder).free
    if needed is not None and needed > free:
        raise NoRoomError(_no_room(folder, needed, free))
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(folder).free
        raise NoRoomError(f"{_no_room(folder, needed, free)} ({error.strerror})") from error


def _no_room(folder: Path, needed: int | None, free: int) -> str:
    wanted = "an unknown number of" if needed is None else f"{needed:,}"
    return (
        f"no room in {folder}: {wanted} more bytes are needed, {free:,} are free on that disk. Make room, raise the "
        "quota or file-size limit, or let VISAVOX_WEIGHTS name a folder on another disk"
    )


def _transfer(url: str, part: Path, *, size: int | None, pinned: bool, timeout: float) -> None:
    """One request; returns when `part` holds everything that the source has."""
    offset, validator = _resumable(url, part, pinned=pinned)
    if size is not None and offset == size:
        return
    if size is not None and offset > size:
        offset, validator = 0, None
    request = urllib.request.Request(url, headers={"User-Agent": "visavox"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            _receive(response, url, part, offset, size)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies behind our last byte: these bytes are of another version of the file
            discard(part)
            raise _Interrupted("HTTP 416, the partial download does not fit the source; starting anew") from error
        kind = _Interrupted if error.code in PASSING else _Refused
        raise kind(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Interrupted(f"no connection ({error.reason})") from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection broke ({type(error).__name__}: {error})") from error


def _receive(response: http.client.HTTPResponse, url: str, part: Path, offset: int, size: int | None) -> None:
    """Write the body behind the first `offset` bytes of `part`, or from the start when the source ignored the range."""
    if url.startswith("https:") and response.url.startswith("http:"):
        raise _Refused(f"leads to an unprotected address, {response.url}")
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        discard(part)
        raise _Interrupted(f"gave range {response.headers.get('Content-Range')!r} for bytes {offset}-; starting anew")
    if response.status != 206:
        offset = 0
    length = response.headers.get("Content-Length")
    total = offset + int(length) if length else None
    if size is not None and total is not None and total != size:
        head = response.read(64)
        raise _Refused((offset == 0 and unlike_weights(head)) or f"offers {total:,} bytes, expected {size:,}")
    if response.headers.get_content_type() == "text/html":
        raise _Refused(unlike_weights(b"<html"))
    _note_origin(part, url, response.headers)
    end = total if total is not None else size
    written = offset
    with (
        room(part.parent, None if end is None else end - offset),
        open(part, "ab" if offset else "wb") as file,
        _progress(part.stem, offset, end) as advance,
    ):
        while chunk := response.read(CHUNK):
            if size is not None and written + len(chunk) > size:
                raise _Refused(f"sends more than the {size:,} bytes expected")
            file.write(chunk)
            written += len(chunk)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if end is not None and written < end:
        raise _Interrupted(f"the connection ended after {written:,} of {end:,} bytes")


@contextmanager
def _progress(name: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where that is a terminal, silence elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda count: bar.advance(task, count)


def _resumable(url: str, part: Path, *, pinned: bool) -> tuple[int, str | None]:
    """How many bytes of `part` may stay, and the validator that the source must still have."""
    held = _size(part)
    try:
        origin = json.loads(_origin_path(part).read_text())
    except (FileNotFoundError, ValueError):
        origin = {}
    validator = origin.get("validator") if origin.get("url") == url else None
    return (held if pinned or validator else 0), validator


def _note_origin(part: Path, url: str, headers: http.client.HTTPMessage) -> None:
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")  # a weak ETag is no word on bytes
    with room(part.parent, None):
        _origin_path(part).write_text(json.dumps({"url": url, "validator": validator}))


def _origin_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
