"""The search of settings: a grid, ranges, killed and continued."""

import csv
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from visavox import config as configuration
from visavox.commands import search as command
from visavox.commands import search_table, train
from visavox.config import Config, ConfigError

optuna = pytest.importorskip("optuna")
GRID = {"lr": [1e-3, 2e-3], "detector.num_heads": [1, 2], "detector.fusion": ["mf", "lf"]}


def table(study: Path) -> list[dict[str, str]]:
    with (study / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def pretended(config: Config, *, code_version: str, **_: Any) -> dict[str, Any]:
    """In place of a training: a moment, a line for each begin, an AUC that follows from the settings."""
    folder = Path(config.runs_path, code_version)
    folder.mkdir(parents=True, exist_ok=True)
    with (Path(config.runs_path) / "begun.txt").open("a") as file:
        file.write(f"{code_version}\n")
    (folder / "config.json").touch()
    time.sleep(0.05)
    metrics = {"best_val_auc": round(0.5 + 100 * config.lr + 0.01 * config.seed % 0.1, 6)}
    (folder / "test.json").write_text(json.dumps(metrics))
    return metrics


def search(folder: Path, space: dict[str, Any] = GRID, **more: Any) -> list[dict[str, Any]]:
    return command.search(configuration.load("td3mf_tiny"), space, data_version="none", study_folder=folder, **more)


def test_a_grid_of_real_trainings(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = tmp_path / "space.json"
    space.write_text(json.dumps(GRID))
    words = [
        "--config",
        "td3mf_tiny",
        "--space",
        str(space),
        "--data-version",
        "split",
        "--study",
        str(tmp_path / "study"),
    ]
    words += [f"root_path={data}", "device=cpu", "epoch=1", "detector.audio_backbone=resnet_tiny"]
    words += [f"detector.features={tmp_path / 'features'}", "--allow-leaks"]
    assert command.main(words) == 0
    rows = table(tmp_path / "study")
    assert len({row["settings"] for row in rows}) == len(rows) == 8
    assert [float(row["auc"]) for row in rows] == sorted((float(row["auc"]) for row in rows), reverse=True)
    assert len(list((tmp_path / "study").glob("*/seed100/best.ckpt"))) == 8
    assert "8 choices" in capsys.readouterr().out and (tmp_path / "study/search.png").stat().st_size > 1000


def test_seeds_are_averaged_with_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", pretended)
    rows = search(tmp_path, {"lr": [1e-3, 2e-3]}, average_over=3)
    assert [row["seeds"] for row in rows] == [3, 3] and rows[0]["settings"] == "lr=0.002"
    assert rows[0]["low"] < rows[0]["auc"] < rows[0]["high"]
    assert search_table.half_width([0.6, 0.7, 0.8]) == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    assert search_table.half_width([0.6, 0.8] * 6) == pytest.approx(2.201 * 0.1 / 11**0.5, rel=1e-3)
    begun = (tmp_path / "begun.txt").read_text().split()
    assert len(begun) == len(set(begun)) == 6
    assert search(tmp_path, {"lr": [1e-3, 2e-3]}, average_over=3) == rows, "a finished search does nothing"
    assert (tmp_path / "begun.txt").read_text().split() == begun


def test_ranges_are_drawn_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", pretended)
    space = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "train_batch_size": {"low": 2, "high": 8}}
    rows = search(tmp_path, space, trials=6)
    assert len(rows) == 6 and len({row["settings"] for row in rows}) == 6
    with pytest.raises(ConfigError, match="--trials says how many"):
        search(tmp_path / "other", space)
    with pytest.raises(ConfigError, match="holds a search of other settings"):
        search(tmp_path, GRID)


def _run(folder: Path) -> None:
    train.train = pretended
    search(folder)


def test_killed_three_times_it_ends_with_the_same_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, rng = multiprocessing.get_context("fork"), random.Random(5)
    for _ in range(3):
        process = context.Process(target=_run, args=(tmp_path,))
        process.start()
        time.sleep(0.3 + 0.5 * rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    several = [context.Process(target=_run, args=(tmp_path,)) for _ in range(2)]
    for process in several:
        process.start()
    for process in several:
        process.join()
        assert process.exitcode == 0
    monkeypatch.setattr(train, "train", pretended)
    rows = search(tmp_path)
    assert len({row["settings"] for row in rows}) == len(rows) == 8
    assert {row["state"] for row in rows} == {"complete"}
    begun = (tmp_path / "begun.txt").read_text().split()
    assert len(set(begun)) == 8 and len(begun) <= 8 + 3, "only what was killed is begun again"


def test_what_is_wrong_with_a_space(tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    for text, says in (
        ('{"lr": 1}', "lr is 1, expected a list"),
        ("[]", "expected an object"),
        ("{", "no readable space"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=says):
            command.read_space(path)
    assert command.read_space(Path(__file__).parents[2] / "configs/search/td3mf.json").keys() >= {
        "lr",
        "detector.fusion",
    }


def test_a_choice_that_gives_no_detector_is_a_row_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three heads divide neither 16 nor the sound's width; a rate of 0 is refused by the configuration itself."""
    monkeypatch.setattr(train, "train", pretended)
    space, study = tmp_path / "space.json", tmp_path / "study"
    space.write_text(json.dumps({"detector.num_heads": [3, 2], "lr": [1e-3, 0]}))
    words = ["--config", "td3mf_tiny", "--space", str(space), "--data-version", "none", "--study", str(study)]
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "4 choices, 3 of them refused" in said and said.count("val/auc") == 1
    good, *refused = rows = table(study)
    assert (good["state"], good["settings"], good["reason"]) == ("complete", "detector.num_heads=2 lr=0.001", "")
    assert [row["state"] for row in refused] == ["refused"] * 3 and {row["auc"] for row in refused} == {""}
    why = {row["settings"]: row["reason"] for row in refused}
    assert (
        "num_heads=3 does not divide hidden_layers=16; take a divisor of both" in why["detector.num_heads=3 lr=0.001"]
    )
    assert "lr" in why["detector.num_heads=2 lr=0"] and "greater than 0" in why["detector.num_heads=2 lr=0"]
    assert command.main(words) == 0 and table(study) == rows, "what was refused is not tried again"
    assert len((study / "begun.txt").read_text().split()) == 1


def test_where_every_choice_is_refused_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", pretended)
    with pytest.raises(ConfigError, match="no choice of this space gives a detector; .*num_head=1: .*num_heads"):
        search(tmp_path / "misspelt", {"detector.num_head": [1, 2]})
    drawn = {"detector.hidden_layers": {"low": 17, "high": 17}}
    with pytest.raises(ConfigError, match="num_heads=2 does not divide hidden_layers=17"):
        search(tmp_path / "drawn", drawn, trials=3)
    assert len(table(tmp_path / "drawn")) == 1, "three times the same"


def test_what_is_below_the_median_is_given_up_after_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[float, int] = {}

    def by_epoch(config: Config, *, code_version: str, watch: Any, **more: Any) -> dict[str, Any]:
        for epoch in range(20):
            seen[config.lr] = epoch + 1
            watch(epoch, 0.5 + config.lr * (1 - 0.5**epoch))
        return pretended(config, code_version=code_version, **more)

    monkeypatch.setattr(train, "train", by_epoch)
    space = {"lr": [0.1, 0.2, 0.3, 0.4, 0.01, 0.45]}
    rows = {row["settings"]: row for row in search(tmp_path / "a", space)}
    assert [rows[f"lr={lr}"]["state"] for lr in space["lr"]] == ["complete"] * 4 + ["pruned", "complete"]
    assert seen[0.01] == command.GRACE + 1 and all(seen[lr] == 20 for lr in space["lr"] if lr != 0.01)
    assert rows["lr=0.01"]["auc"] == pytest.approx(0.51, abs=1e-3)
    rows = {row["settings"]: row for row in search(tmp_path / "b", space, prune=False)}
    assert {row["state"] for row in rows.values()} == {"complete"} and seen[0.01] == 20


def test_a_training_without_fakes_to_choose_by_cannot_be_searched() -> None:
    assert command._value({"best_val_auc": 0.7}) == 0.7 and command._value({"best_val_macro_f1": 0.4}) == 0.4
    with pytest.raises(ConfigError, match="gives best_val_nll; put fakes into the val split"):
        command._value({"best_val_nll": 3.0, "best_checkpoint": "a"})


def test_a_real_training_is_given_up_and_leaves_what_it_reached(data: Path, tmp_path: Path) -> None:
    """The watch ends a training in its second epoch; the first one's checkpoint is there, and the run can be resumed."""
    words = [f"root_path={data}", f"runs_path={tmp_path}", "device=cpu", "epoch=3", "detector.audio_backbone=MFCC"]
    config = configuration.load("td3mf_tiny", words)
    values = []

    def watch(epoch: int, value: float) -> None:
        values.append(value)
        if epoch == 1:
            raise optuna.TrialPruned

    run = {"data_version": "split", "code_version": "a", "allow_leaks": True}
    with pytest.raises(optuna.TrialPruned):
        train.train(config, **run, watch=watch)
    assert len(values) == 2 and all(0 <= value <= 1 for value in values)
    assert (tmp_path / "a/checkpoints/last.ckpt").is_file() and not (tmp_path / "a/test.json").exists()
    assert train.train(config, **run, resume=True)["epochs"] == 3
