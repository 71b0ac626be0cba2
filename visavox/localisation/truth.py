"""Which seconds of which clip are forged: tables and metadata of several kinds, read to one form.

truth = read_truth(Path("data/lavdf.csv"))       # a split CSV of `visavox corpora`: column fake_segments
read_truth(Path("metadata.json"))                # LAV-DF's or AV-Deepfake1M's own
read_truth(Path("segments.csv"))                 # filename,start,end: a line per segment
read_truth(Path("segments.json"))                # {"a.mp4": [[1.2, 1.8]], "b.mp4": []}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from visavox.localisation.metric import TruthError
from visavox.splits.names import match
from visavox.splits.table import LABELS

KEYS = ("fake_periods", "fake_segments")
"""Of LAV-DF's metadata, and of AV-Deepfake1M's."""
NOTHING = ("", "-", "nan", "None")


class Labelled(NamedTuple):
    """What is known of the clips of one file."""

    segments: dict[str, np.ndarray]
    """Clip -> (L, 2) float64 seconds, by start; L = 0 for a real clip."""
    corpus: dict[str, str]
    """Clip -> corpus, where the file has such a column."""
    unknown: tuple[str, ...] = ()
    """Clips that are fake, of which the file does not say where."""


def read_truth(path: Path) -> Labelled:
    """Read forged segments; what is read follows from the file's ending and its columns.

    Raises:
        TruthError: not a table or JSON of segments, or a segment is none; says file and clip.
    """
    if not path.is_file():
        raise TruthError(f"{path}: no such file; give a split CSV, filename,start,end, or JSON of segments")
    if path.suffix.lower() == ".json":
        return _from_json(path)
    from visavox.splits.text_table import read_text_table

    table = read_text_table(path, ("filename",), TruthError)
    rows: list[dict[str, str]] = table.to_dict("records")
    if "fake_segments" in table:
        return _from_split(rows, path)
    if {"start", "end"} <= set(table):
        found: dict[str, list[Any]] = {}
        for row in rows:
            spans = found.setdefault(row["filename"], [])
            if row["start"] not in NOTHING or row["end"] not in NOTHING:
                spans.append([row["start"], row["end"]])
        return Labelled({name: _spans(spans, name, path) for name, spans in found.items()}, _corpora(rows))
    raise TruthError(
        f"{path}: has neither a column fake_segments nor the columns start and end; found {', '.join(table)}"
    )


def of_clips(labelled: Labelled, names: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the segments of clips, names matched as `visavox.splits.names` does, and the clips of which nothing is known.

    Raises:
        TruthError: none of the clips is named.
    """
    known = list(labelled.segments)
    lines, _ = match(names, known)
    found = {name: labelled.segments[known[line]] for name, line in zip(names, lines) if line >= 0}
    if not found:
        raise TruthError(f"none of the {len(names)} clips is named; first clip: {names[0]}, first named: {known[:1]}")
    return found, [name for name in names if name not in found]


def _from_split(rows: Sequence[Mapping[str, str]], path: Path) -> Labelled:
    segments: dict[str, np.ndarray] = {}
    unknown = []
    for row in rows:
        name, cell = row["filename"], row["fake_segments"].strip()
        real = LABELS.get(row.get("label", "").lower()) == 0
        if cell in NOTHING and not real:
            unknown.append(name)
            continue
        try:
            spans = [] if cell in NOTHING else json.loads(cell)
        except ValueError:
            raise TruthError(f"{path}: fake_segments of {name} is no JSON: {cell[:60]!r}") from None
        segments[name] = _spans(spans, name, path)
    return Labelled(segments, _corpora(rows), tuple(unknown))


def _from_json(path: Path) -> Labelled:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TruthError(f"{path}: no JSON ({error})") from None
    if isinstance(content, dict):
        return Labelled({name: _spans(spans, name, path) for name, spans in content.items()}, {})
    if not isinstance(content, list) or not all(isinstance(entry, dict) and "file" in entry for entry in content):
        raise TruthError(f"{path}: neither {{file: [[start, end], ...]}} nor a list of entries with a `file`")
    segments = {}
    for entry in content:
        spans = next((entry[key] for key in KEYS if key in entry), None)
        if spans is None:
            raise TruthError(f"{path}: {entry['file']} has none of {', '.join(KEYS)}")
        segments[entry["file"]] = _spans(spans, entry["file"], path)
    return Labelled(segments, {})


def _spans(spans: Any, name: str, path: Path) -> np.ndarray:
    """(L, 2) float64 of a list of pairs, sorted."""
    try:
        pairs = [(float(start), float(end)) for start, end in spans]
    except (TypeError, ValueError):
        raise TruthError(f"{path}: segments of {name} are no pairs of seconds: {str(spans)[:60]}") from None
    for start, end in pairs:
        if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
            raise TruthError(f"{path}: {name} has a segment from {start:g} to {end:g} s; expected 0 <= start < end")
    return np.array(sorted(pairs), np.float64).reshape(-1, 2)


def _corpora(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {row["filename"]: row["corpus"] for row in rows if row.get("corpus")}
