"""Train the backbones of 2D3MF on the clips of a split, for sizes that nobody publishes weights for.

    visavox pretrain-backbones --config td3mf_tiny --data-version demo --output demo/backbones root_path=demo
    visavox train --config td3mf_tiny --data-version demo detector.backbone_weights=demo/backbones root_path=demo

Each sees the clips of split `train` alone, in one modality, and learns to tell which is fake by a linear map on the mean of
its features: by the split's columns `video_label` and `audio_label` where they say so, else by `label`. Those of `val` choose
the epoch; those of `test` are not read. OUTPUT gets NAME.pt of each and pretrained.json; what is there already is kept. All
inputs of a split are in memory at once: meant for tiny sizes.
Exit codes: 0 trained; 2 wrong arguments, settings or data; 4 another run writes to OUTPUT; 5 the disk is full; 130
interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visavox import config as configuration
from visavox import runs
from visavox.config import Config, ConfigError, TD3MFConfig
from visavox.files import replacing, sweep
from visavox.logs import complain, say

if TYPE_CHECKING:
    import pandas as pd

    from visavox.detectors.td3mf.pretraining import Examples

SUMMARY = "pretrained.json"


@dataclass(frozen=True)
class Recipe:
    """How long and how fast."""

    epochs: int = 40
    batch: int = 8
    lr: float = 2e-3
    seed: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    words = _parse(argv)
    try:
        config = configuration.load(words.config, words.overrides)
        from visavox.logs import set_up_logging

        set_up_logging()
        with runs.stoppable(), runs.holding(words.output):
            found = pretrain_backbones(
                config,
                words.output,
                data_version=words.data_version,
                recipe=Recipe(words.epochs, words.batch, words.lr, words.seed),
            )
    except KeyboardInterrupt as stop:
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ConfigError, ValueError, RuntimeError, OSError) as error:
        complain("visavox pretrain-backbones", error)
        return runs.exit_code(error)
    say(json.dumps(found, indent=2))
    return 0


def pretrain_backbones(
    config: Config, output: Path, *, data_version: str, recipe: Recipe = Recipe()
) -> dict[str, dict[str, Any]]:
    """Train the two backbones that the configuration names, and write their weights; return what SUMMARY holds.

    Raises:
        ConfigError: not a configuration of 2D3MF, or a backbone without a network of its own.
        SplitError: the split is faulty, or somebody stands in two of its parts.
    """
    from visavox.splits.groups import find_leak
    from visavox.splits.table import SplitError, read_split

    settings = config.detector
    if not isinstance(settings, TD3MFConfig):
        raise ConfigError(f"detector.name={settings.name}: the backbones are of 2D3MF; give --config td3mf_tiny")
    csv = Path(config.root_path, "data", f"{data_version}.csv")
    rows = read_split(csv, config.root_path)
    if leak := find_leak(rows):
        raise SplitError(f"{csv}: {leak}; backbones would be trained on people of the test")
    output.mkdir(parents=True, exist_ok=True)
    sweep(output)
    path = output / SUMMARY
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named: dict[Literal["video", "audio"], str] = {
        "video": settings.video_backbone,
        "audio": settings.audio_backbone,
    }
    for kind, name in named.items():
        if name in found or name == "MFCC":
            continue
        found[name] = _train_one(name, kind, rows, config, settings, output, recipe)
        with replacing(path) as beside:
            beside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def _train_one(
    name: str,
    kind: Literal["video", "audio"],
    rows: pd.DataFrame,
    config: Config,
    settings: TD3MFConfig,
    output: Path,
    recipe: Recipe,
) -> dict[str, Any]:
    import torch

    from visavox.compute import resolve_device
    from visavox.detectors.td3mf import backbones
    from visavox.detectors.td3mf.pretraining import pretrain

    if "posteriors" in name:
        raise ConfigError(f"{name}: posteriors of speakers are not learnt from fakes; take xvectors")
    device = str(resolve_device(config.device))
    backbone = backbones.load(name, kind, weights=backbones.RANDOM, seed=settings.backbone_seed, device=device).backbone
    train, val = (_examples(rows[rows["split"] == part], kind, backbone, config, settings) for part in ("train", "val"))
    say(f"{name}: {len(train.labels)} clips, {int(train.labels.sum())} of them fake in {kind}", error=True)
    done = pretrain(backbone, train, val, epochs=recipe.epochs, batch=recipe.batch, lr=recipe.lr, seed=recipe.seed)
    for part, network in backbone.parts.items():
        with replacing(output / f"{part}.pt") as beside:
            torch.save(network.state_dict(), beside)
    counts = {"train": len(train.labels), "val": len(val.labels)}
    return done._asdict() | {"clips": counts, "epochs": recipe.epochs, "lr": recipe.lr, "seed": recipe.seed}


def _examples(rows: pd.DataFrame, kind: str, backbone: Any, config: Config, settings: TD3MFConfig) -> Examples:
    """What the backbone is given of each clip, one bundle in memory at a time; clips without sound teach nothing about it."""
    import numpy as np

    from visavox.bundle.trim import load_trimmed
    from visavox.detectors.td3mf.features import resampled, window_starts
    from visavox.detectors.td3mf.pretraining import Examples
    from visavox.progress import progress
    from visavox.splits.table import labels_of

    inputs, labels = [], []
    with progress(f"{kind} of {rows['split'].iloc[0]}", len(rows)) as advance:
        for path, label in zip(rows["path"], labels_of(rows, f"{kind}_label")):
            bundle = load_trimmed(path, config)
            advance()
            if kind == "video":
                inputs.append(backbone.inputs(bundle.frame, bundle.track_frames, settings.temporal_axis))
            elif bundle.has_sound:
                sound = resampled(bundle.sound, bundle.sample_rate, backbone.sample_rate)
                starts = window_starts(len(sound) / backbone.sample_rate, settings.temporal_axis, 1.0)
                inputs.append(backbone.inputs(sound, starts))
            else:
                continue
            labels.append(int(label))
    return Examples(inputs, np.array(labels))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox pretrain-backbones", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="td3mf_tiny", help="a JSON file or the name of a shipped configuration")
    parser.add_argument(
        "--data-version", default="train_dev_test", help="ROOT_PATH/data/NAME.csv (default train_dev_test)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for the weights, for detector.backbone_weights"
    )
    parser.add_argument("--epochs", type=int, default=Recipe.epochs, help=f"default {Recipe.epochs}")
    parser.add_argument("--batch", type=int, default=Recipe.batch, help=f"clips of a step (default {Recipe.batch})")
    parser.add_argument("--lr", type=float, default=Recipe.lr, help=f"highest rate (default {Recipe.lr:g})")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="of the order of clips and of the linear map")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the configuration"
    )
    words = parser.parse_intermixed_args(argv)
    if min(words.epochs, words.batch) < 1 or not words.lr > 0:
        parser.error("--epochs and --batch are at least 1, --lr is above 0")
    return words
