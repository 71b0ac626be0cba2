"""How large the detector is, and where in a clip a trained one looks.

    visavox anomaly params --config configs/anomaly.json
    visavox anomaly locate --checkpoint runs/v1/best.ckpt BUNDLE.npz

`params` prints the parameters of each part. `locate` prints `seconds,score` for every frame of a bundle: the mean negative
log-likelihood in nats of the windows that hold it. Exit codes: 0 printed; 2 wrong arguments or files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.logs import complain, say

if TYPE_CHECKING:
    from torch import nn

    from visavox.detectors.anomaly.detector import AnomalyDetector

SEED_PARAMETERS = "~52M"
"""What the detector's description states for the whole."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        if arguments.what == "params":
            say(describe_parameters(arguments.config, arguments.overrides))
        else:
            say(locate(arguments.checkpoint, arguments.bundle))
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox anomaly", error)
        return 2
    return 0


def describe_parameters(path: Path, overrides: Sequence[str] = ()) -> str:
    """A line per part with its parameters, then the sum."""
    from visavox import config as configuration
    from visavox.detectors.anomaly.detector import AnomalyDetector

    config = configuration.load(path, overrides)
    if not isinstance(config.detector, configuration.AnomalyConfig):
        raise ValueError(f"{path} describes {config.detector.name}; give configs/anomaly.json")
    sizes = part_sizes(AnomalyDetector(config, config.detector))
    lines = [f"{name:28}{count:>12,}" for name, count in sizes.items()]
    return "\n".join([*lines, f"{'all':28}{sum(sizes.values()):>12,}  (stated: {SEED_PARAMETERS})"])


def part_sizes(detector: AnomalyDetector) -> dict[str, int]:
    """Parameters of each part, in the order of their use."""
    streams, decoder = detector.streams, detector.decoder
    settings = detector.settings
    parts: dict[str, list[nn.Module]] = {
        f"visual {settings.vis_backbone}": [streams.visual.net],
        "visual projection": [streams.visual.project],
        "visual encoder": [streams.visual.encoder],
        f"audio {settings.aud_backbone}": [streams.audio.net],
        "audio projection": [streams.audio.project],
        "audio encoder": [streams.audio.encoder],
        "fusion": [streams.fusion],
        "decoder layers": [decoder.layers],
        "decoder input": [decoder.embed],
        "decoder mixture": [decoder.weights, decoder.means, decoder.variances],
    }
    sizes = {name: sum(p.numel() for part in some for p in part.parameters()) for name, some in parts.items()}
    return sizes | {"decoder start": decoder.start.numel()}


def locate(checkpoint: Path, bundle: Path) -> str:
    """`seconds,score` per frame, as CSV."""
    from visavox.bundle.trim import load_trimmed
    from visavox.detectors.anomaly.detector import load

    detector = load(checkpoint)
    found = detector.step_scores(load_trimmed(bundle, detector.config))
    return "\n".join(["seconds,score", *(f"{t:.3f},{s:.4f}" for t, s in zip(*found))])


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox anomaly", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_subparsers(dest="what", required=True)
    params = what.add_parser("params", help="parameters of each part")
    params.add_argument("--config", type=Path, default=Path("configs/anomaly.json"))
    params.add_argument("overrides", nargs="*", metavar="key=value")
    where = what.add_parser("locate", help="score of every frame of a bundle")
    where.add_argument("--checkpoint", type=Path, required=True)
    where.add_argument("bundle", type=Path)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
