"""What a run of eval.py leaves behind, and the labels it is held against.

submission.csv              filename,probability
submission.details.jsonl    one row per input: status, reason, seconds of each stage
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.evaluation.metrics import auc
from visavox.evaluation.rows import Identity, ScoredRow, details_path
from visavox.files import parse_json, replacing
from visavox.remote import fingerprint

if TYPE_CHECKING:
    import pandas as pd


def write_submission(rows: Sequence[ScoredRow], output: Path, column: str = "probability") -> None:
    """Write `filename,probability`.

    Args:
        column: name of the second column.
    """
    with replacing(output) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", column])
        writer.writerows([row.filename, f"{row.probability:.9g}"] for row in rows)


def write_classes(rows: Sequence[ScoredRow], output: Path, column: str, classes: Sequence[str]) -> None:
    """Write `filename,COLUMN` with the likeliest class, and the probability of each; empty cells for what was not scored."""
    with replacing(output) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", column, *classes])
        for row in rows:
            found = [f"{row.classes[name]:.9g}" for name in classes] if row.classes else [""] * len(classes)
            writer.writerow([row.filename, likeliest(row), *found])


def likeliest(row: ScoredRow) -> str:
    """Return the class of the highest probability; "" for an input that was not scored."""
    return max(row.classes, key=row.classes.__getitem__) if row.classes else ""


def describe_classes(rows: Sequence[ScoredRow], labels: Path | None, column: str) -> str:
    """Return one line: accuracy and mean F1 over every labelled row, of which those not scored count as wrong.

    Args:
        labels: CSV with filename and `column`, a split CSV for example.

    Raises:
        ScoresError: it cannot be read, or lacks the column.
    """
    if labels is None:
        return f"accuracy: not computed, no labels were given (--labels CSV with filename,{column})"
    import pandas as pd

    from visavox.evaluation.metrics import accuracy_and_macro_f1
    from visavox.evaluation.scores import ScoresError, look_up
    from visavox.splits.text_table import read_text_table

    table = pd.DataFrame([(row.filename, likeliest(row)) for row in rows], columns=["filename", "found"])
    named = read_text_table(labels, ("filename", column), ScoresError)
    matched = look_up(table, named[named[column] != ""], labels)
    known = matched[column].str.lower()
    accuracy, f1 = accuracy_and_macro_f1(known.to_numpy(str), matched["found"].to_numpy(str))
    return f"accuracy {accuracy:.4f}, mean F1 {f1:.4f} over {len(matched)} files"


def describe_auc(rows: Sequence[ScoredRow], labels: pd.DataFrame | None, path: Path | None = None) -> str:
    """Return one line: ROC AUC over every labelled row, failures at the prior included; or why there is none.

    Args:
        labels: of `visavox.evaluation.scores.read_labels`.
        path: where they come from, for messages.
    """
    if labels is None:
        return "AUC: not computed, no labels were given (--labels CSV with filename,label)"
    import pandas as pd

    from visavox.evaluation.scores import look_up

    table = pd.DataFrame([(row.filename, row.probability) for row in rows], columns=["filename", "probability"])
    try:
        matched = look_up(table, labels, path or Path("labels"))
        value = auc(matched["label"], matched["probability"])
    except ValueError as error:
        return f"AUC: not computed; {error}"
    unlabelled = "" if len(matched) == len(rows) else f", {len(rows) - len(matched)} without a label left out"
    return f"AUC: {value:.4f} over {len(matched)} files{unlabelled}"


class Details:
    """OUTPUT.details.jsonl, one line per input; `.part` while the run goes on, so that a killed run continues."""

    def __init__(self, output: Path, *, identity: Identity, keep: bool):
        self.path = details_path(output)
        self.part = self.path.with_name(f"{self.path.name}.part")
        self.identity, self.keep = identity, keep
        self.part.parent.mkdir(parents=True, exist_ok=True)

    def begin_with(self, rows: Sequence[ScoredRow]) -> None:
        """Have `earlier` return these rows of a finished run, unless one that was interrupted left its own."""
        if rows and not self.part.is_file():
            with replacing(self.part) as beside:
                beside.write_text("".join(map(_line, rows)), encoding="utf-8")

    def earlier(self, inputs: dict[str, Path]) -> dict[str, ScoredRow]:
        """Return the rows of an interrupted run with the same scorer, of files that have not changed since."""
        rows: dict[str, ScoredRow] = {}
        lines = self.part.read_text(encoding="utf-8").splitlines() if self.part.is_file() else []
        for line in lines:
            try:
                row = ScoredRow.from_json(parse_json(line))
            except (
                ValueError,
                AttributeError,
                TypeError,
                ArithmeticError,
            ):  # the line that was being written when the run was killed
                continue
            path = inputs.get(row.filename)
            if path and row.identity == self.identity and row.file == fingerprint(path):
                rows[row.filename] = row
        with replacing(self.part) as beside:  # what was scored is not lost where this process is killed, too
            beside.write_text("".join(_line(row) for row in rows.values()), encoding="utf-8")
        return rows

    def append(self, row: ScoredRow) -> ScoredRow:
        """Write a row at the end of the file and return it as it stands there, with its identity."""
        row = replace(row, identity=self.identity)
        with self.part.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        return row

    def close(self, rows: Sequence[ScoredRow]) -> None:
        """Put the file of the finished run, `rows`, in place of the one that was appended to; or remove it."""
        if not self.keep:
            self.part.unlink()
            return
        with replacing(self.path) as beside:
            beside.write_text("".join(map(_line, rows)), encoding="utf-8")
        self.part.unlink()


def _line(row: ScoredRow) -> str:
    return json.dumps(row.to_json()) + "\n"
