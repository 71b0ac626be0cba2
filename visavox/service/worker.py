"""A worker: takes jobs from the queue, one after the other or some at once (setting `batch`), and has its child judge them.

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
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from multiprocessing.connection import wait
from typing import Any

import structlog

from visavox import files
from visavox.errors import CODES
from visavox.service import measures
from visavox.service.child import serve
from visavox.service.folder import Folder, outcome
from visavox.service.perform import Order, cpu_allowed
from visavox.service.settings import Settings
from visavox.service.store import JobStore, Lease, Progress, StoreError, Submission, key_of
from visavox.workers.pool import Died, cores

log = structlog.get_logger(__name__)

IDLE_SECONDS = 0.2
"""Between two looks into an empty queue."""
START_SECONDS = 300.0
"""That loading the networks may take."""
WRITE_PAUSES = (0.0, 0.5, 1.0, 2.0)
"""Seconds before each try to write a result, the first and those after one that failed, such as on a full disk."""
UNWRITTEN = "The service could not write what it found: its disk is full or fails. Send the video again later."
STORE_RETRY_SECONDS = 1.0
"""Between two tries to reach a queue that is away."""


Answer = tuple[Lease, str, Any]
"""A job, the kind of its answer and its value."""


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
        self.threads = threads or settings.threads or max(1, cores() // max(1, settings.workers))
        self.child: Child | None = None
        self.batch = settings.batch or 1
        self.about: dict[str, Any] = {}
        """What the child that judges says of itself."""
        self.held: dict[str, Lease] = {}
        self.renewed = time.monotonic()

    def run(self) -> None:
        """Work until `stop` is set.

        Raises:
            StartError: the networks cannot be loaded; the message is the child's own.
        """
        try:
            self._child()
            while not self.stop.is_set():
                try:
                    leases = self._claim()
                except StoreError as error:
                    log.warning("the queue cannot be reached", reason=str(error))
                    self.stop.wait(STORE_RETRY_SECONDS)
                    continue
                if leases:
                    self.work(leases)
                else:
                    self.stop.wait(IDLE_SECONDS)
        except StartError:
            for lease in self.held.values():  # no fault of theirs: the turn is not counted
                self._release(lease)
            raise
        finally:
            if self.child:
                self.child.kill()

    def _claim(self) -> list[Lease]:
        """Take as many of the waiting jobs as are judged in one call."""
        leases: list[Lease] = []
        while len(leases) < self.batch and not self.stop.is_set():
            try:
                lease = self.store.claim(self.name, self.settings.lease_seconds)
            except StoreError:
                if not leases:
                    raise
                break
            if lease is None:
                break
            leases.append(lease)
        return leases

    def work(self, leases: Sequence[Lease]) -> None:
        """Bring jobs to their ends, or let them go so that another worker can."""
        began = time.monotonic()
        self.held, self.renewed = {lease.token: lease for lease in leases}, time.monotonic()
        known: list[Answer] = []
        together: list[Lease] = []
        alone: list[Lease] = []
        for lease in leases:
            submission = lease.submission
            with structlog.contextvars.bound_contextvars(job=submission.id, turn=lease.tries):
                log.info("job begun", name=submission.file_name, bytes=submission.bytes)
            result = self.folder.result(self._key(submission))
            if result is not None:
                known.append((lease, "done", result))
            elif not self.folder.video(submission.id).exists():
                known.append((lease, "failed", ("NOT_FOUND", "")))
            else:
                (alone if lease.tries > 1 else together).append(lease)
        groups = [together, *([lease] for lease in alone)]  # what has cost a turn is judged by itself
        for lease, kind, value in chain(known, *(self._judged(group) for group in groups)):
            del self.held[lease.token]
            with structlog.contextvars.bound_contextvars(job=lease.submission.id, turn=lease.tries):
                self._settle(lease, kind, value, time.monotonic() - began)

    def _settle(self, lease: Lease, kind: str, value: Any, seconds: float) -> None:
        """End a job by what was found, or let it go."""
        submission = lease.submission
        if kind == "died":
            log.warning("the process that judged was ended", reason=value.reason)
            self._count({("child_deaths", ""): 1})
        if kind not in ("done", "failed"):  # died, stopped, or taken away
            log.info("job let go", reason=kind)
            self._release(lease, blame=kind == "died")
            return
        if kind == "done" and not self._kept(
            submission, value
        ):  # no fault of the video, and judging it again is no cure
            kind, value = "failed", ("NO_SPACE", UNWRITTEN)
        end = outcome(value) if kind == "done" else failure(*value)
        kept = self._report(lease, end)
        log.info(
            "job ended",
            outcome=end.verdict or end.code,
            seconds=round(seconds, 3),
            stages={stage["name"]: stage["seconds"] for stage in value["stages"]} if end.verdict else {},
            kept=kept,
        )
        if kept:
            self._count(measures.of_job(end, seconds, value if end.verdict else None))

    def _judged(self, leases: Sequence[Lease]) -> Iterator[Answer]:
        """Yield the answer to each job: the child's; or `died`, `stopped`, `lost`."""
        waiting = {lease.token: lease for lease in leases}
        size = len(leases)
        while waiting:
            if self.stop.is_set():
                yield from ((lease, "stopped", None) for lease in waiting.values())
                return
            for answer in self._turn(list(waiting.values())[:size]):
                del waiting[answer[0].token]
                yield answer
            size = 1  # the child was ended, by one of those that are left or not: they go on one by one

    def _turn(self, leases: Sequence[Lease]) -> Iterator[Answer]:
        """Have the child judge jobs together; where it ends, what remains unanswered is no fault of it that is known."""
        settings, child = self.settings, self._child()
        if self.stop.is_set():  # maybe before the child was ready
            yield from ((lease, "stopped", None) for lease in leases)
            return
        orders = [(self.folder.video(lease.submission.id).absolute(), lease.submission) for lease in leases]
        try:
            child.connection.send([Order(path, job.file_name, job.sha256) for path, job in orders])
        except OSError:  # it ended just now; the next turn starts another
            self._kill()
            return
        unanswered = dict(enumerate(leases))
        lost: set[int] = set()
        at = 0 if len(leases) == 1 else None
        allowed = dict.fromkeys(unanswered, 2 * cpu_allowed(settings, None))
        began = time.monotonic()
        leave_at: float | None = None
        while unanswered:
            wait([child.connection, child.process.sentinel], timeout=min(0.5, settings.lease_seconds / 5))
            while child.connection.poll():
                try:
                    place, kind, value = child.connection.recv()
                except (EOFError, OSError):
                    break
                if kind in ("at", "together"):
                    at, began = place, time.monotonic()
                elif kind == "video":
                    allowed[place] = 2 * cpu_allowed(settings, value)
                elif kind == "progress":
                    if place not in lost:
                        self._report(unanswered[place], value)
                else:
                    lease = unanswered.pop(place)
                    if place not in lost:
                        yield lease, kind, value
            now = time.monotonic()
            if not unanswered:
                return
            guilty = at if at in unanswered else next(iter(unanswered)) if len(unanswered) == 1 else None
            late = now - began > (allowed[guilty] if guilty is not None else sum(allowed[n] for n in unanswered))
            if late or not child.process.is_alive():
                died = None if late else child.died()
                self._kill()
                if late:
                    log.warning("job stopped", reason="deadline", seconds=round(now - began, 1))
                if guilty is not None and guilty not in lost:
                    over = died is None or died.code == "TIMED_OUT"
                    yield (unanswered[guilty], *(("failed", ("TIMED_OUT", "")) if over else ("died", died)))
                return
            gone = self._renew()
            for place, lease in unanswered.items():
                if lease.token in gone and place not in lost:
                    lost.add(place)
                    yield lease, "lost", None
            if lost.issuperset(unanswered):
                self._kill()
                return
            if self.stop.is_set():
                leave_at = leave_at or now + settings.grace_seconds
                if now > leave_at:
                    self._kill()
                    yield from ((lease, "stopped", None) for place, lease in unanswered.items() if place not in lost)
                    return

    def _child(self) -> Child:
        """The child, started where there is none, or none any more."""
        if self.child is not None and not self.child.process.is_alive():
            log.warning("the process that judges was ended while it had nothing to do", reason=self.child.died().reason)
            self._kill()
        if self.child is None:
            self.child = Child(self.settings, self.threads)
            about = self.child.wait_ready(self.stop, self._renew)
            if about:
                try:
                    with files.replacing(self.folder.root / "model.json") as beside:
                        beside.write_text(json.dumps(about), encoding="utf-8")
                except OSError as error:  # videos are judged without; /readyz says that it is missing
                    log.error("what was loaded cannot be written down", reason=error.strerror)
                self.batch, self.about = about["batch"], about
                log.info("networks loaded", checkpoint=about["checkpoint"][:12], threads=self.threads)
        return self.child

    def _kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child = None

    def _key(self, submission: Submission) -> str:
        """The key of its result by the model that is loaded, which may be another one than when it was taken in."""
        return key_of(submission.sha256, self.about) if "versions" in self.about else submission.key

    def _kept(self, submission: Submission, result: dict[str, Any]) -> bool:
        key = self._key(submission)
        for pause in WRITE_PAUSES:
            self.stop.wait(min(pause, self.settings.lease_seconds / 6))
            self._renew()  # the others that were judged with it: their leases are not to run out meanwhile
            try:
                self.folder.judged_as(submission, key)
                self.folder.keep_result(key, result)
            except OSError as error:
                log.error("a result cannot be written", reason=error.strerror)
            else:
                return True
        return False

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

    def _renew(self) -> set[str]:
        """Keep what is held, where it is time to; return the tokens of what was taken away."""
        if time.monotonic() - self.renewed < self.settings.lease_seconds / 3:
            return set()
        self.renewed = time.monotonic()
        return {token for token, lease in list(self.held.items()) if not self._renewed(lease)}

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
        self.process = context.Process(target=serve, args=(theirs, settings, threads), daemon=True)
        self.process.start()
        theirs.close()

    def wait_ready(self, stop: threading.Event, meanwhile: Callable[[], object]) -> dict[str, Any] | None:
        """Return what it says of itself once it can judge; None where `stop` was set meanwhile.

        Args:
            meanwhile: called again and again.

        Raises:
            StartError: it cannot.
        """
        began = time.monotonic()
        while not stop.is_set():
            wait([self.connection, self.process.sentinel], timeout=0.2)
            meanwhile()
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
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()


FOR_SENDERS = {
    "TIMED_OUT": "Judging it took longer than a video of its length may take. Send a part of it, or convert it: "
    "ffmpeg -i FILE NEW.mp4",
    "NOT_FOUND": "The upload was deleted before it was judged. Send it again.",
    "OUT_OF_MEMORY": "The memory did not suffice for it. Scale the picture down, or send a part of it.",
    "BAD_SCORE": "The network gave no number for it. Convert it (ffmpeg -i FILE NEW.mp4) and send the new file.",
    "INTERNAL": "Something failed that nobody foresaw. Send it again; if that fails too, tell whoever runs the service the id of "
    "this analysis: its log says what happened.",
}
"""What is said of codes whose own cure is for whoever runs the programs."""


def failure(code: str, words: str) -> Progress:
    """Return the end of a job that gave no verdict."""
    fault = CODES[code]
    said = words or FOR_SENDERS.get(code) or f"{fault.happened} {fault.cure}"
    return Progress("error", 100, "done", error=said, code=code)
