"""What a queue promises, whoever keeps it: jobs that survive their workers, and how far each has come.

A job is queued, running under a lease, or ended (complete or error). A worker renews its lease while it works; a lease that runs
out puts the job back, and a job that has cost `tries` workers ends as an error and goes on the poison list. Whatever is written
under a lease that was lost is refused, so each job ends once. Leases are counted on a clock that no change of date touches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, Self

State = Literal["processing", "complete", "error"]
STAGES = ("queued", "ingest", "container", "faces", "voice", "sync", "gate", "models", "fusion", "done")
"""In the order in which an analysis passes them."""
NAMES = {
    "queued": "Queued",
    "ingest": "Extracting frames",
    "container": "Extracting frames",
    "faces": "Extracting frames",
    "voice": "Running models",
    "sync": "Running models",
    "gate": "Running models",
    "models": "Running models",
    "fusion": "Final classification",
    "done": "Final classification",
}
"""The four stages that people are told of."""


class StoreError(RuntimeError):
    """The queue cannot be reached or written."""

    code = "STORE_DOWN"


class QueueFull(RuntimeError):
    """So many jobs wait that no further one is taken."""

    code = "QUEUE_FULL"


@dataclass(frozen=True)
class Submission:
    """One upload as it was taken in. Never changes."""

    id: str
    """UUID version 4."""
    sha256: str
    """Of the content, 64 hex digits."""
    key: str
    """Of content, checkpoint and settings: equal keys have equal results. See `key_of`."""
    file_name: str
    """As its sender calls it, fit to be shown."""
    bytes: int
    created: str
    """ISO 8601, UTC."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Progress:
    """How far an analysis is: what `GET /status` answers and each event carries."""

    status: State = "processing"
    percent: int = 0
    """0 to 100; a later one of the same analysis is never lower."""
    stage: str = "queued"
    """One of STAGES."""
    detail: str | None = None
    """Such as the branch that has ended."""
    verdict: str | None = None
    """Deepfake, Authentic or Undetermined, once it is complete."""
    confidence: float | None = None
    """Of the verdict, 0 to 100."""
    error: str | None = None
    """What went wrong with its cure, in words."""
    code: str | None = None
    """One of `visavox.errors.CODES`."""

    @property
    def ended(self) -> bool:
        return self.status != "processing"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def after(self, before: Progress) -> Progress:
        """Return this as the next after `before`: neither percent nor stage go back."""
        values = asdict(self)
        values["percent"] = max(self.percent, before.percent)
        if STAGES.index(self.stage) < STAGES.index(before.stage):
            values["stage"] = before.stage
        return Progress(**values)


@dataclass(frozen=True)
class Lease:
    """The right to work on a job and to end it."""

    submission: Submission
    token: str
    """Of this turn: a later one of the same job has another."""
    tries: int
    """Turns that this job has had, this one included."""


@dataclass(frozen=True)
class Ended:
    """An analysis that has ended, and when."""

    id: str
    key: str
    seconds_ago: float


Measures = Mapping[tuple[str, str], float]
"""(name, labels as `key=value,...`) -> what was counted."""


class JobStore(Protocol):
    """A queue with the progress of its jobs. Safe to call from several threads; every method may raise StoreError."""

    def submit(self, submission: Submission, most: int) -> None:
        """Queue a job, on the disk when this returns.

        Raises:
            QueueFull: `most` jobs wait already.
        """

    def complete(self, submission: Submission, progress: Progress) -> None:
        """Enter a job that has ended already, such as one whose result is known."""

    def claim(self, worker: str, seconds: float) -> Lease | None:
        """Take the oldest waiting job for so many seconds; None where none waits.

        What others have let run out is put back first, or ended where it has cost all its tries. Of jobs of equal key one
        runs at a time.
        """

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Keep a job for so many seconds from now on; False where it was taken away."""

    def report(self, lease: Lease, progress: Progress) -> bool:
        """Say how far it is; False where it was taken away. An ended progress ends the job."""

    def release(self, lease: Lease, *, blame: bool = False) -> None:
        """Put a job back at its place in the queue.

        Args:
            blame: count this turn as one that the job has cost; otherwise it is as if it had not been.
        """

    def submission(self, id: str) -> Submission | None:
        """Return what was taken in; None where the analysis is not known."""

    def progress(self, id: str) -> Progress | None:
        """Return the last progress; None where the analysis is not known."""

    def events(self, id: str, after: int) -> list[tuple[int, Progress]]:
        """Return progress number 1, 2, 3, ... of an analysis that comes after number `after`."""

    def finished(self, id: str) -> str | None:
        """Return when it ended, ISO 8601 UTC; None while it has not."""

    def delete(self, id: str) -> bool:
        """Forget an analysis, also one that waits or runs; False where it is not known."""

    def ended(self) -> list[Ended]:
        """Return every analysis that has ended."""

    def poisoned(self, key: str) -> bool:
        """Return whether content of this key has cost all its tries."""

    def waiting(self) -> tuple[int, int]:
        """Return how many jobs wait and how many run."""

    def count(self, measures: Measures) -> None:
        """Add to the measures, of which all workers share one set."""

    def measures(self) -> Measures:
        """Return all measures."""

    def changes(self) -> int:
        """Return a number that is another one after every change of progress."""

    def close(self) -> None:
        """Let go of files and connections."""


def key_of(sha256: str, about: Mapping[str, Any]) -> str:
    """Return the key of a result, 64 hex digits: content, and weights, settings and versions of what judges decide it.

    Args:
        about: what is loaded, as `child.origin` tells it.
    """
    facts = [sha256, about["fingerprint"], {"overrides": about["overrides"]}, list(about["versions"])]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def poisoned(tries: int) -> Progress:
    """Return the end of a job that cost each worker that took it."""
    return Progress(
        "error",
        100,
        "done",
        error=f"Each of {tries} processes that worked on this video was ended by it. Convert it (ffmpeg -i FILE NEW.mp4) "
        "and send the new file.",
        code="POISONED",
    )
