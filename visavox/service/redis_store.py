"""The queue in Redis or Valkey (extra `queue`), for workers on several machines that share the service's folder.

Each change is one script that the server runs whole or not at all, and leases are counted on the server's clock, so that neither
a worker's death between two commands nor its clock matters. A server that forgets (without `appendonly yes`,
`appendfsync always`) loses no upload: what lies in the folder is queued again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import redis

from visavox.service.store import Ended, Lease, Measures, Progress, QueueFull, StoreError, Submission, poisoned

PREFIX = "visavox:"
TIMEOUT_SECONDS = 5.0
"""For an answer of the server."""

COMMON = """
local P = 'visavox:'
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function job(id) return P .. 'job:' .. id end
local function event(id, progress)
  redis.call('HSET', job(id), 'progress', progress)
  redis.call('RPUSH', P .. 'events:' .. id, progress)
  redis.call('INCR', P .. 'changes')
end
local function let_go(id)
  redis.call('ZREM', P .. 'running', id)
  redis.call('HDEL', P .. 'keys', redis.call('HGET', job(id), 'key'))
  redis.call('HDEL', job(id), 'token')
end
local function finish(id, progress, at)
  redis.call('ZREM', P .. 'queued', id)
  redis.call('ZADD', P .. 'ended', now, id)
  redis.call('HSET', job(id), 'finished', at)
  event(id, progress)
end
local function requeue(id)
  let_go(id)
  redis.call('ZADD', P .. 'queued', redis.call('HGET', job(id), 'number'), id)
end
local function holds(id, token)
  return redis.call('HGET', job(id), 'token') == token
end
"""
SCRIPTS = {
    # id, key, submission, progress, most ('' for one that has ended), when
    "enter": """
if redis.call('EXISTS', job(ARGV[1])) == 1 then return 1 end
if ARGV[5] ~= '' and redis.call('ZCARD', P .. 'queued') >= tonumber(ARGV[5]) then return 0 end
local number = redis.call('INCR', P .. 'number')
redis.call('HSET', job(ARGV[1]), 'key', ARGV[2], 'submission', ARGV[3], 'number', number, 'tries', 0)
if ARGV[5] ~= '' then
  redis.call('ZADD', P .. 'queued', number, ARGV[1])
  event(ARGV[1], ARGV[4])
else
  finish(ARGV[1], ARGV[4], ARGV[6])
end
return 1
""",
    # token, milliseconds, tries, progress of a poisoned job, when
    "claim": """
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'running', '-inf', now)) do requeue(id) end
for _, id in ipairs(redis.call('ZRANGE', P .. 'queued', 0, -1)) do
  local key = redis.call('HGET', job(id), 'key')
  if tonumber(redis.call('HGET', job(id), 'tries')) >= tonumber(ARGV[3]) then
    redis.call('HSET', P .. 'poison', key, ARGV[5])
    finish(id, ARGV[4], ARGV[5])
  elseif redis.call('HSETNX', P .. 'keys', key, id) == 1 then
    redis.call('ZREM', P .. 'queued', id)
    redis.call('ZADD', P .. 'running', now + ARGV[2], id)
    redis.call('HSET', job(id), 'token', ARGV[1])
    local tries = redis.call('HINCRBY', job(id), 'tries', 1)
    return {redis.call('HGET', job(id), 'submission'), tries}
  end
end
return false
""",
    # id, token, milliseconds
    "renew": """
if not holds(ARGV[1], ARGV[2]) then return 0 end
redis.call('ZADD', P .. 'running', now + ARGV[3], ARGV[1])
return 1
""",
    # id, token, progress, '1' where it has ended, when
    "report": """
if not holds(ARGV[1], ARGV[2]) then return 0 end
if ARGV[4] == '1' then
  let_go(ARGV[1])
  finish(ARGV[1], ARGV[3], ARGV[5])
else
  event(ARGV[1], ARGV[3])
end
return 1
""",
    # id, token, '1' where the turn counts
    "release": """
if not holds(ARGV[1], ARGV[2]) then return 0 end
if ARGV[3] ~= '1' then redis.call('HINCRBY', job(ARGV[1]), 'tries', -1) end
requeue(ARGV[1])
return 1
""",
    # id
    "delete": """
