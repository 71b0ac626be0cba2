"""`eval --robustness` and `perturb`: cells with intervals, bundles made once, a killed run goes on, effects written down."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from visavox import config as configuration
from visavox import media
from visavox.bundle import Bundle
from visavox.commands import evaluate, perturb, robustness
from visavox.detectors.build import ready
from visavox.files import find_inputs
from visavox.media import confined
from visavox.preprocessing import tools
from visavox.robustness import perturbing
from visavox.robustness.measure import Effect
from visavox.robustness.perturbing import Recipe
from visavox.synthetic.dataset import make_dataset
from visavox.workers import pool

ROOT = Path(__file__).parents[2]
GRID = ["--kinds", "contrast,white_noise", "--levels", "1,5"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic videos of two people, two of them fake, and labels.csv beside them."""
    root = tmp_path_factory.mktemp("videos")
    make_dataset(root / "clips", identities=2, clips_per_identity=2, seed=5, seconds=(1.6, 1.8), workers=1)
    names = sorted(path.relative_to(root / "clips").as_posix() for path in (root / "clips").rglob("*.mp4"))
    rows = [f"{name},{int(name.startswith('fake'))},{Path(name).parts[1]}" for name in names]
    (root / "labels.csv").write_text("\n".join(["filename,label,identity", *rows]) + "\n")
    tiny = configuration.load("tiny").model_dump(mode="json") | {"detector": {"name": "zeroshot"}}
    (root / "mine.json").write_text(json.dumps(tiny))
    return root


def words(videos: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--input", str(videos / "clips"), "--output", str(output / "s.csv"), "--detector", str(videos / "mine.json")),
        *("--labels", str(videos / "labels.csv"), "--workers", "1", "--robustness", str(output / "grid"), *GRID, *more),
    ]


@pytest.fixture(scope="module")
def finished(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    assert evaluate.main(words(videos, output)) == 0
    return output / "grid"


def cells(grid: Path) -> list[dict]:
    return json.loads((grid / "robustness.json").read_text())["cells"]


def test_every_cell_has_its_number_and_its_bundles(finished: Path, videos: Path):
    found = cells(finished)
    assert [(cell["kind"], cell["level"]) for cell in found] == [
        *[("clean", 0), ("contrast", 1), ("contrast", 5), ("white_noise", 1), ("white_noise", 5)]
    ]
    for cell in found:
        assert cell["clips"] == 4 and 0 <= cell["low"] <= cell["auc"] <= cell["high"] <= 1
    drops = [(found[0]["auc"] - cell["auc"]) / found[0]["auc"] for cell in found[1:]]
    assert json.loads((finished / "robustness.json").read_text())["mean_relative_drop"] == pytest.approx(np.mean(drops))
    name = next(path for path in (finished / "bundles/contrast-5").rglob("*.npz"))
    dark, mild = Bundle.load(name), Bundle.load(Path(str(name).replace("contrast-5", "contrast-1")))
    assert dark.faces.mean() < 0.6 * mild.faces.mean() and "perturbed: contrast, level 5 (0.35" in dark.notes
    assert np.array_equal(dark.audio, mild.audio)  # the sound was left alone
    page = (finished / "robustness.html").read_text()
    assert page.count("<figure>") == 2 and "http" not in page.split("<main")[1]


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(finished: Path, videos: Path, tmp_path: Path):
    command = [sys.executable, "-m", "visavox", "eval", *words(videos, tmp_path)]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    first, deadline = tmp_path / "grid/contrast-1.csv", time.monotonic() + 240
    while not first.is_file() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert first.is_file() and not (tmp_path / "grid/robustness.json").exists()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "grid/bundles").rglob("*.npz")}
    scored = first.stat().st_mtime_ns
    clean = [json.loads(line)["seconds"] for line in (tmp_path / "s.details.jsonl").read_text().splitlines()]
    assert len(made) >= 4
    assert evaluate.main(words(videos, tmp_path)) == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in made.items()) and first.stat().st_mtime_ns == scored
    again = [json.loads(line)["seconds"] for line in (tmp_path / "s.details.jsonl").read_text().splitlines()]
    assert again == clean  # the clips as they are were not scored again
    assert cells(tmp_path / "grid") == cells(finished)
    for path in (finished / "bundles").rglob("*.npz"):
        other = tmp_path / "grid/bundles" / path.relative_to(finished / "bundles")
        assert other.read_bytes() == path.read_bytes(), path.name


