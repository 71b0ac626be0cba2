"""Workers: every task gets its result or its reason, whatever happens to the worker."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from visavox.workers import pool


def start_with_seven() -> int:
    return 7


def start_broken() -> int:
    raise FileNotFoundError("weights are missing; fetch them")


def start_that_dies() -> int:
    os._exit(1)


def work(state: int, task: str) -> str:
    match task:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(60)
    return f"{state}:{task}:{os.getpid()}"


def die_at_first(state: int, task: tuple[str, Path]) -> str:
    name, tries = task
    with tries.open("a") as file:
        file.write("x")
    if tries.stat().st_size == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{name} after {tries.stat().st_size}"


def test_every_task_has_its_result_and_workers_are_reused():
    tasks = [str(n) for n in range(12)]
    results = dict(pool.run(tasks, start_with_seven, work, workers=2))
    assert sorted(results) == sorted(tasks)
    assert all(result.startswith(f"7:{task}:") for task, result in results.items())
    assert len({result.rsplit(":")[-1] for result in results.values()}) == 2


def test_a_worker_that_dies_costs_its_task_alone():
    results = dict(pool.run(["a", "die", "b", "exit", "c"], start_with_seven, work, workers=2))
    assert results["die"] == pool.Died(
        "the worker was ended by SIGKILL (3 workers ended over this task); "
        "the system may have been out of memory: try fewer workers"
    )
    assert results["exit"] == pool.Died("the worker ended with exit code 3 (3 workers ended over this task)")
    assert all(isinstance(results[task], str) for task in "abc")
    assert set(list(results)[:3]) == set("abc")  # what kills its worker is tried again after all others


def test_a_task_whose_worker_was_ended_for_another_reason_is_done_at_its_next_try(tmp_path):
    tasks = [("a", tmp_path / "a"), ("b", tmp_path / "b")]
    results = dict(pool.run(tasks, start_with_seven, die_at_first, workers=1))
    assert [results[task] for task in tasks] == ["a after 2", "b after 2"]


def test_a_task_that_hangs_is_given_up():
    results = dict(pool.run(["hang", "a"], start_with_seven, work, workers=1, timeout=1.0))
    assert results["hang"] == pool.Died("took longer than 1 s and was stopped", "TIMED_OUT")
    assert isinstance(results["a"], str)


def test_a_broken_start_is_an_error_with_its_own_words():
    with pytest.raises(pool.PoolError, match="weights are missing; fetch them"):
        list(pool.run(["a"], start_broken, work, workers=2))


def test_workers_that_die_before_they_begin_are_an_error_and_cost_no_task():
    with pytest.raises(pool.PoolError, match="no worker could be started: the worker ended with exit code 1"):
        list(pool.run(["a", "b"], start_that_dies, work, workers=2))


def counted(seen: list[str], fifth: threading.Event | None = None) -> Iterator[str]:
    """A thousand tasks; `seen` says how far they were taken, `fifth` that five were."""
    for number in range(1000):
        seen.append(str(number))
        if fifth and len(seen) == 5:
            fifth.set()
        yield seen[-1]


def test_workers_go_on_while_the_caller_is_busy():
    seen: list[str] = []
    fifth = threading.Event()
    results = pool.ahead(lambda stop: pool.run(counted(seen, fifth), start_with_seven, work, workers=1, stop=stop), 3)
    next(results)
    fifth.wait()  # the caller asks for nothing meanwhile
    results.close()
    assert 5 <= len(seen) < 10  # one wanted, three that wait, one that finds no room


def test_what_breaks_ahead_is_raised_where_the_results_are_wanted():
    results = pool.ahead(lambda stop: pool.run(["a"], start_broken, work, workers=1, stop=stop), 2)
    with pytest.raises(pool.PoolError, match="weights are missing; fetch them"):
        list(results)


def test_a_caller_that_leaves_ends_the_workers():
    before, seen = set(multiprocessing.active_children()), []
    results = pool.ahead(lambda stop: pool.run(counted(seen), start_with_seven, work, workers=2, stop=stop), 1)
    next(results)
    results.close()
    drawn = len(seen)
    assert drawn < 10
    time.sleep(0.2)
    assert len(seen) == drawn
    assert set(multiprocessing.active_children()) <= before
