"""A worker: takes jobs from the queue one after the other and has its child judge them.

The worker itself opens no video and holds no network, so nothing that a video does can hurt it: it watches the clock, renews the
lease, passes on how far the child is, and starts another child where one has died or had to be stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import threading
import time
from multiprocessing.connection import wait
from typing import Any

import structlog

from visavox import files
from visavox.errors import CODES
from visavox.service import child as child_module
from visavox.service import measures
from visavox.service.folder import Folder, outcome
from visavox.service.settings import Settings
from visavox.service.store import JobStore, Lease, Progress, StoreError
from visavox.workers.pool import Died, cores

log = structlog.get_logger(__name__)

IDLE_SECONDS = 0.2
"""Between two looks into an empty queue."""
START_SECONDS = 300.0
"""That loading the networks may take."""
STORE_RETRY_SECONDS = 1.0
"""Between two tries to reach a queue that is away."""


class StartError(RuntimeError):
    """The networks cannot be loaded: no child would do better."""


class Worker:
    """One worker with its child.

    Args:
        stop: once it is set, no further job is taken and `run` returns within `grace_seconds`.
        threads: of the child's decoder and networks.
    """

    def __init__(self, settings: Settings, store: JobStore, folder: Folder, stop: threading.Event, threads: int = 0):
        self.settings, self.store, self.folder, self.stop = settings, store, folder, stop
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.threads = threads or max(1, cores() // max(1, settings.workers))
        self.child: Child | None = None

    def run(self) -> None:
        """Work until `stop` is set.

        Raises:
            StartError: the networks cannot be loaded; the message is the child's own.
        """
        try:
            self._child()
            while not self.stop.is_set():
                try:
                    lease = self.store.claim(self.name, self.settings.lease_seconds)
                except StoreError as error:
                    log.warning("the queue cannot be reached", reason=str(error))
                    self.stop.wait(STORE_RETRY_SECONDS)
                    continue
                if lease is None:
                    self.stop.wait(IDLE_SECONDS)
                    continue
                self.work(lease)
        finally:
            if self.child:
                self.child.kill()

    def work(self, lease: Lease) -> None:
        """Bring one job to its end, or let it go so that another worker can."""
        submission = lease.submission
        with structlog.contextvars.bound_contextvars(job=submission.id, turn=lease.tries):
            log.info("job begun", name=submission.file_name, bytes=submission.bytes)
            began = time.monotonic()
            known = self.folder.result(submission.key)
            answer: tuple[str, Any] = ("done", known) if known is not None else self._judged(lease)
            kind, value = answer
            if kind == "died":
                log.warning("the process that judged was ended", reason=value.reason)
                self._count({("child_deaths", ""): 1})
            blame = kind == "died" or (kind == "done" and not self._kept(submission.key, value))
            if blame or kind not in ("done", "failed"):  # stopped, or taken away
                log.info("job let go", reason=kind)
                self._release(lease, blame=blame)
                return
            end = outcome(value) if kind == "done" else failure(*value)
            kept = self._report(lease, end)
            seconds = time.monotonic() - began
            log.info(
                "job ended",
                outcome=end.verdict or end.code,
                seconds=round(seconds, 3),
                stages={stage["name"]: stage["seconds"] for stage in value["stages"]} if end.verdict else {},
                kept=kept,
            )
            if kept:
                self._count(measures.of_job(end, seconds, value if end.verdict else None))

    def _judged(self, lease: Lease) -> tuple[str, Any]:
        """The child's answer; or `died`, `stopped`, `lost`."""
        settings, submission = self.settings, lease.submission
        path = self.folder.video(submission.id)
        if not path.exists():
            return "failed", ("NOT_FOUND", "")
        child = self._child()
        child.connection.send(child_module.Order(path.absolute(), submission.file_name, submission.sha256))
        self._report(lease, Progress("processing", child_module.REACHED["ingest"], "ingest"))
        began = renewed = time.monotonic()
        allowed = 2 * child_module.cpu_allowed(settings, None)
        leave_at: float | None = None
        while True:
            wait([child.connection, child.process.sentinel], timeout=min(0.5, settings.lease_seconds / 5))
            while child.connection.poll():
                try:
                    kind, value = child.connection.recv()
                except (EOFError, OSError):
                    break
                if kind == "progress":
                    self._report(lease, value)
                elif kind == "video":
                    allowed = 2 * child_module.cpu_allowed(settings, value)
                else:
                    return kind, value
            now = time.monotonic()
            if not child.process.is_alive():
                died = child.died()
                self.child = None
                if died.code == "TIMED_OUT":
                    return "failed", ("TIMED_OUT", "")
                return "died", died
            if now - began > allowed:
                self._kill()
                log.warning("job stopped", reason="deadline", seconds=round(now - began, 1))
                return "failed", ("TIMED_OUT", "")
            if now - renewed > settings.lease_seconds / 3:
                renewed = now
                if not self._renewed(lease):
                    self._kill()
                    return "lost", None
            if self.stop.is_set():
                leave_at = leave_at or now + settings.grace_seconds
                if now > leave_at:
                    self._kill()
                    return "stopped", None

    def _child(self) -> Child:
        """The child, started where there is none."""
        if self.child is None:
            self.child = Child(self.settings, self.threads)
            about = self.child.wait_ready(self.stop)
            if about:
                with files.replacing(self.folder.root / "model.json") as beside:
                    beside.write_text(json.dumps(about), encoding="utf-8")
                log.info("networks loaded", checkpoint=about["checkpoint"][:12], threads=self.threads)
        return self.child

    def _kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child = None

    def _kept(self, key: str, result: dict[str, Any]) -> bool:
        try:
            self.folder.keep_result(key, result)
        except OSError as error:
            log.error("a result cannot be written", reason=error.strerror)
            return False
        return True

    # A queue that is away for a moment costs no work: what is renewed or reported is tried again until the lease would be gone.

    def _report(self, lease: Lease, progress: Progress) -> bool:
        until = time.monotonic() + (self.settings.lease_seconds if progress.ended else 0)
        while True:
            try:
                return self.store.report(lease, progress)
            except StoreError:
                if time.monotonic() > until:
                    return False  # the job comes back and finds its result
                time.sleep(min(STORE_RETRY_SECONDS, self.settings.lease_seconds / 5))

    def _renewed(self, lease: Lease) -> bool:
        try:
            return self.store.renew(lease, self.settings.lease_seconds)
        except StoreError:
            return True  # nobody else can take it while the queue is away; the next renewal tells

    def _release(self, lease: Lease, *, blame: bool = False) -> None:
        try:
            self.store.release(lease, blame=blame)
        except StoreError as error:
            log.warning("a job could not be put back; its lease runs out", reason=str(error))

    def _count(self, counted: Any) -> None:
        try:
            self.store.count(counted)
        except StoreError as error:
            log.warning("measures were lost", reason=str(error))


