"""The embedded queue: SQLite in the service's folder, for the workers of one machine.

Every change is on the disk before it is answered (WAL, synchronous=FULL). Leases run on the machine's monotonic clock, which all
processes share and no change of date moves; a lease of an earlier boot has run out.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from visavox.service.store import Ended, Lease, Measures, Progress, QueueFull, StoreError, Submission, poisoned

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, key TEXT NOT NULL, submission TEXT NOT NULL,
    state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, token TEXT, until REAL, boot TEXT,
    progress TEXT NOT NULL, ended REAL, finished TEXT) STRICT;
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number);
CREATE TABLE IF NOT EXISTS events (id TEXT NOT NULL, number INTEGER NOT NULL, progress TEXT NOT NULL,
    PRIMARY KEY (id, number)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS measures (name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (name, labels)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS poison (key TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
BUSY_SECONDS = 20.0
"""Longest wait for another process that writes."""


class SQLiteStore:
    """A `JobStore` in one file.

    Args:
        tries: workers that a job may cost.
    """

    def __init__(self, path: Path, tries: int = 3):
        self.path, self.tries = path, tries
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.boot = _boot()
        self.connection = self._open()

    def _open(self) -> sqlite3.Connection:
        with _spoken():
            connection = sqlite3.connect(self.path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(SCHEMA)
            return connection

    def submit(self, submission: Submission, most: int) -> None:
        with self._writing() as db:
            if db.execute("SELECT 1 FROM jobs WHERE id = ?", (submission.id,)).fetchone():
                return
            [waiting] = db.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= most:
                raise QueueFull(f"{waiting} videos wait already")
            self._enter(db, submission, Progress())

    def complete(self, submission: Submission, progress: Progress) -> None:
        with self._writing() as db:
            self._enter(db, submission, progress)

    def _enter(self, db: sqlite3.Connection, submission: Submission, progress: Progress) -> None:
        ended = (time.time(), _now()) if progress.ended else (None, None)
        found = db.execute(
            "INSERT OR IGNORE INTO jobs (id, key, submission, state, progress, ended, finished) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                submission.id,
                submission.key,
                submission.to_json(),
                "ended" if progress.ended else "queued",
                progress.to_json(),
                *ended,
            ),
        )
        if found.rowcount:
            self._event(db, submission.id, progress)

    def claim(self, worker: str, seconds: float) -> Lease | None:
        if not self._anything():
            return None
        with self._writing() as db:
            self._reap(db)
            row = db.execute(
                "SELECT id, submission, tries FROM jobs WHERE state = 'queued' "
                "AND key NOT IN (SELECT key FROM jobs WHERE state = 'running') ORDER BY number LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            id, submission, before = row
            token = f"{worker}:{uuid.uuid4().hex}"
            db.execute(
                "UPDATE jobs SET state = 'running', token = ?, until = ?, boot = ?, tries = ? WHERE id = ?",
                (token, time.monotonic() + seconds, self.boot, before + 1, id),
            )
            return Lease(Submission.from_json(submission), token, before + 1)

    def _anything(self) -> bool:
        """Whether a job waits or runs: asked without the lock for writing, since idle workers ask often."""
        with self._reading() as db:
            return db.execute("SELECT 1 FROM jobs WHERE state IN ('queued', 'running') LIMIT 1").fetchone() is not None

    def _reap(self, db: sqlite3.Connection) -> None:
        """Put back what was let run out; end what has had its tries."""
        lost = db.execute(
            "SELECT id FROM jobs WHERE state = 'running' AND (boot != ? OR until < ?)", (self.boot, time.monotonic())
        ).fetchall()
        for (id,) in lost:
            db.execute("UPDATE jobs SET state = 'queued', token = NULL WHERE id = ?", (id,))
        worn = db.execute(
            "SELECT id, key, tries FROM jobs WHERE state = 'queued' AND tries >= ?", (self.tries,)
        ).fetchall()
        for id, key, had in worn:
            self._end(db, id, poisoned(had))
            db.execute("INSERT OR REPLACE INTO poison VALUES (?, ?)", (key, _now()))

    def renew(self, lease: Lease, seconds: float) -> bool:
        with self._writing() as db:
            found = db.execute(
                "UPDATE jobs SET until = ?, boot = ? WHERE token = ? AND state = 'running'",
                (time.monotonic() + seconds, self.boot, lease.token),
            )
            return found.rowcount == 1

    def report(self, lease: Lease, progress: Progress) -> bool:
        id = lease.submission.id
        with self._writing() as db:
            row = db.execute(
                "SELECT progress FROM jobs WHERE id = ? AND token = ? AND state = 'running'", (id, lease.token)
            ).fetchone()
            if row is None:
                return False
            progress = progress.after(Progress.from_json(row[0]))
            if progress.ended:
                self._end(db, id, progress)
            else:
                db.execute("UPDATE jobs SET progress = ? WHERE id = ?", (progress.to_json(), id))
                self._event(db, id, progress)
            return True

    def _end(self, db: sqlite3.Connection, id: str, progress: Progress) -> None:
        db.execute(
            "UPDATE jobs SET state = 'ended', token = NULL, progress = ?, ended = ?, finished = ? WHERE id = ?",
            (progress.to_json(), time.time(), _now(), id),
        )
        self._event(db, id, progress)

    def _event(self, db: sqlite3.Connection, id: str, progress: Progress) -> None:
        db.execute(
            "INSERT INTO events SELECT ?, coalesce(max(number), 0) + 1, ? FROM events WHERE id = ?",
            (id, progress.to_json(), id),
        )

    def release(self, lease: Lease, *, blame: bool = False) -> None:
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET state = 'queued', token = NULL, tries = tries - ? WHERE token = ? AND state = 'running'",
                (0 if blame else 1, lease.token),
            )

    def submission(self, id: str) -> Submission | None:
        text = self._one("SELECT submission FROM jobs WHERE id = ?", id)
        return None if text is None else Submission.from_json(text)

    def progress(self, id: str) -> Progress | None:
        text = self._one("SELECT progress FROM jobs WHERE id = ?", id)
        return None if text is None else Progress.from_json(text)

    def finished(self, id: str) -> str | None:
        return self._one("SELECT finished FROM jobs WHERE id = ?", id)

    def poisoned(self, key: str) -> bool:
        return self._one("SELECT key FROM poison WHERE key = ?", key) is not None

    def _one(self, question: str, word: str) -> str | None:
        with self._reading() as db:
            row = db.execute(question, (word,)).fetchone()
            return None if row is None else row[0]

    def events(self, id: str, after: int) -> list[tuple[int, Progress]]:
        with self._reading() as db:
            rows = db.execute(
                "SELECT number, progress FROM events WHERE id = ? AND number > ? ORDER BY number", (id, after)
            ).fetchall()
        return [(number, Progress.from_json(text)) for number, text in rows]

    def delete(self, id: str) -> bool:
        with self._writing() as db:
            db.execute("DELETE FROM poison WHERE key = (SELECT key FROM jobs WHERE id = ?)", (id,))
            db.execute("DELETE FROM events WHERE id = ?", (id,))
            return db.execute("DELETE FROM jobs WHERE id = ?", (id,)).rowcount == 1

    def ended(self) -> list[Ended]:
        with self._reading() as db:
            rows = db.execute("SELECT id, key, ended FROM jobs WHERE state = 'ended'").fetchall()
        return [Ended(id, key, time.time() - ended) for id, key, ended in rows]

    def waiting(self) -> tuple[int, int]:
        with self._reading() as db:
            counts = dict(
                db.execute("SELECT state, count(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY state")
            )
        return counts.get("queued", 0), counts.get("running", 0)

    def count(self, measures: Measures) -> None:
        with self._writing() as db:
            db.executemany(
                "INSERT INTO measures VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                [(name, labels, value) for (name, labels), value in measures.items()],
            )

    def measures(self) -> Measures:
        with self._reading() as db:
            return {(name, labels): value for name, labels, value in db.execute("SELECT * FROM measures")}

    def changes(self) -> int:
        """Return a number that every write moves, by whichever process; cheap."""
        with self._reading() as db:
            [own], [theirs] = (
                db.execute("SELECT total_changes()").fetchone(),
                db.execute("PRAGMA data_version").fetchone(),
            )
        return (theirs << 40) + own

    def close(self) -> None:
        with self.lock:
            self.connection.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self.lock, _spoken():
            yield self.connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when the block ends; none of it where it raises."""
        with self.lock, _spoken():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise


@contextmanager
def _spoken() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the queue cannot be used: {error}") from error


NO_DAMAGE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
)
"""Of what SQLite may find wrong, that which is no fault of the file. Damage has many codes, some no more than SQLITE_ERROR."""


def is_whole(path: Path) -> bool:
    """Return whether a queue file can be read to its end; True where there is none.

    Raises:
        StoreError: it cannot be told: another process holds it, the disk is full or fails, or it may not be read.
    """
    if not path.exists():
        return True
    try:
        connection = sqlite3.connect(path, BUSY_SECONDS)
        try:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            return found and (not tables or {"jobs", "events", "measures", "poison"} <= tables)
        finally:
            connection.close()
    except UnicodeDecodeError:  # of a name in it
        return False
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in NO_DAMAGE:
            return False
        raise StoreError(
            f"{path}: the queue cannot be looked through ({error}); end what holds it, free some space or correct its "
            "permissions, then start again"
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _boot() -> str:
    """What tells this start of the machine, and so its monotonic clock, from the last one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "one"  # no such file on this system: leases of an earlier boot run out by their clock
