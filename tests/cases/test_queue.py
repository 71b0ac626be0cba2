"""What becomes of queued videos when processes die, clocks jump and disks fill; of the embedded queue and of RQ's alike."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cases.cases import Case, held_by
from tests.serving import RESULT, VIDEO, Process, Server, ended, serving, settings_of, upload, working
from visavox.service import sqlite_store
from visavox.service.folder import Folder, recover, sweep
from visavox.service.opening import open_whole
from visavox.service.sqlite_store import SQLiteStore
from visavox.service.store import JobStore, Lease, Progress, QueueFull, StoreError, Submission

KINDS = ("sqlite", "rq")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """Of an empty server."""
    import redis

    server = request.getfixturevalue("server")
    redis.Redis.from_url(server.address).flushall()
    return server.address


@pytest.fixture(params=KINDS)
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], JobStore]]:
    """Opens the same queue, as another process would."""
    opened: list[JobStore] = []

    def open_it() -> JobStore:
        if request.param == "sqlite":
            opened.append(SQLiteStore(tmp_path / "queue.sqlite"))
        else:
            from visavox.service.rq_store import RQStore

            opened.append(RQStore(address))
        return opened[-1]

    address = request.getfixturevalue("address") if request.param == "rq" else ""
    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_again: Callable[[], JobStore]) -> JobStore:
    return open_again()


def submission(key: str = "") -> Submission:
    id = str(uuid.uuid4())
    return Submission(id, "0" * 64, key or id, "clip.mp4", 1, "2026-01-01T00:00:00+00:00")


def claimed(store: JobStore, seconds: float = 60) -> Lease:
    lease = store.claim("worker", seconds)
    assert lease is not None
    return lease


def test_jobs_go_in_their_order_and_end_once(store: JobStore, open_again: Callable[[], JobStore]):
    jobs = [submission() for _ in range(3)]
    for job in jobs:
        store.submit(job, 3)
    with pytest.raises(QueueFull):
        store.submit(submission(), 3)
    assert store.waiting() == (3, 0)
    other = open_again()
    leases = [claimed(each) for each in (store, other, store)]
    assert [lease.submission for lease in leases] == jobs and store.claim("worker", 60) is None
    assert store.waiting() == (0, 3)
    before = other.changes()
    assert store.report(leases[0], Progress("processing", 50, "faces"))
    assert store.report(leases[0], Progress("processing", 40, "container"))  # neither goes back
    assert other.progress(jobs[0].id) == Progress("processing", 50, "faces")
    assert other.changes() != before
    end = Progress("complete", 100, "done", verdict="Authentic", confidence=80.0)
    assert store.report(leases[0], end) and not store.report(leases[0], end) and not store.renew(leases[0], 60)
    assert [number for number, _ in other.events(jobs[0].id, 0)] == [1, 2, 3, 4]
    assert other.events(jobs[0].id, 3) == [(4, end)] and other.events(jobs[0].id, 4) == []
    assert store.finished(jobs[0].id) and store.finished(jobs[1].id) is None
    assert [each.id for each in other.ended()] == [jobs[0].id] and other.ended()[0].seconds_ago < 60
    assert other.submission(jobs[0].id) == jobs[0] and other.submission("unknown") is None
    store.submit(jobs[0], 3)  # entered again, as after a lost answer: nothing changes
    assert store.progress(jobs[0].id) == end and store.waiting() == (0, 2)


def test_jobs_of_equal_content_run_one_at_a_time(store: JobStore):
    first, second, third = submission("same"), submission("same"), submission("other")
    for job in (first, second, third):
        store.submit(job, 9)
    lease = claimed(store)
    assert lease.submission == first and claimed(store).submission == third
    assert store.claim("worker", 60) is None
    store.report(lease, Progress("complete", 100, "done", verdict="Authentic", confidence=80.0))
    assert claimed(store).submission == second


def test_what_is_deleted_is_gone_also_while_it_runs(store: JobStore):
    job = submission()
    store.submit(job, 9)
    lease = claimed(store)
    assert store.delete(job.id) and not store.delete(job.id)
    assert not store.renew(lease, 60) and not store.report(lease, Progress("processing", 5, "container"))
    assert store.progress(job.id) is None and store.events(job.id, 0) == [] and store.waiting() == (0, 0)
    store.submit(submission(job.key), 9)
    assert claimed(store).submission.key == job.key  # its key is not held by what is gone


@held_by(
    Case(
        "R5",
        "a worker dies with a job",
        "another one takes it once the lease runs out; the dead one's words are refused",
    ),
)
def test_a_lease_runs_out(case: Case, store: JobStore, open_again: Callable[[], JobStore]):
    job = submission()
    store.submit(job, 9)
    dead = claimed(store, seconds=0.2)
    other = open_again()
    assert other.claim("other", 60) is None
    time.sleep(0.3)
    lease = claimed(other)
    assert lease.submission == job and lease.tries == 2
    assert not store.renew(dead, 60) and not store.report(dead, Progress("error", 100, "done"))
    assert other.renew(lease, 60)


@held_by(Case("R6", "a job that ends each worker", "an error after three tries, on the poison list; others proceed"))
def test_poison(case: Case, store: JobStore):
    bad, good = submission(), submission()
    store.submit(bad, 9)
    store.submit(good, 9)
    for turn in (1, 2, 3):
        lease = claimed(store)
        assert lease.submission == bad and lease.tries == turn
        store.release(lease, blame=True)
    assert claimed(store).submission == good
    end = store.progress(bad.id)
    assert end.status == "error" and end.code == "POISONED" and store.poisoned(bad.key)
    assert not store.poisoned(good.key)
    assert store.delete(bad.id) and not store.poisoned(bad.key)


@held_by(Case("R7", "a worker lets its job go", "it is the next one again, and that turn does not count"))
def test_release(case: Case, store: JobStore):
    first, second = submission(), submission()
    store.submit(first, 9)
    store.submit(second, 9)
    lease = claimed(store)
    store.release(lease)
    assert not store.report(lease, Progress("processing", 50, "faces"))
    again = claimed(store)
    assert again.submission == first and again.tries == 1


@held_by(
    Case("R8", "the date jumps a day ahead", "no lease runs out", given=86_400.0),
    Case("R8", "the date jumps a day back", "a lease runs out in its time", given=-86_400.0),
)
def test_the_clock_jumps(case: Case, store: JobStore, monkeypatch: pytest.MonkeyPatch):
    job = submission()
    store.submit(job, 9)
    claimed(store, seconds=0.5 if case.given < 0 else 60)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + case.given)
    monkeypatch.setattr("rq.utils.now", lambda: datetime.fromtimestamp(real() + case.given, UTC))
    if case.given > 0:
        assert store.claim("other", 60) is None
    else:
        time.sleep(0.6)
        assert claimed(store).submission == job


def test_a_lease_of_an_earlier_start_of_the_machine_has_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = SQLiteStore(tmp_path / "queue.sqlite")
    store.submit(submission(), 9)
    claimed(store, seconds=1e6)
    store.close()
    monkeypatch.setattr(sqlite_store, "_boot", lambda: "another start")
    again = SQLiteStore(tmp_path / "queue.sqlite")
    assert claimed(again).tries == 2
    again.close()


def test_a_slot_that_a_dead_process_left_behind_is_freed(address: str, monkeypatch: pytest.MonkeyPatch):
    from visavox.service import rq_store

    store, other = rq_store.RQStore(address), rq_store.RQStore(address)
    first, second = submission("same"), submission("same")
    for job in (first, second):
        store.submit(job, 9)
    monkeypatch.setattr(rq_store, "release_slot", lambda job: None)  # it died between the two
    assert store.report(claimed(store), Progress("complete", 100, "done", verdict="Authentic", confidence=80.0))
    assert store.waiting() == (1, 0) and store.claim("worker", 60) is None
    assert claimed(other).submission == second  # who looks for the first time looks for these
    for each in (store, other):
        each.close()


def test_why_who_may_end_a_job_is_not_left_to_rq(address: str):
    """RQ's own worker ends a job that it has lost to another one. Where this fails, RQ asks, and the store need not."""
    from rq import Queue, SimpleWorker
    from rq.serializers import JSONSerializer

    from visavox.service.rq_store import QUEUE, RQStore

    store = RQStore(address)
    job = submission()
    store.submit(job, 9)
    queue = Queue(QUEUE, connection=store.server, serializer=JSONSerializer)
    dead, other = (
        SimpleWorker([queue], name=name, connection=store.server, prepare_for_work=False, serializer=JSONSerializer)
        for name in ("dead", "other")
    )

    def begun(worker: SimpleWorker):
        held, _ = Queue.dequeue_any([queue], None, store.server, serializer=JSONSerializer)
        execution = worker.prepare_execution(held)
        worker.prepare_job_execution(held, remove_from_intermediate_queue=True)
        return held, execution

    lost, turn = begun(dead)
    queue.started_job_registry.cleanup(timestamp=2e9)
    held, _ = begun(other)
    assert held.id == job.id and held.get_status() == "started"
    lost.ended_at = lost.started_at
    dead.handle_job_success(lost, queue, queue.started_job_registry, turn)
    assert held.get_status() == "finished"  # while the other one works on it
    store.close()


