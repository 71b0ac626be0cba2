"""A headless Chromium for the tests of the page, and what it visits."""

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.stand_in import StandIn, serving
from visavox.media import write_video
from visavox.synthetic.clips import render


@pytest.fixture(scope="module")  # while one is open no other module can open its own
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="the browser extra: pip install -e .[browser]")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium; on Debian: apt-get install chromium")
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium: Any) -> Iterator[Callable[..., Any]]:
    """browse(address, width=1280, scheme="light", **context): a new browser window there; its errors fail the test."""
    contexts: list[Any] = []
    errors: list[str] = []

    def heard(message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            errors.append(message.text)

    def go(address: str, width: int = 1280, scheme: str = "light", **more: Any) -> Any:
        size = {"width": width, "height": 900}
        context = chromium.new_context(viewport=size, color_scheme=scheme, accept_downloads=True, **more)
        contexts.append(context)
        context.set_default_timeout(30_000)
        context.on("console", heard)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        page = context.new_page()
        page.goto(address)
        return page

    yield go
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.fixture
def api() -> Iterator[StandIn]:
    with serving() as server:
        yield server


@pytest.fixture
def visit(browse: Callable[..., Any], api: StandIn) -> Callable[..., Any]:
    """visit(width=1280, scheme="light", **context): a new browser window at the page; its errors fail the test."""
    return functools.partial(browse, api.address)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of a synthetic face that speaks."""
    path = tmp_path_factory.mktemp("page") / "speech.mp4"
    drawn = render(3, 4, 4.0, 256)
    write_video(path, drawn.frames, drawn.audio, fps=25)
    return path
