"""One job shared out over machines that know nothing of each other: `--shard I/N` on each, `visavox merge` at the end.

    visavox crop --shard ${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_COUNT} ...     # an array of 0-(N-1)
    visavox crop --shard ${JOB_COMPLETION_INDEX}/8 ...                            # an indexed job of Kubernetes

A shard takes the inputs whose names hash to it, so that it takes the same ones wherever and however often it runs.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class ShardError(ValueError):
    """Shards do not fit together; the message says which and what to run."""


@dataclass(frozen=True)
class Shard:
    """Number `index` of `count` shares of the inputs."""

    index: int
    """From 0 to count - 1."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`, for argparse."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not int(found[1]) < int(found[2]):
            raise argparse.ArgumentTypeError(
                f"{text!r}: give I/N with I from 0 to N - 1, such as 0/8 for the first of eight"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def takes(self, name: str) -> bool:
        """Return whether the input of this name, its path below the input folder, is one of this share."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index

    def of(self, path: Path) -> Path:
        """Return where this share of a file stands: manifest.jsonl -> manifest.0-of-8.jsonl."""
        return path.with_name(f"{path.stem}.{self.index}-of-{self.count}{path.suffix}")


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Let a command be given `--shard I/N`."""
    parser.add_argument(
        "--shard",
        type=Shard.parse,
        metavar="I/N",
        help="take share I (from 0) of N alone; `visavox merge OUTPUT` afterwards",
    )


def mark_of(share: Path) -> Path:
    """Return what stands beside the file of a share while it grows: manifest.0-of-8.jsonl -> manifest.0-of-8.jsonl.begun."""
    return share.with_name(f"{share.name}.begun")


@contextmanager
def growing(share: Path) -> Iterator[None]:
    """Have a mark beside a file that is appended to while the block runs; it stays where the block does not come to its end."""
    mark_of(share).touch()
    yield
    mark_of(share).unlink(missing_ok=True)  # the same share, run again elsewhere, may have ended first


def shards_of(path: Path) -> list[Path]:
    """Return the files of all shares of `path`, in order.

    Raises:
        ShardError: there are none, some are missing or not done, or they are of jobs of different N.
    """
    pattern = re.compile(re.escape(path.stem) + r"\.(\d+)-of-(\d+)" + re.escape(path.suffix))
    found = {
        (int(m[1]), int(m[2])): beside for beside in path.parent.glob("*") if (m := pattern.fullmatch(beside.name))
    }
    if not found:
        raise ShardError(
            f"{path}: no shards of it are there, such as {Shard(0, 2).of(path).name}; run with --shard I/N first"
        )
    counts = sorted({count for _, count in found})
    if len(counts) > 1:
        raise ShardError(
            f"{path}: shards of jobs of {' and of '.join(map(str, counts))} are mixed; remove those that are of no more use"
        )
    missing = [index for index in range(counts[0]) if (index, counts[0]) not in found]
    if missing:
        names = ", ".join(f"--shard {index}/{counts[0]}" for index in missing)
        raise ShardError(f"{path}: {len(missing)} of {counts[0]} shards are missing; run {names}")
    begun = [f"--shard {index}/{counts[0]}" for index, _ in sorted(found) if mark_of(found[index, counts[0]]).exists()]
    if begun:
        raise ShardError(
            f"{path}: {len(begun)} of {counts[0]} shards were stopped, or are at work still; wait, or run {', '.join(begun)} "
            "again, on any machine: what is done is kept, and the mark *.begun beside the share goes"
        )
    return [found[index, counts[0]] for index in range(counts[0])]
