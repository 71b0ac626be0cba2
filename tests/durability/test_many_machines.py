"""One job by each launcher, and launchers that are killed: bundles and manifest are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import TINY

from tests.cases import small_tasks
from tests.cases.cases import Case, held_by
from tests.cases.media_files import mutate
from tests.cases.programs import half_written, started, wait_for
from visavox.commands import crop, merge
from visavox.files import sha256_of
from visavox.media import MediaError, confined
from visavox.workers import launching, pool, ray_pool

__all__ = ["started"]  # a fixture

LONG = (pytest.mark.durability, pytest.mark.data)
SAME = "the same command ends with the manifest and, byte for byte, the bundles of an undisturbed run; nothing half-written"


@pytest.fixture(scope="module")
def some(clips: Path) -> Path:
    """Twelve of the clips: enough to be killed among."""
    return clips / "fake"


@pytest.fixture(scope="module")
def undisturbed(some: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles and manifest of `some`, by the local pool."""
    output = tmp_path_factory.mktemp("undisturbed")
    assert crop.main(words(some, output)) in (0, 1)
    return output


@pytest.fixture(scope="module")
def alone(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles and manifest of all of them, by the local pool."""
    output = tmp_path_factory.mktemp("alone")
    assert crop.main(words(clips, output)) in (0, 1)
    return output


def words(clips: Path, output: Path, *more: str) -> list[str]:
    return ["--input", str(clips), "--output", str(output), "--workers", "2", *TINY, *more]


def rows(folder: Path, *without: str) -> list[dict]:
    found = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", *without)} for row in found]


def assert_same(folder: Path, undisturbed: Path, *without: str) -> None:
    assert rows(folder, *without) == rows(undisturbed, *without)
    bundles = sorted(path.relative_to(undisturbed) for path in undisturbed.rglob("*.npz"))
    assert len(bundles) > 9 and bundles == sorted(path.relative_to(folder) for path in folder.rglob("*.npz"))
    assert [sha256_of(folder / path) for path in bundles] == [sha256_of(undisturbed / path) for path in bundles]
    assert not half_written(folder)


def by_shards(clips: Path, output: Path) -> None:
    for index in (1, 2, 0):
        assert crop.main(words(clips, output, "--shard", f"{index}/3")) in (0, 1)
    assert merge.main([str(output)]) in (0, 1)


def by_ray(clips: Path, output: Path) -> None:
    assert crop.main(words(clips, output, "--ray", "local")) in (0, 1)


@held_by(
    Case("R11", "real clips in three shards, merged", "bundles and rows of the local pool", by_shards, LONG),
    Case("R11", "real clips through Ray", "bundles and rows of the local pool", by_ray, LONG),
)
def test_launchers_make_the_same(case: Case, clips: Path, alone: Path, tmp_path: Path):
    case.given(clips, tmp_path / "out")
    assert_same(tmp_path / "out", alone)


def busy(running: psutil.Popen, output: Path, manifest: str = "manifest.jsonl", least: int = 3) -> None:
    """Wait until the run has written some rows, and is not through."""
    wait_for(lambda: (output / manifest).is_file() and (output / manifest).read_text().count("\n") >= least, 240)
    assert running.poll() is None


def below(running: psutil.Popen, name: str) -> list[psutil.Process]:
    """What a process has started whose name holds a word, directly or not."""
    return [each for each in psutil.Process(running.pid).children(recursive=True) if name in " ".join(each.cmdline())]


@held_by(Case("R12", "an actor of Ray is killed", "the run itself ends as an undisturbed one", None, LONG))
def test_an_actor_is_killed(case: Case, some: Path, undisturbed: Path, tmp_path: Path, started: Callable):
    running = started("-m", "visavox", "crop", *words(some, tmp_path, "--ray", "local"))
    busy(running, tmp_path)
    below(running, "ray::MapWorker")[0].kill()
    said, _ = running.communicate(timeout=500)
    assert running.returncode in (0, 1), said
    assert_same(tmp_path, undisturbed, "kept", "frames_read")


@held_by(
    Case("R12", "a machine of Ray is killed (its raylet)", "the run itself ends as an undisturbed one", None, LONG)
)
def test_a_raylet_is_killed(case: Case, some: Path, undisturbed: Path, tmp_path: Path, started: Callable):
    ray_pool.require()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1, memory=4 << 30, object_store_memory=100 << 20) for _ in range(2)]
        running = started("-m", "visavox", "crop", *words(some, tmp_path, "--ray", cluster.address))
        busy(running, tmp_path)
        nodes[0].all_processes["raylet"][0].process.kill()
        said, _ = running.communicate(timeout=500)
        assert running.returncode in (0, 1), said
    finally:
        cluster.shutdown()
    assert_same(tmp_path, undisturbed, "kept", "frames_read")


@held_by(
    Case("R12", "actors of Ray that hang", "the session is left for another one, which does the rest", 6, LONG[:1])
)
def test_actors_hang(case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """They are stopped as by Ctrl-Z: neither do they answer, nor does Ray take them for lost."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the actors find `wait` below it
    ray, stopped, done = launching.Ray("local"), [], []
    for task, result in ray_pool.run(
        [1.0 + n / 8 for n in range(case.given)],
        small_tasks.nothing,
        small_tasks.wait,
        ray=ray,
        workers=2,
        patience=60.0,
    ):
        assert task == result
        done.append(task)
        if not stopped:
            stopped = below(psutil.Process(), "ray::MapWorker")
            for actor in stopped:
                for each in (actor, *actor.children(recursive=True)):
                    each.suspend()
    assert stopped and sorted(done) == [1.0 + n / 8 for n in range(case.given)]
    assert "silent for 60 s" in caplog.text and not any(each.is_running() for each in stopped)


@held_by(Case("R12", "the driver of Ray is killed", SAME, None, LONG))
def test_the_driver_is_killed(case: Case, some: Path, undisturbed: Path, tmp_path: Path, started: Callable):
    running = started("-m", "visavox", "crop", *words(some, tmp_path, "--ray", "local"))
    busy(running, tmp_path)
    others = psutil.Process(running.pid).children(recursive=True)
    assert any("raylet" in each.name() for each in others)
    os.kill(running.pid, signal.SIGKILL)
    wait_for(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in others), 120)
    by_ray(some, tmp_path)
    assert_same(tmp_path, undisturbed, "kept", "frames_read")


