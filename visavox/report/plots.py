"""The figures of a report: name -> (PNG, what it shows in words, for those who cannot see it)."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np

from visavox.evaluation.metrics import Ranked, risk_coverage
from visavox.files import shown

INK, BLUE, ORANGE, GREY = "#1f2933", "#0b5cad", "#c2410c", "#8a94a0"


class Figure(NamedTuple):
    png: bytes
    title: str
    text: str
    """What it shows, in words; with the title its alternative text."""


def draw(labels: np.ndarray, scores: np.ndarray, numbers: dict[str, Any], threshold: float) -> dict[str, Figure]:
    """ROC, precision-recall, reliability, risk-coverage, histogram, AUC of the parts; without those that are undefined."""
    ranked = Ranked(labels, scores)
    figures = {"scores": _histogram(labels, scores, threshold), "reliability": _reliability(ranked, numbers)}
    if 0 < labels.sum() < len(labels):
        figures["roc"] = _roc(ranked, numbers)
        figures["precision_recall"] = _precision_recall(ranked, numbers)
        figures["risk_coverage"] = _risk_coverage(labels, scores, threshold)
        parts = _parts(numbers)
        if parts:
            figures["auc_by_part"] = parts
    order = ("roc", "precision_recall", "reliability", "risk_coverage", "scores", "auc_by_part")
    return {name: figures[name] for name in order if name in figures}


def _roc(ranked: Ranked, numbers: dict[str, Any]) -> Figure:
    figure, axes = axes_of()
    fpr, tpr = ranked.roc()
    auc, eer = (numbers["overall"]["metrics"][name] for name in ("auc", "eer"))
    axes.plot(fpr, tpr, color=BLUE, lw=2)
    axes.plot([0, 1], [0, 1], ":", color=GREY)
    axes.plot(eer["value"], 1 - eer["value"], "o", color=ORANGE, label=f"equal error {eer['value']:.3f}")
    axes.set(
        xlabel="false positive rate",
        ylabel="true positive rate",
        aspect="equal",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    axes.legend(loc="lower right", frameon=False)
    return Figure(png_of(figure), "ROC curve", f"Area {auc['value']:.3f}, equal error rate {eer['value']:.3f}.")


def _precision_recall(ranked: Ranked, numbers: dict[str, Any]) -> Figure:
    figure, axes = axes_of()
    recall, precision = ranked.precision_recall()
    share = float(ranked.labels.mean())
    axes.step(np.append(0, recall), np.append(precision[0], precision), where="pre", color=BLUE, lw=2)
    axes.axhline(share, ls=":", color=GREY, label=f"share of fakes {share:.2f}")
    axes.set(xlabel="recall of fakes", ylabel="precision", xlim=(-0.01, 1.01), ylim=(0, 1.02))
    axes.legend(loc="lower left", frameon=False)
    ap = numbers["overall"]["metrics"]["ap"]["value"]
    return Figure(png_of(figure), "Precision and recall", f"Average precision {ap:.3f}.")


def _reliability(ranked: Ranked, numbers: dict[str, Any]) -> Figure:
    figure, axes = axes_of()
    said, seen, count = ranked.reliability()
    spread = 1.96 * np.sqrt(np.maximum(seen * (1 - seen), 1e-9) / count)
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="perfect")
    axes.errorbar(
        said, seen, spread, fmt="o-", color=BLUE, ecolor=GREY, lw=1.5, ms=4, capsize=2, label="15 bins of equal size"
    )
    axes.set(xlabel="mean score", ylabel="share of fakes", aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="upper left", frameon=False)
    ece = numbers["overall"]["metrics"]["ece"]["value"]
    return Figure(
        png_of(figure), "Reliability", f"Share of fakes against mean score in 15 bins; calibration error {ece:.3f}."
    )


def _risk_coverage(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Figure:
    figure, axes = axes_of()
    coverage, risk = risk_coverage(labels, scores, threshold)
    axes.plot(coverage, risk, color=BLUE, lw=2)
    axes.set(
        xlabel="coverage: share of clips decided, surest first",
        ylabel="error rate among them",
        xlim=(0, 1.01),
        ylim=(0, None),
    )
    half = risk[len(risk) // 2]
    return Figure(
        png_of(figure),
        "Risk and coverage",
        f"Error rate {half:.3f} on the surer half of the clips, {risk[-1]:.3f} on all.",
    )


def _histogram(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Figure:
    figure, axes = axes_of()
    bins = np.linspace(0, 1, 31)
    for value, name, colour, hatch in ((0, "real", BLUE, ""), (1, "fake", ORANGE, "///")):
        axes.hist(
            scores[labels == value], bins, label=name, color=colour, alpha=0.55, hatch=hatch, edgecolor="white", lw=0.3
        )
    axes.axvline(threshold, color=INK, lw=1, ls="--", label=f"threshold {threshold:.3f}")
    axes.set(xlabel="score, P(fake)", ylabel="clips", xlim=(0, 1))
    axes.legend(frameon=False)
    return Figure(png_of(figure), "Scores", "Histogram of the scores of real and fake clips.")


def _parts(numbers: dict[str, Any]) -> Figure | None:
    rows = [("overall", numbers["overall"]["metrics"]["auc"])]
    for column, part in numbers["breakdowns"].items():
        rows += [(f"{column}: {name}", value["metrics"]["auc"]) for name, value in part["values"].items()]
    rows = [(name, auc) for name, auc in rows if auc["value"] is not None]
    if len(rows) < 2:
        return None
    figure, axes = axes_of(height=1 + 0.28 * len(rows), width=7)
    for i, (_, auc) in enumerate(rows):
        colour = ORANGE if i == 0 else BLUE
        if auc["low"] is not None:
            axes.plot([auc["low"], auc["high"]], [i, i], color=colour, lw=1.5)
        axes.plot(auc["value"], i, "o", color=colour, ms=5)
    axes.axvline(0.5, ls=":", color=GREY)
    axes.set(yticks=range(len(rows)), xlabel="AUC with 95 % interval", xlim=(None, 1.01))
    axes.set_yticklabels([shown(name) for name, _ in rows], parse_math=False)  # a $ is no formula
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    return Figure(
        png_of(figure), "AUC of the parts", "With the interval of each; the numbers stand in the tables below."
    )


def axes_of(height: float = 4.0, width: float = 4.6) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="#e4e7eb", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png_of(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