class Child:
    """The process that judges, and the way to it."""

    def __init__(self, settings: Settings, threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=child_module.serve, args=(theirs, settings, threads), daemon=True)
        self.process.start()
        theirs.close()

    def wait_ready(self, stop: threading.Event) -> dict[str, Any] | None:
        """Return what it says of itself once it can judge; None where `stop` was set meanwhile.

        Raises:
            StartError: it cannot.
        """
        began = time.monotonic()
        while not stop.is_set():
            wait([self.connection, self.process.sentinel], timeout=0.5)
            if self.connection.poll():
                try:
                    kind, value = self.connection.recv()
                except (EOFError, OSError):
                    raise StartError(self.died().reason) from None
                if kind == "ready":
                    return value
                raise StartError(value)
            if not self.process.is_alive():
                raise StartError(self.died().reason)
            if time.monotonic() - began > START_SECONDS:
                self.kill()
                raise StartError(f"the networks were not loaded within {START_SECONDS:g} s")
        return None

    def died(self) -> Died:
        """Return how it ended."""
        import signal

        self.process.join()
        code = self.process.exitcode or 0
        if code == -signal.SIGXCPU:
            return Died("it used more processor time than a video of its length may take", "TIMED_OUT")
        return Died(f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}")

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def failure(code: str, words: str) -> Progress:
    """Return the end of a job that gave no verdict."""
    fault = CODES[code]
    return Progress("error", 100, "done", error=words or f"{fault.happened} {fault.cure}", code=code)
