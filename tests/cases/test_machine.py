"""What the machine does meanwhile: its clock jumps."""

from __future__ import annotations

import ast
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from conftest import CHECKOUT

from tests.cases.cases import Case, held_by
from tests.cases.small_tasks import nothing, wait
from visavox import runs
from visavox.workers import pool


def hours_off() -> Iterator[float]:
    """A clock that somebody sets while it is read: an hour on (summer time), a day back, years on."""
    before = time.time()
    while True:
        for hours in (0, 1, -24, 24 * 365 * 5, -1):
            yield before + hours * 3600


@held_by(
    Case("R8", "the clock jumps while workers work", "what is quick is done, what hangs is given up after its time-out")
)
def test_time_outs_do_not_heed_the_clock(case: Case, monkeypatch):
    clock = hours_off()
    monkeypatch.setattr(time, "time", lambda: next(clock))
    began = time.monotonic()
    results = dict(pool.run([0.1, 60.0, 0.2], nothing, wait, workers=2, timeout=3.0))
    assert results[0.1] == 0.1 and results[0.2] == 0.2 and results[60.0].code == "TIMED_OUT"
    assert time.monotonic() - began < 50


@held_by(
    Case("R8", "the clock jumps while an output is held", "it stays held; none is held for the time that has passed")
)
def test_locks_do_not_heed_the_clock(case: Case, tmp_path: Path, monkeypatch):
    clock = hours_off()
    monkeypatch.setattr(time, "time", lambda: next(clock))
    with runs.holding(tmp_path):
        os.utime(tmp_path / runs.LOCK, (0, 0))
        refused = []

        def second() -> None:
            try:
                with runs.holding(tmp_path):
                    pass
            except runs.LockedError as error:
                refused.append(error)

        (thread := threading.Thread(target=second)).start()
        thread.join()
        assert len(refused) == 1
    with runs.holding(tmp_path):
        pass


@held_by(Case("R8", "the wall clock in the sources", "read for what is written down alone, never for a deadline"))
def test_who_reads_the_wall_clock(case: Case):
    """The service counts days for which results are kept by it, which a restart of the machine must not begin anew."""
    found = set()
    for path in sorted((CHECKOUT / "visavox").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"):
                    found.add((path.relative_to(CHECKOUT / "visavox").as_posix().split("/")[0], name))
    assert {room for room, name in found if name.startswith("time.")} <= {"service"}
