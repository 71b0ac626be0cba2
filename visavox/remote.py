"""Object storage in place of folders: `s3://` and `gs://` addresses of inputs and outputs (extra `remote`).

    inputs = remote.find_inputs(remote.place("s3://bucket/videos"))     # as files.find_inputs
    with store.fetched(path) as here:                                   # a file of this machine, gone afterwards
    with store.publishing(folder, ["a.npz"]) as here:                   # a folder of this machine: what it gains is put there
    with store.standing_in(folder, ["manifest*.jsonl"]) as here:        # the same while a run goes on, with what is there already

An address is held as the `Path` that it makes (`s3:/bucket/a.mp4`), so that names and folders are handled as those of any
file; what lies on this machine is handed through as it is. A file is put as a whole: S3 and GCS show an object once it is
complete. Who may read and write is for the library's own environment to say (AWS_PROFILE, AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from visavox import files
from visavox.errors import code_of
from visavox.files import VIDEO_SUFFIXES

log = logging.getLogger(__name__)

LIBRARIES = {"s3": "'visavox[remote]'", "gs": "gcsfs"}
"""Protocol -> what to install for it."""
SCRATCH_GB = 16.0
"""Gigabytes of fetched files that a machine holds at most, unless told otherwise."""
MARGIN = 1 << 30
"""Bytes of the disk that are left free."""
WAIT = 300.0
"""Seconds that a file waits for room among those that others have fetched."""
KEEP_UP = 15.0
"""Seconds after which the rows of a run are put to the storage again: what a run that is killed loses of them."""


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
    for path, about in _below(source).items():
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
        about = _listed.get(path) or _asked(path, lambda fs, url: fs.info(url))
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

    return _asked(path, digest)


def is_file(path: Path) -> bool:
    """Return whether there is a file."""
    return bool(_asked(path, lambda fs, url: fs.isfile(url))) if is_remote(path) else path.is_file()


def files_below(folder: Path, suffix: str) -> list[Path]:
    """Return the files below a folder of a storage whose names end so."""
    return [path for path in _below(folder) if path.suffix == suffix]


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""

    def clear(fs: Any, url: str) -> None:
        for key in fs.find(url):
            fs.rm_file(key)  # `rm` would take brackets and asterisks in names for patterns

    with suppress(FileNotFoundError):
        _asked(path, clear)


def put(here: Path, path: Path) -> None:
    """Put a file of this machine to the storage, whole."""
    _asked(path, lambda fs, url: fs.put_file(os.fspath(here), url))


@dataclass(frozen=True)
class Store:
    """How files of a storage are held on this machine while they are worked on; travels to other processes."""

    folder: Path | None = None
    """For fetched files and for what is to be put; None: one below the system's folder for temporary files."""
    gigabytes: float = SCRATCH_GB
    """Of fetched files that all processes of this machine hold at a time."""

    @contextmanager
    def fetched(self, path: Path) -> Iterator[Path]:
        """Yield a copy of a file on this machine, which is removed afterwards; a path of this machine as it is.

        Waits where those fetched by others leave no room.

        Raises:
            RemoteError: there is none, it cannot be read, or there is no room for it.
        """
        if not is_remote(path):
            yield path
            return
        size = int(_asked(path, lambda fs, url: fs.info(url))["size"])
        with self._folder() as here, self._room(here, size, url_of(path)):
            copy = here / path.name
            _get(path, copy)
            if (got := copy.stat().st_size) != size:
                raise RemoteError(f"{url_of(path)}: {got} of {size} bytes came; run the same command again")
            yield copy

    @contextmanager
    def publishing(self, folder: Path, names: Sequence[str]) -> Iterator[Path]:
        """Yield a folder of this machine that holds those of `names` that are in a remote one; put what it gains.

        Nothing is put where the block raises. `names` are put after what stands beside them. A folder of this machine is
        yielded as it is.

        Raises:
            RemoteError: a file cannot be read or put.
        """
        if not is_remote(folder):
            yield folder
            return
        with self._folder() as here:
            for name in names:
                (here / name).parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    _get(folder / name, here / name)
            before = _states(here)
            yield here
            changed = [name for name, state in _states(here).items() if before.get(name) != state]
            for name in sorted(changed, key=lambda name: (name in names, name)):
                put(here / name, folder / name)

    @contextmanager
    def standing_in(self, folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
        """Yield a folder of this machine in place of a remote one, with the files directly in it whose names fit.

        What is written to it is put every `KEEP_UP` seconds and at the end, however the block ends, so that another run can
        go on from there; what is removed from it is removed there. A folder of this machine is yielded as it is.

        Raises:
            RemoteError: the storage cannot be read or written.
        """
        if not is_remote(folder):
            yield folder
            return
        _asked(
            Path(*folder.parts[:2]), lambda fs, url: fs.info(url)
        )  # a bucket that is not there looks like an empty folder
        with self._folder() as here:
            for path in _below(folder, deep=False):
                if any(fnmatch(path.name, pattern) for pattern in patterns):
                    _get(path, here / path.name)
            mirror = _Mirror(here, folder)
            try:
                with mirror.kept_up():
                    yield here
            except BaseException:
                try:
                    mirror()
                except OSError as error:  # the first one is raised
                    log.warning("%s; what was done last is not there", error)
                raise
            mirror()

    def lock_of(self, path: Path) -> Path:
        """Return what `runs.holding` holds for an output: itself, or a name that stands for it on this machine."""
        return self._root() / hashlib.sha256(url_of(path).encode()).hexdigest()[:16] if is_remote(path) else path

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder of this process, which the next one removes if this one is killed."""
        root = self._root()
        _sweep(root)
        here = Path(tempfile.mkdtemp(prefix=f"{files.host()}.{os.getpid()}.", dir=root))
        try:
            yield here
        finally:
            shutil.rmtree(here, ignore_errors=True)

    def _root(self) -> Path:
        root = self.folder or Path(tempfile.gettempdir(), f"visavox-{os.getuid()}")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder is None and root.stat().st_uid != os.getuid():
            raise RemoteError(f"{root} is somebody else's; give --scratch DIR")
        return root.absolute()

    @contextmanager
    def _room(self, here: Path, size: int, name: str) -> Iterator[None]:
        """Have `size` bytes of the budget for files in `here`; a file without content says so to the other processes."""
        import filelock

        root, most, began, told = self._root(), self.gigabytes * 1e9, time.monotonic(), False
        if size > most:
            raise RemoteError(f"{name}: {size / 1e9:.2f} GB, and --scratch-gb allows {self.gigabytes:g}; give more")
        claim = here / ".claim"
        while True:
            with filelock.FileLock(root / ".lock"):
                _sweep(root)
                claimed, to_come = _claims(root)
                free = shutil.disk_usage(root).free - to_come - MARGIN
                if claimed + size <= most and size <= free:
                    with claim.open("wb") as file:
                        file.truncate(size)
                    break
            if time.monotonic() - began > WAIT:
                raise RemoteError(
                    f"{name}: no room for {size / 1e9:.2f} GB in {root} within {WAIT:g} s: files being worked on hold "
                    f"{claimed / 1e9:.2f} of {self.gigabytes:g} GB (--scratch-gb), {free / 1e9:.2f} GB more are free; give "
                    "--scratch another folder, or use fewer workers"
                )
            if not told:
                log.info("%s: waits for room in %s", name, root)
            told = True
            time.sleep(0.2)
        try:
            yield
        finally:
            claim.unlink(missing_ok=True)


LOCAL = Store()
"""As it is without options."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command be given `--scratch DIR` and `--scratch-gb N`."""
    parser.add_argument(
        "--scratch",
        type=here_alone,
        metavar="DIR",
        help="for files of s3:// and gs:// while they are worked on (default: the system's folder for temporary files)",
    )
    parser.add_argument(
        "--scratch-gb",
        type=float,
        default=SCRATCH_GB,
        metavar="N",
        help=f"of them at a time on a machine; the next one waits (default {SCRATCH_GB:g})",
    )


def asked(arguments: argparse.Namespace) -> Store:
    """Return the store that the arguments describe."""
    return Store(arguments.scratch and arguments.scratch.absolute(), arguments.scratch_gb)


_listed: dict[Path, dict[str, Any]] = {}
"""What the storage said of the inputs when they were listed."""


class _Mirror:
    """Puts what a folder gains to a remote one, and removes there what it loses."""

    def __init__(self, here: Path, folder: Path):
        self._here, self._folder = here, folder
        self._there = _states(here)

    def __call__(self) -> None:
        now = {
            name: state for name, state in _states(self._here).items() if not re.search(r"\.\d+\.part|\.lock$", name)
        }
        for name, state in now.items():
            if self._there.get(name) != state:
                put(self._here / name, self._folder / name)
                self._there[name] = state
        for name in set(self._there) - set(now):
            remove(self._folder / name)
            del self._there[name]

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """Call it now and then while the block runs."""
        over = threading.Event()

        def keep_up() -> None:
            while not over.wait(KEEP_UP):
                try:
                    self()
                except OSError as error:  # tried again, and raised at the end
                    log.warning("%s", error)

        thread = threading.Thread(target=keep_up, name="keep up", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> size and time of change of every file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # of `replacing`, renamed meanwhile
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def _claims(root: Path) -> tuple[int, int]:
    """Return the bytes that processes of this machine claim, and how many of them are still to come."""
    claimed = to_come = 0
    for claim in root.glob("*/.claim"):
        with suppress(FileNotFoundError):  # given up meanwhile
            size = claim.stat().st_size
            come = sum(each.stat().st_size for each in claim.parent.iterdir() if each.name != claim.name)
            claimed, to_come = claimed + size, to_come + max(0, size - come)
    return claimed, to_come


def _sweep(root: Path) -> None:
    """Remove what processes of this machine that are gone have left."""
    for left in root.glob(f"{files.host()}.*.*"):
        if not files.is_alive(int(left.name.split(".")[1])):
            shutil.rmtree(left, ignore_errors=True)


def _below(folder: Path, *, deep: bool = True) -> dict[Path, dict[str, Any]]:
    """Every file below a remote folder, or that file, with what the storage says of it; empty where there is none."""
    found = _asked(folder, lambda fs, url: fs.find(url, maxdepth=None if deep else 1, detail=True))
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


def _get(path: Path, to: Path) -> None:
    _asked(path, lambda fs, url: fs.get_file(url, os.fspath(to)))


def _asked(path: Path, ask: Callable[[Any, str], Any]) -> Any:
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
