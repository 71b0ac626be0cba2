"""Addresses of a storage: what is an address, and what the storage says, gives and takes."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from visavox import files
from visavox.errors import code_of
from visavox.files import VIDEO_SUFFIXES

LIBRARIES = {"s3": "'visavox[remote]'", "gs": "gcsfs"}
"""Protocol -> what to install for it."""
_listed: dict[Path, dict[str, Any]] = {}
"""What the storage said of the inputs when they were listed."""


class RemoteError(OSError):
    """The storage did not give or take a file; the message says which and what to look at."""

    code = "STORAGE_FAILED"


class MissingError(RemoteError, FileNotFoundError):
    """There is no such bucket, folder or file."""

    code = "NOT_FOUND"


def place(text: str) -> Path:
    """Read a folder or file, for argparse: a path, or an address of a storage; file:///PATH is the path."""
    found = re.match(r"([A-Za-z][\w+.-]*)://(.*)", text)
    if not found:
        return Path(text)
    protocol, rest = found[1].lower(), found[2]
    if protocol == "file":
        return Path("/", rest.lstrip("/"))
    if protocol not in LIBRARIES:
        raise argparse.ArgumentTypeError(
            f"{protocol}://: no storage that is known; give a path, s3://, gs:// or file://"
        )
    host = rest.partition("/")[0]
    if "@" in host or not host:
        raise argparse.ArgumentTypeError(
            f"{protocol}:// is followed by the bucket alone; credentials come from the environment, such as AWS_PROFILE"
        )
    return Path(f"{protocol}:", rest)


def here_alone(text: str) -> Path:
    """Read a folder or file of this machine, for argparse; an address of a storage is refused."""
    path = place(text)
    if is_remote(path):
        raise argparse.ArgumentTypeError(f"{text}: has to lie on this machine; copy it, or give a folder here")
    return path


def is_remote(path: Path) -> bool:
    """Return whether a path is the address of a storage."""
    return bool(path.parts) and path.parts[0].endswith(":") and path.parts[0][:-1] in LIBRARIES


def url_of(path: Path) -> str:
    """Return the address as one types it; a path of this machine as it is."""
    return f"{path.parts[0]}//{'/'.join(path.parts[1:])}" if is_remote(path) else str(path)


def absolute(path: Path) -> Path:
    """Return a path that means the same in another process."""
    return path if is_remote(path) else path.absolute()


def find_inputs(source: Path, suffixes: Iterable[str] = VIDEO_SUFFIXES) -> dict[str, Path]:
    """As `visavox.files.find_inputs`, also of an address.

    Raises:
        RemoteError: the storage cannot be read, or holds none.
    """
    if not is_remote(source):
        return files.find_inputs(source, suffixes)
    wanted, found = frozenset(suffixes), {}
    for path, about in below(source).items():
        name = path.name if path == source else path.relative_to(source).as_posix()
        if path == source or files.is_input(name, wanted):
            found[name] = path
            _listed[path] = about
    if not found:
        raise MissingError(f"{url_of(source)}: holds no such file; known endings are {' '.join(sorted(wanted))}")
    return dict(sorted(found.items()))


def fingerprint(path: Path) -> tuple[int, ...]:
    """Return size in bytes and time of change in ns: enough to see that a file is not the one seen before."""
    try:
        if not is_remote(path):
            stat = path.stat()
            return stat.st_size, stat.st_mtime_ns
        about = _listed.get(path) or ask(path, lambda fs, url: fs.info(url))
    except OSError:
        return ()
    changed = about.get("LastModified") or about.get("mtime") or about.get("updated") or ""
    stamp = int(hashlib.sha256(str(changed).encode()).hexdigest()[:12], 16)
    return int(about["size"]), stamp


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file, read without a copy on this machine."""
    if not is_remote(path):
        return files.sha256_of(path)

    def digest(fs: Any, url: str) -> str:
        with fs.open(url, "rb", block_size=8 << 20) as file:
            found = hashlib.sha256()
            while part := file.read(8 << 20):
                found.update(part)
            return found.hexdigest()

    return ask(path, digest)


def is_file(path: Path) -> bool:
    """Return whether there is a file."""
    return bool(ask(path, lambda fs, url: fs.isfile(url))) if is_remote(path) else path.is_file()


def files_below(folder: Path, suffix: str) -> list[Path]:
    """Return the files below a folder of a storage whose names end so."""
    return [path for path in below(folder) if path.suffix == suffix]


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""

    def clear(fs: Any, url: str) -> None:
        for key in fs.find(url):
            fs.rm_file(key)  # `rm` would take brackets and asterisks in names for patterns

    with suppress(FileNotFoundError):
        ask(path, clear)


def put(here: Path, path: Path) -> None:
    """Put a file of this machine to the storage, whole."""
    ask(path, lambda fs, url: fs.put_file(os.fspath(here), url))


def get(path: Path, to: Path) -> None:
    """Fetch a file to a place on this machine."""
    ask(path, lambda fs, url: fs.get_file(url, os.fspath(to)))


def below(folder: Path, *, deep: bool = True) -> dict[Path, dict[str, Any]]:
    """Every file below a remote folder, or that file, with what the storage says of it; empty where there is none."""
    found = ask(folder, lambda fs, url: fs.find(url, maxdepth=None if deep else 1, detail=True))
    paths = {}
    for key, about in found.items():
        if key.endswith("/"):  # stands for a folder: the consoles of storages make such
            continue
        path = Path(folder.parts[0], key)
        if "/".join(path.parts[1:]) != key:
            raise RemoteError(
                f"{folder.parts[0]}//{key}: a name with empty or dotted parts, which a path cannot hold; rename it"
            )
        paths[path] = about
    return paths


def ask(path: Path, ask: Callable[[Any, str], Any]) -> Any:
    """Return what the storage answers.

    Raises:
        ImportError: its library is not installed; the message names it.
        MissingError: there is no such bucket or file.
        RemoteError: it refuses, cannot be reached or breaks off.
        OSError: the disk of this machine is full.
    """
    protocol, url = path.parts[0][:-1], url_of(path)
    try:
        import fsspec

        fs = fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        raise ImportError(f"{protocol}:// needs its library ({error}): pip install {LIBRARIES[protocol]}") from None
    try:
        return ask(fs, url)
    except FileNotFoundError:
        raise MissingError(f"{url}: no such bucket, folder or file") from None
    except PermissionError as error:
        raise RemoteError(
            f"{url}: the storage refuses ({error}); check the credentials of the environment, such as AWS_PROFILE"
        ) from None
    except Exception as error:  # of the library, of what it is made of and of the network: each has its own
        if code_of(error) == "NO_SPACE":
            raise
        raise RemoteError(
            f"{url}: the storage failed ({type(error).__name__}: {error}); check address and connection, and run again"
        ) from error
