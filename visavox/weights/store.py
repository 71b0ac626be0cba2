"""The weights folder: which file belongs in it, fetching it at first use, checking it each time."""

from __future__ import annotations

import difflib
import functools
import hashlib
import logging
import os
import shutil
import time
from pathlib import Path

from visavox.files import replacing
from visavox.weights import download
from visavox.weights.registry import REGISTRY, Entry

log = logging.getLogger(__name__)


class WeightsError(RuntimeError):
    """Weights are missing, are not what they should be, or are not safe to read; the message holds the cure."""

    code = "BAD_WEIGHTS"


def resolve(name: str) -> Path:
    """The checked file of a registry entry; fetched at first use, or WeightsError that says what to put where."""
    entry = find(name)
    path = folder() / entry.file
    if not path.exists():
        return fetch(name)
    if wrong := complaint(entry, path):
        raise WeightsError(f"{path} {wrong}.\nRemove it, then: visavox weights fetch {name}\n{by_hand(entry)}")
    _trust(entry, path)
    _say_unverified(name)
    return path


def fetch(name: str, *, from_dir: Path | None = None, offline: bool | None = None) -> Path:
    """Bring one file into the weights folder, from `from_dir` or the network, and check it; no work if it is there.

    Of several processes that ask for the same file one fetches and the others wait for it. `offline` None: as the
    environment says.
    """
    import filelock

    entry = find(name)
    path = folder() / entry.file
    if path.exists():
        return resolve(name)
    if from_dir is None and (entry.manual or _offline(offline)):
        why = "they have to be downloaded by hand" if entry.manual else "the network is switched off"
        raise WeightsError(f"{name}: the weights are not here, and {why}.\n{by_hand(entry)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.parent / f".{entry.file}.lock"):
            if not path.exists():
                part = path.with_name(path.name + ".part")
                if from_dir is None:
                    _download(entry, part)
                else:
                    _copy(entry, Path(from_dir), part)
                os.replace(part, path)
    except OSError as error:
        raise WeightsError(
            f"{name}: {path.parent} cannot be written ({error.strerror or error}); let VISAVOX_WEIGHTS name a folder "
            f"that can, or have the file put there.\n{by_hand(entry)}"
        ) from error
    return resolve(name)


def _download(entry: Entry, part: Path) -> None:
    try:
        download.download(
            entry.urls,
            part,
            size=entry.size,
            pinned=entry.sha256 is not None,
            complaint=functools.partial(complaint, entry),
        )
    except download.DownloadError as error:
        raise WeightsError(f"{entry.name}: the weights could not be fetched.\n{error}\n{by_hand(entry)}") from error


def _copy(entry: Entry, source_dir: Path, part: Path) -> None:
    names = dict.fromkeys((entry.file, *(url.rsplit("/", 1)[-1] for url in entry.urls)))
    source = next((source_dir / name for name in names if (source_dir / name).is_file()), None)
    if source is None:
        raise WeightsError(f"{source_dir} holds none of {', '.join(names)}.\n{by_hand(entry)}")
    if wrong := complaint(entry, source):
        raise WeightsError(f"{source} {wrong}; it was not copied.\n{by_hand(entry)}")
    download.discard(part)
    try:
        with download.room(part.parent, source.stat().st_size):
            shutil.copyfile(source, part)
    except download.NoRoomError as error:
        download.discard(part)
        raise WeightsError(f"{entry.name}: {error}") from error


def complaint(entry: Entry, path: Path, *, fresh: bool = False) -> str | None:
    """What is wrong with a file that should be `entry`'s, as the end of a sentence; None when nothing is."""
    if not path.is_file():
        return "is not a file"
    with open(path, "rb") as file:
        if wrong := download.unlike_weights(file.read(256)):
            return wrong
    if entry.size is not None and path.stat().st_size != entry.size:
        return f"has {path.stat().st_size:,} bytes, expected {entry.size:,}"
    found = sha256_of(path, fresh=fresh)
    if entry.sha256 is not None and found != entry.sha256:
        return f"has sha256 {found}, expected {entry.sha256}"
    if not found.startswith(entry.sha256_prefix):
        return f"has sha256 {found}, expected one that begins with {entry.sha256_prefix}"
    known = first_seen(entry)
    if entry.sha256 is None and known and found != known:
        return (
            f"has sha256 {found}, but had {known} when it was first used; if you want this one, remove {_first(entry)}"
        )
    return None


def first_seen(entry: Entry) -> str | None:
    """Return the sha256 that a file without a known sum had when it was first used, or None."""
    try:
        return _first(entry).read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError):
        return None


