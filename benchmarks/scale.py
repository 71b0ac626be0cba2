"""What does it cost to have tasks done on several machines, and what does a machine more bring?

    python -m benchmarks.scale                                  # 8,000 tasks that sleep, on 1, 2 and 4 simulated machines
    python -m benchmarks.scale --tasks 2000 --nodes 1 2 --seconds 0.2
    python -m benchmarks.scale --crop VIDEOS                    # real work: the local pool and Ray's actors on this machine

The machines are `ray.cluster_utils.Cluster`'s: raylets of their own, with --per-node actors each, on this one's processors. A
task that sleeps leaves them free, so that what is measured is the launcher's own work: rows come later than the sleep alone would
have them. Efficiency is the rate of n machines over n times that of the first number given: `steady` from the first tenth of
the rows to the last tenth, `whole` from the start to the end, with the start of Ray's actors in between. `sleep/whole` needs no
other run: what n machines bring over one is at least that, for one takes at least its sleep.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

from visavox.workers import launching, ray_pool


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8000)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--per-node", type=int, default=2, help="actors of a machine (default 2)")
    parser.add_argument("--seconds", type=float, default=0.1, help="that a task sleeps (default 0.1)")
    parser.add_argument("--crop", type=Path, metavar="VIDEOS", help="crop them with configs/tiny.json instead")
    parser.add_argument("--workers", type=int, default=2, help="of --crop (default 2)")
    arguments = parser.parse_args(argv)
    ray_pool.require()
    if arguments.crop:
        return crop(arguments.crop, arguments.workers)
    first = None
    print(
        "machines  actors  ideal s  whole s  steady tasks/s  CPU ms a task  load  efficiency: steady  whole  sleep/whole"
    )
    for count in arguments.nodes:
        actors = count * arguments.per_node
        found = sleeping(count, arguments.per_node, arguments.tasks, arguments.seconds)
        first = first or found
        share, ideal = arguments.nodes[0] / count, arguments.tasks * arguments.seconds / actors
        print(
            f"{count:8}  {actors:6}  {ideal:7.1f}  {found.whole:7.1f}  {found.rate:14.1f}"
            f"  {found.processor:13.2f}  {os.getloadavg()[0]:4.1f}  {share * found.rate / first.rate:18.3f}"
            f"  {share * first.whole / found.whole:5.3f}  {ideal / found.whole:11.3f}",
            flush=True,
        )
    return 0


class Timing(NamedTuple):
    """Of one run."""

    whole: float
    """Seconds from the call to the last row."""
    rate: float
    """Tasks a second between the first and the last tenth of the rows."""
    processor: float
    """Milliseconds of all processes, Ray's included, for a task between the first and the last tenth."""


def sleeping(nodes: int, per_node: int, tasks: int, seconds: float) -> Timing:
    """Time tasks that sleep on so many simulated machines."""
    import ray
    from ray.cluster_utils import Cluster

    from benchmarks import scale  # as the actors find it: here it is __main__

    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
    tenth = tasks // 10
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):  # memory as a machine would have it that holds so many actors
        cluster.add_node(num_cpus=per_node, memory=2 * per_node * ray_pool.MEMORY, object_store_memory=ray_pool.OBJECTS)
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        began, times, spent = time.monotonic(), [], []
        work, found = partial(scale.sleep, seconds), set()
        for task, result in launching.run(
            range(tasks), scale.nothing, work, workers=nodes * per_node, ray=launching.Ray()
        ):
            found.add((task, result))
            times.append(time.monotonic())
            if len(times) in (tenth, tasks - tenth):
                spent.append(processor_seconds())
        assert found == {(task, task) for task in range(tasks)}
    finally:
        ray.shutdown()
        cluster.shutdown()
    between = tasks - 2 * tenth
    rate = between / (times[tasks - tenth - 1] - times[tenth - 1])
    return Timing(times[-1] - began, rate, 1000 * (spent[1] - spent[0]) / between)


def nothing() -> None:
    """What a task that sleeps begins with."""


def sleep(seconds: float, state: None, task: int) -> int:
    """Stand in for the decoding of a video."""
    time.sleep(seconds)
    return task


def processor_seconds() -> float:
    """Of this process and all that it has started and that are still there."""
    me, spent = psutil.Process(), 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):
            used = process.cpu_times()
            spent += used.user + used.system
    return spent


def crop(videos: Path, workers: int) -> int:
    """Print what it takes to crop the videos by each launcher, with the seconds that they were worked on."""
    from visavox import config as configuration
    from visavox.commands.crop import crop_folder
    from visavox.files import find_inputs

    inputs, config = find_inputs(videos), configuration.load("tiny")
    for name, ray in (("pool", None), ("Ray", launching.Ray("local"))):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            rows = crop_folder(inputs, Path(folder), config, workers=workers, ray=ray)
            whole = time.monotonic() - began
        worked = sum(row.seconds["total"] for row in rows)
        print(
            f"{name:5} {len(rows)} videos, {sum(row.bundle is not None for row in rows)} bundles: {whole:.1f} s with start-up, "
            f"{worked:.1f} s of work in {workers} workers ({worked / workers:.1f} s each), load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