def test_what_failed_is_tried_again_and_nothing_else(
    finished: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As crop does: a video that timed out, in the clips as they are and in one cell; also after a rerun that was stopped."""
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    before = {}
    for details in (tmp_path / "s.details.jsonl", tmp_path / "grid/contrast-5.details.jsonl"):
        rows = [json.loads(line) for line in details.read_text().splitlines()]
        rows[1] |= {"probability": 0.5, "status": "failed", "code": "TIMED_OUT", "reason": "too long", "seconds": {}}
        details.write_text("".join(json.dumps(row) + "\n" for row in rows))
        before[details] = rows
    scores = (tmp_path / "grid/contrast-5.csv").read_text().splitlines()
    (tmp_path / "grid/contrast-5.csv").write_text(
        "\n".join([*scores[:2], scores[2].split(",")[0] + ",0.5", *scores[3:]])
    )
    other = (tmp_path / "grid/white_noise-1.csv").stat().st_mtime_ns

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(robustness, "write_submission", stop)
        assert evaluate.main(words(videos, tmp_path)) == 130
    assert evaluate.main(words(videos, tmp_path)) == 0
    for details, rows in before.items():
        again = [json.loads(line) for line in details.read_text().splitlines()]
        assert again[1]["status"] == "ok" and again[1]["seconds"]
        assert [row for i, row in enumerate(again) if i != 1] == [row for i, row in enumerate(rows) if i != 1]
    assert (tmp_path / "grid/white_noise-1.csv").stat().st_mtime_ns == other
    assert cells(tmp_path / "grid") == cells(finished)
    assert (tmp_path / "grid/contrast-5.csv").read_text() == (finished / "contrast-5.csv").read_text()


@pytest.mark.parametrize("held", [perturbing.HELD_BYTES, 0])
def test_what_is_shared_between_perturbations_changes_no_bit(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
):
    monkeypatch.setattr(perturbing, "HELD_BYTES", held)
    opened, open_video = [], confined.open_video
    monkeypatch.setattr(confined, "open_video", lambda *a, **how: opened.append(a) or open_video(*a, **how))
    preprocess = tools.build(configuration.load("tiny"), 1)
    path = next((videos / "clips/real").rglob("*.mp4"))
    recipes = [Recipe(kind, level) for kind in ("blur", "gain", "compression", "late") for level in (1, 4)]
    bundles = {}
    for recipe, bundle, _ in perturbing.Perturbing(preprocess, path.parent, lambda r: tmp_path / r.note)(path, recipes):
        assert not isinstance(bundle, Exception), bundle
        bundles[recipe] = bundle
    assert len(opened) == (1 if held else 5)  # faces are followed once for the four that leave the picture alone
    for recipe in recipes:
        opener = partial(perturbing.open_perturbed, recipe=recipe, name=path.name)
        alone = replace(preprocess, opener=opener)(path)
        alone.save(tmp_path / "alone.npz")
        assert (tmp_path / "alone.npz").read_bytes() == (tmp_path / recipe.note / f"{path.name}.npz").read_bytes()
        assert np.array_equal(alone.track, bundles[recipe].track)


def test_one_level_that_ends_its_process_takes_no_other_with_it(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fatal = Recipe("contrast", 3)

    def run(tasks, start, work, **how):
        state = start()
        for task in tasks:
            yield task, pool.Died("ended") if fatal in task.recipes else work(state, task)

    monkeypatch.setattr(pool, "run", run)
    inputs = find_inputs(videos / "clips")
    scorer = ready(str(videos / "mine.json"))
    how = {"root": videos / "clips", "timeout": None, "workers": 1}
    recipes = [Recipe("contrast", level) for level in (3, 4)]
    found = dict(robustness._prepared(dict.fromkeys(recipes, inputs), scorer, tmp_path, **how))
    assert {one.reason for one in found[fatal].values()} == {"ended"}
    assert {one.status for one in found[recipes[1]].values()} == {"ok"} and len(found[recipes[1]]) == 4


def test_what_cannot_be_perturbed_is_refused(finished: Path, videos: Path, tmp_path: Path, capsys):
    bundles = str(finished / "bundles/contrast-1")
    given = ["--input", bundles, "--output", str(tmp_path / "s.csv"), "--detector", str(videos / "mine.json")]
    more = ["--labels", str(videos / "labels.csv"), "--robustness", str(tmp_path / "grid")]
    assert evaluate.main([*given, *more]) == 2
    assert "inputs are bundles" in capsys.readouterr().err
    assert evaluate.main([*words(videos, tmp_path), "--kinds", "blurr"]) == 2
    assert "no kind of perturbation" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main([*given, "--robustness", str(tmp_path / "grid")])


def test_videos_of_one_name_and_two_endings_have_one_perturbed_video_each(videos: Path, tmp_path: Path):
    clips = sorted(videos.rglob("*.mp4"))
    (tmp_path / "in").mkdir()
    for name, clip in zip(("a.mp4", "a.mov", "b.mp4"), clips):
        (tmp_path / "in" / name).symlink_to(clip)
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--kinds", "gain", "--levels", "3"]
    assert perturb.main([*words, "--seconds", "0.2"]) == 0
    made = sorted((tmp_path / "out/gain-3").iterdir())
    assert [path.name for path in made] == ["a.mov.mp4", "a.mp4.mp4", "b.mp4"]
    assert len({path.read_bytes() for path in made}) == 3


def test_perturbed_videos_are_written_with_their_effects(videos: Path, tmp_path: Path, capsys):
    one = next((videos / "clips/real").rglob("*.mp4"))
    chosen = ["--kinds", "pixelation,gain", "--levels", "1,5"]
    assert perturb.main(["--input", str(one), "--output", str(tmp_path), *chosen]) == 0
    with (tmp_path / "effects.csv").open() as file:
        rows = {(row["kind"], row["level"]): row for row in csv.DictReader(file)}
    assert len(rows) == 4
    assert float(rows["pixelation", "1"]["psnr_db"]) > float(rows["pixelation", "5"]["psnr_db"]) > 5
    assert rows["gain", "5"]["psnr_db"] == "inf" and float(rows["gain", "5"]["mel_distance_db"]) > 5
    with media.open_video(tmp_path / "gain-5" / one.with_suffix(".mp4").name) as quiet, media.open_video(one) as loud:
        levels = []
        for video in (quiet, loud):
            assert len(list(video.frames())) >= 40
            levels.append(np.abs(video.audio().astype(float)).mean())
    assert levels[0] < 0.03 * levels[1]
    alone = tmp_path / "alone"
    assert perturb.main(["--input", str(one), "--output", str(alone), *chosen, "--effects"]) == 0
    assert (alone / "effects.csv").read_text() == (tmp_path / "effects.csv").read_text()
    assert [path.name for path in alone.rglob("*.*") if path.is_file()] == ["effects.csv"]
    assert perturb._cells(Effect(np.inf, np.nan, 3.14159, -12345)) == ["inf", "", "3.142", "-12345"]
    assert perturb.main(["--list"]) == 0
    assert "frames that the sound is late" in capsys.readouterr().out
