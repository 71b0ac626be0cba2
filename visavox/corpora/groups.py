"""Who is who where a corpus names nobody: what `visavox groups` found, put beside what the corpus says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from visavox.splits.names import match
from visavox.splits.table import SplitError
from visavox.splits.text_table import read_text_table


def join(rows: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, str]:
    """Add the identities that a table finds in clips to their donors, so that every protocol keeps them together.

    Args:
        rows: columns filename and perhaps donors (texts joined by `;`).
        path: CSV with filename and identity, several joined by `;`, empty for a clip like no other.

    Returns:
        The rows, and how many clips were joined to others, in words.

    Raises:
        SplitError: the table cannot be read, or none of its lines is one of these clips.
    """
    table = read_text_table(path, ("filename", "identity"), SplitError)
    lines, _ = match(rows["filename"].tolist(), table["filename"].tolist())
    if len(rows) and not (lines >= 0).any():
        raise SplitError(
            f"{path}: none of its {len(table)} lines is one of these {len(rows)} clips; it was made of other bundles"
        )
    found = ["" if line < 0 else table["identity"].iloc[line] for line in lines]
    before = rows["donors"] if "donors" in rows else [""] * len(rows)
    donors = [";".join(part for part in both if part) for both in zip(before, found)]
    absent, stray = int((lines < 0).sum()), len(table) - int((lines >= 0).sum())
    said = f"{path.name}: {sum(map(bool, found))} of {len(rows)} clips share a face or a voice with another"
    said += f"; {absent} clips are not in it" if absent else ""
    said += f"; {stray} line{'s fit' if stray > 1 else ' fits'} no clip" if stray else ""
    return rows.assign(donors=donors), said
