"""What tests do in a browser window with the page."""

import time
from pathlib import Path
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="the browser extra: pip install -e .[browser]").expect
expect.set_options(timeout=30_000)  # a busy machine is slow, not wrong


def choose(page: Any, *paths: Path) -> None:
    expect(page.get_by_test_id("limits")).to_contain_text("Up to")
    page.locator("input[type=file]").first.set_input_files([str(path) for path in paths])


def states(page: Any) -> list[str]:
    return page.locator("[data-testid=pipeline] [data-state]").evaluate_all("all => all.map(one => one.dataset.state)")


def verdict(page: Any) -> Any:
    return page.get_by_test_id("verdict")


def until(page: Any, expression: str) -> None:
    """Wait for an expression of JavaScript. (`wait_for_function` needs eval, which the page's policy refuses.)"""
    deadline = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(50)


def accessible(page: Any) -> None:
    """No finding of axe-core that is serious or critical, and nothing that sticks out sideways."""
    from axe_playwright_python.sync_playwright import Axe

    page.wait_for_timeout(700)  # until colours that fade in have their full contrast
    found = [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html']}"
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert not found, found
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
