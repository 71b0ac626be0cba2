"""Trained weights of other people: what they are, where they lie, how they get there, how they are read safely.

    python -m visavox.weights list [NAME...]                        the registry; with names, everything about them
    python -m visavox.weights fetch NAME... [--from-dir DIR] [--offline]
    python -m visavox.weights verify [NAME...]                      hash again what lies in the folder
    python -m visavox.weights path NAME                             where the checked file lies

The folder is `VISAVOX_WEIGHTS`, or `visavox/weights` in the user's cache. `VISAVOX_OFFLINE=1` or `HF_HUB_OFFLINE=1`
keeps the network shut. Exit codes: 0 all well; 1 a file is missing, wrong or could not be had (`verify` without names
passes over what is not there); 2 the command line was wrong.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import logging
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox import download
from visavox.weights_registry import REGISTRY, Entry

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


class WeightsError(RuntimeError):
    """Weights are missing, are not what they should be, or are not safe to read; the message holds the cure."""


def resolve(name: str) -> Path:
    """The checked file of a registry entry; fetched at first use, or WeightsError that says what to put where."""
    entry = find(name)
    path = folder() / entry.file
    if not path.exists():
        return fetch(name)
    if wrong := complaint(entry, path):
        raise WeightsError(
            f"{path} {wrong}.\nRemove it, then: python -m visavox.weights fetch {name}\n{by_hand(entry)}"
        )
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
    return None


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
            logger.debug("could not remember the sha256 of %s: %s", path, error)
    return found


def fingerprint(name: str) -> str:
    """sha256 that stands for these weights: the registry's, or where that is unverified the file's."""
    return find(name).sha256 or sha256_of(resolve(name))


def state_dict(name: str) -> dict[str, torch.Tensor]:
    """Parameters of a registry entry under their published names, without the wrappers of training code."""
    return parameters(safe_load(resolve(name), what=f"the weights of {name}"), what=name)


def parameters(checkpoint: Any, *, what: str = "checkpoint") -> dict[str, torch.Tensor]:
    """Take off `state_dict`/`model` around the parameters and `module.` (DataParallel) before their names."""
    import torch

    for key in ("state_dict", "model_state", "model"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, dict) or not checkpoint:
        raise WeightsError(f"{what}: expected named parameters, found {type(checkpoint).__name__}")
    strangers = [key for key, value in checkpoint.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise WeightsError(
            f"{what}: {len(strangers)} of {len(checkpoint)} entries are no tensors, e.g. {strangers[:3]}"
        )
    prefix = "module." if all(key.startswith("module.") for key in checkpoint) else ""
    return {key.removeprefix(prefix): value for key, value in checkpoint.items()}


def safe_load(path: str | Path, *, what: str = "checkpoint") -> Any:
    """Read a `.pth`/`.ckpt` (weights only: nothing in it is run), `.safetensors`, or a `.zip` around one such file."""
    import torch

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {what} is missing")
    with open(path, "rb") as file:
        if wrong := download.unlike_weights(file.read(256)):
            raise WeightsError(f"{path}: {what} {wrong}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path, device="cpu")
        return torch.load(_unzipped(path), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a parser makes of a hostile or broken file, the answer is one of these two
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path}: {what} was not loaded: reading it would run code of its own choosing ({asked[1]}). Plain "
                "weights need no code. Get the file from its publisher again and compare its sha256; if you trust its "
                "maker, convert it to .safetensors in a throw-away container and use that"
            ) from error
        raise WeightsError(
            f"{path}: {what} is damaged or of an unknown format; nothing in it was run ({type(error).__name__}: "
            f"{str(error).split('. In PyTorch')[0][:200]}). Remove and fetch it again, or compare its size and sha256 "
            "with the publisher's"
        ) from error


def _unzipped(path: Path) -> Path | io.BytesIO:
    """The only member of a plain archive, in memory: no name in the archive ever becomes a path; else `path`."""
    if path.suffix != ".zip" or not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if any(member.filename.endswith("/data.pkl") for member in members):
            return path  # PyTorch's own format is an archive as well
        if len(members) != 1:
            raise ValueError(f"an archive of {len(members)} files, expected one")
        if members[0].file_size > 20 * path.stat().st_size:
            raise ValueError(f"{members[0].file_size:,} bytes packed into {path.stat().st_size:,}: not weights")
        return io.BytesIO(archive.read(members[0]))


def folder() -> Path:
    """The weights folder: VISAVOX_WEIGHTS, or the user's cache (XDG)."""
    if named := os.environ.get("VISAVOX_WEIGHTS"):
        return Path(named).expanduser().absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "visavox" / "weights"


