"""The built page, as it lies in the package: no older than its sources, whole, and nothing in it that its policy refuses."""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "visavox/service/page"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """frontend/build.py."""
    spec = importlib.util.spec_from_file_location("frontend_build", ROOT / "frontend/build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_built_of_its_sources(build: ModuleType):
    now, then = build.sources(), build.built_from()
    differing = sorted(name for name, _ in now.items() ^ then.items())
    assert not differing, f"changed since the page was built: {', '.join(dict.fromkeys(differing))}; run: make page"
    assert {"App.tsx", "components/DeepfakeDetector.tsx", "package-lock.json", "index.html"} <= set(now)


def test_a_changed_source_makes_it_stale(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(ROOT / "frontend", tmp_path / "frontend", ignore=shutil.ignore_patterns("node_modules"))
    monkeypatch.setattr(build, "FRONTEND", tmp_path / "frontend")
    assert not build.stale()
    (tmp_path / "frontend/README.md").write_text("what the page is not built of")
    assert not build.stale()
    (tmp_path / "frontend/lib/new.ts").write_text("export {};")
    assert build.stale()
    (tmp_path / "frontend/lib/new.ts").unlink()
    assert not build.stale()
    with (tmp_path / "frontend/App.tsx").open("a") as file:
        file.write("\n")
    assert build.stale()


def test_what_the_page_names_is_there_and_nothing_else():
    index = (PAGE / "index.html").read_text()
    named = set(re.findall(r'(?:src|href)="/([^"]+)"', index))
    style = "".join((PAGE / name).read_text() for name in named if name.endswith(".css"))
    named |= {f"assets/{name}" for name in re.findall(r"url\(/?(?:assets/)?([\w.-]+)\)", style)}
    there = {path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.is_file()}
    papers = {"index.html", "licenses.md", "licenses-font.txt", "sources.sha256"}
    assert there == named | papers
    assert all(re.search(r"-[\w-]{8}\.\w+$", name) for name in there if name.startswith("assets/"))


def test_the_page_has_no_inline_script_or_style_and_names_no_other_host():
    index = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", index)
    style = "".join(path.read_text() for path in PAGE.rglob("*.css"))
    for text in (index, style):
        assert not re.search(r"(?:src|href|url)\W{1,2}(?:https?:)?//", text)


def test_no_script_of_a_package_is_needed_and_no_registry_named():
    lock = (ROOT / "frontend/package-lock.json").read_text()
    assert '"hasInstallScript": true' not in lock and '"resolved"' not in lock
    assert lock.count('"integrity"') > 50