if redis.call('EXISTS', job(ARGV[1])) == 0 then return 0 end
local key = redis.call('HGET', job(ARGV[1]), 'key')
if redis.call('HGET', P .. 'keys', key) == ARGV[1] then redis.call('HDEL', P .. 'keys', key) end
redis.call('HDEL', P .. 'poison', key)
for _, set in ipairs({'queued', 'running', 'ended'}) do redis.call('ZREM', P .. set, ARGV[1]) end
redis.call('DEL', job(ARGV[1]), P .. 'events:' .. ARGV[1])
redis.call('INCR', P .. 'changes')
return 1
""",
}


class RedisStore:
    """A `JobStore` on a server.

    Args:
        address: `redis://HOST:PORT/DB`.

    Raises:
        StoreError: the address is none.
    """

    def __init__(self, address: str):
        try:
            self.server: Any = redis.Redis.from_url(
                address, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, decode_responses=True
            )
        except ValueError as error:
            raise StoreError(f"no address of a server: {error}; expected redis://HOST:PORT/DB") from None
        self.scripts = {name: self.server.register_script(COMMON + text) for name, text in SCRIPTS.items()}

    def _run(self, name: str, *words: Any) -> Any:
        with _spoken():
            return self.scripts[name](args=list(words))

    def submit(self, submission: Submission, most: int) -> None:
        words = (submission.id, submission.key, submission.to_json(), Progress().to_json(), most, "")
        if not self._run("enter", *words):
            raise QueueFull(f"{most} videos wait already")

    def complete(self, submission: Submission, progress: Progress) -> None:
        self._run("enter", submission.id, submission.key, submission.to_json(), progress.to_json(), "", _now())

    def claim(self, worker: str, seconds: float, tries: int) -> Lease | None:
        token = f"{worker}:{uuid.uuid4().hex}"
        found = self._run("claim", token, round(1000 * seconds), tries, poisoned(tries).to_json(), _now())
        return None if found is None else Lease(Submission.from_json(found[0]), token, int(found[1]))

    def renew(self, lease: Lease, seconds: float) -> bool:
        return bool(self._run("renew", lease.submission.id, lease.token, round(1000 * seconds)))

    def report(self, lease: Lease, progress: Progress) -> bool:
        before = self.progress(lease.submission.id)
        if before is None:
            return False
        progress = progress.after(before)  # who holds the lease is the only one who writes
        ended = "1" if progress.ended else ""
        return bool(self._run("report", lease.submission.id, lease.token, progress.to_json(), ended, _now()))

    def release(self, lease: Lease, *, blame: bool = False) -> None:
        self._run("release", lease.submission.id, lease.token, "1" if blame else "")

    def submission(self, id: str) -> Submission | None:
        text = self._field(id, "submission")
        return None if text is None else Submission.from_json(text)

    def progress(self, id: str) -> Progress | None:
        text = self._field(id, "progress")
        return None if text is None else Progress.from_json(text)

    def finished(self, id: str) -> str | None:
        return self._field(id, "finished")

    def _field(self, id: str, name: str) -> str | None:
        with _spoken():
            return self.server.hget(f"{PREFIX}job:{id}", name)

    def events(self, id: str, after: int) -> list[tuple[int, Progress]]:
        with _spoken():
            texts = self.server.lrange(f"{PREFIX}events:{id}", after, -1)
        return [(after + n, Progress.from_json(text)) for n, text in enumerate(texts, 1)]

    def delete(self, id: str) -> bool:
        return bool(self._run("delete", id))

    def ended(self) -> list[Ended]:
        with _spoken():
            seconds, micros = self.server.time()
            now = seconds + micros / 1e6
            found = self.server.zrange(f"{PREFIX}ended", 0, -1, withscores=True)
            keys = [self.server.hget(f"{PREFIX}job:{id}", "key") for id, _ in found]
        return [Ended(id, key or "", now - at / 1000) for (id, at), key in zip(found, keys)]

    def poisoned(self, key: str) -> bool:
        with _spoken():
            return bool(self.server.hexists(f"{PREFIX}poison", key))

    def waiting(self) -> tuple[int, int]:
        with _spoken():
            return self.server.zcard(f"{PREFIX}queued"), self.server.zcard(f"{PREFIX}running")

    def count(self, measures: Measures) -> None:
        with _spoken(), self.server.pipeline() as pipe:
            for (name, labels), value in measures.items():
                pipe.hincrbyfloat(f"{PREFIX}measures", f"{name}|{labels}", value)
            pipe.execute()

    def measures(self) -> Measures:
        with _spoken():
            found = self.server.hgetall(f"{PREFIX}measures")
        return {(name.partition("|")[0], name.partition("|")[2]): float(value) for name, value in found.items()}

    def changes(self) -> int:
        with _spoken():
            return int(self.server.get(f"{PREFIX}changes") or 0)

    def close(self) -> None:
        self.server.close()


@contextmanager
def _spoken() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise StoreError(f"the queue's server does not answer: {type(error).__name__}") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
