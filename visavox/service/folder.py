"""What the service keeps on disk, under names of its own, where nothing is served from:

    jobs/ID/video      the upload, until `retention_minutes` after its end, or DELETE
    jobs/ID/job.json   what was taken in; from these a lost queue is made again
    jobs/ID/key        under which its result lies, where another model has judged it than was loaded when it was taken in
    results/KEY.json   what was found, once for equal content, checkpoint and settings
    feedback/ID.json   what somebody knows the video to be: no content, no name
    incoming/          uploads on their way in; emptied at start

`sweep` deletes what has had its time; whoever starts the service runs it at once and then every minute.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visavox import files
from visavox.service.store import JobStore, Progress, QueueFull, Submission

log = logging.getLogger(__name__)

LONGEST_SHOWN = 120
"""Characters of a file name that are kept for display."""
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Folder:
    """The service's folder; only its owner may look into it."""

    def __init__(self, root: Path):
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("jobs", "results", "feedback", "incoming"):
            (root / name).mkdir(exist_ok=True, mode=0o700)

    @property
    def queue(self) -> Path:
        """The embedded queue's file."""
        return self.root / "queue.sqlite"

    def incoming(self, id: str) -> Path:
        """Where an upload is received."""
        return self.root / "incoming" / id

    def video(self, id: str) -> Path:
        """Where an upload lies."""
        return self._job(id) / "video"

    def take_in(self, submission: Submission) -> None:
        """Move an upload from `incoming` to its place, with what is known of it; on the disk when this returns."""
        place = self._job(submission.id)
        place.mkdir(mode=0o700)
        self.incoming(submission.id).rename(place / "video")
        files.to_disk(place.parent)
        with files.replacing(place / "job.json") as beside:  # last: what has no record is no job yet
            beside.write_text(submission.to_json(), encoding="utf-8")

    def result(self, key: str) -> dict[str, Any] | None:
        """Return what was found for a key; None while nothing was."""
        try:
            return json.loads(self._result(key).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def reused(self, key: str) -> dict[str, Any] | None:
        """Return what was found for a key, for one more job: `sweep` then sees that it is needed, whenever it has looked."""
        try:
            os.utime(self._result(key))
        except FileNotFoundError:
            return None
        return self.result(key)

    def drop_result(self, key: str, as_of: int) -> None:
        """Delete what was found for a key, unless it was written or reused since.

        Args:
            as_of: its time of change, nanoseconds, when it was seen not to be needed.
        """
        path = self._result(key)
        aside = path.with_suffix(".dropped")
        try:
            path.rename(aside)  # who comes now finds none and has the video judged again
            if aside.stat().st_mtime_ns == as_of:
                aside.unlink()
            else:
                aside.rename(path)
        except FileNotFoundError:
            return

    def key(self, submission: Submission) -> str:
        """Return the key of a job's result: that of the model which has judged it."""
        try:
            return (self._job(submission.id) / "key").read_text(encoding="utf-8")
        except FileNotFoundError:
            return submission.key

    def judged_as(self, submission: Submission, key: str) -> None:
        """Write under which key a job's result lies; before the result, or `sweep` might not know what it is for."""
        if key != self.key(submission) and self.holds(submission.id):
            with files.replacing(self._job(submission.id) / "key") as beside:
                beside.write_text(key, encoding="utf-8")

    def keep_result(self, key: str, result: dict[str, Any]) -> None:
        """Write what was found for a key."""
        with files.replacing(self._result(key)) as beside:
            beside.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")

    def keep_feedback(self, id: str, feedback: dict[str, Any]) -> None:
        """Write what somebody knows a video to be; the last word holds."""
        with files.replacing(self.root / "feedback" / f"{id}.json") as beside:
            beside.write_text(json.dumps(feedback), encoding="utf-8")

    def forget(self, id: str) -> None:
        """Delete an upload and what was known of it; its result is left to `sweep`."""
        shutil.rmtree(self._job(id), ignore_errors=True)

    def forget_feedback(self, id: str) -> bool:
        """Delete what somebody said of a video, which may have outlived its analysis; return whether there was anything."""
        if not UUID4.fullmatch(id):
            return False
        try:
            (self.root / "feedback" / f"{id}.json").unlink()
        except FileNotFoundError:
            return False
        return True

    def free_bytes(self) -> int:
        """Return the bytes that are free on its disk."""
        return shutil.disk_usage(self.root).free

    def submissions(self) -> Iterator[Submission]:
        """Yield all jobs, the oldest first; what is damaged is left out and logged."""
        found = []
        for path in (self.root / "jobs").glob("*/job.json"):
            try:
                submission = Submission.from_json(path.read_text(encoding="utf-8"))
                if submission.id != path.parent.name or not UUID4.fullmatch(submission.id):
                    raise ValueError("a record of another job")
                found.append(submission)
            except (OSError, ValueError, TypeError) as error:
                log.warning("a job's record is damaged and left out: %s", type(error).__name__)
        yield from sorted(found, key=lambda each: each.created)

    def holds(self, id: str) -> bool:
        """Return whether an upload's record is there."""
        return (self._job(id) / "job.json").is_file()

    def _result(self, key: str) -> Path:
        return self.root / "results" / f"{key}.json"

    def _job(self, id: str) -> Path:
        if not UUID4.fullmatch(id):  # ids are made here; nothing else ever becomes a path
            raise ValueError("no id of an analysis")
        return self.root / "jobs" / id


def recover(folder: Folder, store: JobStore, most: int) -> int:
    """Queue again what lies in the folder and is missing in the store, such as after its loss; return how many."""
    count = 0
    for submission in folder.submissions():
        if store.submission(submission.id) is not None or not folder.holds(submission.id):  # or deleted meanwhile
            continue
        result = folder.result(folder.key(submission))
        if result is not None:
            store.complete(submission, outcome(result))
        elif folder.video(submission.id).exists():
            try:
                store.submit(submission, most)
            except QueueFull:  # what had been taken in is not refused now
                store.submit(submission, 1 << 31)
        else:
            folder.forget(submission.id)
            continue
        count += 1
    return count


def outcome(result: dict[str, Any]) -> Progress:
    """Return the end of an analysis with this result."""
    analysis = result["analysis"]
    verdict = {"fake": "Deepfake", "real": "Authentic"}.get(analysis["verdict"], "Undetermined")
    return Progress("complete", 100, "done", verdict=verdict, confidence=round(100 * analysis["confidence"], 2))


def sweep(folder: Folder, store: JobStore, retention_minutes: float, result_hours: float) -> int:
    """Delete uploads and analyses that have had their time; return how many uploads went."""
    for path in (folder.root / "results").glob("*.dropped"):  # by a process that died just then
        path.rename(path.with_suffix(".json"))
    gone, needed = 0, set()
    there = {path.stem: path.stat().st_mtime_ns for path in (folder.root / "results").glob("*.json")}
    known = {each.id: each for each in store.ended()}
    for id, each in known.items():
        if each.seconds_ago >= 3600 * result_hours:
            folder.forget(id)  # first: what lies there without its job would be queued again
            store.delete(id)
        else:
            needed.add(each.key)
            video = folder.video(id)
            if each.seconds_ago >= 60 * retention_minutes and video.exists():
                video.unlink(missing_ok=True)
                gone += 1
    needed |= {folder.key(submission) for submission in folder.submissions()}
    for key in there.keys() - needed:
        folder.drop_result(key, there[key])
    return gone


def empty_incoming(folder: Folder) -> None:
    """Delete what was being received, or taken in or deleted, when an earlier API ended."""
    for path in (folder.root / "incoming").iterdir():
        path.unlink(missing_ok=True)
    for path in (folder.root / "jobs").iterdir():
        if not (path / "job.json").is_file():
            shutil.rmtree(path, ignore_errors=True)


def display_name(name: str) -> str:
    """Return a file name from outside fit to be shown: its last part, no control characters, NFC, of bounded length."""
    last = re.split(r"[/\\]", name)[-1].strip()
    clean = files.shown(unicodedata.normalize("NFC", last))
    if len(clean) > LONGEST_SHOWN:
        stem, ending = os.path.splitext(clean)
        clean = stem[: LONGEST_SHOWN - 1 - len(ending[:12])] + "…" + ending[:12]
    return clean or "video"