@held_by(
    Case("R7", "SIGTERM while Ray works", "exit code 143; its processes are gone, nothing half-written", None, LONG)
)
def test_the_driver_is_stopped(case: Case, some: Path, tmp_path: Path, started: Callable):
    running = started("-m", "visavox", "crop", *words(some, tmp_path, "--ray", "local"))
    busy(running, tmp_path)
    others = psutil.Process(running.pid).children(recursive=True)
    running.terminate()
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 143 and "run the same command again to resume" in said
    wait_for(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in others), 60)
    crop.sweep(tmp_path)  # as the next run does, of what an actor was writing
    assert not half_written(tmp_path)


@held_by(Case("R12", "one shard is killed", SAME, None, LONG))
def test_a_shard_is_killed(case: Case, some: Path, undisturbed: Path, tmp_path: Path, started: Callable):
    running = started("-m", "visavox", "crop", *words(some, tmp_path, "--shard", "0/3"))
    busy(running, tmp_path, "manifest.0-of-3.jsonl", least=1)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    by_shards(some, tmp_path)
    assert_same(tmp_path, undisturbed, "kept", "frames_read")


def nothing() -> None:
    return None


def read_mutated(state: None, task: tuple[str, int, str]) -> str:
    """Write a changed copy of a clip and read it through a decoder that may touch nothing else."""
    source, seed, target = task
    mutate(source, seed, target)
    try:
        with confined.open_video(target, max_seconds=2, confine="require") as video:
            for _ in video.frames():
                pass
            video.audio()
    except MediaError as error:
        return error.reason
    return "read"


@held_by(
    Case(
        "M5",
        "200 seeded mutations of real clips through the confined decoder (confine=require)",
        "200 rows, none from a lost worker; no process and no shared memory is left",
        200,
        LONG,
    )
)
def test_mutations_through_the_confined_decoder(case: Case, clips: Path, tmp_path: Path):
    if missing := confined.lacking():
        pytest.skip(f"this system cannot confine: {confined.in_words(missing)}")
    me, shared = psutil.Process(), set(os.listdir("/dev/shm"))
    before = {each.pid for each in me.children(recursive=True)}
    sources = sorted(clips.glob("*/*.mp4"))
    tasks = [(str(sources[n % len(sources)]), n, str(tmp_path / f"{n}.mp4")) for n in range(case.given)]
    results = dict(launching.run(tasks, nothing, read_mutated, workers=2, timeout=120.0))
    assert len(results) == case.given and not any(isinstance(result, pool.Died) for result in results.values())
    kinds = Counter(results.values())
    print(dict(kinds))
    assert "read" in kinds and len(kinds) > 1
    wait_for(lambda: {each.pid for each in me.children(recursive=True)} <= before, 20)
    wait_for(lambda: not any(map(_is_orphan, psutil.process_iter(["cmdline", "ppid"]))), 20)
    assert set(os.listdir("/dev/shm")) <= shared


def _is_orphan(process: psutil.Process) -> bool:
    """Whether it is a decoder whose parent has ended."""
    return "visavox.media.confined.child" in (process.info["cmdline"] or []) and process.info["ppid"] == 1
