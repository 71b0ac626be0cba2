"""Real clips from and to a storage that speaks S3, by each launcher, and a run that is killed: as from folder to folder."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from tests.cases.cases import Case, held_by
from tests.cases.programs import started, wait_for
from tests.storage.s3_server import storage
from visavox.commands import crop, evaluate, merge
from visavox.files import find_inputs

__all__ = ["started", "storage"]  # fixtures

LONG = (pytest.mark.durability, pytest.mark.data)


@pytest.fixture(scope="module")
def alone(storage: Any, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles and manifest of the real clips by the local pool, from folder to folder; the clips are in s3://bucket/clips."""
    for name, path in find_inputs(clips).items():
        storage.put_file(str(path), f"bucket/clips/{name}")
    output = tmp_path_factory.mktemp("alone")
    assert crop.main(["--input", str(clips), "--output", str(output), "--workers", "2", *TINY]) in (0, 1)
    return output


def words(name: str, scratch: Path, *more: str) -> list[str]:
    addresses = ["--input", "s3://bucket/clips", "--output", f"s3://bucket/{name}"]
    return [*addresses, "--workers", "2", *TINY, "--scratch", str(scratch), *more]


def by_pool(name: str, scratch: Path) -> None:
    assert crop.main(words(name, scratch)) in (0, 1)


def by_shards(name: str, scratch: Path) -> None:
    for index in (1, 2, 0):
        assert crop.main(words(name, scratch, "--shard", f"{index}/3")) in (0, 1)
    assert merge.main([f"s3://bucket/{name}"]) in (0, 1)


def by_ray(name: str, scratch: Path) -> None:
    assert crop.main(words(name, scratch, "--ray", "local")) in (0, 1)


def rows(text: str, *without: str) -> list[dict]:
    found = map(json.loads, text.splitlines())
    return [{key: value for key, value in row.items() if key not in ("seconds", *without)} for row in found]


def assert_same(storage: Any, name: str, alone: Path, scratch: Path, *without: str) -> None:
    found = storage.cat(f"bucket/{name}/manifest.jsonl").decode()
    assert rows(found, *without) == rows((alone / "manifest.jsonl").read_text(), *without)
    made = sorted(path.relative_to(alone).as_posix() for path in alone.rglob("*.npz"))
    there = [path.removeprefix(f"bucket/{name}/") for path in storage.find(f"bucket/{name}")]
    assert len(made) > 30 and made == sorted(path for path in there if path.endswith(".npz"))
    for path in made:
        assert storage.cat(f"bucket/{name}/{path}") == (alone / path).read_bytes()
    assert not [path for path in there if ".part" in path]
    assert [path.name for path in scratch.iterdir()] == [".lock"]


@held_by(
    *[
        Case("R11", f"real clips from and to S3 {how}", "bundles and rows of the local pool", by, LONG)
        for how, by in (("by the pool", by_pool), ("in three shards", by_shards), ("through Ray", by_ray))
    ]
)
def test_launchers_make_the_same(case: Case, storage: Any, alone: Path, tmp_path: Path):
    name, scratch = case.given.__name__, tmp_path / "scratch"
    case.given(name, scratch)
    assert_same(storage, name, alone, scratch)


@held_by(
    Case(
        "R12",
        "a run from and to S3 is killed",
        "the same command ends with the bundles of an undisturbed run; nothing half-written, nothing left behind",
        None,
        LONG,
    )
)
def test_a_run_is_killed(case: Case, storage: Any, alone: Path, tmp_path: Path, started: Callable):
    scratch = tmp_path / "scratch"
    running = started("-m", "visavox", "crop", *words("killed", scratch))

    def made() -> int:
        return sum(path.endswith(".npz") for path in storage.find("bucket/killed"))

    wait_for(lambda: made() > 3, 240)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert 3 < made() < 36
    by_pool("killed", scratch)
    assert_same(storage, "killed", alone, scratch, "kept", "frames_read")


@held_by(Case("R11", "scores from and to S3 through Ray", "those of the local pool", None, LONG[:1]))
def test_scores_are_the_same(case: Case, storage: Any, talking: Path, run: Path, tmp_path: Path):
    """Bundles go from the actors to this process through a folder of the storage, which is gone afterwards."""
    for path in sorted(talking.rglob("*.mp4"))[::4]:
        storage.put_file(str(path), f"bucket/talking/{path.relative_to(talking).as_posix()}")
    given = ["--checkpoint", str(run / "best.ckpt"), "--workers", "2", "submit_batch_size=1"]
    assert evaluate.main(["--input", str(talking), "--output", str(tmp_path / "s.csv"), *given]) == 0
    addresses = ["--input", "s3://bucket/talking", "--output", "s3://bucket/scores/s.csv", "--ray", "local"]
    assert evaluate.main([*addresses, *given]) == 0
    expected = (tmp_path / "s.csv").read_text().splitlines()
    found = storage.cat("bucket/scores/s.csv").decode().splitlines()
    assert len(found) == 4 and set(found) <= set(expected)
    assert storage.find("bucket/scores") == ["bucket/scores/s.csv", "bucket/scores/s.details.jsonl"]
