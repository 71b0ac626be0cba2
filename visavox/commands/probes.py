"""Train linear probes on frozen features beside the fusion, and print what each is worth on unseen clips.

    visavox probes --config td3mf --data-version SPLIT --code-version probes detector.features=FEATURES
    visavox probes --config td3mf_tiny --data-version demo --code-version probes root_path=demo runs_path=demo/runs

A fusion is worth something where it beats the probe on either modality alone. Where a probe on *untrained* backbones is good
too, the data set gives its labels away, whatever the detector. Every row is a training of its own,
RUNS_PATH/CODE_VERSION/ROW; those that are finished are not trained again. The table stands in
RUNS_PATH/CODE_VERSION/probes.csv: AUC of the test split with its 95 % interval, clips of an identity drawn together; the scores
of its clips in ROW/test_scores.csv, which `visavox report` reads.
Exit codes: 0 the table is whole; 2 wrong arguments, settings, data or weights; 4 another run writes to the same
folder; 5 the disk is full; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visavox import config as configuration
from visavox import runs
from visavox.commands.trained import trained
from visavox.config import Config, ConfigError, TD3MFConfig
from visavox.files import replacing
from visavox.logs import complain, say

ROWS: dict[str, dict[str, Any]] = {
    "video": {"lp_only": True, "finetune": False},
    "audio": {"audio_only": True, "finetune": False},
    "random_video": {"lp_only": True, "finetune": False, "backbone_weights": "random"},
    "random_audio": {"audio_only": True, "finetune": False, "backbone_weights": "random"},
    "fusion": {},
}
"""The rows of the table: what differs from the configuration, which is that of the fusion."""
SAYS = {
    "video": "linear probe on the video's features",
    "audio": "linear probe on the sound's features",
    "random_video": "the same on an untrained video backbone",
    "random_audio": "the same on an untrained audio backbone",
    "fusion": "the fusion of both",
}
TABLE, SCORES = "probes.csv", "test_scores.csv"


def main(argv: Sequence[str] | None = None) -> int:
    words = _parse(argv)
    try:
        config = configuration.load(words.config, words.overrides)
        from visavox.logs import set_up_logging

        set_up_logging()
        with runs.stoppable():
            rows = probes(
                config,
                data_version=words.data_version,
                code_version=words.code_version,
                allow_leaks=words.allow_leaks,
                only=words.only or tuple(ROWS),
            )
    except (KeyboardInterrupt, SystemExit) as error:
        stop = runs.stopped_by(error)  # Lightning makes a SystemExit of it
        if stop is None:
            raise
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ConfigError, ValueError, RuntimeError, OSError) as error:
        complain("visavox probes", error)
        return runs.exit_code(error)
    for row in rows:
        say(f"{row.name:14} AUC {row.auc:.3f} [{row.low:.3f}, {row.high:.3f}]  {SAYS[row.name]}")
    say(f"{rows[0].clips} test clips of {rows[0].identities} identities")
    return 0


class Row(NamedTuple):
    """One row of the table."""

    name: str
    auc: float
    low: float
    """Of the 95 % interval, clustered by identity."""
    high: float
    clips: int
    identities: int


def probes(
    config: Config,
    *,
    data_version: str,
    code_version: str = "probes",
    allow_leaks: bool = False,
    only: Sequence[str] = tuple(ROWS),
) -> list[Row]:
    """Train what has not been trained yet, score the test split, and write the table.

    Args:
        only: the names of the rows that are wanted.

    Raises:
        ConfigError: the configuration is not one of 2D3MF.
    """
    folder = Path(config.runs_path, code_version)
    rows, trainings = [], {name: made for name, made in variants(config, folder).items() if name in only}
    folder.mkdir(parents=True, exist_ok=True)
    with runs.holding(folder):
        for name, variant in trainings.items():
            run = f"{code_version}/{name}"
            trained(variant, data_version=data_version, code_version=run, allow_leaks=allow_leaks)
            rows.append(_judge(name, variant, data_version, run))
        with replacing(folder / TABLE) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(Row._fields)
            writer.writerows(rows)
    return rows


def variants(config: Config, folder: Path) -> dict[str, Config]:
    """Return the configuration of each row.

    Rows whose backbones are alike share a folder of features. With `backbone_weights=random`, and for MFCC, which has no weights,
    the controls would repeat the probes and are left out.
    """
    settings = config.detector
    if not isinstance(settings, TD3MFConfig):
        raise ConfigError(f"detector.name={settings.name}: probes are of 2D3MF; give --config td3mf or td3mf_tiny")
    kept = Path(settings.features) if settings.features else folder / "features"
    found = {}
    for name, changes in ROWS.items():
        repeats = settings.backbone_weights == "random" or (
            name == "random_audio" and settings.audio_backbone == "MFCC"
        )
        if name.startswith("random") and repeats:
            continue
        detector = TD3MFConfig.model_validate(settings.model_dump() | changes)
        features = (
            kept if detector.backbone_weights == settings.backbone_weights else kept.with_name(f"{kept.name}-random")
        )
        detector = detector.model_copy(update={"features": str(features)})
        found[name] = config.model_copy(update={"detector": detector})
    return found


def _judge(name: str, config: Config, data_version: str, run: str) -> Row:
    from visavox.compute import resolve_device
    from visavox.detectors.build import load
    from visavox.detectors.td3mf.detector import TD3MF
    from visavox.evaluation.intervals import estimate
    from visavox.evaluation.scores import groups_of
    from visavox.splits.table import read_split

    rows = read_split(Path(config.root_path, "data", f"{data_version}.csv"), config.root_path)
    rows = rows[rows["split"] == "test"]
    detector = load(Path(config.runs_path, run, "best.ckpt"), [f"device={config.device}"])
    assert isinstance(detector, TD3MF)
    scores = detector.to(resolve_device(config.device)).score_files(list(rows["path"]))
    with replacing(Path(config.runs_path, run, SCORES)) as beside:
        rows.drop(columns="path").assign(probability=scores).to_csv(beside, index=False, lineterminator="\n")
    groups, _ = groups_of(rows)
    auc = estimate(rows["label"].to_numpy(), scores, groups)["auc"]
    return Row(name, auc.value, auc.low, auc.high, len(rows), len(set(groups)) if groups is not None else len(rows))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox probes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="td3mf", help="of the fusion: a JSON file or the name of a shipped one")
    parser.add_argument(
        "--data-version", default="train_dev_test", help="ROOT_PATH/data/NAME.csv (default train_dev_test)"
    )
    parser.add_argument("--code-version", default="probes", help="folder of the runs: RUNS_PATH/NAME (default probes)")
    parser.add_argument(
        "--only", nargs="+", choices=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)} (default all)"
    )
    parser.add_argument("--allow-leaks", action="store_true", help="train although somebody stands in two splits")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the configuration"
    )
    return parser.parse_intermixed_args(argv)
