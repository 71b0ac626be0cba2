"""What localisation keeps of each clip: its curve, its segments, or why there are none."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from visavox.evaluation.rows import Identity

CURVES = "curves.jsonl"
DIGITS = 7


@dataclass(frozen=True)
class Located:
    """One clip."""

    filename: str
    """Path below the folder that was scored, with forward slashes."""
    status: str = "ok"
    """What became of it; see `visavox.status`."""
    reason: str = ""
    """Why there is no curve."""
    probability: float = 0.5
    """P(fake) of the clip as the detector scores it; the prior where it could not."""
    times: list[float] = field(default_factory=list)
    """Seconds at which the steps begin."""
    fake: list[float] = field(default_factory=list)
    """P(fake) of each step."""
    proposals: list[list[float]] = field(default_factory=list)
    """Score, start, end in seconds; the highest first."""
    planted: list[list[float]] | None = None
    """Segments that were planted in it; None where nothing is known of them."""
    kind: str = ""
    """What was planted: picture or sound."""
    file: tuple[int, ...] = ()
    """Size and time of change of the input."""
    identity: Identity | None = None
    """What the curve follows from."""

    @property
    def found(self) -> np.ndarray:
        """Proposals (P, 3) float64."""
        return np.array(self.proposals, np.float64).reshape(-1, 3)

    def to_json(self) -> str:
        """Return the row as one line of JSON."""
        row: dict[str, Any] = asdict(self)
        for name in ("times", "fake"):
            row[name] = [round(value, DIGITS) for value in row[name]]
        row["proposals"] = [[round(value, DIGITS) for value in proposal] for proposal in row["proposals"]]
        return json.dumps(row, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a row that `to_json` wrote.

        Raises:
            ValueError: it is none.
        """
        try:
            row = json.loads(text)
            identity = Identity.from_json(row.pop("identity")) if row.get("identity") else row.pop("identity", None)
            return cls(**row | {"file": tuple(row["file"]), "identity": identity})
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"no row of {CURVES}: {error}") from None


def read_curves(folder: Path) -> list[Located]:
    """Return the rows of an earlier run; none where there are none. A line that was cut off by a kill is left out."""
    path = folder / CURVES
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(Located.from_json(line))
        except ValueError:
            continue
    return rows
