"""The queue in Redis or Valkey, kept by RQ 3 (extra `queue`), for workers on several machines that share the service's folder.

RQ keeps jobs, their order, tries and turns: `Retry` counts tries, `StartedJobRegistry` puts back what a dead worker held,
`FailedJobRegistry` is the poison list, `RateLimit` lets one job of equal content run at a time; `rq info` shows it all. Ours,
each change in one transaction with RQ's own: that only who holds a job's turn may report or end it, which RQ's worker does not
ask; leases on the server's clock, where RQ counts on each worker's; numbered progress; measures. Arguments are JSON, not
pickles. A server that forgets (without `appendonly yes`, `appendfsync always`) loses no upload: what lies in the folder is
queued again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import redis
from redis.client import Pipeline
from rq import Queue, Retry
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.job_lifecycle import record_job_failure
from rq.rate_limit import RateLimit, RateLimitRegistry, release_slot
from rq.serializers import JSONSerializer

from visavox.service.store import Ended, Lease, Measures, Progress, QueueFull, StoreError, Submission, poisoned

T = TypeVar("T")
QUEUE = "visavox"
"""RQ's name of the queue."""
PREFIX = "visavox:"
"""Of the keys that are ours."""
TURN = "visavox_turn"
"""Field of RQ's job that holds the id of the `Execution` which may report."""
TURN_SECONDS = 86_400
"""After which RQ may forget the record of a turn; its lease is another matter."""
TIMEOUT_SECONDS = 5.0
"""For an answer of the server."""
UPKEEP_SECONDS = 60.0
"""Between two looks for slots that a process left behind when it died."""


def judge(submission: str) -> None:
    """Stand in RQ's jobs for what `visavox worker` does with them.

    Raises:
        RuntimeError: always; an `rq worker` has no networks.
    """
    raise RuntimeError(f"the queue {QUEUE!r} is worked by `visavox worker`, not by `rq worker`")


