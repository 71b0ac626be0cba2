"""The house keeps its directions: who may import whom, and that the flat files come from this checkout."""

import ast
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from visavox.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
DOORS = {"crop", "dataset", "data_loader", "model", "SyncNetModel", "train", "eval", "utils", "retinaface"}
SKIPPED = {".venv", "demo", "runs", "build"}


def python_files(folder: Path = ROOT) -> list[Path]:
    return [path for path in folder.rglob("*.py") if not SKIPPED & set(path.relative_to(ROOT).parts)]


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports, at any depth of it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def lint(folder: Path) -> subprocess.CompletedProcess:
    """Run the import contracts of a checkout's pyproject.toml over its package."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_the_import_contracts_hold():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_the_types_hold():
    """What `make check` asks of mypy; its cache stays with the checkout, so that only the first run takes half a minute."""
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("where", "planted", "broken"),
    [
        ("config/base.py", "import visavox.media", "imports only"),
        ("evaluation/metrics.py", "def late():\n    from visavox.bundle import Bundle", "Evaluation is arithmetic"),
        ("detectors/xception/video.py", "from visavox.detectors.anomaly import mouth", "do not import each other"),
        ("detectors/xception/video.py", "import visavox.media", "nothing opens a media file"),
        ("report/page.py", "import streamlit", "Web frameworks"),
        ("features/audio.py", "import utils", "imports a door"),
        ("stray.py", "", "stray"),
    ],
)
def test_a_planted_import_breaks_a_contract(where: str, planted: str, broken: str, tmp_path: Path):
    shutil.copytree(ROOT / "visavox", tmp_path / "visavox", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "visavox" / where).open("a") as file:
        file.write(f"\n{planted}\n")
    done = lint(tmp_path)
    assert done.returncode == 1 and broken in " ".join(done.stdout.split()), done.stdout


def test_the_outer_ring_goes_through_no_door():
    outer = [ROOT / "streamlit_app.py", *python_files(ROOT / "examples"), *python_files(ROOT / "benchmarks")]
    guilty = {str(path): found for path in outer if (found := roots(imports_of(path)) & DOORS)}
    assert not guilty


def test_retinaface_stands_alone():
    allowed = {"torch", "torchvision", "numpy", "cv2", "visavox", "__future__"} | set(sys.stdlib_module_names)
    for path in python_files(ROOT / "visavox" / "faces" / "retinaface"):
        ours = {name for name in imports_of(path) if name.startswith("visavox")}
        assert roots(imports_of(path)) - {""} <= allowed, path
        assert all(name.startswith(("visavox.faces.retinaface", "visavox.faces.detection")) for name in ours), path


def test_retinaface_is_this_checkouts_own():
    assert Path(importlib.util.find_spec("retinaface").origin).is_relative_to(ROOT)


def test_nothing_is_printed_or_computed_at_import():
    code = "import sys, crop, eval, train, dataset, data_loader, utils, model, SyncNetModel, retinaface;"
    code += "assert 'albumentations' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""


PROGRAMS = [["crop.py"], ["train.py"], ["eval.py"], *(["visavox", name] for name in COMMANDS)]
HEAVY = ("torch", "pytorch_lightning", "pandas", "librosa", "sklearn", "matplotlib", "albumentations")
ASKED = f"""
import contextlib, io, json, os, runpy, sys
import visavox.__main__, visavox.config
for words in {PROGRAMS}:
    if os.fork():
        assert os.wait()[1] == 0
        continue
    sys.argv, code = ['x', *words[1:], '--help'], None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            runpy.run_path(words[0], run_name='__main__') if words[0].endswith('.py') else visavox.__main__.main(sys.argv[1:])
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, said.getvalue(), sorted({set(HEAVY)} & set(sys.modules))]), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def helped() -> dict[str, tuple[int | None, str, list[str]]]:
    """Program -> its exit code with `--help`, what it said and what heavy it imported; forks of one process spare the start."""
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(map(" ".join, PROGRAMS), map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("program", map(" ".join, PROGRAMS))
def test_help_answers_before_heavy_imports(program: str, helped: dict):
    """A second is promised; counting what is imported is the same promise without the machine's mood."""
    code, said, heavy = helped[program]
    assert code == 0 and not heavy
    assert f"usage: visavox {program.split()[-1].removesuffix('.py')}" in said


def test_without_a_command_all_are_listed(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S", said, re.MULTILINE) for name in COMMANDS)
    assert main(["corp"]) == 2
    assert "did you mean crop?" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m visavox | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_a_door_hands_on_the_objects_of_the_package():
    for name in DOORS:
        door = importlib.import_module(name)
        source = ast.parse(Path(door.__file__).read_text(encoding="utf-8"))
        homes = [sys.modules[node.module] for node in source.body if isinstance(node, ast.ImportFrom)]
        for word in door.__all__:
            assert any(getattr(home, word, None) is getattr(door, word) for home in homes), f"{name}.{word}"
        plain = ast.Expr | ast.Import | ast.ImportFrom | ast.Assign | ast.If
        assert all(isinstance(node, plain) for node in source.body), f"{name} holds logic"
        assert ast.get_docstring(source), name