def find(name: str) -> Entry:
    """Registry entry of that name."""
    if name not in REGISTRY:
        import difflib

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
            f"  or      python -m visavox.weights fetch {entry.name} --from-dir DIR, where DIR holds it",
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
        logger.warning("%s: sha256 is %s; the file's is %s", name, sum_known(entry), sha256_of(folder() / entry.file))


def main(argv: list[str] | None = None) -> int:
    args = _parse(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        entries = [find(name) for name in args.names]
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 2
    match args.command:
        case "list":
            return _list(entries)
        case "fetch":
            return _fetch(entries, args.from_dir, args.offline)
        case "verify":
            return _verify(entries)
        case _:
            return _path(entries[0])


def _list(entries: list[Entry]) -> int:
    from rich.console import Console
    from rich.table import Table

    for entry in entries:
        print(f"{entry.name}: {entry.purpose}\n  input   {entry.input}\n  labels  {entry.labels}")
        print(f"  licence {entry.licence}\n  here    {_state(entry)}\n{by_hand(entry)}")
    if not entries:
        table = Table("name", "here", "bytes", "sha256", "licence", "for", title=f"weights in {folder()}")
        for entry in REGISTRY.values():
            size = "unknown" if entry.size is None else f"{entry.size:,}"
            known = f"{entry.sha256[:12]}…" if entry.sha256 else sum_known(entry)
            table.add_row(entry.name, _state(entry), size, known, entry.licence, entry.purpose)
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    return 0


def _fetch(entries: list[Entry], from_dir: Path | None, offline: bool) -> int:
    failed = 0
    for entry in entries:
        try:
            print(fetch(entry.name, from_dir=from_dir, offline=offline or None))
        except WeightsError as error:
            print(error, file=sys.stderr)
            failed += 1
    return 1 if failed else 0


def _verify(entries: list[Entry]) -> int:
    states = {entry.name: _state(entry, fresh=True) for entry in entries or REGISTRY.values()}
    for name, state in states.items():
        print(f"{name}: {state}")
    bad = [name for name, state in states.items() if state.startswith("WRONG") or (entries and state == "missing")]
    if bad:
        print(
            f"Remove what is wrong in {folder()}, then: python -m visavox.weights fetch {' '.join(bad)}",
            file=sys.stderr,
        )
    return 1 if bad else 0


def _path(entry: Entry) -> int:
    try:
        print(resolve(entry.name) if (folder() / entry.file).exists() else fetch(entry.name, offline=True))
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _state(entry: Entry, *, fresh: bool = False) -> str:
    """missing, ok, unverified (with the file's sum), or WRONG and why."""
    path = folder() / entry.file
    if not path.exists():
        return "missing"
    if wrong := complaint(entry, path, fresh=fresh):
        return f"WRONG: {wrong}"
    return "ok" if entry.sha256 else f"unverified, the file's sha256 is {sha256_of(path)}"


def _parse(argv: list[str] | None) -> argparse.Namespace:
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m visavox.weights",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is and what is here").add_argument("names", nargs="*", metavar="NAME")
    fetching = commands.add_parser("fetch", help="download, or copy from a folder, and check")
    fetching.add_argument("names", nargs="+", metavar="NAME")
    fetching.add_argument("--from-dir", type=Path, metavar="DIR", help="copy from this folder instead of the network")
    fetching.add_argument("--offline", action="store_true", help="do not use the network; say what to put where")
    commands.add_parser("verify", help="hash what is here again").add_argument("names", nargs="*", metavar="NAME")
    commands.add_parser("path", help="where the checked file lies").add_argument("names", nargs=1, metavar="NAME")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
