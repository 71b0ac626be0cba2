"""Several jobs judged in one call: each keeps its own status, lease, cancel and fault, and its result is that of one by one."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.service import scripted_child
from tests.serving import RESULT, VIDEO, serving, settings_of, upload
from visavox.service import worker as worker_module
from visavox.service.folder import Folder
from visavox.service.opening import open_store
from visavox.service.settings import Settings
from visavox.service.store import JobStore, Lease, Submission
from visavox.service.worker import Answer, Worker


class Counting(Worker):
    """A worker that keeps how many jobs its child was given at once."""

    def __init__(self, *words: Any):
        super().__init__(*words)
        self.turns: list[int] = []

    def _turn(self, leases: list[Lease]) -> Iterator[Answer]:
        self.turns.append(len(leases))
        yield from super()._turn(leases)


@contextmanager
def work(settings: Settings) -> Iterator[tuple[Counting, JobStore]]:
    """A worker with its child, in a thread; and the store as another process has it."""
    folder, stop = Folder(settings.folder), threading.Event()
    worker, store = Counting(settings, open_store(settings, folder), folder, stop, 1), open_store(settings, folder)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker, store
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
        worker.store.close()
        store.close()


def until(true: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def judged(settings: Settings, videos: list[bytes]) -> tuple[list[dict[str, Any]], list[int]]:
    """What `GET /analyses` says of videos that wait together for one worker, and how many its child was given at once."""
    with serving(settings) as client:
        ids = [upload(client, video, wait=0).json()["analysisId"] for video in videos]
        with work(settings) as (worker, store):
            until(lambda: all(store.progress(id).ended for id in ids))
        return [client.get(f"/analyses/{id}").json() for id in ids], worker.turns


def test_results_are_those_of_one_at_a_time(run: Path, talking: Path, tmp_path: Path):
    real = [path.read_bytes() for path in sorted(talking.rglob("*.mp4"))[:4]]
    videos = [*real[:2], real[0][:4000] + bytes(len(real[0]) - 4000), *real[2:]]
    common = {"checkpoint": run / "best.ckpt", "overrides": ["device=cpu"], "uploads_per_client": 9}
    together, turns = judged(settings_of(tmp_path / "together", batch=5, **common), videos)
    alone, turns_alone = judged(settings_of(tmp_path / "alone", **common), videos)
    assert turns == [5] and turns_alone == [1] * 5
    for one, other in zip(together, alone):
        assert one["status"]["result"] == other["status"]["result"] and one["why"] == other["why"]
        assert one["status"]["code"] == other["status"]["code"]
    assert [each["status"]["status"] for each in together].count("error") == 1
    for one, other in zip(together, alone):
        if one["analysis"]:
            assert one["analysis"]["probability"] == pytest.approx(other["analysis"]["probability"], abs=1e-6)
            assert one["provenance"] == other["provenance"] and one["sha256"] == other["sha256"]
            assert {each["name"] for each in one["stages"]} == {each["name"] for each in other["stages"]}


def test_the_networks_see_the_clips_in_one_call(tiny_config, make_bundle, monkeypatch: pytest.MonkeyPatch):
    from visavox.detectors import build
    from visavox.detectors.base import Detector
    from visavox.detectors.single import HouseJudge

    detector = build.build(tiny_config).eval()
    bundles = [make_bundle(seed) for seed in range(3)]
    detector.fit_inputs(bundles)
    alone = [detector.explain(bundle) for bundle in bundles]
    calls: list[int] = []
    real = Detector.score
    monkeypatch.setattr(Detector, "score", lambda self, some: calls.append(len(some)) or real(self, some))
    told: list[tuple[int, str]] = []
    watches = [lambda name, seconds, n=n: told.append((n, name)) for n in range(3)]
    found = HouseJudge(detector, None).explain_all(bundles, watches)
    assert calls == [3] and told == [(n, detector.card.detector) for n in range(3)]
    for one, other in zip(found, alone):
        assert one.probability == pytest.approx(other.probability, abs=1e-6) and one.notes == other.notes
        assert one.card == other.card


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(worker_module, "serve", scripted_child.scripted)
    settings = settings_of(tmp_path / "service", batch=5, grace_seconds=0.2)
    (settings.folder / "result.json").write_text(json.dumps(RESULT))
    return settings


def queued(settings: Settings, *names: str) -> list[str]:
    """Enter videos of these names; their ids."""
    folder = Folder(settings.folder)
    store = open_store(settings, folder)
    ids = []
    for name in names:
        ids.append(id := str(uuid.uuid4()))
        folder.incoming(id).write_bytes(VIDEO)
        job = Submission(id, "0" * 64, id.replace("-", ""), name, len(VIDEO), "2026-01-01T00:00:00+00:00")
        folder.take_in(job)
        store.submit(job, 99)
    store.close()
    return ids


def outcomes(store: JobStore, ids: list[str]) -> list[str | None]:
    return [progress.verdict or progress.code for progress in map(store.progress, ids)]


def test_one_that_ends_the_process_costs_its_own_turns_alone(settings: Settings):
    ids = queued(settings, "a.mp4", "kill.mp4", "b.mp4", "bad.mp4", "c.mp4")
    with work(settings) as (worker, store):
        until(lambda: all(store.progress(id).ended for id in ids))
        assert outcomes(store, ids) == ["Deepfake", "POISONED", "Deepfake", "NO_FRAMES", "Deepfake"]
        assert store.measures()["child_deaths", ""] == 3
        assert all(sum(progress.ended for _, progress in store.events(id, 0)) == 1 for id in ids)
    assert worker.turns[0] == 5 and set(worker.turns[1:]) == {1}


def test_a_death_of_nobody_knows_whom_is_held_against_nobody(settings: Settings):
    ids = queued(settings, "a.mp4", "together.mp4", "b.mp4")
    with work(settings) as (worker, store):
        until(lambda: all(store.progress(id).ended for id in ids))
        assert outcomes(store, ids) == ["Deepfake"] * 3 and ("child_deaths", "") not in store.measures()
    assert worker.turns == [3, 1, 1, 1]


def test_a_process_that_ended_while_it_had_nothing_to_do_costs_no_job_a_turn(settings: Settings):
    with work(settings) as (worker, store):
        until(lambda: bool(worker.about))
        worker.child.process.kill()
        worker.child.process.join()
        [id] = queued(settings, "a.mp4")
        until(lambda: store.progress(id).ended)
        assert outcomes(store, [id]) == ["Deepfake"] and ("child_deaths", "") not in store.measures()
    assert worker.turns == [1]


def test_a_full_disk_costs_none_of_those_that_were_judged_together_its_lease(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "keep_result", full)
    settings.lease_seconds = 3
    ids = queued(settings, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    with work(settings) as (worker, store):
        until(lambda: len(worker.held) == 4)

        def ended() -> bool:
            assert store.claim("another", 60) is None
            return all(store.progress(id).ended for id in ids)

        until(ended)
        assert outcomes(store, ids) == ["NO_SPACE"] * 4


def test_what_senders_are_told_is_for_senders():
    for code, words in worker_module.FOR_SENDERS.items():
        assert worker_module.failure(code, "").error == words and "--" not in words and "submit_batch_size" not in words
    assert "ffmpeg" in worker_module.failure("NOT_A_VIDEO", "").error


def test_the_others_are_kept_while_the_networks_are_loaded_anew(settings: Settings):
    settings.lease_seconds = 0.6
    ids = queued(settings, "kill.mp4", "a.mp4", "b.mp4")
    with work(settings) as (worker, store):
        (settings.folder / "slow").touch()
        until(lambda: all(store.progress(id).ended for id in ids))
        assert outcomes(store, ids) == ["POISONED", "Deepfake", "Deepfake"]
    assert worker.turns == [3, 1, 1, 1, 1]  # none of the others had a second turn


def test_one_that_hangs_is_given_up_alone(settings: Settings):
    settings.cpu_seconds = 0.5
    ids = queued(settings, "a.mp4", "hang.mp4", "b.mp4")
    with work(settings) as (_, store):
        until(lambda: all(store.progress(id).ended for id in ids))
        assert outcomes(store, ids) == ["Deepfake", "TIMED_OUT", "Deepfake"]


def test_one_that_is_deleted_meanwhile_is_dropped_alone(settings: Settings):
    settings.lease_seconds = 0.6
    ids = queued(settings, "a.mp4", "hang.mp4", "b.mp4")
    with work(settings) as (worker, store):
        until(lambda: store.waiting() == (0, 3))
        folder, key = Folder(settings.folder), store.submission(ids[2]).key
        folder.forget(ids[2])
        store.delete(ids[2])
        until(lambda: len(worker.held) == 2)
        (settings.folder / "go").touch()
        until(lambda: all(store.progress(id).ended for id in ids[:2]))
        assert outcomes(store, ids[:2]) == ["Deepfake"] * 2
        assert store.progress(ids[2]) is None and folder.result(key) is None
    assert worker.turns == [3]


def test_all_go_back_when_the_worker_is_asked_to_stop(settings: Settings):
    queued(settings, "a.mp4", "hang.mp4", "b.mp4")
    with work(settings) as (_, store):
        until(lambda: store.waiting() == (0, 3))
    store = open_store(settings, Folder(settings.folder))
    assert store.waiting() == (3, 0)
    assert [store.claim("other", 60).tries for _ in range(3)] == [1, 1, 1]
    store.close()


def test_a_stop_while_the_networks_are_loaded_anew_puts_all_back(settings: Settings):
    settings.lease_seconds, settings.grace_seconds = 0.6, 30  # the child would be ready within the grace
    queued(settings, "kill.mp4", "a.mp4")
    with work(settings) as (worker, store):
        (settings.folder / "slow").touch()
        until(lambda: len(worker.turns) == 2)
    store = open_store(settings, Folder(settings.folder))
    assert store.waiting() == (2, 0)
    store.close()
