"""Worker processes that outlive their worst task: a task that kills its workers costs that task alone.

A worker may also be ended for what others did, as by a system that is out of memory. So its task is tried again, after all the
others, and given up once it has cost `TRIES` workers.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Task = TypeVar("Task")
State = TypeVar("State")
Result = TypeVar("Result")


STARTS = 3
"""Workers in a row that may die before they have begun, say for want of memory."""
TRIES = 3
"""Workers that a task may cost before it is given up."""
START_SECONDS = 120.0
"""Seconds that a worker may take to begin, where the time-out of a task is shorter: a busy machine is slow to import."""
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


def run(
    tasks: Iterable[Task],
    start: Callable[[], State],
    work: Callable[[State, Task], Result],
    *,
    workers: int,
    timeout: float | None = None,
    stop: threading.Event | None = None,
) -> Generator[tuple[Task, Result | Died], None, None]:
    """Yield `(task, work(state, task))` as results come in, each worker with a state of its own from `start()`.

    Args:
        start, work: picklable; `work` answers its own exceptions, since one that escapes ends its worker.
        timeout: seconds after which a task is given up, at the first try, and its worker replaced.
        stop: once it is set, nothing more is yielded and the workers are ended, within a second.

    Raises:
        PoolError: `start` raised; no task is lost in silence.
    """
    context = multiprocessing.get_context("spawn")
    queue = iter(tasks)
    again: list[tuple[Task, int]] = []  # tasks whose worker died before it had begun, and how many they have cost
    suspect: deque[tuple[Task, int]] = deque()  # tasks whose worker died over them: after all others
    stillborn = 0

    def following() -> tuple[Task, int] | None:
        if again:
            return again.pop()
        for task in queue:
            return task, 0
        return suspect.popleft() if suspect else None

    busy: list[_Worker] = []
    idle: list[_Worker] = []
    try:
        while True:
            while len(busy) < workers and (given := following()) is not None:
                worker = idle.pop() if idle else _Worker(context, start, work)
                worker.give(*given)
                busy.append(worker)
            if not busy:
                return
            wait([end for worker in busy for end in (worker.connection, worker.process.sentinel)], timeout=1.0)
            if stop and stop.is_set():
                return
            for worker in list(busy):
                result = worker.result(timeout)
                if result is None:
                    continue
                busy.remove(worker)
                if isinstance(result, Died) and not worker.ready:
                    stillborn += 1
                    if stillborn == STARTS:
                        raise PoolError(f"no worker could be started: {result.reason}; {GUARD}")
                    again.append((worker.task, worker.lost))
                    continue
                stillborn = 0
                if isinstance(result, Died) and result.code == "WORKER_DIED" and worker.lost + 1 < TRIES:
                    suspect.append((worker.task, worker.lost + 1))
                    continue
                if not isinstance(result, Died):
                    idle.append(worker)
                yield worker.task, result
    finally:
        for worker in (*busy, *idle):
            worker.stop()


def ahead(results: Callable[[threading.Event], Iterator[Result]], most: int) -> Generator[Result, None, None]:
    """The results, drawn by a thread while the caller is busy with those it has, at most `most` of which wait.

    results: makes the iterator, which is to end soon after the event is set; it is then no longer wanted.
    """
    stop = threading.Event()
    drawn: queue.Queue[tuple[bool, Any]] = queue.Queue(most)

    def draw() -> None:
        try:
            for result in results(stop):
                _put(drawn, (True, result), stop)
            _put(drawn, (False, None), stop)
        except BaseException as error:  # raised again where the results are wanted
            _put(drawn, (False, error), stop)

    drawing = threading.Thread(target=draw, name="ahead", daemon=True)
    drawing.start()
    try:
        while True:
            more, value = drawn.get()
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        drawing.join()


def _put(drawn: queue.Queue, item: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(queue.Full):
            drawn.put(item, timeout=0.2)
            return


class _Worker:
    def __init__(self, context: Any, start: Callable[[], Any], work: Callable[[Any, Any], Any]):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, start, work), daemon=True)
        self.process.start()
        self.ready = False
        theirs.close()

    def give(self, task: Any, lost: int = 0) -> None:
        """Send a task that has cost so many workers before."""
        self.task, self.lost = task, lost
        self.began = time.monotonic()
        with suppress(OSError):  # already dead: `result` reports it with the task
            self.connection.send(task)

    def result(self, timeout: float | None) -> Any:
        """The result, Died, or None while the work goes on."""
        if self.connection.poll():
            try:
                kind, value = self.connection.recv()
            except (EOFError, OSError):
                return self._died()
            if kind == "start failed":
                raise PoolError(value)
            if kind == "ready":
                self.ready, self.began = True, time.monotonic()
                return None
            return value
        if not self.process.is_alive():
            return self._died()
        if timeout is not None:
            allowed = timeout if self.ready else max(timeout, START_SECONDS)
            if time.monotonic() - self.began > allowed:
                self.process.kill()
                self.process.join()
                return Died(f"took longer than {allowed:g} s and was stopped", "TIMED_OUT")
        return None

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _died(self) -> Died:
        self.process.join()
        code = self.process.exitcode
        each = f" ({self.lost + 1} workers ended over this task)" if self.lost else ""
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            cause = "; the system may have been out of memory: try fewer workers" if name == "SIGKILL" else ""
            return Died(f"the worker was ended by {name}{each}{cause}")
        return Died(f"the worker ended with exit code {code}{each}")


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


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
