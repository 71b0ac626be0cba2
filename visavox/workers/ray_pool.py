"""Workers on the machines of a Ray cluster: `pool.run` over actors of Ray Data (extra `ray`).

What travels is a task (names and paths) and its row; videos and bundles are read and written by the actors, on storage that all
machines share. An actor holds a `Worker`, so that what a video does ends a child of the actor and neither the actor nor a task
beside it.

Ray may lose an actor or a machine, and may fall silent without a word: an actor that has died keeps its place in a pool of fixed
size, and the pool waits for ever (ray-project/ray#62746, open in 2.60). So the pool has room to grow, tasks that gave no answer
are given again, `TRIES` times in all, and a driver that has heard nothing for `patience` seconds leaves that session for another.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from visavox.workers.launching import Ray
from visavox.workers.worker import START_SECONDS, TRIES, Died, PoolError, Worker

Task = TypeVar("Task")
State = TypeVar("State")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

MEMORY = 1_600_000_000
"""Bytes that an actor is said to need: 1.1 GB of a crop worker at 1080p (`benchmarks.memory`), 0.2 GB of the decoder's child and
0.3 GB of Ray's own process."""
OBJECTS = 128 << 20
"""Bytes of shared memory of a cluster that is started here: tasks and rows are small."""
BLOCKS, MOST_IN_BLOCK = 32, 4
"""Blocks for each actor, so that all end at about the same time, where there are tasks enough; tasks in a block, which come back
together and which Ray takes as much time for as for one."""
ENDING = 10.0
"""Seconds that Ray Data has to end its threads; where Ray itself hangs it does not."""
SILENCE = 600.0
"""Seconds without a time-out of its own that a task is taken to last at most, before the cluster is said to be silent."""


class _Silent(Exception):
    """Nothing came from Ray for too long."""


def require() -> None:
    """Say what to install where Ray is not, and keep Ray from beginning sessions that nobody asked for.

    A thread of Ray Data may outlive its session; where it calls Ray again, Ray would begin another, whose end ends this process.

    Raises:
        ImportError: it is not; the message names the extra.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read by Ray when it is imported
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it complains of its own way to hand over arguments
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # read by Ray when it is imported, which others here may have done
    try:
        importlib.import_module("ray.data")
        from ray._private import auto_init_hook
    except ImportError as error:
        raise ImportError(f"--ray needs Ray Data ({error}): pip install 'visavox[ray]'") from None
    auto_init_hook.enable_auto_connect = False


def run(
    tasks: Iterable[Task],
    start: Callable[[], State],
    work: Callable[[State, Task], Result],
    *,
    ray: Ray,
    workers: int,
    timeout: float | None = None,
    stop: threading.Event | None = None,
    patience: float | None = None,
) -> Generator[tuple[Task, Result | Died], None, None]:
    """Yield `(task, work(state, task))` as results come in from the actors.

    Args:
        start, work: picklable, of modules that are installed on every machine; see `pool.run`.
        workers: actors at most; one at least, and room for two.
        patience: seconds without any result after which the session is left; None: more than a task may take.

    Raises:
        PoolError: `start` raised, or a machine has another version of the package.
        RuntimeError: the cluster cannot be reached, or gives nothing at all.
    """
    require()
    open_tasks = dict(enumerate(tasks))
    if not open_tasks:
        return
    patience = patience or START_SECONDS + (_in_block(len(open_tasks), workers) + 1) * (timeout or SILENCE)
    actor = (start, work, timeout, _version())
    answered = False
    session = _Session(ray.address)
    try:
        for lost in range(TRIES):
            stream = partial(_results, open_tasks.copy(), actor, ray.gpus, workers, alone=lost > 0)
            try:
                with closing(_watched(stream, patience, stop)) as results:
                    for number, result in results:
                        if isinstance(result, PoolError):
                            raise result
                        answered = True
                        if number in open_tasks:
                            yield open_tasks.pop(number), result
            except _Silent:
                has = session.resources()
                if not answered:
                    raise RuntimeError(
                        f"Ray gave no result within {patience:g} s; it has {has}, and an actor needs {_needs(ray.gpus)} and "
                        f"{MEMORY / 1e9:g} GB: see `ray status`; the same command goes on where it stopped"
                    ) from None
                log.warning(
                    "Ray has been silent for %g s (it has %s): leaving the session for a new one", patience, has
                )
                session.renew()
            if not open_tasks or (stop and stop.is_set()):
                return
            if lost + 1 < TRIES:
                log.warning("%d tasks gave no answer, their actors being lost: given again", len(open_tasks))
    finally:
        session.close()
    for task in open_tasks.values():
        yield task, Died(f"its actor of Ray was lost, {TRIES} times")


@dataclass(frozen=True)
class _Parcel:
    """Holds a task or a result, so that Ray hands it over as it is: of a bare tuple it makes an array."""

    content: Any


class _Actor:
    """What Ray calls with each row: one `Worker`, and with it the child that the work is done in."""

    def __init__(self, start: Any, work: Any, timeout: float | None, version: str):
        self._worker: Worker[Any, Any] = Worker(start, work, timeout)
        self._driver = version
        vars(sys.modules["__main__"]).pop("__file__", None)  # Ray's program, which each child would import otherwise

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result: Any
        if self._driver != _version():
            result = PoolError(f"a machine has visavox {_version()}, this one {self._driver}; install the same on both")
        else:
            try:
                result = self._worker(row["task"].content)
            except PoolError as error:
                result = error
            except Exception as error:  # what Ray is told of, it would leave out
                result = PoolError(f"{type(error).__name__}: {error}")
        return {"number": row["number"], "result": _Parcel(result)}


class _Session:
    """This process's connection to a cluster; one that the caller had before is used and left as it is."""

    def __init__(self, address: str):
        import ray

        self._address, self._ours = address, not ray.is_initialized()
        if self._ours:
            self._connect()

    def renew(self) -> None:
        """Leave the session, which ends its actors, and begin another one."""
        if not self._ours:
            raise RuntimeError("Ray has fallen silent in a session that was begun elsewhere; end it and start again")
        self.close()
        self._connect()

    def close(self) -> None:
        if self._ours:
            import ray

            ray.shutdown()

    @staticmethod
    def resources() -> str:
        import ray

        with suppress(Exception):  # it may be gone: this is for a message
            found = ray.cluster_resources()
            return f"{found.get('CPU', 0):g} CPU, {found.get('GPU', 0):g} GPU, {found.get('memory', 0) / 1e9:.1f} GB"
        return "no machine that answers"

    def _connect(self) -> None:
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECTS}
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            if self._address == "local":
                ray.init("local", **here, **quiet)
            elif self._address:
                ray.init(self._address, **quiet)
            else:
                try:
                    ray.init("auto", **quiet)
                except ConnectionError:  # there is none
                    ray.init("local", **here, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RuntimeError(
                f"--ray {self._address}: cannot be reached ({error}); start it with `ray start --head`, or give --ray local"
            ) from None
        finally:
            if (
                threading.current_thread() is threading.main_thread()
            ):  # Ray puts its own in the place of `runs.stoppable`
                signal.signal(signal.SIGTERM, on_sigterm)


def _results(
    tasks: dict[int, Any], actor: tuple[Any, ...], gpus: float, workers: int, alone: bool
) -> Iterator[tuple[int, Any]]:
    """Draw number and result of each task that Ray answers; those of actors that are lost are left out.

    Args:
        actor: what `_Actor` is made of.
        alone: give an actor one task at a time, so that its loss costs no other.
    """
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # `run` counts what is lost, and says so
    most = max(2, workers)
    rows = [{"number": number, "task": _Parcel(task)} for number, task in tasks.items()]
    in_block = 1 if alone else _in_block(len(rows), workers)
    data = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / in_block))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_task_retries ends with Ray 2.64, which the extra excludes
        done = data.map(
            _Actor,
            fn_constructor_args=actor,
            compute=ActorPoolStrategy(
                min_size=1,
                max_size=most,
                initial_size=min(most - 1, len(rows)),
                max_tasks_in_flight_per_actor=1 if alone else None,
            ),
            memory=MEMORY,
            max_task_retries=0,
            **_needs(gpus),
        )
    for block in done.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        for number, parcel in zip(block["number"], block["result"], strict=True):
            yield int(number), parcel.content


