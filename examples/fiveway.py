"""Five branches on synthetic clips: what each of them sees, what they are worth together, and what the gate saves.

    python -m examples.fiveway            # on the clips of `make demo`, which are made if they are not there

Trains configs/fiveway_tiny.json and prints the test AUC of each branch and each fusion for each kind of fake, with the 95 %
interval of all kinds together, the coefficients of the five-way head, and the seconds of a clip with and without the gate.
Everyone in the test is unseen in training and in the fusion. Synthetic clips say nothing about real deepfakes.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from examples import demo

CONFIG = Path("configs/fiveway_tiny.json")
RUN = "fiveway"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="examples.fiveway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything (default demo)")
    parser.add_argument("--seed", type=int, default=0, help="of the clips, the split and the training (default 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args(argv)
    from visavox.logs import set_up_logging

    set_up_logging()
    summary = example(arguments.output, seed=arguments.seed, workers=arguments.workers)
    print_summary(summary, arguments.output)
    return 0


def example(root: Path, *, seed: int = 0, workers: int = 2) -> dict[str, Any]:
    """Run every stage below `root`; returns what fiveway.json holds. Stages that are done are not done again."""
    seconds: dict[str, float] = {}
    with demo.stage("clips", seconds):
        labels = demo.make_clips(root, seed=seed, workers=workers)
    with demo.stage("crop", seconds):
        demo.crop_clips(root, workers=workers)
    with demo.stage("split", seconds):
        demo.make_split(root, labels, seed=seed)
    with demo.stage("train", seconds):
        train_tiny(root, seed)
    summary = measure(root / "runs" / RUN) | {"seconds": {name: round(value, 1) for name, value in seconds.items()}}
    (root / "fiveway.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def train_tiny(root: Path, seed: int) -> None:
    from visavox import config
    from visavox.commands.train import train

    run = root / "runs" / RUN
    if (run / "gate.json").is_file():
        return
    words = [f"root_path={root}", f"runs_path={root / 'runs'}", f"seed={seed}", "device=cpu"]
    split = Path(demo.SPLIT).stem
    train(config.load(CONFIG, words), data_version=split, code_version=RUN, resume=(run / "config.json").is_file())


def measure(run: Path) -> dict[str, Any]:
    """AUC by head and kind of fake on the test clips of a finished run, its gate, and the five-way coefficients."""
    from visavox.detectors.fiveway.fusion import Fusion
    from visavox.detectors.fiveway.outputs import ablation

    table = pd.read_csv(run / "features.csv", keep_default_na=False, na_values=[""])
    fitted = Fusion.load(run / "fusion.json")
    test = table[table["split"] == "test"]
    shown = ["tiny", "visual", "temporal", "audio", "sync", "2way", "3way", "4way", "5way"]
    whole = ablation(fitted, test).set_index("head")
    head = fitted["5way"]
    return {
        "auc_by_kind": {name: by_kind(fitted, test, name) for name in shown},
        "auc": {name: [round(float(whole.loc[name, k]), 4) for k in ("auc", "auc_low", "auc_high")] for name in shown},
        "coefficients": {n: round(w, 3) for n, w in zip(head.features, head.weights)},
        "temperature": round(head.temperature, 3),
        "gate": json.loads((run / "gate.json").read_text(encoding="utf-8")),
        "n_test": len(test),
    }


def by_kind(fitted: Any, test: pd.DataFrame, name: str) -> dict[str, float]:
    """Kind of fake -> AUC of one head against all real test clips."""
    from visavox.detectors.fiveway.outputs import predictions
    from visavox.evaluation.metrics import auc

    p, labels, kinds = predictions(fitted, test, name), test["label"].to_numpy(), test["kind"].to_numpy()
    found = {}
    for kind in sorted(set(kinds[labels == 1])):
        chosen = (labels == 0) | (kinds == kind)
        found[kind] = round(auc(labels[chosen], p[chosen]), 4)
    return found


def print_summary(summary: dict[str, Any], root: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    kinds = list(summary["auc_by_kind"]["5way"])
    title = f"Test AUC by kind of fake; {summary['n_test']} clips of unseen people (synthetic: no real skill)"
    shown = Table("head", *kinds, "all", "95 %", title=title)
    for name, row in summary["auc_by_kind"].items():
        value, low, high = summary["auc"][name]
        shown.add_row(name, *(f"{row[kind]:.3f}" for kind in kinds), f"{value:.3f}", f"{low:.3f} to {high:.3f}")
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(shown)
    weights = ", ".join(f"{n} {w:+.2f}" for n, w in sorted(summary["coefficients"].items(), key=lambda i: -abs(i[1])))
    console.print(f"five-way coefficients, log-odds per deviation (T {summary['temperature']}): {weights}")
    gate, test = summary["gate"], summary["gate"]["test"]
    console.print(
        f"gate: recall {gate['recall']:.3f} [{gate['low']:.3f}, {gate['high']:.3f}] of {gate['fakes']} fake validation clips; "
        f"on test clips {1 - test['exits_fake']:.3f}, {test['exits_real']:.0%} of the real ones exit; "
        f"{test['seconds_per_clip']:.3f} s a clip without it, {test['seconds_per_clip_with_gate']:.3f} s with it"
    )
    console.print(f"{root / 'runs' / RUN}: features, heads and ablation; {root / 'fiveway.json'}")
    console.print(f"seconds: {summary['seconds']}")


if __name__ == "__main__":
    sys.exit(main())
