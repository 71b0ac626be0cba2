"""Which corpora of a split are trained on and which are tested on, as 2D3MF's configuration names them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pandas as pd

from visavox.splits.table import SplitError

SPELLINGS = {"forensics++": "ffpp", "faceforensics++": "ffpp"}
"""2D3MF's names of corpora that differ by more than capitals from those of the `corpus` column."""


def of_datasets(rows: pd.DataFrame, training: Sequence[str], evaluation: Sequence[str]) -> pd.DataFrame:
    """Return the rows of the named corpora, some of them moved between train and test.

    A corpus that is only trained on gives its test clips to training as well; one that is only tested on gives all its clips
    to the test; validation takes the val clips of all that are trained on. (2D3MF lets those that are only tested on choose
    the epoch too.) With empty lists nothing changes; with one empty list that side takes what the other names.

    Args:
        rows: as `read_split` returns them, with a column `corpus`.

    Raises:
        SplitError: there is no such column, no clip of a named corpus, or nothing left to train or validate on.
    """
    if not training and not evaluation:
        return rows
    if "corpus" not in rows or not rows["corpus"].astype(bool).all():
        raise SplitError(
            "training_datasets and eval_datasets choose by the column corpus, which this CSV lacks; make it with "
            "`visavox corpora`, join several with `visavox corpora concat`"
        )
    known = sorted(set(rows["corpus"]))
    trained = {_known(name, known) for name in training or evaluation}
    tested = {_known(name, known) for name in evaluation or training}
    kept = rows[rows["corpus"].isin(trained | tested)].copy()
    kept.loc[~kept["corpus"].isin(trained), "split"] = "test"
    kept.loc[~kept["corpus"].isin(tested) & (kept["split"] == "test"), "split"] = "train"
    empty = [split for split in ("train", "val") if not (kept["split"] == split).any()]
    if empty:
        raise SplitError(
            f"of {', '.join(sorted(trained))} no clip has split={' or '.join(empty)}; name more training_datasets"
        )
    return kept


def _known(name: str, known: Sequence[str]) -> str:
    meant = SPELLINGS.get(name.lower(), name.lower())
    for corpus in known:
        if corpus.lower() == meant:
            return corpus
    near = difflib.get_close_matches(meant, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise SplitError(f"no clip is of the corpus {name!r}; {hint}There are: {', '.join(known)}")
