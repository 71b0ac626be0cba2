"""Distances of clips, thresholds for them, and the groups that they make.

Two clips are linked where their distance is at most the threshold; a group is whatever links connect. That errs towards groups
that are too large, which costs freedom in sharing clips out, and not towards people who stand in two splits.

n clips · D width of an embedding
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BELOW = 1 - 1e-6
"""How far below a distance a threshold lies that is to leave it out: rounding must not decide."""
BLOCK = 1024
"""Clips that are compared with all others at a time."""


class IdentityError(ValueError):
    """Nothing can be calibrated or grouped; the message says what is missing."""

    code = "BAD_TABLE"


@dataclass(frozen=True)
class Errors:
    """What a threshold does to pairs of clips of named people."""

    threshold: float
    same: int
    """Pairs of one person."""
    missed: int
    """Of these, farther apart than the threshold: false non-matches."""
    others: int
    """Pairs of two people."""
    joined: int
    """Of these, no farther apart than the threshold: false matches."""

    def __str__(self) -> str:
        return (
            f"threshold {self.threshold:.4f}: {self.joined} of {self.others} pairs of two people match "
            f"({_share(self.joined, self.others)}), {self.missed} of {self.same} pairs of one person do not "
            f"({_share(self.missed, self.same)})"
        )


def calibrated(vectors: Mapping[str, np.ndarray], people: Mapping[str, str], most: float) -> Errors:
    """Return the largest threshold at which at most a share `most` of the pairs of two people match, and what it does.

    Args:
        vectors: clip -> (D,).
        people: clip -> who it shows; clips without a name count for nothing.
        most: from 0 to 1.

    Raises:
        IdentityError: there is no pair of one person, or none of two.
    """
    names = [name for name in vectors if people.get(name)]
    same, others = [np.zeros(0)], [np.zeros(0)]
    who = np.array([people[name] for name in names])
    for first, distances in rows(np.stack([vectors[name] for name in names]) if names else np.zeros((0, 1))):
        for i, row in enumerate(distances, first):
            one = who[i + 1 :] == who[i]
            same.append(row[i + 1 :][one])
            others.append(row[i + 1 :][~one])
    near, far = np.concatenate(same), np.sort(np.concatenate(others))
    if not len(near) or not len(far):
        raise IdentityError(
            f"{len(near)} pairs of one person and {len(far)} of two among {len(names)} named clips; a threshold needs both: "
            "name more clips, several of one person"
        )
    allowed = int(most * len(far))
    threshold = np.nextafter(far[allowed] * BELOW, -np.inf) if allowed < len(far) else max(far[-1], near.max())
    return at(float(threshold), near, far)


def at(threshold: float, near: np.ndarray, far: np.ndarray) -> Errors:
    """Count what a threshold does to distances of one person's pairs, and of two people's: (m,), (k,)."""
    return Errors(threshold, len(near), int((near > threshold).sum()), len(far), int((far <= threshold).sum()))


def grouped(vectors: Mapping[str, np.ndarray], threshold: float) -> list[list[str]]:
    """Return the groups of two clips or more, the largest first, clips in their order: clip -> (D,) within `threshold`."""
    from scipy.cluster.hierarchy import DisjointSet

    names = list(vectors)
    sets = DisjointSet(range(len(names)))
    for first, distances in rows(np.stack([vectors[name] for name in names]) if names else np.zeros((0, 1))):
        for i, j in zip(*np.nonzero(distances <= threshold)):
            if j > i + first:
                sets.merge(int(i) + first, int(j))
    found = [[names[i] for i in sorted(members)] for members in sets.subsets() if len(members) > 1]
    return sorted(found, key=lambda group: (-len(group), group))


def rows(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of a first clip, and the distances of clips from it on to all: (n, D) -> blocks (m, n) float64."""
    full = vectors.astype(np.float64)
    squares = np.square(full).sum(1)
    for first in range(0, len(full), BLOCK):
        some = full[first : first + BLOCK]
        squared = squares[first : first + BLOCK, None] + squares - 2 * some @ full.T
        yield first, np.sqrt(np.maximum(squared, 0))


def pairs(groups: Sequence[Sequence[str]], people: Mapping[str, str], names: Sequence[str]) -> tuple[int, int, int]:
    """Count pairs of named clips: in one group and of one person, in one group, of one person."""
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    named = [name for name in names if people.get(name)]
    inside = [name for name in named if name in group_of]
    both = Counter((group_of[name], people[name]) for name in inside)
    joined, same = Counter(group_of[name] for name in inside), Counter(people[name] for name in named)
    return _pairs_in(both), _pairs_in(joined), _pairs_in(same)


def _pairs_in(sizes: Counter[Any]) -> int:
    return sum(math.comb(size, 2) for size in sizes.values())


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "none"
