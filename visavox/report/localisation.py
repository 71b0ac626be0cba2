"""The page of a localisation: the table, and curves with what was found and what was forged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from visavox.files import replacing
from visavox.localisation.rows import Located
from visavox.localisation.summary import Line
from visavox.report.page import fill
from visavox.report.plots import BLUE, GREY, INK, ORANGE, Figure, axes_of, png_of

MOST = 12
"""Clips whose curve is drawn."""
SHOWN = 3
"""Segments of a clip that are drawn, the highest first."""


def write_page(
    path: Path,
    title: str,
    rows: Sequence[Located],
    truth: Mapping[str, np.ndarray],
    table: Sequence[Line],
    notes: Sequence[str],
) -> None:
    """Write localisation.html: one page that loads nothing.

    Args:
        truth: clip -> forged segments (L, 2) in seconds; may be empty.
        table: empty where nothing is known of any clip.
    """
    with_curve = [row for row in rows if row.times]
    forged = [row for row in with_curve if len(truth.get(row.filename, ()))]
    chosen = sorted(forged or with_curve, key=lambda row: -row.probability)[:MOST]
    figures = [curve(row, truth.get(row.filename)) for row in chosen]
    page = fill(
        "localisation.html.jinja", title=title, table=list(table), notes=list(notes), figures=figures, clips=len(rows)
    )
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")


def curve(row: Located, spans: np.ndarray | None = None) -> Figure:
    """Draw P(fake) over time, the segments that were found (bars above) and those that are forged (shaded)."""
    figure, axes = axes_of(height=2.2, width=7)
    times = np.array(row.times)
    axes.plot(times, row.fake, color=BLUE, lw=1.2)
    for start, end in [] if spans is None else spans:
        axes.axvspan(start, end, color=ORANGE, alpha=0.25, hatch="//", lw=0)
    for score, start, end in row.found[:SHOWN]:
        axes.plot([start, end], [1.04, 1.04], color=INK, lw=4, alpha=float(np.clip(0.25 + score, 0.25, 1)))
    axes.axhline(0.5, ls=":", color=GREY)
    axes.set(xlabel="seconds", ylabel="P(fake)", ylim=(-0.02, 1.1), xlim=(times[0], times[-1] + 0.04))
    found = ", ".join(f"{start:.2f} to {end:.2f} s ({score:.2f})" for score, start, end in row.found[:SHOWN])
    known = "" if spans is None else f" Forged: {_said(spans)}."
    return Figure(png_of(figure), row.filename, f"Found: {found or 'nothing'}.{known}")


def _said(spans: np.ndarray) -> str:
    return ", ".join(f"{start:.2f} to {end:.2f} s" for start, end in spans) or "nothing"
