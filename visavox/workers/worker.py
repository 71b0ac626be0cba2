"""One worker: a process that can be killed, keeps what is costly to build from task to task, and answers whatever happens to it.

    worker = Worker(start, work, timeout=600)       # nothing runs yet
    worker(task)                                    # -> work(start(), task), or Died

The local pool (`pool`) watches many of them; an actor of Ray (`ray_pool`) calls one. What a task does to its process costs that
task alone: the process is replaced, the task tried again, and given up once it has cost `TRIES` processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
State = TypeVar("State")
Result = TypeVar("Result")

STARTS = 3
"""Processes in a row that may die before they have begun, say for want of memory."""
TRIES = 3
"""Processes that a task may cost before it is given up."""
START_SECONDS = 120.0
"""Seconds that a process may take to begin, where the time-out of a task is shorter: a busy machine is slow to import."""
GUARD = 'a script that crops must do so below `if __name__ == "__main__":`, for its workers import it'


class PoolError(RuntimeError):
    """No worker could be started; the message is the worker's own."""


@dataclass(frozen=True)
class Died:
    """Stands for the result of a task whose worker died or had to be stopped."""

    reason: str
    """What happened, for people."""
    code: str = "WORKER_DIED"
    """One of `visavox.errors.CODES`."""


class Worker(Generic[Task, Result]):
    """Work on one task at a time in a process of its own, started when there is none and a task is given.

    Args:
        start, work: picklable; `start()` makes the state that `work(state, task)` is called with. `work` answers its own
            exceptions, since one that escapes ends its process.
        timeout: seconds after which a task is given up, at the first try, and its process ended.
    """

    def __init__(self, start: Callable[[], Any], work: Callable[[Any, Task], Result], timeout: float | None = None):
        self._start, self._work, self._timeout = start, work, timeout
        self._process: Any = None
        self.ready = False
        """Whether the last process has begun: only then can it be the task that ended it."""

    def __call__(self, task: Task) -> Result | Died:
        """Return the result of a task, trying it again where it costs its process.

        Raises:
            PoolError: `start` raised, or `STARTS` processes died before they had begun.
        """
        lost = stillborn = 0
        while True:
            self.give(task, lost)
            while (result := self.result()) is None:
                wait(self.waited_for, timeout=1.0)
            if not isinstance(result, Died):
                return result
            if not self.ready:
                stillborn += 1
                if stillborn == STARTS:
                    raise no_start(result)
            elif may_try_again(result, lost):
                stillborn, lost = 0, lost + 1
            else:
                return result

    @property
    def waited_for(self) -> list[Any]:
        """What `multiprocessing.connection.wait` waits for until there may be a result."""
        return [self._connection, self._process.sentinel]

    def give(self, task: Task, lost: int = 0) -> None:
        """Send a task that has cost so many processes before."""
        if self._process is None or not self._process.is_alive():
            self.stop()
            self._begin()
        self.task, self.lost = task, lost
        self._began = time.monotonic()
        with suppress(OSError):  # already dead: `result` reports it with the task
            self._connection.send(task)

    def result(self) -> Result | Died | None:
        """Return the result, Died, or None while the work goes on.

        Raises:
            PoolError: `start` raised.
        """
        if self._connection.poll():
            try:
                kind, value = self._connection.recv()
            except (EOFError, OSError):
                return self._died()
            if kind == "start failed":
                raise PoolError(value)
            if kind == "ready":
                self.ready, self._began = True, time.monotonic()
                return None
            return value
        if not self._process.is_alive():
            return self._died()
        if self._timeout is not None:
            allowed = self._timeout if self.ready else max(self._timeout, START_SECONDS)
            if time.monotonic() - self._began > allowed:
                self.stop()
                return Died(f"took longer than {allowed:g} s and was stopped", "TIMED_OUT")
        return None

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._start, self._work), daemon=True)
        self._process.start()
        self.ready = False
        theirs.close()

    def _died(self) -> Died:
        self._process.join()
        code = self._process.exitcode
        each = f" ({self.lost + 1} workers ended over this task)" if self.lost else ""
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            cause = "; the system may have been out of memory: try fewer workers" if name == "SIGKILL" else ""
            return Died(f"the worker was ended by {name}{each}{cause}")
        return Died(f"the worker ended with exit code {code}{each}")


def may_try_again(died: Died, lost: int) -> bool:
    """Return whether a task that has cost `lost` workers before it died this time is given to another one."""
    return died.code == "WORKER_DIED" and lost + 1 < TRIES


def no_start(died: Died) -> PoolError:
    """Return the error of workers that died before they had begun."""
    return PoolError(f"no worker could be started: {died.reason}; {GUARD}")


def end_with_parent() -> None:
    """In a worker: end it within a moment once its parent is gone, however busy it is and however the parent ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def _serve(connection: Connection, start: Callable[[], Any], work: Callable[[Any, Any], Any]) -> None:
    end_with_parent()
    for each in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a terminal or a service manager sends them to all: the parent decides
        signal.signal(each, signal.SIG_IGN)
    try:
        state = start()
    except Exception as error:
        connection.send(("start failed", f"{type(error).__name__}: {error}"))
        return
    connection.send(("ready", None))
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):  # the parent is gone
            return
        result = work(state, task)
        try:
            connection.send(("result", result))
        except OSError:
            return
