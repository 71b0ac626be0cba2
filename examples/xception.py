"""The tiny Xception pair on synthetic clips: train both branches, fuse them, and say which kind of fake each can see.

    python -m examples.xception                       # on the clips of `make demo`; prints AUC per kind of fake and scorer
    python -m examples.xception --small --output app  # fewer clips, about two minutes: what `make app` starts from

Each branch learns what it can see: the video branch that blended faces are fake, the audio branch that vocoded voices are.
A real voice that was moved or swapped sounds real, and looks real, so neither can tell it; that takes the sync of both.
Synthetic clips say nothing about real deepfakes.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples import demo

VISIBLE = {"video": "face_blended", "audio": "voice_vocoded"}
TRAINED_ON = "synthetic drawn faces and voices (tiny networks): shows how it works, says nothing about real videos"
CHECKPOINT = "xception.ckpt"
STRATEGIES = {
    "fused equal": {"strategy": "equal"},
    "fused video_trust": {"strategy": "video_trust"},
    "fused adaptive 0.2": {"strategy": "adaptive", "tau": 0.2},
    "fused adaptive 5": {"strategy": "adaptive", "tau": 5.0},
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="examples.xception", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything (default demo)")
    parser.add_argument("--seed", type=int, default=0, help="of the clips, the split and the training (default 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--small", action="store_true", help="160 clips instead of 480, no table")
    arguments = parser.parse_args(argv)
    root = arguments.output
    checkpoint = make_pair(root, seed=arguments.seed, workers=arguments.workers, small=arguments.small)
    if not arguments.small:
        print_table(table(root, checkpoint), root)
    return 0


def make_pair(root: Path, *, seed: int = 0, workers: int = 2, small: bool = False) -> Path:
    """Clips, bundles, both branches, one checkpoint; stages that are done are not done again. Returns ROOT/xception.ckpt."""
    from utils import set_up_logging
    from visavox.xception.__main__ import fuse

    checkpoint = root / CHECKPOINT
    if checkpoint.is_file():
        return checkpoint
    set_up_logging()
    labels = make_small_clips(root, seed, workers) if small else demo.make_clips(root, seed=seed, workers=workers)
    demo.crop_clips(root, workers=workers)
    split = demo.make_split(root, labels, seed=seed)
    for branch, kind in VISIBLE.items():
        split.assign(label=(split["kind"] == kind).astype(int)).to_csv(root / f"data/{branch}.csv", index=False)
        train_branch(root, branch, seed)
    video, audio = (root / f"runs/xception_{branch}/checkpoints/last.ckpt" for branch in VISIBLE)
    fuse(video, audio, checkpoint, trained_on=f"{len(split)} clips of {TRAINED_ON}")
    return checkpoint


def make_small_clips(root: Path, seed: int, workers: int) -> Path:
    from visavox.synthetic import make_dataset

    labels = root / demo.VIDEOS / "labels.csv"
    if labels.is_file():
        return labels
    kinds = tuple(VISIBLE.values())
    return make_dataset(
        root / demo.VIDEOS, identities=20, clips_per_identity=8, seed=seed, kinds=kinds, workers=workers
    )


def train_branch(root: Path, branch: str, seed: int) -> dict[str, Any]:
    from train import train
    from visavox import config

    run = f"xception_{branch}"
    if (root / "runs" / run / "test.json").is_file():
        return {}
    words = [f"root_path={root}", f"runs_path={root / 'runs'}", f"seed={seed}", "device=cpu"]
    begun = (root / "runs" / run / "config.json").is_file()
    settings = config.load(f"configs/{run}_tiny.json", words)
    return train(settings, data_version=branch, code_version=run, resume=begun)


def table(root: Path, checkpoint: Path) -> dict[str, dict[str, float]]:
    """Test AUC of unseen identities: scorer -> kind of fake (against all real clips) -> AUC."""
    import pandas as pd

    import model
    from visavox.bundle import Bundle
    from visavox.metrics import auc
    from visavox.xception import fusion
    from visavox.xception.scorer import clip_probability

    scorer = model.load(checkpoint)
    test = demo.test_rows(pd.read_csv(root / demo.SPLIT))
    evidence = [scorer.evidence(Bundle.load(root / path)) for path in test["filepath"]]
    scores = {
        "video": np.array([fusion.pool(one.frame_logits, "mean") for one in evidence]),
        "audio": np.array([fusion.pool(one.window_logits, "mean") for one in evidence]),
    }
    for name, choice in STRATEGIES.items():
        settings = scorer.settings.model_copy(update=choice)
        scores[name] = np.array([clip_probability(one, settings) for one in evidence])
    real = (test["label"] == 0).to_numpy()
    kinds = test["kind"].to_numpy()
    groups = {kind: kinds == kind for kind in sorted(set(kinds[~real]))}
    groups["blended or vocoded"] = np.isin(kinds, list(VISIBLE.values()))
    groups["all fakes"] = ~real
    labels = test["label"].to_numpy()
    return {
        name: {group: round(auc(labels[real | chosen], p[real | chosen]), 4) for group, chosen in groups.items()}
        for name, p in scores.items()
    }


def print_table(aucs: dict[str, dict[str, float]], root: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    kinds = list(next(iter(aucs.values())))
    shown = Table(
        "scorer", *kinds, title="Test AUC against all real clips, unseen identities (synthetic: no real skill)"
    )
    for name, row in aucs.items():
        shown.add_row(name, *(f"{row[kind]:.3f}" for kind in kinds))
    Console(width=None if sys.stdout.isatty() else 120).print(shown)
    (root / "xception.json").write_text(json.dumps(aucs, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
