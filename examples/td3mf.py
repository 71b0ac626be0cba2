"""2D3MF on synthetic clips: what its tiny backbones see and hear once they are trained, and what their fusion is worth.

    python -m examples.td3mf              # on the clips of `make demo`, which are made if they are not there

Trains the two backbones of configs/td3mf_tiny.json on the training identities, freezes them, and prints the test AUC of a
linear probe on the video, of one on the sound, and of the fusion, for each kind of fake, with the 95 % interval of all
kinds, clips of an identity drawn together. Beside them the controls: probes on backbones that were never trained, and the
whole chain trained on shuffled labels. Everyone in the test is unseen. Synthetic clips say nothing about real deepfakes.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from examples import common

CONFIG = Path("configs/td3mf_tiny.json")
RUN, SPLIT, SHUFFLED = "td3mf", "td3mf", "td3mf_shuffled"
VAL_SHARE, TEST_SHARE = 1 / 6, 1 / 4
SETTINGS = ["epoch=40", "patience=15"]
WORDS = {
    "video": "probe on the video",
    "audio": "probe on the sound",
    "random_video": "the same, untrained backbone",
    "random_audio": "the same, untrained backbone",
    "fusion": "fusion of both",
    "shuffled": "the same, labels shuffled",
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = common.arguments("td3mf", __doc__).parse_args(argv)
    from visavox.logs import set_up_logging

    set_up_logging()
    summary = example(arguments.output, seed=arguments.seed, workers=arguments.workers)
    print_summary(summary, arguments.output)
    return 0


def example(
    root: Path,
    *,
    seed: int = 0,
    workers: int = 2,
    identities: int = common.IDENTITIES,
    clips: int = common.CLIPS_PER_IDENTITY,
    seconds: tuple[float, float] = common.SECONDS,
    words: Sequence[str] = SETTINGS,
    epochs: int = 40,
) -> dict[str, Any]:
    """Run every stage below `root`; returns what td3mf.json holds. Stages that are done are not done again.

    Args:
        identities, clips, seconds: people, clips of each, and how long these are, at least and at most.
        words: settings (key=value) of the probes and the fusion in place of the configuration's.
        epochs: of the backbones.
    """
    took: dict[str, float] = {}
    made = {"identities": identities, "clips_per_identity": clips, "seconds": seconds}
    labels, _ = common.make_bundles(root, took, seed=seed, workers=workers, **made)
    with common.stage("split", took):
        make_splits(root, labels, seed=seed)
    configs = {split: settings(root, split, seed, words) for split in (SPLIT, SHUFFLED)}
    with common.stage("backbones", took):
        pretrained = {split: pretrain(config, root, split, seed, epochs) for split, config in configs.items()}
    with common.stage("probes", took):
        rows = {row.name: row._asdict() for row in probes(configs[SPLIT], SPLIT)}
    with common.stage("control", took):
        rows["shuffled"] = probes(configs[SHUFFLED], SHUFFLED, only=["fusion"])[0]._asdict()
    summary = {
        "rows": {name: rows[name] | {"by_kind": by_kind(root, name)} for name in WORDS},
        "backbones": pretrained,
        "seconds": {name: round(value, 1) for name, value in took.items()},
    }
    (root / "td3mf.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def make_splits(root: Path, labels: Path, *, seed: int) -> None:
    """Write the split of the identities, with what each fake forges; and the same with shuffled labels but in the test."""
    common.make_split(root, labels, seed=seed, name=SPLIT, val=VAL_SHARE, test=TEST_SHARE)
    rows = pd.read_csv(common.split_path(root, SPLIT), dtype=str, keep_default_na=False)
    rng = np.random.default_rng(seed)
    for part in ("train", "val"):
        of_part = rows["split"] == part
        columns = ["label", "video_label", "audio_label"]
        rows.loc[of_part, columns] = rows.loc[of_part, columns].to_numpy()[rng.permutation(of_part.sum())]
    rows.to_csv(common.split_path(root, SHUFFLED), index=False)


def pretrain(config: Any, root: Path, split: str, seed: int, epochs: int) -> dict[str, Any]:
    from visavox.commands.pretrain_backbones import Recipe, pretrain_backbones

    return pretrain_backbones(
        config, root / "backbones" / split, data_version=split, recipe=Recipe(epochs=epochs, seed=seed)
    )


def probes(config: Any, split: str, **only: Any) -> list[Any]:
    from visavox.commands.probes import probes as train_all

    return train_all(config, data_version=split, code_version=split, **only)


def settings(root: Path, split: str, seed: int, words: Sequence[str]) -> Any:
    return common.settings(CONFIG, root, seed, [f"detector.backbone_weights={root / 'backbones' / split}", *words])


def by_kind(root: Path, name: str) -> dict[str, float]:
    """Kind of fake -> AUC of a row against all real test clips."""
    from visavox.evaluation.metrics import auc

    run = f"{SHUFFLED}/fusion" if name == "shuffled" else f"{RUN}/{name}"
    table = pd.read_csv(root / "runs" / run / "test_scores.csv")
    labels, p, kinds = (table[column].to_numpy() for column in ("label", "probability", "kind"))
    found = {}
    for kind in sorted(set(kinds[labels == 1])):
        chosen = (labels == 0) | (kinds == kind)
        found[kind] = round(auc(labels[chosen], p[chosen]), 4)
    return found


def print_summary(summary: dict[str, Any], root: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = summary["rows"]
    kinds = list(rows["fusion"]["by_kind"])
    title = (
        f"Test AUC by kind of fake; {rows['fusion']['clips']} clips of {rows['fusion']['identities']} unseen people "
        "(synthetic: no real skill)"
    )
    shown = Table("row", "", *kinds, "all", "95 %", title=title)
    for name, row in rows.items():
        cells = [f"{row['by_kind'][kind]:.3f}" for kind in kinds]
        shown.add_row(name, WORDS[name], *cells, f"{row['auc']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}")
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(shown)
    for name, row in summary["backbones"][SPLIT].items():
        console.print(f"{name}: trained for {row['epoch']} of {row['epochs']} epochs, val AUC {row['val_auc']:.3f}")
    console.print(f"{root / 'runs' / RUN}: the trainings; {root / 'td3mf.json'}. seconds: {summary['seconds']}")


if __name__ == "__main__":
    sys.exit(main())
