"""Metadata files as corpora ship them: read whole, every fault with its file, its line and its cure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visavox.splits.table import SplitError
from visavox.splits.text_table import read_cells


class Line(dict[str, str]):
    """One line of a table: column -> cell; knows where it stands."""

    def __init__(self, path: Path, number: int, cells: dict[str, str]):
        super().__init__(cells)
        self.where = f"{path}:{number}"

    def pick(self, column: str, known: dict[str, Any]) -> Any:
        """What a cell stands for.

        Raises:
            SplitError: `known` does not have it.
        """
        if self[column] not in known:
            raise SplitError(f"{self.where}: {column} {self[column]!r} is unknown; expected {', '.join(known)}")
        return known[self[column]]


def read_table(path: Path, columns: Sequence[str], unnamed: str | None = None) -> Iterator[Line]:
    """Yield the lines of a table that has at least `columns`, read as `visavox.splits.text_table` does.

    Args:
        unnamed: name for one column whose header is empty, which a trailing comma makes.

    Raises:
        SplitError: with file and line: not readable, a column that is missing or stands there twice, a line of another
            length than the header's.
    """
    header, lines, rows = read_cells(path, SplitError)
    if unnamed and header[-1:] == [""]:
        header[-1] = unnamed
    _check_header(path, header, columns)
    for line, cells in zip(lines, rows):
        if len(cells) != len(header):
            more = "; it ends with a comma" if cells[-1] == "" and len(cells) > len(header) else ""
            raise SplitError(f"{path}:{line}: {len(cells)} cells, the header has {len(header)}{more}; make them equal")
        yield Line(path, line, dict(zip(header, cells)))


def _check_header(path: Path, header: list[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise SplitError(f"{path}:1: lacks the column(s) {', '.join(missing)}; it has {', '.join(header) or 'none'}")
    if "" in header:
        raise SplitError(f"{path}:1: column {header.index('') + 1} has no name; remove the comma too many, or name it")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise SplitError(f"{path}:1: column {', '.join(twice)} stands there twice; remove one")


class Json:
    """A JSON file whose faults can be placed: `value` is what it holds, `where(text)` the line where a text stands."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8-sig")
            self.value = json.loads(self.text, object_pairs_hook=self._pairs)
        except FileNotFoundError:
            raise SplitError(f"{path}: no such file") from None
        except UnicodeDecodeError as error:
            raise SplitError(f"{path}: not UTF-8 ({error}); download it again") from None
        except json.JSONDecodeError as error:
            raise SplitError(
                f"{path}:{error.lineno}: not valid JSON ({error.msg}); a copy that broke off? Download it again"
            ) from None
        except SplitError:
            raise
        except (ValueError, RecursionError):
            raise SplitError(
                f"{path}: nested too deeply, or a number of thousands of digits; download it again"
            ) from None

    def where(self, name: str, occurrence: int = 0) -> str:
        """`file:line` of the entry of a clip, that is of a key or a "file" with this name, or of a text elsewhere."""
        quoted = re.escape(json.dumps(name, ensure_ascii=name.isascii()))
        places = [match.start() for match in re.finditer(rf'"file"\s*:\s*{quoted}|{quoted}\s*:', self.text)]
        places = places or [match.start() for match in re.finditer(quoted, self.text)] or [0]
        return f"{self.path}:{self.text.count(chr(10), 0, places[min(occurrence, len(places) - 1)]) + 1}"

    def expect(self, kind: type, of: type | None = None) -> Any:
        """The value, a `kind` (list or dict) of `of`."""
        members = list(self.value.values()) if isinstance(self.value, dict) else self.value
        if not isinstance(self.value, kind) or (of and not all(isinstance(member, of) for member in members)):
            inner = f" of {of.__name__}s" if of else ""
            raise SplitError(f"{self.path}:1: expected a JSON {kind.__name__}{inner}; is it another corpus's file?")
        return self.value

    def cell(self, entry: dict[str, Any], name: str, entry_name: str, known: Mapping[Any, Any] | None = None) -> Any:
        """`entry[name]`, or what it stands for in `known`."""
        if name not in entry:
            raise SplitError(f"{self.where(entry_name)}: {entry_name} lacks {name!r}; it has {', '.join(entry)}")
        if known is None:
            return entry[name]
        if entry[name] not in known:
            raise SplitError(
                f"{self.where(entry_name)}: {entry_name}: {name} {entry[name]!r} is unknown; expected {', '.join(known)}"
            )
        return known[entry[name]]

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise SplitError(f"{self.where(twice, 1)}: {twice!r} stands there twice; keep one")
        return made


def no_duplicates(names: Iterable[tuple[str, str | Json]]) -> None:
    """Refuse metadata that lists a file twice.

    Args:
        names: (file, where it is listed) pairs: `path:line`, or the JSON that lists it.
    """
    seen: dict[str, str | Json] = {}
    for name, where in names:
        if name not in seen:
            seen[name] = where
            continue
        first = seen[name]
        here = where.where(name, int(first is where)) if isinstance(where, Json) else where
        there = first.where(name) if isinstance(first, Json) else first
        raise SplitError(f"{here}: {name} is listed twice, first at {there}; keep one")
