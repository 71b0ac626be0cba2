"""The numbers of localisation: AP and AR over all clips, for each corpus and each kind, beside what chance gives."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visavox.localisation.metric import average_precision, average_recall
from visavox.localisation.rows import Located
from visavox.localisation.segments import propose

SMOOTH = 12
"""Steps over which the noise of the chance line is averaged, about half a second."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    name: str
    """`all`, `corpus NAME`, `planted picture`, `chance` and so on."""
    clips: int
    segments: int
    """Forged segments of these clips."""
    ap: dict[float, float]
    """Overlap -> average precision, as published for LAV-DF."""
    ap_whole: float
    """AP at overlap 0.5 with what the first proposal gains; see `metric.average_precision`."""
    ar: dict[int, float]
    """Proposals -> average recall."""


def lines(
    rows: Sequence[Located], truth: Mapping[str, np.ndarray], corpus: Mapping[str, str] | None = None
) -> list[Line]:
    """Return the table: all clips, each corpus, each planted kind, and a detector that guesses.

    Args:
        rows: clips; one without a curve has no proposals, and its segments count as missed.
        truth: clip -> segments (L, 2) in seconds; clips that are not in it are left out.
        corpus: clip -> corpus.

    Raises:
        TruthError: nothing to find.
    """
    rows = [row for row in rows if row.filename in truth]
    found = {row.filename: row.found for row in rows}
    table = [_line("all", found, truth)]
    parts: dict[str, list[str]] = {}
    for row in rows:
        if corpus and corpus.get(row.filename):
            parts.setdefault(f"corpus {corpus[row.filename]}", []).append(row.filename)
    kinds = sorted({row.kind for row in rows if row.kind})
    untouched = [row.filename for row in rows if not row.kind]
    for kind in kinds if len(kinds) > 1 else ():
        parts[f"planted {kind}"] = [row.filename for row in rows if row.kind == kind] + untouched
    for name, members in sorted(parts.items()):
        if any(len(truth[member]) for member in members):
            table.append(_line(name, {member: found[member] for member in members}, truth))
    chance = {row.filename: _guess(row) for row in rows}
    return [*table, _line("chance", chance, truth)]


def describe(table: Sequence[Line], title: str = "") -> str:
    """Return the table as text."""
    aps, ars = list(table[0].ap), list(table[0].ar)
    head = f"{title or 'localisation':28}{'clips':>6}{'forged':>8}"
    head += "".join(f"{f'AP@{at:g}':>9}" for at in aps) + "".join(f"{f'AR@{n}':>8}" for n in ars)
    body = [
        f"{line.name[:28]:28}{line.clips:6}{line.segments:8}"
        + "".join(f"{line.ap[at]:9.4f}" for at in aps)
        + "".join(f"{line.ar[n]:8.4f}" for n in ars)
        for line in table
    ]
    return "\n".join([head, *body])


def _line(name: str, found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> Line:
    own = {clip: truth[clip] for clip in found}
    return Line(
        name,
        len(own),
        sum(len(spans) for spans in own.values()),
        average_precision(found, own),
        average_precision(found, own, (0.5,), published=False)[0.5],
        average_recall(found, own),
    )


def _guess(row: Located) -> np.ndarray:
    """Proposals of a curve of smooth noise, seeded by the clip's name: what the metric gives for knowing nothing."""
    if not row.times:
        return np.zeros((0, 3))
    rng = np.random.default_rng(zlib.crc32(row.filename.encode()))
    noise = np.convolve(rng.random(len(row.times) + SMOOTH - 1), np.ones(SMOOTH) / SMOOTH, "valid")
    return propose(np.array(row.times), noise)