def test_a_job_is_entered_as_a_whole_or_not_at_all(address: str, monkeypatch: pytest.MonkeyPatch):
    import redis
    from rq.job import Job

    from visavox.service.rq_store import RQStore

    store, job, real = RQStore(address), submission(), Job.save

    def fail(*_: object, **__: object) -> None:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(Job, "save", fail)
    with pytest.raises(StoreError):
        store.submit(job, 9)
    assert store.waiting() == (0, 0) and store.progress(job.id) is None and store.submission(job.id) is None
    monkeypatch.setattr(Job, "save", real)
    threads = [threading.Thread(target=store.submit, args=(job, 9)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.waiting() == (1, 0) and len(store.events(job.id, 0)) == 1
    assert claimed(store).submission == job and store.claim("other", 60) is None
    store.close()


def test_measures_are_added_up(store: JobStore, open_again: Callable[[], JobStore]):
    store.count({("jobs", "outcome=Deepfake"): 1.0, ("score:sum", ""): 0.25})
    open_again().count({("jobs", "outcome=Deepfake"): 2.0})
    assert store.measures() == {("jobs", "outcome=Deepfake"): 3.0, ("score:sum", ""): 0.25}


def test_two_workers_at_once_take_each_job_once(open_again: Callable[[], JobStore]):
    first = open_again()
    jobs = [submission() for _ in range(60)]
    for job in jobs:
        first.submit(job, 99)
    taken: list[str] = []

    def work(store: JobStore) -> None:
        while lease := store.claim("worker", 60):
            taken.append(lease.submission.id)
            store.report(lease, Progress("complete", 100, "done", verdict="Authentic", confidence=80.0))

    threads = [threading.Thread(target=work, args=(open_again(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(job.id for job in jobs)


@held_by(
    Case("R5", "the queue's file is cut to its last whole page", "it is set aside; every job ends once", given="cut"),
    Case("R5", "the queue's file holds other bytes", "it is set aside; every job ends once", given="noise"),
    Case("R5", "the queue's file is gone", "it is made again; every job ends once", given="gone"),
)
def test_a_damaged_queue(case: Case, tmp_path: Path):
    settings = settings_of(tmp_path / "service")
    with serving(settings) as client:
        with working(settings):
            done = upload(client, VIDEO + b"done").json()["analysisId"]
        waiting = [upload(client, VIDEO + bytes([n]), wait=0).json()["analysisId"] for n in range(12)]
    path = settings.folder / "queue.sqlite"
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    match case.given:
        case "cut":
            whole = path.stat().st_size // 4096
            os.truncate(path, 4096 * (whole // 2))
        case "noise":
            path.write_bytes(os.urandom(20_000))
        case "gone":
            path.unlink()
    judged: list[str] = []

    def judge(lease: Lease):
        judged.append(lease.submission.id)
        return "done", RESULT

    with serving(settings) as client, working(settings, judge):
        for id in [done, *waiting]:
            assert ended(client, id)["result"]["verdict"] == "Deepfake"
    assert sorted(judged) == sorted(waiting)  # what was done is not done again
    assert bool(list(settings.folder.glob("queue.damaged.*"))) == (case.given != "gone")


@held_by(
    Case("R5", "Redis is killed and comes back", "503 meanwhile and never 500; no job is lost, each ends once"),
)
def test_redis_is_killed(case: Case, tmp_path: Path):
    server = Server(tmp_path)
    settings = settings_of(tmp_path / "service", store=server.address, lease_seconds=2)
    judged: list[str] = []

    def judge(lease: Lease):
        judged.append(lease.submission.key)
        time.sleep(0.05)
        return "done", RESULT

    try:
        with serving(settings) as client, working(settings, judge):
            ids = [upload(client, VIDEO + bytes([n]), wait=0).json()["analysisId"] for n in range(15)]
            server.kill()
            answers = [client.get(f"/status/{ids[0]}"), upload(client, VIDEO + b"meanwhile"), client.get("/readyz")]
            assert [answer.status_code for answer in answers] == [503, 503, 503]
            assert {answer.json()["code"] for answer in answers} == {"STORE_DOWN"}
            assert client.get("/healthz").status_code == 200
            server.start()
            assert [ended(client, id)["status"] for id in ids] == ["complete"] * 15
    finally:
        server.kill()
    assert len(set(judged)) == 15


@held_by(Case("R1", "the disk is full while a result is written", "writing is tried again; no video is blamed"))
def test_no_room_for_a_result(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = settings_of(tmp_path)
    real, failures = Folder.keep_result, [1, 1]

    def keep(self: Folder, key: str, result: dict) -> None:
        if failures:
            failures.pop()
            raise OSError(28, "No space left on device")
        real(self, key, result)

    monkeypatch.setattr(Folder, "keep_result", keep)
    with serving(settings) as client, working(settings):
        assert upload(client, VIDEO).json()["status"] == "complete"
    assert not failures


def test_uploads_are_deleted_by_their_rule(tmp_path: Path):
    settings = settings_of(tmp_path)
    with serving(settings) as client, working(settings):
        first, second = (upload(client, VIDEO + bytes([n])).json()["analysisId"] for n in range(2))
        folder = Folder(settings.folder)
        assert folder.video(first).exists() and oct(settings.folder.stat().st_mode)[-3:] == "700"
        assert client.delete(f"/analyses/{first}").status_code == 204
        assert not folder.video(first).exists() and client.get(f"/status/{first}").status_code == 404
    folder.incoming("left").write_bytes(b"half an upload")
    store = open_whole(settings, folder)
    assert not list((settings.folder / "incoming").iterdir())
    assert sweep(folder, store, 60, 168) == 0 and folder.video(second).exists()
    assert sweep(folder, store, 0, 168) == 1 and not folder.video(second).exists()
    assert store.progress(second) is not None and len(list((settings.folder / "results").iterdir())) == 1
    sweep(folder, store, 0, 0)
    assert store.progress(second) is None and not list((settings.folder / "results").iterdir())
    store.close()


def test_what_is_deleted_while_the_folder_is_read_does_not_come_back(tmp_path: Path):
    class Deleting(Folder):
        def submissions(self) -> Iterator[Submission]:
            for each in list(super().submissions()):
                self.forget(each.id)
                yield each

    folder, store, job = Deleting(tmp_path), SQLiteStore(tmp_path / "queue.sqlite"), submission()
    folder.incoming(job.id).write_bytes(VIDEO)
    folder.take_in(job)
    folder.keep_result(job.key, RESULT)
    assert recover(folder, store, 10) == 0 and store.submission(job.id) is None
    store.close()


def test_an_upload_without_its_record_is_deleted_at_the_start(tmp_path: Path):
    settings, id = settings_of(tmp_path / "service"), str(uuid.uuid4())
    folder = Folder(settings.folder)
    folder.video(id).parent.mkdir()
    folder.video(id).write_bytes(VIDEO)
    open_whole(settings, folder).close()
    assert not folder.video(id).parent.exists()


def children_of(pid: int) -> list[int]:
    """Processes that a process has started, without multiprocessing's own helper."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            words = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and b"resource_tracker" not in words:
            found.append(int(path.parent.name))
    return found


def videos_of(talking: Path, count: int) -> list[bytes]:
    """Videos of different content that are judged alike: bytes behind the last box of an MP4 file are a box to skip."""
    real = [path.read_bytes() for path in sorted(talking.rglob("*.mp4"))]
    return [real[n % len(real)] + (16).to_bytes(4, "big") + b"free" + n.to_bytes(8, "big") for n in range(count)]


@pytest.mark.durability
@pytest.mark.parametrize("kind", KINDS)
def test_workers_and_api_are_killed_in_the_middle_of_thirty_jobs(kind: str, run: Path, talking: Path, tmp_path: Path):
    """R5: worker, its child, and the API are killed with -9; every job ends once and its status is right."""
    server = Server(tmp_path) if kind == "rq" else None
    words = ["--set", "device=cpu", "--workers", "2", *(["--store", server.address] if server else [])]
    folder = tmp_path / "service"
    service = Process(run / "best.ckpt", folder, *words, lease_seconds="3", uploads_per_client="40").wait(
        "/readyz", 300
    )
    try:
        ids = [upload(service.client, video, wait=0).json()["analysisId"] for video in videos_of(talking, 30)]

        def done(count: int) -> None:
            until = time.monotonic() + 300
            while sum(service.client.get(f"/status/{id}").json()["status"] == "complete" for id in ids) < count:
                assert time.monotonic() < until
                time.sleep(0.1)

        done(4)
        workers = children_of(service.process.pid)
        os.kill(workers[0], signal.SIGKILL)
        done(8)
        for worker in children_of(service.process.pid):
            for child in children_of(worker):
                os.kill(child, signal.SIGKILL)
        done(12)
        if server:
            server.kill()
            server.start()
        service.stop(signal.SIGKILL)
        time.sleep(1)
        service = Process(run / "best.ckpt", folder, *words, lease_seconds="3", uploads_per_client="40").wait()
        statuses = [ended(service.client, id, 300) for id in ids]
        assert [status["status"] for status in statuses] == ["complete"] * 30
        for id in ids:
            events = service.client.get(f"/events/{id}").text
            assert events.count('"status": "complete"') == 1
    finally:
        service.stop(signal.SIGKILL)
        if server:
            server.kill()


@held_by(
    Case(
        "R7", "SIGTERM while a video is judged", "nothing new is begun, the job is put back within the grace, exit 143"
    )
)
def test_sigterm(case: Case, run: Path, tmp_path: Path):
    settings = settings_of(tmp_path / "service", run / "best.ckpt", grace_seconds=0.5, overrides=["device=cpu"])
    environment = os.environ | settings.environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}
    store = SQLiteStore(settings.folder / "queue.sqlite")
    folder = Folder(settings.folder)
    job = submission()
    folder.incoming(job.id).write_bytes(VIDEO)
    folder.take_in(job)
    worker = subprocess.Popen([sys.executable, "-m", "visavox", "worker"], env=environment, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 120
        while not (settings.folder / "model.json").exists():
            assert worker.poll() is None and time.monotonic() < until, worker.stderr.read()
            time.sleep(0.1)
        [child] = children_of(worker.pid)
        os.kill(child, signal.SIGSTOP)  # as a decoder that hangs
        store.submit(job, 9)
        while store.waiting() != (0, 1):
            assert time.monotonic() < until
            time.sleep(0.05)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 143
        assert store.waiting() == (1, 0) and store.claim("other", 60).tries == 1
    finally:
        worker.kill()
        store.close()
        worker.stderr.close()


def test_a_queue_that_is_no_database_is_seen(tmp_path: Path):
    path = tmp_path / "queue.sqlite"
    assert sqlite_store.is_whole(path)
    store = SQLiteStore(path)
    store.close()
    assert sqlite_store.is_whole(path)
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE jobs")
    connection.close()
    assert not sqlite_store.is_whole(path)
