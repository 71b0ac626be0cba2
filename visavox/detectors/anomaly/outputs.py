"""What a finished run leaves in its folder, by the names the detector's description gives.

training_curves.png      losses of both stages, learning rate
evaluation_results.png   scores of real clips and of each kind of fake, accuracy against threshold, log-probabilities
detailed_results.csv     a row per clip of the validation and test splits
logs/                    the history of each stage, a row per epoch
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from visavox.bundle import Bundle
from visavox.bundle.trim import load_trimmed
from visavox.config import Config
from visavox.files import replacing
from visavox.splits.text_table import table_for_people

log = logging.getLogger(__name__)

CURVES, EVALUATION, RESULTS, LOGS = "training_curves.png", "evaluation_results.png", "detailed_results.csv", "logs"
KIND_COLUMNS = ("category", "kind", "type", "method")
"""Columns of a split that may say what kind of fake a clip is; the first that is there counts."""
COLORS = ("#0b5cad", "#c2410c", "#2e7d32", "#7b1fa2", "#b8860b", "#00838f", "#ad1457", "#5d4037", "#455a64", "#9e9d24")


class StepScores(NamedTuple):
    """How unlikely each frame of one clip is."""

    times: np.ndarray
    """(T,) float64 seconds of the video's clock."""
    scores: np.ndarray
    """(T,) float64 negative log-likelihood in nats, mean over the windows that hold the frame; higher = less like real."""


class StepScorer(Protocol):
    """What is asked of a trained detector here."""

    config: Config
    stages: tuple[str, ...]
    threshold: Any
    """Clip score of P(fake) = 0.5, as a number."""

    def step_scores(self, bundle: Bundle) -> StepScores:
        """Return how unlikely each frame of a bundle is; empty without sound."""

    def probability(self, score: float) -> float:
        """Return P(fake) of a clip with this mean score; 0.5 for NaN."""


def write_outputs(detector: StepScorer, run: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Score the validation and test clips of a split with a trained detector and write all four; returns the results.

    Args:
        run: folder of a run of train.py.
        rows: the split, as `visavox.splits.table.read_split` gives it.
    """
    results = score_rows(detector, rows[rows["split"] != "train"])
    with replacing(run / RESULTS) as path:
        table_for_people(results).to_csv(path, index=False, float_format="%.6g")
    histories = keep_histories(detector, run)
    with replacing(run / CURVES) as path:
        _draw_curves(histories, path)
    with replacing(run / EVALUATION) as path:
        _draw_evaluation(results, float(detector.threshold), path)
    log.info("%s: %s, %s, %s, %s/", run, RESULTS, CURVES, EVALUATION, LOGS)
    return results


def score_rows(detector: StepScorer, rows: pd.DataFrame) -> pd.DataFrame:
    """A row per clip: filename, split, category, label, score, log_probability, probability, frames, seconds.

    `score` is the mean negative log-likelihood per step in nats, `log_probability` its negative, `probability` P(fake).
    A clip without sound has no score.
    """
    kinds = next((rows[name] for name in KIND_COLUMNS if name in rows), rows["label"].map({0: "real", 1: "fake"}))
    results = []
    for row, kind in zip(rows.itertuples(), kinds):
        bundle = load_trimmed(row.path, detector.config)
        steps = detector.step_scores(bundle).scores
        score = float(steps.mean()) if len(steps) else np.nan
        results.append(
            {
                "filename": row.filename,
                "split": row.split,
                "category": "real" if row.label == 0 else kind,
                "label": row.label,
                "score": score,
                "log_probability": -score,
                "probability": detector.probability(score),
                "frames": bundle.track_frames,
                "seconds": round(bundle.track_frames / float(bundle.fps), 3),
            }
        )
    return pd.DataFrame(results)


def keep_histories(detector: StepScorer, run: Path) -> dict[str, pd.DataFrame]:
    """RUN/logs/STAGE.csv of every stage; stage -> its epochs."""
    (run / LOGS).mkdir(exist_ok=True)
    histories = {}
    for stage in detector.stages:
        source = (run if stage == detector.stages[-1] else run / stage) / "metrics.csv"
        with replacing(run / LOGS / f"{stage}.csv") as path:
            shutil.copyfile(source, path)
        histories[stage] = pd.read_csv(source)
    return histories


def _draw_curves(histories: dict[str, pd.DataFrame], path: Path) -> None:
    plt = _pyplot()
    figure, axes = plt.subplots(2, len(histories), figsize=(6 * len(histories), 6), layout="constrained", squeeze=False)
    for (stage, history), (losses, rate) in zip(histories.items(), axes.T):
        shown = [name for name in ("train/loss", "val/loss", "val/nll") if name in history]
        for name, color in zip(shown, COLORS):
            losses.plot(history["epoch"], history[name], color=color, label=name)
        losses.set(title=f"stage {stage}", xlabel="epoch", ylabel="loss" if stage == "sync" else "nats per step")
        losses.legend(frameon=False)
        rates = [name for name in history if name.startswith("lr-")]
        if rates:
            rate.plot(history["epoch"], history[rates[0]], color="black")
        rate.set(xlabel="epoch", ylabel="learning rate")
    figure.savefig(path, dpi=100, format="png")
    plt.close(figure)


def _draw_evaluation(results: pd.DataFrame, threshold: float, path: Path) -> None:
    plt = _pyplot()
    figure, (histogram, accuracy, spread) = plt.subplots(1, 3, figsize=(17, 4.8), layout="constrained")
    heard = results[results["score"].notna()]
    groups = {"real": heard.loc[heard["label"] == 0, "score"]}
    groups |= dict(sorted((kind, same["score"]) for kind, same in heard[heard["label"] == 1].groupby("category")))
    low, high = np.percentile(heard["score"], [0, 98])
    bins = np.linspace(low, max(high, threshold * 1.05, low + 1e-3), 40)
    for (kind, scores), color in zip(groups.items(), COLORS * 9):
        filled = {"alpha": 0.45} if kind == "real" else {"histtype": "step", "lw": 1.6}
        histogram.hist(
            scores.clip(upper=bins[-1]), bins, density=True, color=color, label=f"{kind} ({len(scores)})", **filled
        )
    histogram.set(
        xlabel="score: negative log-likelihood, nats per step", ylabel="density", title="Scores (validation and test)"
    )
    if heard["label"].nunique() == 2:
        at = np.quantile(heard["score"], np.linspace(0, 1, 200))
        above = heard["score"].to_numpy() >= at[:, None]  # (200, clips)
        fake = heard["label"].to_numpy() == 1
        accuracy.plot(at, (above == fake).mean(1), color=COLORS[0], label="accuracy")
        accuracy.plot(
            at, (above[:, fake].mean(1) + 1 - above[:, ~fake].mean(1)) / 2, color=COLORS[1], label="balanced accuracy"
        )
        accuracy.set_xlim(low, bins[-1])
    else:
        accuracy.text(0.5, 0.5, "no fakes to judge", ha="center", transform=accuracy.transAxes)
    accuracy.set(xlabel="threshold", title="Accuracy against threshold")
    for axis in (histogram, accuracy):
        axis.axvline(threshold, color="black", ls="--", lw=1, label="threshold from validation reals")
        axis.legend(frameon=False, fontsize=8)
    spread.boxplot([-scores for scores in groups.values()], tick_labels=list(groups), vert=False, showfliers=False)
    spread.set(xlabel="log-probability per step, nats", title="Log-probabilities")
    figure.savefig(path, dpi=100, format="png")
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
