"""How much faster do two workers crop than one, each on one thread?

    python -m benchmarks.workers --input VIDEOS
    python -m benchmarks.workers --input VIDEOS --workers 1 2 --repeats 3 max_clip_len=4 sync=correlation

Crops every video with each number of workers in turn. Start-up (loading torch, networks and weights in each worker) is not
counted and shown apart: the clock runs from the first video's beginning to the last one's end. SyncNet's weights are random
where the registry's are not at hand.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from visavox.config import Config
from visavox.files import find_inputs
from visavox.preprocessing import tools as tools_module
from visavox.workers import pool


def main(argv: Sequence[str] | None = None) -> int:
    from benchmarks.tools import settings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    config = settings(arguments.overrides)
    videos = list(find_inputs(arguments.input).values())
    tools_module.check_weights(config.model_copy(update={"sync": "off"}))
    spans: dict[int, list[float]] = {count: [] for count in arguments.workers}
    for turn in range(arguments.repeats):
        for count in arguments.workers:
            start_up, span, lost = timed(videos, config, count)
            spans[count].append(span)
            print(
                f"turn {turn + 1}, {count} worker(s): {span:.1f} s for {len(videos)} videos ({lost} without a bundle), "
                f"start-up {start_up:.1f} s",
                flush=True,
            )
    first = median(spans[arguments.workers[0]])
    for count, values in spans.items():
        print(
            f"{count} worker(s): median {median(values):.1f} s, {first / median(values):.2f} x {arguments.workers[0]}"
        )
    return 0


def timed(videos: Sequence[Path], config: Config, workers: int) -> tuple[float, float, int]:
    """Seconds to the first video's beginning, from there to the last one's end, and videos that gave no bundle."""
    began = time.time()
    work = crop_one
    results = [row for _, row in pool.run(videos, partial(start, config), work, workers=workers)]
    first, last = min(row[0] for row in results), max(row[1] for row in results)
    return first - began, last - first, sum(row[2] != "" for row in results)


def start(config: Config) -> Any:
    from benchmarks.tools import build

    return build(config, threads=1)


def crop_one(preprocess: Any, video: Path) -> tuple[float, float, str]:
    """Beginning and end by the machine's clock, which workers share, and what went wrong."""
    began, fault = time.time(), ""
    try:
        preprocess(video)
    except ValueError as error:
        fault = str(error)
    return began, time.time(), fault


if __name__ == "__main__":
    sys.exit(main())
