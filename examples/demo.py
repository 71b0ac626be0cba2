"""The whole road on synthetic clips: videos -> bundles -> split -> training -> submission -> figures.

    make demo
    python -m examples.demo --output demo --seed 0

Nothing is downloaded: the clips are made here, faces are found by OpenCV's cascade, sync is measured by correlation, and the
network is tiny. What comes out shows that every part works. It says nothing about real deepfakes.
"""

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples import common
from examples.common import BUNDLES, IDENTITIES, SPLIT, VIDEOS, test_rows
from visavox.commands.trained import trained

RUN = "demo"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = common.arguments("demo", __doc__).parse_args(argv)
    summary = demo(arguments.output, seed=arguments.seed, workers=arguments.workers)
    print_table(summary, arguments.output)
    return 0 if summary["crop_failed"] == 0 else 1


def demo(root: Path, *, seed: int = 0, workers: int = 2) -> dict[str, Any]:
    """Run every stage below `root`; returns what summary.json holds. Stages that are done are not done again."""
    from visavox.logs import set_up_logging

    set_up_logging()
    seconds: dict[str, float] = {}
    labels, rows = common.make_bundles(root, seconds, seed=seed, workers=workers)
    with common.stage("split", seconds):
        split = common.make_split(root, labels, seed=seed)
    with common.stage("train", seconds):
        metrics = trained(common.settings(common.CONFIG, root, seed), data_version=SPLIT, code_version=RUN)
    with common.stage("eval", seconds):
        scores = score_test_clips(root, split, workers=workers)
    with common.stage("probe", seconds):
        trivial = trivial_auc(root, split)
    summary = {
        **aucs(split, scores),
        "trivial_auc": trivial,
        "best_val_auc": metrics["best_val_auc"],
        "epochs": metrics["epochs"],
        "clips": len(rows),
        "crop_ok": sum(row.bundle is not None for row in rows),
        "crop_failed": sum(row.bundle is None for row in rows),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    with common.stage("figure", seconds):
        draw(root, split, scores, root / "demo.png")
    summary["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    (root / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def score_test_clips(root: Path, split: Any, *, workers: int) -> dict[str, float]:
    """Score the test *videos* through eval.py, as a submission would be; file name -> P(fake)."""
    import csv

    from visavox.commands import evaluate as evaluation

    test = root / "test_videos"
    for name in test_rows(split)["filename"]:
        place = test / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(root / VIDEOS / name, place)
    submission = root / "submission.csv"
    checkpoint = root / "runs" / RUN / "best.ckpt"
    words = [
        "-input",
        str(test),
        "-output",
        str(submission),
        "--checkpoint",
        str(checkpoint),
        "--workers",
        str(workers),
    ]
    code = evaluation.main([*words, "--labels", str(root / VIDEOS / "labels.csv")])
    if code:
        raise RuntimeError(f"eval.py ended with exit code {code}")
    with submission.open(newline="", encoding="utf-8") as file:
        return {row["filename"]: float(row["probability"]) for row in csv.DictReader(file)}


def aucs(split: Any, scores: dict[str, float]) -> dict[str, Any]:
    """Test AUC, and per kind of fake against all real test clips."""
    from visavox.evaluation.metrics import auc

    test = test_rows(split)
    p = test["filename"].map(scores).to_numpy()
    real = (test["label"] == 0).to_numpy()
    by_kind = {}
    for kind in sorted(set(test["kind"][~real])):
        chosen = real | (test["kind"] == kind).to_numpy()
        by_kind[kind] = round(auc(test["label"].to_numpy()[chosen], p[chosen]), 4)
    whole = round(auc(test["label"].to_numpy(), p), 4)
    return {"test_auc": whole, "auc_by_kind": by_kind, "n_test": len(test), "n_test_real": int(real.sum())}


def trivial_auc(root: Path, split: Any) -> float:
    """AUC of a logistic regression on duration, file size, loudness and mean brightness: should be near 0.5.

    Over all clips, each judged by a probe that never saw its identity (five folds): on the test clips alone chance alone
    would move it by 0.06 either way.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from visavox.evaluation.metrics import auc

    features = np.array([trivial_features(root, row) for row in split.itertuples()])
    probe = make_pipeline(StandardScaler(), LogisticRegression())
    labels, people = split["label"].to_numpy(), split["identity"].to_numpy()
    scores = cross_val_predict(probe, features, labels, groups=people, cv=GroupKFold(5), method="predict_proba")[:, 1]
    return round(auc(labels, scores), 4)


def trivial_features(root: Path, row: Any) -> list[float]:
    """Duration in seconds, log file size, loudness in dB, mean brightness of the faces."""
    from visavox.bundle import Bundle

    bundle = Bundle.load(root / row.filepath)
    loudness = 10 * np.log10(np.mean(np.square(bundle.audio, dtype=np.float64)) + 1)
    size = (root / VIDEOS / row.filename).stat().st_size
    return [len(bundle.times) / float(bundle.fps), np.log(size), loudness, float(bundle.faces.mean())]


def draw(root: Path, split: Any, scores: dict[str, float], path: Path) -> None:
    """ROC per kind of fake, learning curve, sample faces and their audio-visual distance curves."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import pandas as pd
    from sklearn.metrics import roc_curve

    from visavox.bundle import Bundle

    figure = plt.figure(figsize=(15, 8.5), layout="constrained")
    grid = figure.add_gridspec(3, 5, height_ratios=[2.2, 1, 1])
    roc, learning = figure.add_subplot(grid[0, :2]), figure.add_subplot(grid[0, 2:])
    test = test_rows(split)
    p, real = test["filename"].map(scores), test["label"] == 0
    for kind in sorted(set(test["kind"][~real])):
        chosen = real | (test["kind"] == kind)
        fpr, tpr, _ = roc_curve(test["label"][chosen], p[chosen])
        roc.plot(fpr, tpr, label=kind)
    roc.plot([0, 1], [0, 1], ":", color="grey")
    roc.set(
        xlabel="false positive rate", ylabel="true positive rate", title="Test ROC by kind of fake (unseen identities)"
    )
    roc.legend()
    history = pd.read_csv(root / "runs" / RUN / "metrics.csv")
    for name in ("train/loss", "val/loss", "val/auc"):
        learning.plot(history["epoch"], history[name], label=name)
    learning.set(xlabel="epoch", title="Learning curve")
    learning.legend()
    samples = test.groupby("kind", sort=True).head(1).head(5)
    for column, row in enumerate(samples.itertuples()):
        bundle = Bundle.load(root / row.filepath, full=False)
        face, curve = figure.add_subplot(grid[1, column]), figure.add_subplot(grid[2, column])
        face.imshow(np.concatenate(list(bundle.faces[::2][:3]), axis=1))
        face.set(title=f"{row.kind}: P(fake) {scores[row.filename]:.2f}", xticks=[], yticks=[])
        shifts = np.arange(len(bundle.mdist)) - len(bundle.mdist) // 2
        curve.plot(shifts, bundle.mdist)
        curve.axvline(float(bundle.latency), color="tab:red", lw=1)
        curve.set(xlabel="audio late by (frames)", ylabel="distance" if column == 0 else None)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def print_table(summary: dict[str, Any], root: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    what = {
        "clips": f"{summary['clips']} synthetic clips of {IDENTITIES} identities, {root / VIDEOS}",
        "crop": f"{summary['crop_ok']} bundles, {summary['crop_failed']} failed, {root / BUNDLES}",
        "split": f"{summary['n_test']} test clips ({summary['n_test_real']} real), people apart, {common.split_path(root)}",
        "train": f"{summary['epochs']} epochs, best val/auc {summary['best_val_auc']:.3f}, {root / 'runs' / RUN}",
        "eval": f"test AUC {summary['test_auc']:.3f}, {root / 'submission.csv'}",
        "probe": f"AUC {summary['trivial_auc']:.3f} from duration, size, loudness, brightness (0.5 = nothing to exploit)",
        "figure": f"{root / 'demo.png'}, {root / 'summary.json'}",
    }
    table = Table(
        "stage", "what came out", "seconds", title="Visavox demo (synthetic clips: shows that the parts work, no more)"
    )
    for name, text in what.items():
        table.add_row(name, text, f"{summary['seconds'][name]:.1f}")
    table.add_row("total", "", f"{sum(summary['seconds'].values()):.1f}", style="bold")
    kinds = Table("kind of fake", "test AUC")
    for kind, value in summary["auc_by_kind"].items():
        kinds.add_row(kind, f"{value:.3f}")
    console = Console()
    console.print(table)
    console.print(kinds)


if __name__ == "__main__":
    sys.exit(main())
