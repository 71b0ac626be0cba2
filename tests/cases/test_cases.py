"""The cases themselves: every one has its own name, and the table shows all of them."""

import pytest
from conftest import CHECKOUT

from tests.cases.cases import Case, all_cases, held_by, table


def test_every_case_has_its_own_name_and_its_row():
    found = [case.id for case, _ in all_cases()]
    assert len(set(found)) == len(found)
    rows = [line for line in table().splitlines() if line.startswith("| ") and not line.startswith("| #")]
    assert len(rows) == len(found)


def test_a_number_that_names_no_kind_and_equal_names_are_refused():
    with pytest.raises(ValueError, match="such as M12"):
        Case("12", "a title", "an end")
    with pytest.raises(ValueError, match="M1-twice"):
        held_by(Case("M1", "twice", "this"), Case("M1", "twice", "that"))


def test_the_page_is_made_of_the_cases():
    page = (CHECKOUT / "docs/reliability.md").read_text(encoding="utf-8")
    assert page == table(), "write it anew: python -m tests.cases.cases --output docs/reliability.md"
