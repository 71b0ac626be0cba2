"""Where the tasks of a command are worked on: processes of this machine, or actors of a Ray cluster.

    launching.add_arguments(parser)                                             # --ray [ADDRESS], --ray-gpus
    for task, result in launching.run(tasks, start, work, workers=4, ray=launching.asked(arguments)):
        ...

Both run the same `visavox.workers.worker.Worker` and give the same results; `--shard I/N` (`sharding`) needs neither.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

from visavox.workers import pool
from visavox.workers.worker import Died

Task = TypeVar("Task")
State = TypeVar("State")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ray:
    """A Ray cluster, and what an actor of it may use."""

    address: str = ""
    """`host:port` of its head; `local`: one that this process starts; empty: that of RAY_ADDRESS or of this machine, if any."""
    gpus: float = 0.0
    """Share of a GPU for each actor; 0: one processor and no GPU."""


def run(
    tasks: Iterable[Task],
    start: Callable[[], State],
    work: Callable[[State, Task], Result],
    *,
    workers: int,
    timeout: float | None = None,
    stop: threading.Event | None = None,
    ray: Ray | None = None,
) -> Generator[tuple[Task, Result | Died], None, None]:
    """Yield `(task, work(state, task))` as results come in: `pool.run`, or with `ray` the same over its actors.

    Args:
        workers: processes here; with `ray` the most actors.
    """
    if ray is None:
        return pool.run(tasks, start, work, workers=workers, timeout=timeout, stop=stop)
    from visavox.workers import ray_pool

    return ray_pool.run(tasks, start, work, ray=ray, workers=workers, timeout=timeout, stop=stop)


def threads(workers: int, ray: Ray | None = None) -> int:
    """Return the threads that a worker may compute with: its share of this machine, or the one processor of an actor."""
    return 1 if ray else max(1, pool.cores() // workers)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command be given `--ray [ADDRESS]` and `--ray-gpus SHARE`."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="work on a Ray cluster, with --workers actors at most; without ADDRESS that of RAY_ADDRESS or of this machine, "
        "else one started here (extra ray)",
    )
    parser.add_argument(
        "--ray-gpus",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of a GPU for each actor, such as 0.25 (default 0: a processor each and no GPU)",
    )


def asked(arguments: argparse.Namespace) -> Ray | None:
    """Return the cluster that the arguments name, None where they name none.

    Raises:
        ImportError: Ray is not installed; the message names the extra.
    """
    if arguments.ray is None:
        return None
    from visavox.workers import ray_pool

    ray_pool.require()
    return Ray(arguments.ray, arguments.ray_gpus)


def positive(text: str) -> int:
    """Read a number of workers, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
