"""How long work takes: a stopwatch per stage, and a progress bar where somebody is looking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from visavox.logs import say


class Stopwatch:
    """Seconds per stage; a stage within a stage is taken out of the outer one, so that they add up."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}  # of the items of each stage that was booked with `each`
        self._stack: list[float] = []

    def total(self) -> float:
        return time.perf_counter() - self.began

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        self._stack.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent - self._stack.pop()
            if self._stack:
                self._stack[-1] += spent

    def each(self, stage: str, items: Iterable[Any]) -> Iterator[Any]:
        """The items, with the time spent in waiting for them booked on a stage."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, None)
            if item is None:
                return
            self.counts[stage] = self.counts.get(stage, 0) + 1
            yield item


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, a line now and then in a log; gives the function that counts one step."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
        return
    done, began, said = 0, time.monotonic(), time.monotonic()

    def advance() -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        if done == total or now - said >= 10:
            said = now
            say(f"{what}: {done} of {total}, {now - began:.0f} s", error=True)

    yield advance
