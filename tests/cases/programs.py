"""Programs that tests start beside themselves, wait for and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import CHECKOUT

from visavox import runs


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen]]:
    """started(word, ...): a program in a process group of its own, ended with the test whatever happens."""
    running: list[subprocess.Popen] = []

    def start(*words: str, **how) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        how = {"cwd": CHECKOUT, "start_new_session": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
        running.append(subprocess.Popen([sys.executable, *words], env=environment, text=True, **how))
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(there: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


class Holder:
    """Another process that holds an output until it is told otherwise."""

    def __init__(self, started: Callable, output: Path):
        code = (
            "import sys\nfrom pathlib import Path\nfrom visavox import runs\n"
            "with runs.holding(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
        )
        self.process = started("-c", code, str(output), stdin=subprocess.PIPE)
        assert self.process.stdout.readline() == "held\n"


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".part" in path.name or path.name.endswith(runs.LOCK)]
