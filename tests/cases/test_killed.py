"""Workers and runs that are killed again and again: what was begun is done, the same to the byte."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CHECKOUT, TINY, command

from tests.cases.cases import Case, held_by
from tests.cases.programs import half_written, started, wait_for
from tests.cases.small_tasks import die_or_hang, seven
from visavox import runs
from visavox.bundle import Bundle
from visavox.commands import crop, train
from visavox.commands import evaluate as evaluation
from visavox.synthetic.dataset import make_dataset
from visavox.workers import pool

__all__ = ["started"]  # a fixture

DURABILITY = (pytest.mark.durability,)


@held_by(
    Case(
        "R6",
        "a task that kills each worker",
        "given up at its third try, the others done: WORKER_DIED",
        ("die", "WORKER_DIED"),
    ),
    Case("R5", "a task hangs", "given up after the time-out: TIMED_OUT", ("hang", "TIMED_OUT")),
)
def test_a_worker_is_lost(case: Case):
    task, code = case.given
    results = dict(pool.run(["a", task, "b"], seven, die_or_hang, workers=1, timeout=2.0))
    assert results[task].code == code and results["a"] == results["b"] == 7


@held_by(Case("R5", "a worker is killed once", "its task is done by another one"))
def test_a_worker_is_killed_once(case: Case, tmp_path: Path):
    task = str(tmp_path / "mark")
    assert dict(pool.run(["a", task, "b"], seven, die_or_hang, workers=1)) == {"a": 7, task: 7, "b": 7}


POISON = """
import os, signal, sys
from visavox.commands import crop
from visavox.preprocessing.pipeline import Preprocessor
whole = Preprocessor.__call__
def poisoned(self, path, **how):
    if "poison" in str(path): os.kill(os.getpid(), signal.SIGSEGV)
    return whole(self, path, **how)
Preprocessor.__call__ = poisoned
if __name__ == "__main__": sys.exit(crop.main(sys.argv[1:]))
"""
"""A program that crops as `visavox crop` does, but that one video makes the decoder crash."""


@held_by(
    Case(
        "R6",
        "a video that crashes each worker of crop",
        "failed at its third try, the others have their bundles",
        marks=DURABILITY,
    )
)
def test_a_video_that_crashes_its_worker(case: Case, talking: Path, tmp_path: Path, started):
    (tmp_path / "in").mkdir()
    for name, path in zip(("a.mp4", "poison.mp4", "z.mp4"), sorted(talking.rglob("*.mp4"))):
        shutil.copy(path, tmp_path / "in" / name)
    (tmp_path / "poison.py").write_text(POISON)
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--workers", "2", *TINY]
    said, _ = (running := started(str(tmp_path / "poison.py"), *words)).communicate(timeout=300)
    assert running.returncode == 1, said
    rows = {row["input"]: row for row in map(json.loads, (tmp_path / "out/manifest.jsonl").read_text().splitlines())}
    assert {name: row["status"] for name, row in rows.items()} == {"a.mp4": "ok", "poison.mp4": "failed", "z.mp4": "ok"}
    assert rows["poison.mp4"]["code"] == "WORKER_DIED" and "SIGSEGV (3 workers ended" in rows["poison.mp4"]["reason"]


def killed_again_and_again(words: list[str], times: int, done: Callable[[], bool]) -> int:
    """Start a program again and again, until it is done, and kill all of it after a random while; return how often."""
    rng, kills = np.random.default_rng(7), 0
    for _ in range(times):
        if done():
            break
        running = subprocess.Popen(
            [sys.executable, *words],
            cwd=CHECKOUT,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with suppress(subprocess.TimeoutExpired):
            running.wait(float(rng.uniform(2.0, 7.0)))
        kills += running.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    return kills


@held_by(
    Case(
        "R2",
        "crop killed fifty times over twenty clips",
        "bundles equal those of an undisturbed run, byte for byte",
        50,
        DURABILITY,
    )
)
def test_crop_killed_again_and_again(case: Case, tmp_path_factory, tmp_path: Path):
    talking, undisturbed = tmp_path_factory.mktemp("twenty"), tmp_path_factory.mktemp("undisturbed")
    make_dataset(talking, identities=5, clips_per_identity=4, seed=6, seconds=(1.6, 2.0), workers=2)
    assert crop.main(["--input", str(talking), "--output", str(undisturbed), "--workers", "2", *TINY]) == 0
    words = ["--input", str(talking), "--output", str(tmp_path), "--workers", "2", *TINY]
    whole = {path.relative_to(undisturbed): path for path in undisturbed.rglob("*.npz")}
    assert len(whole) == 20
    kills, bundles = 0, 0
    for _ in range(case.given // 10):  # a folder is done after some ten kills: begin anew
        shutil.rmtree(tmp_path)
        kills += killed_again_and_again(
            ["crop.py", *words], 10, lambda: len(list(tmp_path.rglob("*.npz"))) == len(whole)
        )
        made = list(tmp_path.rglob("*.npz"))
        assert all(Bundle.load(path).track_frames for path in made)  # whole, every one
        bundles += len(made)
        assert crop.main(words) == 0
        assert not half_written(tmp_path)
        assert all((tmp_path / name).read_bytes() == path.read_bytes() for name, path in whole.items())
    print(f"{case.title}: {kills} kills, {bundles} bundles found whole between them")
    assert kills >= case.given - 5


@held_by(Case("R3", "training killed ten times", "the same weights and history, bit for bit", 10, DURABILITY))
def test_training_killed_again_and_again(case: Case, data: Path, run: Path, started):
    words = command(data, "again-and-again", "num_workers=2")
    folder = data / "runs/again-and-again"
    rng = np.random.default_rng(7)
    for n in range(case.given):
        (folder / runs.LOCK).unlink(
            missing_ok=True
        )  # of the run that was killed; the next one says by it that it has begun
        running = started("train.py", *words, *(["--resume"] if n else []))
        there = folder / "config.json" if not n else folder / runs.LOCK
        wait_for(lambda there=there, running=running: there.is_file() or running.poll() is not None)
        with suppress(subprocess.TimeoutExpired):
            running.wait(float(rng.uniform(0, 1.5)))
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert train.main([*words, "--resume"]) == 0
    assert not half_written(folder)
    one, two = (torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (run, folder))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (folder / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


@held_by(Case("R2", "eval killed twenty times", "the rows of an undisturbed run", 20, DURABILITY))
def test_eval_killed_again_and_again(case: Case, talking: Path, run: Path, tmp_path: Path):
    def words(name: str) -> list[str]:
        output = ["-output", str(tmp_path / name), "--checkpoint", str(run / "best.ckpt")]
        return ["-input", str(talking), *output, "--workers", "2"]

    assert evaluation.main(words("whole.csv")) == 0
    killed_again_and_again(["eval.py", *words("killed.csv")], case.given, (tmp_path / "killed.csv").exists)
    assert evaluation.main(words("killed.csv")) == 0
    assert (tmp_path / "killed.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert not half_written(tmp_path)
