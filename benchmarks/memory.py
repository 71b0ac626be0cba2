"""How much memory does one worker of crop.py take, and does it grow with the video's length?

    python -m benchmarks.memory --minutes 1 10 --height 1080 max_clip_len=16
    python -m benchmarks.memory --minutes 1 10 --height 1080 max_clip_len=600 sync=off

Crops each video in a process of its own and prints its peak resident memory, then that of the process of eval.py that scores.
The video is the bench's clip, played to and fro. SyncNet's weights are random where the registry's are not at hand: they take
the same room.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

LIMIT = 1.2e9  # bytes of one worker


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in arguments.minutes:
            video = in_process(make, Path(folder), arguments.height, minutes * 60)
            frames, seconds, peak = in_process(crop_one, video, arguments.overrides)
            peaks.append(peak)
            print(
                f"{minutes:g} min, {arguments.height}p: {frames} frames cut in {seconds:.1f} s, peak {peak / 1e6:.0f} MB"
            )
    peak = in_process(score_one, arguments.overrides)
    print(f"eval.py's own process, which holds the network and scores one clip at a time: peak {peak / 1e6:.0f} MB")
    print(f"workers: highest {max(peaks) / 1e6:.0f} MB, the limit is {LIMIT / 1e6:.0f} MB")
    return int(max(peaks) > LIMIT)


def in_process(function, *words):
    """The function's result, from a fresh process: a peak never comes down."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, words)


def make(folder: Path, height: int, seconds: float) -> Path:
    from benchmarks.clips import data_folder, talking_clip

    return talking_clip(folder, data_folder(), height, seconds)


def crop_one(video: Path, overrides: Sequence[str]) -> tuple[int, float, int]:
    """Frames of the track, seconds, and peak resident bytes of this process."""
    from benchmarks.tools import build, settings

    config = settings(overrides)
    preprocess = build(config, threads=1)
    began = time.perf_counter()
    bundle = preprocess(video)
    return bundle.track_frames, time.perf_counter() - began, peak_memory()


def score_one(overrides: Sequence[str]) -> int:
    """Peak resident bytes of a process that scores bundles with the reference network."""
    import torch

    from benchmarks.tools import settings
    from visavox.bundle import Bundle
    from visavox.compute import scoring_context, scoring_dtype
    from visavox.detectors import build

    network = build.build(settings(overrides))
    network.latency.fit(torch.zeros(2, 2 * network.config.vshift + 3))
    dtype = scoring_dtype(network.config.score_precision, torch.device("cpu"))
    network = network.for_inference(dtype)
    with scoring_context(dtype, torch.device("cpu")):
        for _ in range(3):
            network.score([Bundle.blank(network.config)])
    return peak_memory()


def peak_memory() -> int:
    """Highest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main())
