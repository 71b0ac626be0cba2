"""What workers of the tests do. Nothing heavy is imported here: each worker starts with it, and torch alone takes seconds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def nothing() -> None:
    """The state of a worker that needs none."""


def seven() -> int:
    """A state that results can be told by."""
    return 7


def wait(_: None, seconds: float) -> float:
    """Sleep, and give back for how long."""
    time.sleep(seconds)
    return seconds


def die_or_hang(state: int, task: str) -> int:
    """Give the state back; "die" ends each worker, "hang" keeps one busy, a path that ends in "mark" ends the first."""
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hang":
        time.sleep(60)
    if task.endswith("mark") and not Path(task).exists():
        Path(task).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return state
