"""What the routes share: folder, queue, workers; taking an upload in, and putting together what is known of it."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import structlog
from fastapi import Request

from visavox.service import folder as folders
from visavox.service.answers import Analysed, Observed, Stage, Status
from visavox.service.crew import Crew
from visavox.service.events import Changes
from visavox.service.folder import Folder, display_name
from visavox.service.opening import open_whole
from visavox.service.problems import Problem
from visavox.service.settings import Settings
from visavox.service.store import JobStore, QueueFull, Submission, key_of, poisoned
from visavox.service.uploads import receive, writers

log = structlog.get_logger(__name__)


@dataclass
class Desk:
    """What the routes share."""

    settings: Settings
    folder: Folder
    store: JobStore
    changes: Changes
    crew: Crew
    checkpoint: str
    """sha256 of the weights that judge; of `default`, whose parts a worker knows, of its name."""
    streams: int = 0
    """Event streams that are open."""


def open_desk(settings: Settings) -> Desk:
    """Open folder and queue; no worker is started yet."""
    checkpoint, folder = settings.fingerprint(), Folder(settings.folder)
    if settings.workers:  # what an earlier service had loaded is not what its workers load now
        (folder.root / "model.json").unlink(missing_ok=True)
    store = open_whole(settings, folder)
    crew = Crew(settings, os.environ | settings.environment())
    return Desk(settings, folder, store, Changes(store), crew, checkpoint)


async def take_in(request: Request, at: Desk) -> Submission:
    """Take the upload in and queue it; it is on the disk when this returns.

    Raises:
        Problem: it is refused, and nothing of it stays.
    """
    settings, folder, store = at.settings, at.folder, at.store
    waiting, _ = await anyio.to_thread.run_sync(store.waiting)
    if waiting >= settings.queue_length:
        raise QueueFull(f"{waiting} videos wait already")

    def room(size: int) -> bool:
        return folder.free_bytes() >= settings.disk_reserve + size

    if not room(int(request.headers.get("content-length", 0))):
        raise Problem("NO_SPACE", "The service's disk has no room for it.")
    id = str(uuid.uuid4())
    received = await receive(
        request.headers.get("content-type", ""), request.stream(), folder.incoming(id), settings.max_bytes, room
    )
    request.scope["visavox.slot"].free()
    submission = Submission(
        id=id,
        sha256=received.sha256,
        key=key_of(received.sha256, await anyio.to_thread.run_sync(_loaded, at)),
        file_name=display_name(received.name),
        bytes=received.size,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    await anyio.to_thread.run_sync(_queue, at, submission, limiter=writers())
    log.info("upload taken in", job=id, name=submission.file_name, bytes=received.size)
    return submission


def _loaded(at: Desk) -> dict[str, Any]:
    """What a worker said of what it has loaded, in so far as a result follows from it; before that what the settings ask for."""
    settings = at.settings
    try:
        return model_of(at)
    except Problem:
        return {"fingerprint": at.checkpoint, "overrides": settings.overrides, "versions": settings.versions()}


def _queue(at: Desk, submission: Submission) -> None:
    """Keep the upload and enter its job: as ended where the result of the same content is known."""
    try:
        at.folder.take_in(submission)
        result = at.folder.reused(submission.key)
        if result is not None:
            at.store.complete(submission, folders.outcome(result))
        elif at.store.poisoned(submission.key):
            at.store.complete(submission, poisoned(at.settings.tries))
        else:
            at.store.submit(submission, at.settings.queue_length)
    except BaseException:
        at.folder.incoming(submission.id).unlink(missing_ok=True)
        at.folder.forget(submission.id)
        raise


def analysed(at: Desk, id: str) -> Analysed:
    """Return everything that is known of an upload.

    Raises:
        Problem: it is not known.
    """
    submission, progress = at.store.submission(id), at.store.progress(id)
    if submission is None or progress is None:
        raise Problem("NO_SUCH_ANALYSIS")
    result = (at.folder.result(at.folder.key(submission)) if progress.status == "complete" else None) or {}
    return Analysed(
        analysisId=id,
        fileName=submission.file_name,
        sha256=submission.sha256,
        bytes=submission.bytes,
        created=submission.created,
        finished=at.store.finished(id),
        status=Status.of(id, progress),
        analysis=result.get("analysis"),
        why=result.get("why"),
        observations=[Observed(**each) for each in result.get("observations", [])],
        stages=[Stage(**each) for each in result.get("stages", [])],
        provenance=result.get("provenance"),
        media=result.get("media"),
    )


def model_of(at: Desk) -> dict[str, Any]:
    """What the worker said of the networks when they were loaded.

    Raises:
        Problem: none was yet, or of another checkpoint.
    """
    try:
        about = json.loads((at.folder.root / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = {}
    parts = at.settings.model == about.get("detector") == "default"  # then its fingerprint is that of the parts at hand
    if "versions" not in about or not (parts or about["fingerprint"] == at.checkpoint):
        raise Problem("NOT_READY", "The networks are not loaded yet.", {"retry-after": "5"})
    return about
