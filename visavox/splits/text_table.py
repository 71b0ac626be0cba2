"""Tables that people, spreadsheets and other programs write: every CSV with labels, splits or scores is read here.

Names of files are other people's, and a spreadsheet runs a cell that begins like a formula. A submission, which a program reads,
holds the names exactly. Tables that people open (`scores.csv` and `matrix.csv` of a report, `features.csv`, `trials.csv`,
`detailed_results.csv`) hold such a text with an apostrophe before it (`for_people`), which is taken off when they are read here.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from visavox.files import excerpt

DELIMITERS = ",;\t"
MOST_UNPACKED = 1 << 30
"""Bytes that a compressed table may unpack to."""
FORMULA = re.compile(r"'*\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
"""How a text begins that a spreadsheet may take for a formula, or that `for_people` made of one (OWASP, CSV injection); blanks of
all kinds may stand before it."""
SHOWN = 5
"""Faulty lines that a message names; the rest is counted."""


class Cells(NamedTuple):
    """The text of a table."""

    header: list[str]
    """Names of the columns, without blanks around them."""
    lines: list[int]
    """Number of the line of the file that each row ends on, from 1."""
    rows: list[list[str]]
    """Cells without blanks around them; lines without any text are left out."""


def read_cells(path: Path, error: type[ValueError] = ValueError) -> Cells:
    """Read a table as text.

    UTF-8 with or without a byte order mark and UTF-16 with one are understood, also compressed with gzip; as are comma,
    semicolon and tab, whichever the header has most of; a first line `sep=;`; every kind of line end; and quotes.

    Args:
        error: class of what is raised.

    Raises:
        ValueError: as `error`: no such file, no text, or quotes that do not fit; says file and line.
    """
    text = _decode(path, error)
    named = re.match(r'"?sep=(.)"?\r?\n', text)
    if named:
        text = "\n" + text[named.end() :]
    header = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = named[1] if named else max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    lines, rows = [], []
    try:
        for cells in reader:
            cells = [_without_apostrophe(cell.strip()) for cell in cells]
            if any(cells):
                lines.append(reader.line_num)
                rows.append(cells)
    except csv.Error as fault:
        raise error(f"{path}:{reader.line_num}: {fault}; check its quotes") from None
    return Cells(rows[0], lines[1:], rows[1:]) if rows else Cells([], [], [])


def read_text_table(
    path: Path, columns: Sequence[str], error: type[ValueError] = ValueError, *, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read a table as text cells, indexed by line number.

    Names of columns are lower-cased where no other column has that name already; columns without a name, which
    spreadsheets leave at the ends, are dropped.

    Args:
        columns: those that must be there.
        error: class of what is raised.
        names: of the columns of a table without a header.

    Raises:
        ValueError: as `error`, all faults at once: as `read_cells`; a column is missing or stands there twice, a line is
            longer or shorter than the header.
    """
    cells = read_cells(path, error)
    if names is not None:
        cells = Cells(list(names), [1, *cells.lines], [cells.header, *cells.rows])
    names = [name if name.lower() in cells.header else name.lower() for name in cells.header]
    faults = [_missing_column(name, names) for name in columns if name not in names]
    faults += [
        f"column {excerpt(name)} stands there twice; keep one"
        for name in sorted({n for n in names if n and names.count(n) > 1})
    ]
    ragged = [line for line, row in zip(cells.lines, cells.rows) if len(row) != len(names)]
    if ragged:
        faults.append(f"{on_lines(ragged)}: other than {len(names)} cells; quote cells that hold the delimiter")
    if faults:
        raise error(f"{path}: {len(faults)} fault(s)\n" + "\n".join(f"  - {fault}" for fault in faults))
    contents = list(zip(*cells.rows)) or [()] * len(names)
    table = {name: content for name, content in zip(names, contents) if name}
    return pd.DataFrame(table, index=cells.lines, columns=list(table), dtype=object)


def for_people(cell: object) -> object:
    """Return a cell of a table that people open in a spreadsheet: what it would run as a formula begins with an apostrophe."""
    if not isinstance(cell, str) or not FORMULA.match(cell):
        return cell
    try:
        float(cell)  # -0.5 is a number
    except ValueError:
        return f"'{cell}"
    return cell


def table_for_people(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy whose texts and names of columns are fit for a spreadsheet, as `for_people`."""
    safe = table.copy()
    for column in safe.select_dtypes(["object", "string"]):
        safe[column] = safe[column].map(for_people)
    return safe.rename(columns=for_people)


def _without_apostrophe(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell[1:]) else cell


def on_lines(lines: Iterable[int]) -> str:
    """Return `line 7` or `lines 7, 9, 12, 15, 20 and 3 more`."""
    lines = list(lines)
    return f"line{'s' if len(lines) > 1 else ''} {count_and_first(lines)}"


def count_and_first(things: Sequence[object]) -> str:
    """Return `a, b, c, d, e and 7 more`."""
    more = f" and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return ", ".join(excerpt(thing, 300) for thing in things[:SHOWN]) + more


def _decode(path: Path, error: type[ValueError]) -> str:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise error(f"{path}: no such file") from None
    if data[:2] == b"\x1f\x8b":
        data = _unpacked(path, data, error)
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{path}: not UTF-8 nor UTF-16 ({fault.reason}); save it as CSV with UTF-8 encoding") from None
    if "\0" in text:
        raise error(f"{path}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: holds binary data; is it a CSV?")
    return text


def _unpacked(path: Path, data: bytes, error: type[ValueError]) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as packed:
            text = packed.read(MOST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as fault:
        raise error(f"{path}: its compression is damaged ({fault}); copy it again") from None
    if len(text) > MOST_UNPACKED:
        raise error(f"{path}: unpacks to more than {MOST_UNPACKED:,} bytes; is it a table?")
    return text


def _missing_column(name: str, columns: list[str]) -> str:

    near = difflib.get_close_matches(name, [column for column in columns if column], n=1, cutoff=0.6)
    there = ", ".join(filter(None, columns)) or "none"
    hint = (
        f"is it {near[0]!r}?"
        if near
        else f"the file has {excerpt(there, 400)}; cells are separated by commas, semicolons or tabs"
    )
    return f"column {name} is missing; {hint}"
