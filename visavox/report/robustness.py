"""The page of a robustness grid: a table with the kind that does most harm first, and degradation curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visavox.evaluation.robustness import Cell, by_kind, mean_relative_drop
from visavox.files import replacing
from visavox.report.page import fill
from visavox.report.plots import BLUE, GREY, INK, Figure, axes_of, png_of


def write_page(path: Path, clean: Cell, cells: Sequence[Cell]) -> None:
    """Write robustness.html: one page that loads nothing."""
    kinds = by_kind(cells)
    page = fill(
        "robustness.html.jinja",
        title="Robustness",
        clean=clean,
        kinds=kinds,
        levels=sorted({cell.level for cell in cells}),
        drops={kind: mean_relative_drop(clean, some) for kind, some in kinds.items()},
        drop=mean_relative_drop(clean, cells),
        cells=len(cells),
        lost=sum(cell.lost for cell in cells),
        figures=[curve(clean, some) for some in kinds.values()],
        defined=lambda value: bool(np.isfinite(value)),
    )
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")


def curve(clean: Cell, cells: Sequence[Cell]) -> Figure:
    """Draw the AUC of one kind over its levels with its interval, the clean clips at level 0."""
    figure, axes = axes_of(height=2.4, width=3.6)
    points = [cell for cell in (clean, *cells) if np.isfinite(cell.auc)]
    levels = [cell.level for cell in points]
    axes.fill_between(levels, [c.low for c in points], [c.high for c in points], color=BLUE, alpha=0.18, lw=0)
    axes.plot(levels, [cell.auc for cell in points], "o-", color=BLUE, lw=1.5, ms=4)
    axes.axhline(0.5, ls=":", color=GREY)
    axes.set(xlabel="level", ylabel="AUC", ylim=(-0.02, 1.02), xticks=levels)
    axes.set_title(cells[0].kind, color=INK, fontsize=10)
    said = ", ".join(f"{cell.auc:.3f} at {cell.constant:g}" for cell in points if cell.level)
    return Figure(png_of(figure), cells[0].kind, f"AUC {clean.auc:.3f} clean; {said} ({cells[0].unit}).")
