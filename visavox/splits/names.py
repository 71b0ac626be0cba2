"""Which line of a table names which file, though one file is written in many ways.

A line names a file where their paths are equal, or one path is the end of the other (`clips/a.mp4`, `/data/clips/a.mp4`).
Equal are, from the narrowest sense to the widest: the texts; the paths, whatever their separators and the form of their
accents (NFC or NFD); the paths where one of the two says nothing of the video's suffix, as a bundle (`a.npz`) or a bare
name (`a`) does; and all this in another letter case. A wider sense is tried only on files that fit no line in a narrower one.

A file that several lines fit, or that shares its line with other files, is matched by none of them: better without a
label than with a wrong one. So `real/a.mp4` and `fake/a.mp4` are never taken for each other.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from visavox.files import VIDEO_SUFFIXES

NONE, SEVERAL = -1, -2


class Match(NamedTuple):
    """The line of each file. F files."""

    lines: np.ndarray
    """(F,) int64 position in the names, -1 for none."""
    several: np.ndarray
    """(F,) bool: without a line because several fit, or because the one that fits also fits other files."""


def match(files: Sequence[str], names: Sequence[str]) -> Match:
    """Find the line that names each file.

    Args:
        files: F names of videos or bundles, paths below the folder that was scored.
        names: what the lines of a table say, in any of the ways above.
    """
    search = _Search(files, names)
    search.whole(files, names)
    for form in (_normal, lambda name: _normal(name.casefold())):
        if not search.open:
            break
        some, others = [form(name) for name in files], [form(name) for name in names]
        for key in (_Name.full, _Name.loose):
            search.whole([key(name) for name in some], [key(name) for name in others], some, others)
        for key in (_Name.full, _Name.loose):
            search.ends(some, others, key)
    return Match(np.array(search.lines, np.int64), np.array(search.several, bool))


class _Name(NamedTuple):
    """A path in one form."""

    stem: str
    """Parts joined by /, without the suffix of a video or bundle."""
    suffix: str
    """That of the video, with its dot; empty where the name does not say it."""

    def full(self) -> str:
        """With the suffix; empty, which is no key, where the name does not say it."""
        return self.stem + self.suffix if self.suffix else ""

    def loose(self) -> str:
        return self.stem

    def fits(self, other: _Name) -> bool:
        return self.suffix == other.suffix or not self.suffix or not other.suffix


def _normal(name: str) -> _Name:
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    path = name.strip().replace("\\", "/")
    if path.startswith(("/", "./")) or "//" in path or "/./" in path:
        path = "/".join(part for part in path.split("/") if part not in ("", "."))
    if path[-4:].lower() == ".npz":
        path = path[:-4]  # a.mp4.npz stands beside an a.avi, its name keeps the suffix
    stem, dot, suffix = path.rpartition(".")
    if dot and stem and not stem.endswith("/") and f".{suffix.lower()}" in VIDEO_SUFFIXES:
        return _Name(stem, f".{suffix}")
    return _Name(path, "")


class _Search:
    """The files and lines that have found each other so far."""

    def __init__(self, files: Sequence[str], names: Sequence[str]):
        self.lines = [NONE] * len(files)
        self.several = [False] * len(files)
        self.open = list(range(len(files)))
        self.taken = bytearray(len(names))

    def whole(
        self,
        file_keys: Sequence[str],
        name_keys: Sequence[str],
        files: Sequence[_Name] | None = None,
        names: Sequence[_Name] | None = None,
    ) -> None:
        """Match the open files whose key is that of one line, and of no other file."""
        line_of, file_of = _places(enumerate(name_keys)), _places(enumerate(file_keys))
        pairs = {}
        for i in self.open:
            j = line_of.get(file_keys[i], NONE)
            if file_keys[i] and j != NONE:
                pairs[i] = SEVERAL if file_of[file_keys[i]] == SEVERAL else j
        self._accept(pairs, files, names)

    def ends(self, files: Sequence[_Name], names: Sequence[_Name], key: Callable[[_Name], str]) -> None:
        """Match the open files of which one line's key is the end, or the beginning of which only that line lacks."""
        wanted = {_last(files[i]) for i in self.open}
        file_keys = {i: key(name) for i, name in enumerate(files) if _last(name) in wanted and key(name)}
        name_keys = {j: key(name) for j, name in enumerate(names) if _last(name) in wanted and key(name)}
        line_of = _places(name_keys.items())
        files_of: dict[str, list[int]] = defaultdict(list)
        for i, text in file_keys.items():
            files_of[text].append(i)
        of_file: dict[int, int] = {}
        of_line: dict[int, int] = {}

        def pair(i: int, j: int) -> None:
            of_file[i] = j if of_file.get(i, j) == j else SEVERAL
            if j != SEVERAL:
                of_line[j] = i if of_line.get(j, i) == i else SEVERAL

        for i, text in file_keys.items():
            for end in _ends(text):
                if end in line_of:
                    pair(i, line_of[end])
        for j, text in name_keys.items():
            for end in _ends(text):
                for i in files_of.get(end, ()):
                    pair(i, j)
        pairs = {i: of_file[i] for i in self.open if i in of_file}
        self._accept({i: SEVERAL if of_line.get(j) == SEVERAL else j for i, j in pairs.items()}, files, names)

    def _accept(
        self, pairs: dict[int, int], files: Sequence[_Name] | None = None, names: Sequence[_Name] | None = None
    ) -> None:
        for i, j in pairs.items():
            if j == SEVERAL or self.taken[j]:
                self.several[i] = True
            elif files is None or names is None or files[i].fits(names[j]):
                self.lines[i], self.taken[j] = j, 1
        if pairs:
            self.open = [i for i in self.open if self.lines[i] == NONE and not self.several[i]]


def _places(keyed: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Return key -> its position, or SEVERAL where it has more than one."""
    places: dict[str, int] = {}
    for place, key in keyed:
        places[key] = SEVERAL if key in places else place
    return places


def _last(name: _Name) -> str:
    return name.stem.rpartition("/")[2]


def _ends(path: str) -> Iterator[str]:
    """Yield `b/c` and `c` of `a/b/c`."""
    _, slash, path = path.partition("/")
    while slash:
        yield path
        _, slash, path = path.partition("/")
