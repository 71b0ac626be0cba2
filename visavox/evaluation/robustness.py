"""How much a detector's ranking suffers: AUC of each kind and level of a perturbation beside that of the clean clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cell:
    """One kind at one level, or the clean clips (kind `clean`, level 0)."""

    kind: str
    group: str
    """picture, sound or joint."""
    level: int
    constant: float
    unit: str
    """What the constant is, in words."""
    auc: float
    """NaN where it is not defined."""
    low: float
    """Of the 95 % interval, clustered by identity."""
    high: float
    clips: int
    lost: int
    """Clips that could not be scored under it and stand at the prior; they count."""


def relative_drop(clean: float, cell: float) -> float:
    """Return the share of the clean AUC that is lost: (clean - cell) / clean; below 0 where it rises."""
    return (clean - cell) / clean


def mean_relative_drop(clean: Cell, cells: Sequence[Cell]) -> float:
    """Return the mean of `relative_drop` over cells, each counting alike; NaN where no AUC is defined."""
    drops = [relative_drop(clean.auc, cell.auc) for cell in cells if np.isfinite(cell.auc)]
    return float(np.mean(drops)) if drops and np.isfinite(clean.auc) else float("nan")


def by_kind(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return kind -> its cells by level, the kind that lies lowest on average first."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.kind, []).append(cell)
    means = {kind: float(np.nanmean([cell.auc for cell in some] or [np.nan])) for kind, some in found.items()}
    order = sorted(found, key=lambda kind: (not np.isfinite(means[kind]), means[kind]))
    return {kind: sorted(found[kind], key=lambda cell: cell.level) for kind in order}


def describe(clean: Cell, cells: Sequence[Cell]) -> str:
    """Return the table as text, the kind that does most harm first."""
    levels = sorted({cell.level for cell in cells})
    lines = [f"{'AUC':16}" + "".join(f"{f'level {level}':>24}" for level in levels) + f"{'mean drop':>11}"]
    for kind, row in by_kind(cells).items():
        at = {cell.level: cell for cell in row}
        texts = [f"{_said(at[level]):>24}" if level in at else f"{'':24}" for level in levels]
        lines.append(f"{kind:16}" + "".join(texts) + f"{mean_relative_drop(clean, row):10.1%}")
    lines.append(f"{'clean':16}{_said(clean):>24}")
    lines.append(f"mean relative drop over {len(cells)} cells: {mean_relative_drop(clean, cells):.1%}")
    lost = sum(cell.lost for cell in cells)
    if lost:
        lines.append(
            f"{lost} clips of {sum(cell.clips for cell in cells)} gave no bundle and stand at the prior; they count"
        )
    return "\n".join(lines)


def _said(cell: Cell) -> str:
    return f"{cell.auc:.3f} [{cell.low:.3f}, {cell.high:.3f}]" if np.isfinite(cell.auc) else "not defined"
