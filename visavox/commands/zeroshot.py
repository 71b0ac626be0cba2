"""Calibrate a score that needs no training on real clips: what do so many per cent of them exceed?

    visavox zeroshot --input REAL --output mine.json --config zeroshot detector.score=centre
    visavox eval --input NEW --output new.csv --detector mine.json

Reads real clips alone: P(fake) = 0.5 then is what detector.false_positive_rate of them exceed; how many fakes do is not known.
Prints all four scores' thresholds; OUTPUT is the configuration with the chosen one. Exit codes: 0 done; 2 wrong arguments, files,
settings or weights, or too few clips; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from visavox import config as configuration
from visavox.commands.streaming import bundles_of
from visavox.config import Config, ConfigError, ZeroShotConfig
from visavox.files import VIDEO_SUFFIXES, find_inputs, replacing, shown
from visavox.logs import complain, say
from visavox.progress import progress

LEAST = 10
"""Real clips: fewer say nothing of a rate of 5 %."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        config = configuration.load(arguments.config, arguments.overrides)
        from visavox.preprocessing.tools import check_weights

        check_weights(config)
        calibrated, lines = calibrate(
            find_inputs(arguments.input, VIDEO_SUFFIXES | {".npz"}),
            config,
            workers=arguments.workers,
            name=arguments.input.name,
        )
        with replacing(arguments.output) as beside:
            beside.write_text(json.dumps(calibrated.model_dump(mode="json"), indent=4) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        say("interrupted", error=True)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox zeroshot", error)
        return 2
    say("\n".join([*lines, str(arguments.output)]))
    return 0


def calibrate(inputs: dict[str, Path], config: Config, *, workers: int = 1, name: str = "") -> tuple[Config, list[str]]:
    """Return the configuration with threshold and spread from real clips, and what was found, in lines.

    The threshold is the score that `false_positive_rate` of them exceed, interpolated between two; the spread their deviation.

    Args:
        inputs: name -> path of videos and bundles of real people.
        name: what the clips are called.

    Raises:
        ConfigError: not a configuration of zeroshot.
        ValueError: fewer than ten clips have a score.
    """
    import numpy as np

    from visavox.bundle.trim import needs_sound
    from visavox.detectors.zeroshot.scorer import ZeroShot
    from visavox.detectors.zeroshot.scores import SCORES, score
    from visavox.preprocessing.provenance import prep_hash

    settings = config.detector
    if not isinstance(settings, ZeroShotConfig):
        raise ConfigError(f"detector.name={settings.name}: only zeroshot is calibrated here; see `visavox calibrate`")
    scorer = ZeroShot(config, settings)
    found: dict[str, list[float]] = {each: [] for each in SCORES}
    lean = config.model_copy(update={"store_track": scorer.needs_track or needs_sound(config)})
    tasks = list(inputs.items())
    with (
        progress("calibrating", len(tasks)) as advance,
        closing(bundles_of(tasks, lean, prep_hash=prep_hash(config), workers=workers)) as bundles,
    ):
        for prepared in bundles:
            advance()
            if prepared.bundle is None or not prepared.bundle.has_sound:
                say(f"  {shown(prepared.name)}: {prepared.status}, {shown(prepared.reason)}", error=True)
                continue
            curves = scorer.curves(prepared.bundle)
            if len(curves.starts):
                for each, values in found.items():
                    values.append(score(curves, each, settings.temperature).clip)
    count = len(found[settings.score])
    if count < LEAST:
        raise ValueError(f"{count} real clips have a score; {LEAST} at least are needed for a threshold")
    rate = settings.false_positive_rate
    lines = [f"{count} real clips; thresholds that {rate:.0%} of them exceed:"]
    for each, values in found.items():
        threshold, spread = float(np.quantile(values, 1 - rate)), float(np.std(values, ddof=1))
        lines.append(f"  {each:12} {threshold:9.4f}   mean {np.mean(values):9.4f}, deviation {spread:.4f}")
    chosen = found[settings.score]
    changed = settings.model_copy(
        update={
            "threshold": float(np.quantile(chosen, 1 - rate)),
            "spread": max(float(np.std(chosen, ddof=1)), 1e-6),
            "calibrated_on": f"{count} clips{f' of {name}' if name else ''}",
        }
    )
    return config.model_copy(update={"detector": changed}), lines


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox zeroshot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--input", type=Path, required=True, help="folder of real videos or bundles, and of nothing else"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON configuration to write")
    parser.add_argument(
        "--config", default="zeroshot", help="a JSON file, or the name of a shipped one (default zeroshot)"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that crop (default: all cores)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as detector.score=centre")
    return parser.parse_intermixed_args(argv)
