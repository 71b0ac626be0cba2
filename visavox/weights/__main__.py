"""Trained weights of other people: what they are, where they lie, how they get there, how they are read safely.

    visavox weights list [NAME...]                        the registry; with names, everything about them
    visavox weights fetch NAME... [--from-dir DIR] [--offline]
    visavox weights verify [NAME...]                      hash again what lies in the folder
    visavox weights path NAME                             where the checked file lies

The folder is `VISAVOX_WEIGHTS`, or `visavox/weights` in the user's cache. `VISAVOX_OFFLINE=1` or `HF_HUB_OFFLINE=1`
keeps the network shut. Exit codes: 0 all well; 1 a file is missing, wrong or could not be had (`verify` without names
passes over what is not there); 2 the command line was wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from visavox.logs import complain, say
from visavox.weights.registry import REGISTRY, Entry
from visavox.weights.store import WeightsError, by_hand, complaint, fetch, find, folder, resolve, sha256_of, sum_known


def main(argv: list[str] | None = None) -> int:
    args = _parse(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        entries = [find(name) for name in args.names]
    except WeightsError as error:
        complain("visavox weights", error)
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
        say(f"{entry.name}: {entry.purpose}\n  input   {entry.input}\n  labels  {entry.labels}")
        say(f"  licence {entry.licence}\n  here    {_state(entry)}\n{by_hand(entry)}")
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
            say(fetch(entry.name, from_dir=from_dir, offline=offline or None))
        except WeightsError as error:
            complain("visavox weights", error)
            failed += 1
    return 1 if failed else 0


def _verify(entries: list[Entry]) -> int:
    states = {entry.name: _state(entry, fresh=True) for entry in entries or REGISTRY.values()}
    for name, state in states.items():
        say(f"{name}: {state}")
    bad = [name for name, state in states.items() if state.startswith("WRONG") or (entries and state == "missing")]
    if bad:
        say(
            f"Remove what is wrong in {folder()}, then: visavox weights fetch {' '.join(bad)}",
            error=True,
        )
    return 1 if bad else 0


def _path(entry: Entry) -> int:
    try:
        say(resolve(entry.name) if (folder() / entry.file).exists() else fetch(entry.name, offline=True))
    except WeightsError as error:
        complain("visavox weights", error)
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
        prog="visavox weights",
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
