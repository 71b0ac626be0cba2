"""Actors of Ray do what the local pool does, task for task; one cluster of two processors serves all tests here."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import BACKBONES, TINY
from light_tasks import Pair, start_broken, start_with_seven, work

from visavox.commands import crop, evaluate, features, perturb
from visavox.detectors.td3mf.features import Features
from visavox.files import sha256_of
from visavox.workers import launching, pool, ray_pool

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs the extra ray", allow_module_level=True)


@pytest.fixture(scope="module")
def cluster():
    import ray  # first, as another library may have done before us

    ray_pool.require()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the actors find `work` below it
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    yield launching.Ray()
    ray.shutdown()


@pytest.fixture(autouse=True)
def nothing_left():
    """Threads of Ray Data that outlive the session end this process with code 1, a minute later."""
    yield
    assert not [thread for thread in threading.enumerate() if type(thread).__name__ == "StreamingExecutor"]
    left = [thread.name for thread in threading.enumerate() if thread.name in ("ray", "ending Ray's executor")]
    assert left in ([], ["ray"])  # the one that `test_a_silent_session_is_left_for_another` lets hang


def test_actors_answer_as_the_pool_does(cluster: launching.Ray, tmp_path: Path):
    tasks = ["a", "die", "b", "hang", (1, 0.5), *map(str, range(7))]
    found = dict(
        launching.run([*tasks, str(tmp_path / "actor")], start_with_seven, work, workers=2, timeout=5.0, ray=cluster)
    )
    assert found.pop(str(tmp_path / "actor")) == f"7:{tmp_path / 'actor'}"
    assert found == dict(pool.run(tasks, start_with_seven, work, workers=2, timeout=5.0))
    assert type(found[1, 0.5]) is Pair
    assert found["die"].code == "WORKER_DIED" and "3 workers ended over this task" in found["die"].reason
    assert found["hang"].code == "TIMED_OUT"


def test_a_broken_start_is_an_error_with_its_own_words(cluster: launching.Ray):
    with pytest.raises(pool.PoolError, match="weights are missing; fetch them"):
        list(launching.run(["a", "b"], start_broken, work, workers=2, ray=cluster))
    from ray._private import auto_init_hook

    assert not auto_init_hook.enable_auto_connect  # a thread that Ray Data leaves behind would begin another session


def test_bundles_and_rows_are_those_of_the_pool(cluster: launching.Ray, talking: Path, data: Path, tmp_path: Path):
    words = ["--input", str(talking), "--output", str(tmp_path), "--workers", "2", *TINY]
    assert crop.main([*words, "--ray"]) == 0
    alone = data / "data/bundles"
    assert rows(tmp_path) == rows(alone)
    made = sorted(path.relative_to(alone) for path in alone.rglob("*.npz"))
    assert len(made) == 12
    assert [sha256_of(tmp_path / path) for path in made] == [sha256_of(alone / path) for path in made]


@pytest.mark.durability
def test_scores_are_those_of_the_pool(cluster: launching.Ray, talking: Path, run: Path, tmp_path: Path):
    """With silence trimmed, so that the actors hand over clips that lie nowhere else; a text in between costs its row."""
    (tmp_path / "in").mkdir()
    for path in sorted(talking.rglob("*.mp4"))[::4]:
        (tmp_path / "in" / f"{path.parent.name}-{path.name}").symlink_to(path)
    (tmp_path / "in/text.mp4").write_text("no video\n" * 99)
    words = [
        "--input",
        str(tmp_path / "in"),
        "--checkpoint",
        str(run / "best.ckpt"),
        "--workers",
        "2",
        "trim_silence=both",
        "submit_batch_size=1",
    ]
    assert evaluate.main([*words, "--output", str(tmp_path / "alone.csv")]) == 0
    assert evaluate.main([*words, "--output", str(tmp_path / "ray.csv"), "--ray"]) == 0
    assert (tmp_path / "ray.csv").read_text() == (tmp_path / "alone.csv").read_text()
    found, expected = (details(tmp_path / f"{name}.details.jsonl") for name in ("ray", "alone"))
    assert found == expected and len(found) == 4 and [row["code"] for row in found].count("NOT_A_VIDEO") == 1
    assert not list(tmp_path.glob(".*"))


def details(path: Path) -> list[dict]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


@pytest.mark.durability
def test_features_and_perturbed_videos_are_those_of_one_process(
    cluster: launching.Ray, talking: Path, data: Path, tmp_path: Path
):
    words = [*BACKBONES]
    words += ["--input", str(data / "data/bundles/real"), *TINY]
    alone, far = tmp_path / "alone", tmp_path / "far"
    assert features.main([*words, "--output", str(alone)]) == 0
    assert features.main([*words, "--output", str(far), "--ray", "--workers", "2"]) == 0
    assert (
        lines(far / "features.csv", 2) == lines(alone / "features.csv", 2) and len(lines(far / "features.csv", 2)) == 7
    )
    for path in alone.rglob("*.npz"):
        one, other = Features.load(path), Features.load(far / path.relative_to(alone))
        np.testing.assert_allclose(one.video, other.video, rtol=1e-4, atol=1e-5)  # an actor has one thread
        np.testing.assert_allclose(one.audio, other.audio, rtol=1e-4, atol=1e-5)

    clips = next((talking / "real").iterdir())
    words = ["--input", str(clips), "--kinds", "gain,blur", "--levels", "3", "--seconds", "0.6"]
    assert perturb.main([*words, "--output", str(alone)]) == 0
    assert perturb.main([*words, "--output", str(far), "--ray", "--workers", "2"]) == 0
    assert (far / "effects.csv").read_text() == (alone / "effects.csv").read_text()
    assert [sha256_of(p) for p in sorted(far.rglob("*.mp4"))] == [sha256_of(p) for p in sorted(alone.rglob("*.mp4"))]


def lines(path: Path, seconds: int) -> list[list[str]]:
    with path.open(newline="") as file:
        return [row[:seconds] + row[seconds + 1 :] for row in csv.reader(file)]


def rows(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_nothing_imports_ray_that_is_not_asked_to():
    code = "import sys, visavox.commands.crop, visavox.workers.launching; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_it_is_named(talking: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    assert crop.main(["--input", str(talking), "--output", str(tmp_path / "out"), *TINY, "--ray"]) == 2
    assert "pip install 'visavox[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_silence_is_an_error_that_says_what_the_cluster_has(cluster: launching.Ray):
    """No machine here has a GPU, so that Ray waits for one without a word."""
    gpus = launching.Ray(gpus=1.0)
    with pytest.raises(RuntimeError, match=r"no result within 4 s; it has 2 CPU, 0 GPU.*'num_gpus': 1.0.*ray status"):
        list(ray_pool.run(["a"], start_with_seven, work, ray=gpus, workers=1, patience=4.0))


def test_a_silent_session_is_left_for_another(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """The first gives two results and hangs; what is open is given again, each task alone in its block."""
    drawn, sessions = [], []

    def results(tasks: dict[int, str], actor: object, gpus: float, workers: int, alone: bool):
        drawn.append((list(tasks.values()), alone))
        for number, task in tasks.items():
            if len(drawn) == 1 and task == "c":
                threading.Event().wait()
            yield number, f"7:{task}"

    class Session:
        def __init__(self, address: str):
            sessions.append("begun")

        def renew(self) -> None:
            sessions.append("renewed")

        def close(self) -> None:
            sessions.append("closed")

        resources = staticmethod(lambda: "2 CPU")

    monkeypatch.setattr(ray_pool, "_results", results)
    monkeypatch.setattr(ray_pool, "_Session", Session)
    monkeypatch.setattr(ray_pool, "ENDING", 0.1)
    ray = launching.Ray()
    found = dict(ray_pool.run("abcd", start_with_seven, work, ray=ray, workers=2, patience=0.6))
    assert found == {task: f"7:{task}" for task in "abcd"}
    assert drawn == [(["a", "b", "c", "d"], False), (["c", "d"], True)]
    assert sessions == ["begun", "renewed", "closed"]
    assert "silent for 0.6 s (it has 2 CPU)" in caplog.text


def test_a_session_that_was_begun_elsewhere_is_not_left(cluster: launching.Ray):
    with pytest.raises(RuntimeError, match="silent in a session that was begun elsewhere"):
        ray_pool._Session("").renew()
