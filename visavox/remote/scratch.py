"""Files of a storage on this machine while they are worked on: fetched, gained, kept up, within a budget of the disk."""

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from visavox import files
from visavox.remote.storage import (
    RemoteError,
    ask,
    below,
    get,
    here_alone,
    is_remote,
    put,
    remove,
    url_of,
)

log = logging.getLogger(__name__)

SCRATCH_GB = 16.0
"""Gigabytes of fetched files that a machine holds at most, unless told otherwise."""
MARGIN = 1 << 30
"""Bytes of the disk that are left free."""
WAIT = 300.0
"""Seconds that a file waits for room among those that others have fetched."""
KEEP_UP = 15.0
"""Seconds after which the rows of a run are put to the storage again: what a run that is killed loses of them."""


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
        size = int(ask(path, lambda fs, url: fs.info(url))["size"])
        with self._folder() as here, self._room(here, size, url_of(path)):
            copy = here / path.name
            get(path, copy)
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
                    get(folder / name, here / name)
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
        ask(
            Path(*folder.parts[:2]), lambda fs, url: fs.info(url)
        )  # a bucket that is not there looks like an empty folder
        with self._folder() as here:
            for path in below(folder, deep=False):
                if any(fnmatch(path.name, pattern) for pattern in patterns):
                    get(path, here / path.name)
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


class _Mirror:
    """Puts what a folder gains to a remote one, and removes there what it loses."""

    def __init__(self, here: Path, folder: Path):
        self._here, self._folder = here, folder
        self._there = _states(here)

    def __call__(self) -> None:
        now = {
            name: state for name, state in _states(self._here).items() if not re.search(r"\.\d+\.part|\.lock$", name)
        }
        by_size = sorted(now.items(), key=lambda each: each[1])  # an empty file is a mark that says something of others
        for name, state in by_size:
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
