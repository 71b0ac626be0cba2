"""Rows of the details file that an evaluation writes beside its submission."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from visavox.files import excerpt, parse_json
from visavox.status import SCORED, Status


@dataclass(frozen=True)
class Identity:
    """What the raw score of an input follows from, beside the input: rows count in a resumed run if theirs is equal."""

    checkpoint: str
    """sha256 of the checkpoint."""
    prep_hash: str
    """Of the settings that bundles are made with."""
    trim_silence: str
    """How clips were trimmed, `bundle.trim.trimming`: the setting of that name, with the gate where it is not `energy`."""
    detector: dict[str, Any] = field(default_factory=dict)
    """Settings of the detector, plain values."""
    time_budget: float | None = None
    """Seconds that a video may take; None for no limit."""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read an identity: a JSON object, or the text joined by colons that files of earlier versions hold.

        Raises:
            ValueError: neither of them.
        """
        if isinstance(value, Mapping):
            known = {each.name for each in fields(cls)}
            return _made(cls, {name: v for name, v in value.items() if name in known})
        try:
            checkpoint, prep_hash, trim_silence, rest = value.split(":", 3)
            detector, _, seconds = rest.rpartition(":")
            budget = None if seconds == "None" else float(seconds)
            return cls(checkpoint, prep_hash, trim_silence, json.loads(detector), budget)
        except (AttributeError, ValueError):
            raise ValueError(f"not an identity of scores: {str(value)[:80]!r}") from None


@dataclass(frozen=True)
class ScoredRow:
    """One input of an evaluation: its score, or why it has none."""

    filename: str
    """Path below the folder that was scored, with forward slashes."""
    probability: float
    """P(fake) in [0, 1] as the submission states it: calibrated if a calibration was applied; the prior if not scored.

    With `classes`, the probability of the likeliest of them."""
    status: Status
    """What became of the input."""
    reason: str = ""
    """Why it was not scored, for people."""
    code: str = ""
    """Why it was not scored, for programs: one of `visavox.errors.CODES`; empty where it was."""
    notes: tuple[str, ...] = ()
    """What is unusual about the video, for people."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds it took."""
    file: tuple[int, ...] = ()
    """Size in bytes and time of change in nanoseconds of the input; empty where it could not be read."""
    raw: float | None = None
    """P(fake) before the calibration; None where none was applied."""
    budget: dict[str, Any] | None = None
    """What `--time-budget` left out; None without one."""
    classes: dict[str, float] | None = None
    """Class -> its probability, of a detector that tells others apart than real and fake; None of all others."""
    identity: Identity | None = None
    """What the score follows from; None in rows that no scorer made."""
    head: str = ""
    """What judged it, in a detector of several heads; a video without a face may be judged by one that hears alone."""
    exited: bool | None = None
    """Whether a gate let it through before the whole detector ran; None where there is no gate."""

    @property
    def scored(self) -> bool:
        """Whether the probability is the network's own, not the prior."""
        return self.status in SCORED or bool(self.head)

    def to_json(self) -> dict[str, Any]:
        """Return the row as the details file holds it, without what only some detectors give where there is none."""
        row = asdict(self)
        spare = ("raw", "budget", "classes", "head", "exited")
        return {name: value for name, value in row.items() if value not in (None, "") or name not in spare}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read a row of a details file, also one of an earlier version; unknown keys are left out.

        Raises:
            ValueError: a key is missing, or the identity cannot be read.
        """
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in row.items() if name in known}
        values |= {name: tuple(values[name]) for name in ("notes", "file") if name in values}
        if values.get("identity") is not None:
            values["identity"] = Identity.from_json(values["identity"])
        return _made(cls, values)


def read_details(scores: Path) -> Iterator[ScoredRow]:
    """Yield the rows of the details file beside a submission; none if there is no such file.

    Args:
        scores: the submission, NAME.csv; its details file is NAME.details.jsonl.

    Raises:
        ValueError: a line is no row; says file and line.
    """
    path = details_path(scores)
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield ScoredRow.from_json(parse_json(line))
            except (ValueError, AttributeError, TypeError, ArithmeticError) as error:
                raise ValueError(
                    f"{path}:{number}: not a row of a details file ({excerpt(error, 300)}); score again, or remove {path.name}"
                ) from None


def details_path(scores: Path) -> Path:
    """Return where the details of a submission stand: NAME.csv -> NAME.details.jsonl."""
    return scores.with_name(f"{scores.stem}.details.jsonl")


def _made(cls: type, values: dict[str, Any]) -> Any:
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(str(error).partition(" ")[2]) from None