class RQStore:
    """A `JobStore` on a server.

    Args:
        address: `redis://HOST:PORT/DB`.
        tries: workers that a job may cost.

    Raises:
        StoreError: the address is none.
    """

    def __init__(self, address: str, tries: int = 3):
        try:
            self.server: Any = redis.Redis.from_url(
                address, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
            )
        except ValueError as error:
            raise StoreError(f"no address of a server: {error}; expected redis://HOST:PORT/DB") from None
        self.tries = tries
        self.queue = Queue(QUEUE, connection=self.server, default_timeout=-1, serializer=JSONSerializer)
        self.running = self.queue.started_job_registry
        self.looked = -math.inf

    def submit(self, submission: Submission, most: int) -> None:
        with _spoken():
            if Job.exists(submission.id, self.server):
                return
            waiting, _ = self.waiting()
            if waiting >= most:
                raise QueueFull(f"{waiting} videos wait already")
            job, now = self._job_of(submission), self._now()
            slots = RateLimitRegistry.from_job(job)

            def change(pipe: Pipeline) -> None:
                """As `Queue.enqueue_job`, which takes no pipeline for jobs with a rate limit."""
                if pipe.exists(job.key):
                    return
                pipe.multi()
                pipe.delete(_events(job.id))
                pipe.zadd(f"{PREFIX}open", {job.id: now})
                self._event(pipe, job.id, Progress())
                pipe.sadd(self.queue.redis_queues_keys, self.queue.key)
                slots.register(1, pipe)
                job.set_status(JobStatus.RATE_LIMITED, pipe)
                job.save(pipe)
                slots.add_to_rate_limited(job.id, pipe)
                slots.acquire_and_enqueue(1, pipeline=pipe)

            self._change(change, job.key)

    def complete(self, submission: Submission, progress: Progress) -> None:
        with _spoken():
            if Job.exists(submission.id, self.server):
                return
            job = self._job_of(submission)
            with self.server.pipeline() as pipe:
                job.set_status(JobStatus.FINISHED, pipe)
                job.save(pipe)
                job.finished_job_registry.add(job, -1, pipe)
                self._end(pipe, submission.id, progress)
                pipe.execute()

    def _job_of(self, submission: Submission) -> Job:
        job = self.queue.create_job(
            judge,
            args=(submission.to_json(),),
            job_id=submission.id,
            description=f"video {submission.id}",
            timeout=-1,  # the worker watches the time: it knows how long the video is
            result_ttl=-1,
            failure_ttl=-1,
            retry=Retry(self.tries - 1, enqueue_at_front=True) if self.tries > 1 else None,
            rate_limit=RateLimit(submission.key, 1),
        )
        job.origin = QUEUE
        return job

    def claim(self, worker: str, seconds: float) -> Lease | None:
        with _spoken():
            self._put_back()
            while (id := self.server.lindex(self.queue.key, 0)) is not None:
                lease = self._take(id.decode(), worker, seconds)
                if lease is not None:
                    return lease
        return None

    def _take(self, id: str, worker: str, seconds: float) -> Lease | None:
        """Take the job at the head of the queue; None where another worker was faster, or it is not to be worked on."""

        def change(pipe: Pipeline) -> Lease | None:
            if pipe.lindex(self.queue.key, 0) != id.encode():
                return None
            job = self._job(id)
            pipe.multi()
            pipe.lpop(self.queue.key)
            if job is None or job.get_status(refresh=False) != JobStatus.QUEUED:  # deleted, or put back twice
                return None
            job.prepare_for_execution(worker, pipe)
            execution = Execution.create(job, TURN_SECONDS, pipe, worker)
            pipe.hset(job.key, TURN, execution.id)
            self._lease(pipe, execution, seconds)
            return Lease(Submission.from_json(job.args[0]), execution.id, self.tries - (job.retries_left or 0))

        return self._change(change, self.queue.key, Job.key_for(id))

    def _lease(self, pipe: Pipeline, execution: Execution, seconds: float) -> None:
        """Have a turn run out after so many seconds of the server's clock, whatever RQ reckoned by this machine's."""
        pipe.zadd(self.running.key, {execution.composite_key: self._now() + seconds})

    def _put_back(self) -> None:
        """Have RQ put back, or fail, what has run out; now and then free slots that nobody holds any more."""
        now, due = self._now(), time.monotonic() - self.looked > UPKEEP_SECONDS
        if not due and not self.server.zcount(self.running.key, 0, now):
            return
        upkeep = self.server.lock(f"{PREFIX}upkeep", timeout=2 * TIMEOUT_SECONDS, blocking=False)
        if not upkeep.acquire():
            return
        try:
            self.running.cleanup(now, [self._abandoned])
            if due:
                self.looked = time.monotonic()
                for slots in RateLimitRegistry.all(self.server):
                    slots.cleanup()
        finally:
            if upkeep.owned():
                upkeep.release()

    def _abandoned(self, job: Job, *_: Any) -> None:
        """Called by RQ with a job whose lease ran out, before it is put back or failed."""
        if job.should_retry:
            return
        last = self.progress(job.id)
        if last is not None and not last.ended:
            with self.server.pipeline() as pipe:
                self._end(pipe, job.id, poisoned(self.tries))
                pipe.execute()

    def renew(self, lease: Lease, seconds: float) -> bool:
        execution = self._turn(lease)

        def change(pipe: Pipeline) -> bool:
            held = self._holds(pipe, lease)
            pipe.multi()
            if held:
                execution.heartbeat(self.running, TURN_SECONDS, pipe)
                self._lease(pipe, execution, seconds)
            else:
                pipe.zrem(self.running.key, execution.composite_key)
            return held

        with _spoken():
            return self._change(change, Job.key_for(lease.submission.id))

    def report(self, lease: Lease, progress: Progress) -> bool:
        id = lease.submission.id
        ended: list[Job] = []

        def change(pipe: Pipeline) -> bool:
            ended.clear()
            job = self._job(id) if progress.ended else None
            before: Any = pipe.lindex(_events(id), -1)
            if not self._holds(pipe, lease) or before is None:
                return False
            following = progress.after(Progress.from_json(before))
            pipe.multi()
            if job is None:
                self._event(pipe, id, following)
            else:
                self._turn(lease).delete(job, pipe)
                job.set_status(JobStatus.FINISHED, pipe)
                job.finished_job_registry.add(job, -1, pipe)
                self._end(pipe, id, following)
                ended.append(job)
            return True

        with _spoken():
            done = self._change(change, Job.key_for(id))
            for job in ended:
                release_slot(job)
            return done

    def release(self, lease: Lease, *, blame: bool = False) -> None:
        failed: list[Job] = []

        def change(pipe: Pipeline) -> None:
            failed.clear()
            job = self._job(lease.submission.id)
            if job is None or not self._holds(pipe, lease):
                return
            pipe.multi()
            self._turn(lease).delete(job, pipe)
            if not blame:
                job.set_status(JobStatus.QUEUED, pipe)
                self.queue.push_job_id(job.id, pipe, at_front=True)
            elif job.should_retry:
                job.retry(self.queue, pipe)
            else:
                record_job_failure(job, "each worker that took it was ended", pipe)
                self._end(pipe, job.id, poisoned(self.tries))
                failed.append(job)

        with _spoken():
            self._change(change, Job.key_for(lease.submission.id))
            for job in failed:
                release_slot(job)

    def submission(self, id: str) -> Submission | None:
        with _spoken():
            job = self._job(id)
            return None if job is None else Submission.from_json(job.args[0])

    def progress(self, id: str) -> Progress | None:
        with _spoken():
            text = self.server.lindex(_events(id), -1)
            return None if text is None else Progress.from_json(text)

    def events(self, id: str, after: int) -> list[tuple[int, Progress]]:
        with _spoken():
            texts = self.server.lrange(_events(id), after, -1)
        return [(after + n, Progress.from_json(text)) for n, text in enumerate(texts, 1)]

    def finished(self, id: str) -> str | None:
        with _spoken():
            at = self.server.zscore(f"{PREFIX}ended", id)
        return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")

    def delete(self, id: str) -> bool:
        with _spoken():
            job = self._job(id)
            if job is None:
                return False
            turn = self.server.hget(job.key, TURN)
            with self.server.pipeline() as pipe:
                if turn is not None:  # RQ would keep the slot of a job that runs
                    self._execution(id, turn.decode(), job.worker_name).delete(job, pipe)
                try:
                    job.delete(pipe)
                except InvalidJobOperation:  # gone meanwhile
                    return False
                pipe.delete(_events(id))
                for ours in ("open", "ended"):
                    pipe.zrem(PREFIX + ours, id)
                pipe.incr(f"{PREFIX}changes")
                pipe.execute()
            RateLimitRegistry.from_job(job).cancel(id)
            return True

    def ended(self) -> list[Ended]:
        with _spoken():
            now, found = self._now(), self.server.zrange(f"{PREFIX}ended", 0, -1, withscores=True)
            jobs = Job.fetch_many([id.decode() for id, _ in found], self.server, JSONSerializer)
        return [
            Ended(id.decode(), (job.rate_limit_key if job else None) or "", now - at)
            for (id, at), job in zip(found, jobs)
        ]

    def poisoned(self, key: str) -> bool:
        with _spoken():
            failed = Job.fetch_many(self.queue.failed_job_registry.get_job_ids(), self.server, JSONSerializer)
        return any(job is not None and job.rate_limit_key == key for job in failed)

    def waiting(self) -> tuple[int, int]:
        with _spoken(), self.server.pipeline() as pipe:
            not_ended, running = pipe.zcard(f"{PREFIX}open").zcard(self.running.key).execute()
        return max(0, not_ended - running), running

    def count(self, measures: Measures) -> None:
        with _spoken(), self.server.pipeline() as pipe:
            for (name, labels), value in measures.items():
                pipe.hincrbyfloat(f"{PREFIX}measures", f"{name}|{labels}", value)
            pipe.execute()

    def measures(self) -> Measures:
        with _spoken():
            found = {name.decode(): value for name, value in self.server.hgetall(f"{PREFIX}measures").items()}
        return {(name.partition("|")[0], name.partition("|")[2]): float(value) for name, value in found.items()}

    def changes(self) -> int:
        with _spoken():
            return int(self.server.get(f"{PREFIX}changes") or 0)

    def close(self) -> None:
        self.server.close()

    def _change(self, change: Callable[[Pipeline], T], *watched: str) -> T:
        """Run `change` as one transaction, again where somebody changed a watched key meanwhile."""
        return self.server.transaction(change, *watched, value_from_callable=True)

    def _holds(self, pipe: Pipeline, lease: Lease) -> bool:
        status, turn = pipe.hmget(Job.key_for(lease.submission.id), "status", TURN)
        return status == JobStatus.STARTED.value.encode() and turn == lease.token.encode()

    def _turn(self, lease: Lease) -> Execution:
        return self._execution(lease.submission.id, lease.token)

    def _execution(self, id: str, turn: str, worker: str | None = None) -> Execution:
        return Execution(turn, id, self.server, worker or "")

    def _event(self, pipe: Pipeline, id: str, progress: Progress) -> None:
        pipe.rpush(_events(id), progress.to_json())
        pipe.incr(f"{PREFIX}changes")

    def _end(self, pipe: Pipeline, id: str, progress: Progress) -> None:
        self._event(pipe, id, progress)
        pipe.zadd(f"{PREFIX}ended", {id: self._now()})
        pipe.zrem(f"{PREFIX}open", id)

    def _job(self, id: str) -> Job | None:
        try:
            return Job.fetch(id, self.server, JSONSerializer)
        except NoSuchJobError:
            return None

    def _now(self) -> float:
        seconds, micros = self.server.time()
        return seconds + micros / 1e6


def _events(id: str) -> str:
    return f"{PREFIX}events:{id}"


@contextmanager
def _spoken() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise StoreError(f"the queue's server does not answer: {type(error).__name__}") from error