def _in_block(tasks: int, workers: int) -> int:
    """Return how many tasks a block holds."""
    return max(1, min(MOST_IN_BLOCK, tasks // (BLOCKS * workers)))


def _needs(gpus: float) -> dict[str, Any]:
    """What Ray keeps for an actor: a share of a GPU or a processor, not both."""
    return {"num_gpus": gpus} if gpus else {"num_cpus": 1}


def _watched(
    results: Callable[[], Iterator[tuple[int, Any]]], patience: float, stop: threading.Event | None
) -> Generator[tuple[int, Any], None, None]:
    """Yield what a thread draws; end where `stop` is set. No thread that it began is left, unless Ray does not let it go.

    Raises:
        _Silent: nothing came for so many seconds.
    """
    drawn: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def draw() -> None:
        try:
            for result in results():
                drawn.put(("result", result))
            drawn.put(("end", None))
        except BaseException as error:  # raised again where the results are wanted
            drawn.put(("error", error))

    before = set(threading.enumerate())
    threading.Thread(target=draw, name="ray", daemon=True).start()
    heard = time.monotonic()
    try:
        while not (stop and stop.is_set()):
            try:
                kind, value = drawn.get(timeout=0.5)
            except queue.Empty:
                if time.monotonic() - heard > patience:
                    raise _Silent from None
                continue
            if kind == "end":
                return
            if kind == "error":
                raise RuntimeError(f"Ray ended the work ({type(value).__name__}: {value})") from value
            yield value
            heard = time.monotonic()
    finally:
        _end(before)


def _end(before: Collection[threading.Thread]) -> None:
    """End what Ray Data runs in threads begun since: where one calls Ray after the session, Ray ends this process with code 1."""

    def shut_down(executor: Any) -> None:
        with suppress(Exception):  # the session may be lost: its threads end by that
            executor.shutdown(force=True)

    begun = [thread for thread in threading.enumerate() if thread not in before]
    for executor in begun:
        if type(executor).__name__ == "StreamingExecutor":
            ending = threading.Thread(target=shut_down, args=(executor,), name="ending Ray's executor", daemon=True)
            ending.start()
            ending.join(ENDING)
    until = time.monotonic() + ENDING
    for thread in begun:
        if thread.name == "ray" or type(thread).__name__ == "StreamingExecutor":
            thread.join(max(0.0, until - time.monotonic()))


def _version() -> str:
    """Of the package as it is here, whose rooms may not import it."""
    return str(importlib.import_module("visavox").__version__)
