"""The tiny Xception pair on synthetic clips: train both branches, fuse them, and say which kind of fake each can see.

    python -m examples.xception                       # on the clips of `make demo`; prints AUC and accuracy per kind
    python -m examples.xception --small --output app  # fewer clips, some minutes: what `make app` starts from

Each branch learns what it can see: the video branch that blended faces are fake, the audio branch that vocoded voices are.
A real voice that was moved or swapped sounds real, and looks real, so neither can tell it; that takes the sync of both.
Synthetic clips say nothing about real deepfakes.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from examples import common
from visavox.commands.trained import trained
from visavox.config import LogitCalibration

VISIBLE = {"video": "face_blended", "audio": "voice_vocoded"}
TRAINED_ON = "synthetic drawn faces and voices (tiny networks): shows how it works, says nothing about real videos"
CHECKPOINT = "xception.ckpt"
SMALL: dict[str, Any] = {
    "identities": 20,
    "clips_per_identity": 8,
    "seconds": (3.0, 4.0),
    "kinds": tuple(VISIBLE.values()),
}
SMALL_WORDS = ("epoch=10",)
"""Fewer clips want more epochs."""
STRATEGIES = {
    "equal": {"strategy": "equal"},
    "video_trust": {"strategy": "video_trust"},
    "adaptive 0.2": {"strategy": "adaptive", "tau": 0.2},
    "adaptive 5": {"strategy": "adaptive", "tau": 5.0},
    "either": {"strategy": "either"},
}
AS_TRAINED = {
    "video_calibration": LogitCalibration(),
    "audio_calibration": LogitCalibration(),
    "audio_temperature": 2.0,
}
"""Settings of a pair without calibration."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = common.arguments("xception", __doc__)
    parser.add_argument("--small", action="store_true", help="160 clips instead of 480, no table")
    arguments = parser.parse_args(argv)
    root = arguments.output
    checkpoint = make_pair(root, seed=arguments.seed, workers=arguments.workers, small=arguments.small)
    if not arguments.small:
        print_table(table(root, checkpoint), root)
    return 0


def make_pair(root: Path, *, seed: int = 0, workers: int = 2, small: bool = False) -> Path:
    """Clips, bundles, both branches, one checkpoint; stages that are done are not done again. Returns ROOT/xception.ckpt."""
    from visavox.detectors.xception.__main__ import fuse
    from visavox.logs import set_up_logging

    checkpoint = root / CHECKPOINT
    if checkpoint.is_file():
        return checkpoint
    set_up_logging()
    labels = common.make_clips(root, seed=seed, workers=workers, **(SMALL if small else {}))
    common.crop_clips(root, workers=workers)
    split = common.make_split(root, labels, seed=seed)
    for branch, kind in VISIBLE.items():
        split.assign(label=(split["kind"] == kind).astype(int)).to_csv(root / f"data/{branch}.csv", index=False)
        train_branch(root, branch, seed, SMALL_WORDS if small else ())
    branches = {branch: root / f"runs/xception_{branch}/checkpoints/last.ckpt" for branch in VISIBLE}
    for branch, path in branches.items():
        calibrate(root, branch, path)
    # Each branch was taught its own modality's fakes, so a clip is as fake as the more suspicious of them says.
    print(fuse(**branches, output=checkpoint, strategy="either", trained_on=f"{len(split)} clips of {TRAINED_ON}"))
    return checkpoint


def train_branch(root: Path, branch: str, seed: int, words: Sequence[str] = ()) -> None:
    import torch

    torch.set_num_threads(1)  # networks this small lose more by sharing their work than they gain
    run = f"xception_{branch}"
    config = common.settings(Path(f"configs/{run}_tiny.json"), root, seed, words)
    trained(config, data_version=branch, code_version=run)


