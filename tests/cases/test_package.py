"""The package: what is never done in its code, and what it does without its extras."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache

import pytest
from conftest import CHECKOUT

from tests.cases.cases import Case, held_by

PLACES = ("visavox", "examples", "benchmarks", "notebooks")


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Every call of the sources with where it stands."""
    found = []
    files = [*CHECKOUT.glob("*.py"), *(path for place in PLACES for path in (CHECKOUT / place).rglob("*.py"))]
    for path in sorted(files):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.append((f"{path.relative_to(CHECKOUT)}:{node.lineno}", node))
    return found


def named(*names: str) -> Callable[[ast.Call], bool]:
    last = {name.rpartition(".")[2] for name in names}

    def is_named(call: ast.Call) -> bool:
        called = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
        return called in last and ast.unparse(call.func) in names  # to write all of them out takes seconds

    return is_named


def given(call: ast.Call, name: str) -> object:
    """The constant that a call gives a keyword; None where it gives none."""
    return next(
        (ast.literal_eval(k.value) for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None
    )


NEVER = "in no line of the sources"


@held_by(
    Case(
        "P2",
        "torch.load of whole objects",
        NEVER,
        lambda c: named("torch.load")(c) and given(c, "weights_only") is not True,
    ),
    Case("P2", "numpy.load of objects", NEVER, lambda c: given(c, "allow_pickle") is True),
    Case(
        "P2", "pickle", NEVER, named("pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "cloudpickle.load")
    ),
    Case("P2", "joblib.load", NEVER, named("joblib.load")),
    Case("P2", "yaml.load", NEVER, named("yaml.load", "yaml.unsafe_load", "yaml.full_load")),
    Case("P2", "a shell", NEVER, lambda c: bool(given(c, "shell")) or named("os.system", "os.popen")(c)),
    Case("P2", "text that is run", NEVER, named("eval", "exec")),
)
def test_what_is_never_done(case: Case):
    assert [where for where, call in calls() if case.given(call)] == []


def test_what_is_never_done_would_be_seen():
    planted = ast.parse(
        "torch.load(p); torch.load(p, weights_only=False); np.load(p, allow_pickle=True); run(x, shell=True)"
    )
    found = [node for node in ast.walk(planted) if isinstance(node, ast.Call)]
    cases = [case.given for case in test_what_is_never_done.cases]
    assert all(any(rule(call) for rule in cases) for call in found) and len(found) == 4


@held_by(Case("P2", "releases of Lightning that were tampered with", "excluded by name"))
def test_bad_releases(case: Case):
    wanted = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    lightning = next(line for line in wanted if line.startswith("pytorch-lightning"))
    assert "!=2.6.2" in lightning and "!=2.6.3" in lightning


BLOCK = "import importlib, pkgutil, sys, warnings\nfor name in {blocked}: sys.modules[name] = None\n"
IMPORT_ALL = """
import visavox
for module in pkgutil.walk_packages(visavox.__path__, "visavox."):
    if not module.name.endswith("__main__") and not module.name.startswith("visavox.service."):
        importlib.import_module(module.name)
"""
SERVE = "from visavox.__main__ import main; sys.exit(main(['serve', '--checkpoint', 'none.ckpt']))"
OF_EXTRAS = ["streamlit", "optuna", "rq", "redis", "fastapi", "uvicorn", "multipart", "pydantic_settings", "structlog"]
OF_EXTRAS += [
    "prometheus_client",
    "pyworld",
    "dlib",
    "playwright",
    "silero_vad",
    "onnx",
    "onnxscript",
    "c2pa",
    "schemathesis",
]
OF_EXTRAS += ["pytest", "nbclient", "ray"]  # onnxruntime and transformers torchmetrics imports where they are installed


@held_by(
    Case(
        "P1",
        "no extra is installed",
        "every module is imported all the same, but those of the service",
        (IMPORT_ALL, 0, ""),
        (pytest.mark.durability,),
    ),
    Case(
        "P1",
        "visavox serve without its extra",
        "exit code 2 with the way to install it",
        (SERVE, 2, "is not installed: pip install 'visavox[serve]'"),
    ),
)
def test_without_extras(case: Case):
    program, code, said = case.given
    words = [sys.executable, "-c", BLOCK.format(blocked=OF_EXTRAS) + program]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and said in done.stderr and "Traceback" not in done.stderr
