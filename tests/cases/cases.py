"""What a case is. Each stands for one thing that people's files or runs do, and a parametrised test holds it:

    from tests.cases.cases import Case, held_by

    @held_by(
        Case("M7", "no sound", "frames are given, audio() is None", given=None),
        Case("M16", "sound at 8 kHz", "resampled in place", given=8000),
    )
    def test_sound(case, tmp_path):
        path = make(tmp_path, rate=case.given)

`pytest -k M16` runs one number's cases. `python -m tests.cases.cases` prints all cases as a table (Markdown): number, case,
what happens, test; `python -m tests.cases.cases --output docs/reliability.md` is how that page is made.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDERS = (Path(__file__).parent, Path(__file__).parents[1] / "durability")
GROUPS = {
    "M": "Media",
    "F": "Faces",
    "N": "Names",
    "T": "Tables",
    "S": "Stored data",
    "R": "Runs",
    "P": "Package",
    "H": "HTTP",
    "U": "Page",
}


@dataclass(frozen=True)
class Case:
    """One thing that people's files or runs do."""

    number: str
    """Letter and number of the kind, as in GROUPS: M12, T3. Cases may share one."""
    title: str
    """What is found, in a few plain words; unique within its number."""
    expected: str
    """What happens then, in plain words."""
    given: Any = None
    """What the test makes the case of: a value, a tuple, a function."""
    marks: tuple[pytest.MarkDecorator, ...] = ()
    """Such as `(pytest.mark.durability,)` for a case that takes long."""

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"[{''.join(GROUPS)}]\d+", self.number):
            raise ValueError(
                f"case number {self.number!r}: expected one of {', '.join(GROUPS)} and a number, such as M12"
            )

    @property
    def id(self) -> str:
        """Such as `M12-sound-half-a-second-late`: what pytest shows and `-k` selects."""
        return f"{self.number}-{re.sub(r'[^0-9A-Za-z.]+', '-', self.title).strip('-')}"


def held_by(*cases: Case) -> Callable[[Callable], Callable]:
    """Run the decorated test once for each case, which it takes as its argument `case`."""
    ids = [case.id for case in cases]
    if len(set(ids)) < len(ids):
        raise ValueError(f"cases with equal names: {', '.join(sorted({id for id in ids if ids.count(id) > 1}))}")

    def decorate(test: Callable) -> Callable:
        test.cases = cases
        return pytest.mark.parametrize("case", [pytest.param(case, id=case.id, marks=case.marks) for case in cases])(
            test
        )

    return decorate


def all_cases() -> Iterator[tuple[Case, str]]:
    """Each case of each test file in the folders with the test that holds it, such as `test_media.py::test_sound`."""
    tests = FOLDERS[0].parent
    if str(tests) not in sys.path:  # where the tests find their conftest
        sys.path.append(str(tests))
    for path in sorted((path for folder in FOLDERS for path in folder.glob("test_*.py")), key=lambda path: path.name):
        module = importlib.import_module(f"tests.{path.parent.name}.{path.stem}")
        for name, test in vars(module).items():
            for case in getattr(test, "cases", ()) if name.startswith("test_") else ():
                yield case, f"{path.name}::{name}"


def table() -> str:
    """All cases as Markdown, one table for each group, in the order of their numbers."""
    found = sorted(all_cases(), key=lambda row: (list(GROUPS).index(row[0].number[0]), int(row[0].number[1:])))
    lines = [
        "# What is met and what happens",
        "",
        "Made by `python -m tests.cases.cases --output docs/reliability.md`.",
    ]
    for letter, group in GROUPS.items():
        rows = [(case, test) for case, test in found if case.number[0] == letter]
        if rows:
            lines += ["", f"## {group}", "", "| # | Case | What happens | Test |", "|---|---|---|---|"]
            lines += [f"| {c.number} | {_cell(c.title)} | {_cell(c.expected)} | `{test}` |" for c, test in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.cases.cases", description="The cases as a table (Markdown).")
    parser.add_argument("--output", type=Path, help="a file to write it to, such as docs/reliability.md")
    output = parser.parse_args(argv).output
    if output:
        output.write_text(table(), encoding="utf-8")
    else:
        sys.stdout.write(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