def calibrate(root: Path, branch: str, checkpoint: Path) -> None:
    """calibration.json beside the checkpoint: Platt's line on the validation clips, with the labels of this branch.

    One validation clip in eight is a fake that the branch can see; a clip that somebody asks about is taken to be as likely
    fake as real.
    """
    import pandas as pd

    from visavox.bundle.trim import load_trimmed
    from visavox.detectors import build
    from visavox.evaluation import calibration
    from visavox.files import sha256_of

    rows = pd.read_csv(root / f"data/{branch}.csv")
    val = rows[rows["split"] == "val"]
    scorer = build.load(checkpoint)
    scores = scorer.score([load_trimmed(root / path, scorer.config) for path in val["filepath"]])
    names = {"checkpoint": sha256_of(checkpoint), "clips": list(val["filename"])}
    fitted = calibration.fit(val["label"].to_numpy(), scores, "platt", target_prior=0.5, **names)
    fitted.save(checkpoint.with_name("calibration.json"))


class Table(NamedTuple):
    """Of the test clips: scorer -> kind of fake, against all real clips -> number."""

    auc: dict[str, dict[str, float]]
    accuracy: dict[str, dict[str, float]]
    """Balanced, of the verdicts at 0.5."""
    accuracy_as_trained: dict[str, dict[str, float]]
    """The same without the calibration of the branches."""


def table(root: Path, checkpoint: Path) -> Table:
    """AUC and accuracy of each branch and strategy on unseen identities."""
    import pandas as pd

    from visavox.bundle.trim import load_trimmed
    from visavox.detectors import build
    from visavox.detectors.xception.scorer import Session
    from visavox.evaluation.metrics import auc

    scorer = build.load(checkpoint)
    test = common.test_rows(pd.read_csv(common.split_path(root)))
    evidence = [Session(scorer, load_trimmed(root / path, scorer.config)).evidence() for path in test["filepath"]]
    labels, kinds = test["label"].to_numpy(), test["kind"].to_numpy()
    real = labels == 0
    fakes = {kind: kinds == kind for kind in sorted(set(kinds[~real]))}
    fakes["blended or vocoded"] = np.isin(kinds, list(VISIBLE.values()))
    fakes["all fakes"] = ~real

    def measured(scores: dict[str, np.ndarray], measure: Callable[..., float]) -> dict[str, dict[str, float]]:
        return {
            name: {kind: round(float(measure(labels[real | fake], p[real | fake])), 4) for kind, fake in fakes.items()}
            for name, p in scores.items()
        }

    def balanced_accuracy(truth: np.ndarray, p: np.ndarray) -> float:
        return ((p[truth == 1] >= 0.5).mean() + (p[truth == 0] < 0.5).mean()) / 2

    scores = scores_of(evidence, scorer.settings)
    as_trained = scores_of(evidence, scorer.settings.model_copy(update=AS_TRAINED))
    return Table(measured(scores, auc), measured(scores, balanced_accuracy), measured(as_trained, balanced_accuracy))


def scores_of(evidence: list[Any], settings: Any) -> dict[str, np.ndarray]:
    """P(fake) of clips, (N,), by each branch alone and by each strategy."""
    from visavox.detectors.xception import fusion
    from visavox.detectors.xception.evidence import clip_probability

    said = [one.calibrated(settings) for one in evidence]
    scores = {
        "video": fusion.sigmoid(np.array([fusion.pool(one.frame_logits, "mean") for one in said])),
        "audio": fusion.sigmoid(np.array([fusion.pool(one.window_logits, "mean") for one in said])),
    }
    for name, choice in STRATEGIES.items():
        chosen = settings.model_copy(update=choice)
        scores[name] = np.array([clip_probability(one, chosen) for one in evidence])
    return scores


def print_table(found: Table, root: Path) -> None:
    from rich.console import Console
    from rich.table import Table as Shown

    kinds = list(next(iter(found.auc.values())))
    aucs = Shown(
        "scorer", *kinds, title="Test AUC against all real clips, unseen identities (synthetic: no real skill)"
    )
    verdicts = Shown("scorer", *kinds, title="Balanced accuracy of verdicts at 0.5, before and after calibration")
    for name, row in found.auc.items():
        before, after = found.accuracy_as_trained[name], found.accuracy[name]
        aucs.add_row(name, *(f"{row[kind]:.3f}" for kind in kinds))
        verdicts.add_row(name, *(f"{before[kind]:.3f} {after[kind]:.3f}" for kind in kinds))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(aucs, verdicts)
    (root / "xception.json").write_text(json.dumps(found._asdict(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
