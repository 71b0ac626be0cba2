"""Which of several classes a clip is of, where that is learnt in place of real and fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from visavox.splits.table import SplitError
from visavox.splits.text_table import on_lines


@dataclass(frozen=True)
class Classes:
    """A column of a split CSV and what may stand there."""

    column: str
    names: tuple[str, ...]
    """In the order of the network's outputs."""

    def check(self, rows: pd.DataFrame) -> None:
        """Require that every row names a class, and that two of them are there to be trained on.

        Raises:
            SplitError: lists what is missing, with the cure.
        """
        if self.column not in rows:
            raise SplitError(
                f"the column {self.column} is missing; `visavox corpora ravdess` writes it, or add one that says of each clip: "
                f"{', '.join(self.names)}"
            )
        cells = rows[self.column].astype(str).str.lower()
        wrong = rows[~cells.isin(self.names)]
        if len(wrong):
            found = ", ".join(sorted({repr(cell) for cell in wrong[self.column]})[:5])
            raise SplitError(
                f"{self.column} is {found} in {len(wrong)} of {len(rows)} rows ({on_lines(wrong.index)}); expected one of "
                f'{", ".join(self.names)}. training_datasets=["ravdess"] takes the rows of one corpus'
            )
        for split, least in (("train", 2), ("val", 1)):
            if (n := cells[rows["split"] == split].nunique()) < least:
                raise SplitError(
                    f"the {split} split holds {n} {self.column}(s), {least} are needed; share out more clips"
                )

    def labels(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the place of each row's class: (N,) int64."""
        places = {name: place for place, name in enumerate(self.names)}
        return rows[self.column].astype(str).str.lower().map(places).to_numpy(np.int64)

    def describe(self, labels: Sequence[int]) -> str:
        """Return how many clips of how many classes these are, in words."""
        return f"{len(labels)} clips of {len(set(labels))} classes ({self.column})"
