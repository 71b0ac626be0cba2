"""Worker processes that outlive their worst task: a task that kills its workers costs that task alone.

A worker may also be ended for what others did, as by a system that is out of memory. So its task is tried again, after all the
others, and given up once it has cost `TRIES` workers.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from visavox.workers.worker import (
    STARTS,
    Died,
    PoolError,
    Result,
    State,
    Task,
    Worker,
    end_with_parent,
    may_try_again,
    no_start,
)

__all__ = ["Died", "PoolError", "ahead", "cores", "end_with_parent", "run"]


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

    busy: list[Worker[Task, Result]] = []
    idle: list[Worker[Task, Result]] = [Worker(start, work, timeout) for _ in range(workers)]
    try:
        while True:
            while idle and (given := following()) is not None:
                worker = idle.pop()
                worker.give(*given)
                busy.append(worker)
            if not busy:
                return
            wait([end for worker in busy for end in worker.waited_for], timeout=1.0)
            if stop and stop.is_set():
                return
            for worker in list(busy):
                result = worker.result()
                if result is None:
                    continue
                busy.remove(worker)
                idle.append(worker)
                if isinstance(result, Died) and not worker.ready:
                    stillborn += 1
                    if stillborn == STARTS:
                        raise no_start(result)
                    again.append((worker.task, worker.lost))
                    continue
                stillborn = 0
                if isinstance(result, Died) and may_try_again(result, worker.lost):
                    suspect.append((worker.task, worker.lost + 1))
                    continue
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


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
