"""Work of processes that tests start: a module of its own, for each of them imports it, and what it imports."""

import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple


class Pair(NamedTuple):
    first: int
    second: float


def start_with_seven() -> int:
    return 7


def start_broken() -> int:
    raise FileNotFoundError("weights are missing; fetch them")


def work(state: int, task: Any) -> Any:
    if isinstance(task, tuple):
        return Pair(*task)
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hang":
        time.sleep(60)
    if task.endswith("actor") and not Path(task).exists():  # the actor that holds the worker is lost, once
        Path(task).touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return f"{state}:{task}"
