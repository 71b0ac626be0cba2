"""Workers and runs that are killed again and again: what was begun is done, the same to the byte."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import TINY, command

from tests.cases.cases import Case, held_by
from tests.cases.programs import Killer, half_written, started
from tests.cases.small_tasks import die_or_hang, seven
from visavox.bundle import Bundle
from visavox.commands import crop
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


class Twenty(NamedTuple):
    """Twenty clips and their bundles as an undisturbed run makes them."""

    clips: Path
    whole: Path
    seconds: float
    """What that run took, on this machine at this load."""


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Twenty:
    folder = tmp_path_factory.mktemp("twenty")
    make_dataset(folder / "in", identities=5, clips_per_identity=4, seed=6, seconds=(1.2, 1.4), workers=2)
    began = time.monotonic()
    assert crop.main(["--input", str(folder / "in"), "--output", str(folder / "whole"), "--workers", "2", *TINY]) == 0
    return Twenty(folder / "in", folder / "whole", time.monotonic() - began)


@held_by(
    *[
        Case(
            "R2",
            f"crop killed fifty times over twenty clips, {10 * part + 1} to {10 * part + 10}",
            "bundles equal those of an undisturbed run, byte for byte",
            part,
            DURABILITY,
        )
        for part in range(5)
    ]
)
def test_crop_killed_again_and_again(case: Case, twenty: Twenty, tmp_path: Path, started):
    """Where a run comes to its end before it is killed, its bundles are compared and the folder is begun anew."""
    words = ["--input", str(twenty.clips), "--output", str(tmp_path / "out"), "--workers", "2", *TINY]
    whole = {path.relative_to(twenty.whole): path for path in twenty.whole.rglob("*.npz")}
    assert len(whole) == 20
    killer, output = Killer(started, case.given, twenty.seconds), tmp_path / "out"
    partly, ended = 0, 0
    while killer.kills < 10 or output.exists():
        if killer.kills < 10 and killer(output, "crop.py", *words):
            made = list(output.rglob("*.npz"))
            assert all(Bundle.load(path).track_frames for path in made)  # whole, every one
            partly += 0 < len(made) < len(whole)
            continue
        assert crop.main(words) == 0
        assert not half_written(output)
        assert all((output / name).read_bytes() == path.read_bytes() for name, path in whole.items())
        ended += 1
        shutil.rmtree(output)
    print(f"{case.title}: {killer.kills} kills, {partly} with some bundles there, {ended} folders made whole")
    assert partly > 0


@held_by(Case("R3", "training killed ten times", "the same weights and history, bit for bit", 10, DURABILITY))
def test_training_killed_again_and_again(case: Case, data: Path, started):
    """Of many short epochs, so that it is killed within them; once all are done, the next kill is of a training begun anew."""
    most = 40
    killer, whole = Killer(started), data / "runs/undisturbed"

    def words(folder: Path) -> list[str]:
        resume = ["--resume"] if (folder / "config.json").is_file() else []
        return [*command(data, folder.name, "num_workers=2", f"epoch={most}"), *resume]

    killer.spare(whole, "train.py", *words(whole))
    epochs: list[int] = []
    for number in itertools.count():
        folder, done, ended = data / f"runs/killed-{number}", 0, False
        while not ended and done < most and killer.kills < case.given:
            ended = not killer(folder, "train.py", *words(folder))
            if not ended:
                last = folder / "checkpoints/last.ckpt"
                done = torch.load(last, weights_only=True)["epoch"] + 1 if last.is_file() else 0
                epochs.append(done)
        assert ended or started("train.py", *words(folder), stdout=subprocess.DEVNULL).wait(300) == 0
        the_same_training(folder, whole)
        if killer.kills == case.given:
            break
    print(f"{case.title}: epochs done when it was killed: {epochs}")
    assert any(0 < done < most for done in epochs)


def the_same_training(folder: Path, whole: Path) -> None:
    assert not half_written(folder)
    one, two = (torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (folder, whole))
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert (folder / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


@held_by(Case("R2", "eval killed twenty times", "the rows of an undisturbed run", 20, DURABILITY))
def test_eval_killed_again_and_again(case: Case, talking: Path, run: Path, tmp_path: Path, started):
    """Where a run comes to its end before it is killed, its rows are compared and the next one begins anew."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()

    def words(output: Path) -> list[str]:
        return [
            "-input",
            str(talking),
            "-output",
            str(output),
            "--checkpoint",
            str(run / "best.ckpt"),
            "--workers",
            "2",
        ]

    killer, whole, output = Killer(started), tmp_path / "whole/s.csv", tmp_path / "killed/s.csv"
    killer.spare(whole, "eval.py", *words(whole))
    scored: list[int] = []
    while killer.kills < case.given:
        if killer(output, "eval.py", *words(output)):
            rows = [path.read_bytes().count(b"\n") for path in output.parent.glob("*.jsonl*")]
            scored.append(max(rows, default=0))
            continue
        assert output.read_text() == whole.read_text() and not half_written(output.parent)
        shutil.rmtree(output.parent)
        output.parent.mkdir()
    assert evaluation.main(words(output)) == 0
    assert output.read_text() == whole.read_text() and not half_written(output.parent)
    print(f"{case.title}: rows done when it was killed: {scored}")
    assert max(scored) > 0
