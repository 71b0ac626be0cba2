"""What a run owes to its user and to other runs: one at a time on an output, a clean end, an exit code that says how it ended.

def main(argv=None) -> int:
    with runs.stoppable():                     # SIGTERM ends like Ctrl-C: what was begun is cleaned up
        try:
            with runs.holding(output):         # LockedError where another run writes there
                ...
        except KeyboardInterrupt as stop:
            return runs.exit_code(stop)        # 130, or 143 after SIGTERM
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from visavox.errors import code_of

LOCK = ".visavox.lock"
"""In the folder that a run holds: says which process holds it. Gone when the run has ended."""


class LockedError(RuntimeError):
    """Another run is writing to the same output; the message says which."""

    code = "LOCKED"


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the run ends as after Ctrl-C, with another exit code."""


@contextmanager
def holding(output: Path) -> Iterator[None]:
    """Keep other runs away from a folder that is there, or from a file and what belongs to it, until the block ends.

    The lock is the system's own (flock): it ends with the process that holds it, however that ends.

    Raises:
        LockedError: another process holds it.
    """
    import filelock

    path = output / LOCK if output.is_dir() else output.with_name(f".{output.name}{LOCK}")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LockedError(
            f"{output}: locked by {_holder(path)}; wait until it ends, or choose another output"
        ) from None
    try:
        with suppress(OSError):  # such as on a full disk: the lock holds without the words
            path.write_text(f"pid {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: whoever opened it meanwhile sees that it is gone and tries again
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another run"
    except OSError:
        return "another run"


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGTERM raise `Terminated` in the main thread while the block runs, so that it is cleaned up after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(error: BaseException) -> int:
    """Return the exit code of a run that ended with an error: 130 or 143 stopped, 4 locked, 5 no space, else 2."""
    if isinstance(error, KeyboardInterrupt):
        return 143 if isinstance(error, Terminated) else 130
    return {"LOCKED": 4, "NO_SPACE": 5}.get(code_of(error), 2)


def stopped_by(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interrupt behind an exception, such as the SystemExit that Lightning makes of one; None without."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error
