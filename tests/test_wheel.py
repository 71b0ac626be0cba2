"""The wheel alone, outside of any checkout: it crops, trains and scores, and says which extra is missing."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_TURN = """
import json, sys
from visavox.__main__ import main
if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        print(end="\\0")
        if code := main(words): sys.exit(code)
"""
"""Runs several commands in one process: what the networks need is imported once."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel's content in a folder of its own."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "packages")
    return place / "packages"


def visavox(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `visavox WORDS` in a folder with the wheel and this environment's packages, but not the checkout."""
    return python(installed, folder, "-m", "visavox", *words)


def python(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python there, without the checkout (-S)."""
    packages = [entry for entry in sys.path if entry.endswith("-packages")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), *packages])}
    command = [sys.executable, "-S", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_it_holds_the_package_and_the_configurations_and_nothing_else(installed: Path):
    assert {path.name.split("-")[0] for path in installed.iterdir()} == {"visavox"}
    shipped = {path.name for path in (installed / "visavox/configs").iterdir()}
    assert shipped == {"config.json"} | {path.name for path in (ROOT / "configs").iterdir()}
    page = [path.relative_to(ROOT) for path in (ROOT / "visavox/service/page").rglob("*") if path.is_file()]
    assert len(page) > 5 and all((installed / path).read_bytes() == (ROOT / path).read_bytes() for path in page)
    [metadata] = installed.glob("*.dist-info/entry_points.txt")
    assert "visavox = visavox.__main__:main" in metadata.read_text()


def test_it_crops_trains_and_scores(installed: Path, talking: Path, tmp_path: Path):
    def run(*words: str) -> str:
        done = visavox(installed, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("crop", "--config", "tiny", "--input", str(talking), "--output", "data/bundles", "--workers", "1")
    run("corpora", "folder", "--root", "data/bundles", "--output", "data/split.csv", "--val", "0.34", "--test", "0.33")
    best, video = "runs/v1/best.ckpt", str(sorted(talking.rglob("*.mp4"))[0])
    train = ["train", "--config", "tiny", "--data-version", "split", "--code-version", "v1", "--allow-leaks"]
    evaluate = ["eval", "-input", "data/bundles", "-output", "submission.csv", "--checkpoint", best, "device=cpu"]
    score = ["score", video, "--checkpoint", best, "--json", "--set", "device=cpu"]
    each = [[*train, "epoch=1", "train_batch_size=4", "device=cpu"], evaluate, score]
    done = python(installed, tmp_path, "-c", IN_TURN, json.dumps(each))
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == 1 + len(list(tmp_path.rglob("*.npz")))
    answer = json.loads(done.stdout.split("\0")[-1])
    assert 0 <= answer["probability"] <= 1
    assert json.loads((tmp_path / "runs/v1/test.json").read_text())["epochs"] == 1


def test_without_a_name_it_lists_its_commands_and_names_what_is_missing(installed: Path, tmp_path: Path):
    assert "crop" in visavox(installed, tmp_path).stdout
    done = visavox(installed, tmp_path, "train", "--config", "tyni", "--code-version", "v")
    assert done.returncode == 2 and "did you mean tiny?" in done.stderr
