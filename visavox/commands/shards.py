"""Put the bundles of a split into a few large files, to train from.

    visavox shards --split data/train_dev_test.csv --root . --output SHARDS
    visavox train --data-version train_dev_test root_path=SHARDS

Writes OUTPUT/shards/NAME-SPLIT-NUMBER.tar, which WebDataset reads too, and OUTPUT/data/NAME.csv. Worth it above some hundred
thousand bundles, and where files are slow to open or to copy (docs/many_machines.md).
Exit codes: 0 done; 2 wrong arguments or split; 4 another run writes to OUTPUT; 5 the disk is full; 130 interrupted; 143
terminated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visavox import runs
from visavox.files import sweep
from visavox.logs import complain, say


def main(argv: Sequence[str] | None = None) -> int:
    words = _parse(argv)
    try:
        from visavox.splits.table import SplitError, describe, read_split
        from visavox.training.shards import table_of, write_shards

        rows = read_split(words.split, words.root, part=True)
        if table_of(words.output, words.split.stem).resolve() == words.split.resolve():
            raise SplitError(
                f"{words.split}: the split CSV of the shards would take its place; give --output another folder"
            )
        words.output.mkdir(parents=True, exist_ok=True)
        with runs.stoppable(), runs.holding(words.output):
            sweep(words.output)
            shards = write_shards(rows, words.output, words.split.stem, megabytes=words.megabytes, seed=words.seed)
    except KeyboardInterrupt as stop:
        say("interrupted", error=True)
        return runs.exit_code(stop)
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox shards", error)
        return runs.exit_code(error)
    size = sum(shard.stat().st_size for shard in shards) / 1e9
    say(
        f"{describe(rows)}: {len(shards)} shards, {size:.2f} GB; root_path={words.output} --data-version {words.split.stem}"
    )
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox shards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", type=Path, required=True, help="split CSV of the bundles")
    parser.add_argument(
        "--root", type=Path, default=Path("."), help="folder that its file paths start from (default .)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the shards, a root_path to train from")
    parser.add_argument("--megabytes", type=float, default=256.0, help="that a shard holds at most (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of groups and clips (default 0)")
    words = parser.parse_args(argv)
    if not words.megabytes > 0:
        parser.error(f"--megabytes={words.megabytes:g}: above 0")
    return words
