"""Who hangs together: identities that clips show or borrow, and what crosses from one split into another."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from visavox.splits.table import SPLITS


def identities(rows: pd.DataFrame) -> list[list[str]]:
    """Return of each clip everyone in it, source first, and what its file holds: the cells of source, donors and content.

    Columns that are absent and cells that are empty name nobody; a cell names several, joined by `;`.
    """
    who: list[list[str]] = [[] for _ in range(len(rows))]
    for column in ("source", "donors", "content"):
        if column in rows:
            for names, cell in zip(who, rows[column]):
                names.extend(name for name in (part.strip() for part in cell.split(";")) if name)
    return who


def components(members: Sequence[Sequence[str]]) -> list[str]:
    """Give clips that share a name, or are linked through others that do, one group name.

    Args:
        members: names in each clip, at least one.

    Returns:
        One name per clip, the same for all of a group: that of one of its members.
    """
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet()
    for first, *rest in members:
        groups.add(first)
        for other in rest:
            groups.add(other)
            groups.merge(first, other)
    return [groups[first] for first, *_ in members]


def group_of(rows: pd.DataFrame) -> list[str]:
    """Return the connected group of each clip; a clip that names nobody is its own."""
    alone = rows["filepath"] if "filepath" in rows else rows["filename"]
    return components([who or [f"file {name}"] for who, name in zip(identities(rows), alone)])


class Others:
    """Of each group the clips that are of another one, in their order: counted and found without a list for every clip."""

    def __init__(self, groups: Sequence[str]):
        self._clips = len(groups)
        self._before: dict[str, list[int]] = defaultdict(list)
        """Group -> for each of its clips, how many of other groups stand before it."""
        for place, group in enumerate(groups):
            self._before[group].append(place - len(self._before[group]))

    def count(self, group: str) -> int:
        """Return how many there are."""
        return self._clips - len(self._before.get(group, ()))

    def place(self, group: str, number: int) -> int:
        """Return the place, among all clips, of number `number` of those that are of another group; from 0."""
        return number + bisect_right(self._before.get(group, ()), number)


class Leak(NamedTuple):
    """Somebody stands in two splits: the proof of it, and how much of the test it spoils."""

    identity: str
    """Who it is."""
    files: tuple[str, str]
    """One of their clips in each of the two splits."""
    splits: tuple[str, str]
    """The two splits."""
    test_clips: int
    """Test clips that share an identity with another split."""
    of_test_clips: int
    """Clips of the test."""
    identities: int
    """Identities that stand in more than one split."""

    def __str__(self) -> str:
        (a, b), (first, second) = self.files, self.splits
        return (
            f"{self.identity} stands in two splits, in {a} ({first}) and {b} ({second}); {self.identities} identities "
            f"do, and {self.test_clips} of {self.of_test_clips} test clips share one with another split"
        )


def find_leak(rows: pd.DataFrame) -> Leak | None:
    """Return the first identity that crosses splits, train and test before others; None where nobody does.

    Args:
        rows: columns split, filename, and as far as there are source, donors and content.
    """
    who = identities(rows)
    files: dict[str, dict[str, str]] = defaultdict(dict)  # identity -> split -> its first file there
    for names, split, file in zip(who, rows["split"], rows["filename"]):
        for name in names:
            files[name].setdefault(split, file)
    crossing = {name: places for name, places in files.items() if len(places) > 1}
    if not crossing:
        return None
    pair = next(
        pair
        for pair in (("train", "test"), ("train", "val"), ("val", "test"))
        if any(pair[0] in places and pair[1] in places for places in crossing.values())
    )
    identity = next(name for name, places in crossing.items() if pair[0] in places and pair[1] in places)
    tests = [any(name in crossing for name in names) for names, split in zip(who, rows["split"]) if split == "test"]
    clips = crossing[identity][pair[0]], crossing[identity][pair[1]]
    return Leak(identity, clips, pair, sum(tests), len(tests), len(crossing))


def picture_faked(rows: pd.DataFrame) -> pd.Series:
    """Mark fakes whose picture is fake, or may be where the corpus does not say: (N,) bool."""
    fake = rows["label"] == 1
    return fake & (rows["video_label"] != "0") if "video_label" in rows else fake


def borrowed(rows: pd.DataFrame) -> tuple[int, int]:
    """Count the test clips with a faked picture whose donor occurs in train: (how many, of how many)."""
    in_train = {name for names, split in zip(identities(rows), rows["split"]) if split == "train" for name in names}
    donors = rows.loc[picture_faked(rows) & (rows["split"] == "test"), "donors"].str.split(";")
    return sum(any(name in in_train for name in names) for names in donors), len(donors)


def homes(rows: pd.DataFrame) -> dict[str, str]:
    """Choose the one split that each identity may stand in: where most of its own clips are, else most that borrow from it.

    Ties go to test, then to val, so that what is scored stays whole.
    """
    own: dict[str, Counter] = defaultdict(Counter)
    lent: dict[str, Counter] = defaultdict(Counter)
    for (first, *rest), split in zip(identities(rows), rows["split"]):
        own[first][split] += 1
        for name in rest:
            lent[name][split] += 1
    return {
        name: max(SPLITS, key=lambda split: (own[name][split], lent[name][split], SPLITS.index(split)))
        for name in own.keys() | lent.keys()
    }