def _trust(entry: Entry, path: Path) -> None:
    """Trust a file without a known sum on its first use: note its sum, which it must keep."""
    if entry.sha256 is not None or first_seen(entry):
        return
    note = _first(entry)
    try:
        with replacing(note) as beside:
            beside.write_text(f"{sha256_of(path)} {time.strftime('%Y-%m-%d', time.gmtime())}\n", encoding="utf-8")
    except OSError as error:  # a folder that others fill: its file is trusted each time, which is said
        log.warning("%s: its sha256 could not be noted in %s (%s)", entry.name, note, error)


def _first(entry: Entry) -> Path:
    return folder() / f".{entry.file}.first-use"


def sha256_of(path: Path, *, fresh: bool = False) -> str:
    """Hex sum of a file, remembered beside it while its size and time of change stay (`fresh`: hash anyway)."""
    stat = path.stat()
    stamp = f"{stat.st_size} {stat.st_mtime_ns}"
    memo = path.with_name(f".{path.name}.sha256")
    if not fresh and memo.exists():
        known, _, known_stamp = memo.read_text().strip().partition(" ")
        if known_stamp == stamp:
            return known
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    marked_read_only = not path.parent.stat().st_mode & 0o222  # which root would overrule
    if path.parent == folder() and path.suffix != ".part" and not marked_read_only:
        beside = memo.with_name(f"{memo.name}.{os.getpid()}")
        try:
            beside.write_text(f"{found} {stamp}\n")
            os.replace(beside, memo)
        except OSError as error:  # not ours to write, or full: the file is hashed again at the next start
            log.debug("could not remember the sha256 of %s: %s", path, error)
    return found


def fingerprint(name: str) -> str:
    """sha256 that stands for these weights: the registry's, or where that is unverified the file's."""
    return find(name).sha256 or sha256_of(resolve(name))


def folder() -> Path:
    """The weights folder: VISAVOX_WEIGHTS, or the user's cache (XDG)."""
    if named := os.environ.get("VISAVOX_WEIGHTS"):
        return Path(named).expanduser().absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "visavox" / "weights"


def find(name: str) -> Entry:
    """Registry entry of that name."""
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise WeightsError(f"no weights are called {name!r}{hint} There are: {', '.join(REGISTRY)}")
    return REGISTRY[name]


def by_hand(entry: Entry) -> str:
    """What to put where, for a machine without network or a source that wants a browser."""
    named = " (VISAVOX_WEIGHTS names another)" if "VISAVOX_WEIGHTS" not in os.environ else " (VISAVOX_WEIGHTS)"
    return "\n".join(
        [
            "By hand:",
            f"  file    {entry.file}",
            f"  folder  {folder()}{named}",
            *(f"  from    {url}" for url in entry.urls),
            f"  bytes   {'unknown' if entry.size is None else f'{entry.size:,}'}",
            f"  sha256  {sum_known(entry)}",
            f"  or      visavox weights fetch {entry.name} --from-dir DIR, where DIR holds it",
        ]
    )


def sum_known(entry: Entry) -> str:
    """The registry's sha256 in words."""
    if entry.sha256:
        return entry.sha256
    return f"unverified, begins with {entry.sha256_prefix}" if entry.sha256_prefix else "unverified"


def _offline(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    return any(
        os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
        for name in ("VISAVOX_OFFLINE", "HF_HUB_OFFLINE")
    )


@functools.cache
def _say_unverified(name: str) -> None:
    """Once per process: these weights are used although nobody has told us their sum."""
    entry = find(name)
    if entry.sha256 is None:
        log.warning("%s: sha256 is %s; the file's is %s", name, sum_known(entry), sha256_of(folder() / entry.file))
