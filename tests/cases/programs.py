"""Programs that tests start beside themselves, wait for and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
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


class Killer:
    """Kills programs, all their processes at once, a random while after each has begun, which its lock shows."""

    def __init__(self, started: Callable[..., subprocess.Popen], seed: int = 7, longest: float = 0.0):
        """longest: seconds within which they are killed."""
        self.kills, self.longest = 0, longest
        self._started, self._rng = started, np.random.default_rng(seed)

    def spare(self, output: Path, *words: str) -> None:
        """Run a program to its end; what it takes, on this machine at this load, is what later ones are killed within."""
        running = self._begun(output, words)
        began = time.monotonic()
        assert running.wait(300) == 0
        self.longest = time.monotonic() - began

    def __call__(self, output: Path, *words: str) -> bool:
        """Run a program that holds `output`; return whether it was killed, rather than at its end before that."""
        running = self._begun(output, words)
        with suppress(subprocess.TimeoutExpired):
            running.wait(float(self._rng.uniform(0, self.longest)))
        killed = running.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        assert running.wait() == (-signal.SIGKILL if killed else 0)
        self.kills += killed
        return killed

    def _begun(self, output: Path, words: Sequence[str]) -> subprocess.Popen:
        running = self._started(*words, stdout=subprocess.DEVNULL)
        locks = output / runs.LOCK, output.with_name(f".{output.name}{runs.LOCK}")

        def holds() -> bool:
            said = "".join(lock.read_text() for lock in locks if lock.is_file())
            return said.startswith(f"pid {running.pid} ")  # and is not that of one killed before

        wait_for(lambda: holds() or running.poll() is not None)
        return running


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".part" in path.name or path.name.endswith(runs.LOCK)]
