"""Does the latency follow the sound? Moves the audio of real videos and looks at what sync measures.

    python -m benchmarks.sync_moves --input VIDEOS sync=correlation face_detector=haar
    python -m benchmarks.sync_moves --input VIDEOS --moves -9 -3 4 12

Each video is cropped once; then its sound is moved by so many frames (silence comes in at the other end) and the distances are
measured again on the same faces. Printed: per video the latency before and the change at each move, and the share of changes
within one frame of the move, over all and over those that stay inside the shifts tried.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from visavox import config as configuration
from visavox.files import find_inputs
from visavox.preprocessing import tools as tools_module


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--moves", type=int, nargs="+", default=[-9, -3, 4, 12], help="frames, + = audio later")
    parser.add_argument("--config", type=Path, default=Path("config.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    config = configuration.load(arguments.config, arguments.overrides)
    tools_module.check_weights(config)
    tools = tools_module.build(config)
    samples_per_frame = round(config.resample_rate / configuration.SYNC_FPS)
    hits, inside = [], []
    print(f"{'video':40} {'before':>6} " + " ".join(f"{move:+5d}" for move in arguments.moves))
    for name, path in find_inputs(arguments.input).items():
        seen: list = []

        def sync(track, sound, seen=seen):
            seen.append((track, sound))
            return tools.sync(track, sound)

        try:
            before = float(replace(tools, sync=sync)(path).latency)
        except ValueError as error:
            print(f"{name:40} {error}")
            continue
        (track, sound) = seen[0]
        changes = [
            float(tools.sync(track, moved(sound, move * samples_per_frame)).latency) - before
            for move in arguments.moves
        ]
        hits += [abs(change - move) <= 1 for change, move in zip(changes, arguments.moves)]
        inside += [abs(before + move) <= config.vshift for move in arguments.moves]
        print(f"{name:40} {before:+6.0f} " + " ".join(f"{change:+5.0f}" for change in changes))
    hits, inside = np.array(hits), np.array(inside)
    print(f"within one frame of the move: {hits.sum()} of {len(hits)} ({hits.mean():.1%})")
    staying = hits[inside]
    print(
        f"of the moves that stay within {config.vshift} frames: {staying.sum()} of {len(staying)} ({staying.mean():.1%})"
    )
    return 0


def moved(sound: np.ndarray, samples: int) -> np.ndarray:
    """The sound (N,) int16 later by so many samples, silence in front (or earlier, silence behind); as long as before."""
    still = np.zeros(abs(samples), sound.dtype)
    return np.concatenate([still, sound[:-samples]]) if samples > 0 else np.concatenate([sound[-samples:], still])


if __name__ == "__main__":
    sys.exit(main())
