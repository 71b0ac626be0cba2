"""Does it matter to the voice model by which filter sound is brought to 16 kHz?

    python -m benchmarks.resampling
    python -m benchmarks.resampling --layers 24 --clips 4

libav can resample while it decodes; the voice model's published code resamples with librosa (soxr_hq), and so does visavox.
Both sounds of each real clip of another rate go through the voice network with the same seeded random weights, whose last
layer is scaled until the logits of the clips deviate by 1: so the difference is that of P(fake) of a network which tells
these clips apart. It says nothing about the trained one's taste for high frequencies. Clips come from the folder that
VISAVOX_TEST_DATA names; needs the extra `foundation`.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.clips import data_folder
from visavox.detectors.published.voice.judge import INPUT
from visavox.detectors.published.voice.network import LARGE, VoiceNetwork
from visavox.media import open_video
from visavox.preprocessing.voice_input import heard

SECONDS = 4.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2, help="of the transformer (default 2; in full 24)")
    parser.add_argument("--clips", type=int, default=12, help="at most (default 12)")
    arguments = parser.parse_args(argv)
    folder = data_folder()
    if folder is None:
        parser.error("VISAVOX_TEST_DATA names no folder with clips/")
    pairs = [sounds(path) for path in of_other_rates(folder / "clips")[: arguments.clips]]
    torch.manual_seed(0)
    network = VoiceNetwork(0, LARGE._replace(layers=arguments.layers)).eval()
    libav, ours = (logits(network, [pair[which] for pair in pairs]) for which in (0, 1))
    scale = ours.std()
    apart = np.abs(_p((libav - ours.mean()) / scale) - _p((ours - ours.mean()) / scale))
    rms = [float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))) for a, b in pairs]
    print(
        f"{len(pairs)} clips, {arguments.layers} layers: sounds apart by {np.mean(rms):.2%} of their level "
        f"(at most {max(rms):.2%}); "
        f"P(fake) apart by {apart.mean():.1e} on average, {apart.max():.1e} at most"
    )
    return 0


def of_other_rates(clips: Path) -> list[Path]:
    """Clips whose sound is not at 16 kHz already."""
    with (clips / "clips.csv").open(newline="", encoding="utf-8") as file:
        rows = [(clips / row["file"], int(row["audio_hz"])) for row in csv.DictReader(file)]
    return [path for path, rate in rows if rate != INPUT.rate]


def sounds(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the network hears of a clip, resampled by libav and by librosa: (samples,) float32 each."""
    with open_video(path, fps=1, sample_rate=INPUT.rate, max_seconds=SECONDS) as video:
        for _ in video.frames():
            pass
        by_libav = video.audio()
    ours, _ = heard(path, INPUT.rate, SECONDS)
    assert ours is not None and by_libav is not None  # the clips have sound
    return INPUT(by_libav[: len(ours)]), INPUT(ours)


@torch.inference_mode()
def logits(network: VoiceNetwork, given: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([network(torch.from_numpy(sound)[None]).item() for sound in given])


def _p(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


if __name__ == "__main__":
    sys.exit(main())
