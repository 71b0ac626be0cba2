"""Trainings and evaluations on splits that lack something, resumed with something else, moved: the same numbers, or refused."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from conftest import command

from tests.cases.cases import Case, held_by
from visavox.commands import evaluate as evaluation
from visavox.commands import train


def edited(data: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> list[str]:
    """Words to train on a changed split."""
    change(pd.read_csv(data / "data/split.csv")).to_csv(data / f"data/{name}.csv", index=False)
    words = command(data, name)
    return ["--data-version", name, *words[2:]]


def without(split: str, label: int | None = None, keep: int = 0) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        gone = (rows["split"] == split) & ((rows["label"] == label) if label is not None else True)
        return rows.drop(rows.index[gone][keep:])

    return change


@held_by(
    Case("R3", "no test split", "test_auc is null and says why", (without("test"), 0, "test split is empty")),
    Case("R3", "a test split of one class", "test_auc is null and says why", (without("test", 1), 0, "one class only")),
    Case("R3", "a validation split of one class", "refused before training", (without("val", 1), 2, "val")),
    Case("R3", "a validation split of three clips", "trained", (lambda rows: three(rows), 0, "")),
)
def test_splits_that_lack_something(case: Case, data: Path, run: Path, capsys):
    change, code, said = case.given
    name = f"split-{abs(hash(case.title))}"
    words = edited(data, name, change)
    assert train.main([*words, "epoch=1"]) == code
    out, err = capsys.readouterr()
    assert said in (out if code == 0 else err)
    if code:
        assert not (data / "runs" / name).exists()


def three(rows: pd.DataFrame) -> pd.DataFrame:
    """Three clips of validation, of both classes."""
    val = rows[rows["split"] == "val"]
    kept = [*val.index[val["label"] == 1][:1], *val.index[val["label"] == 0][:2]]
    return rows.drop(val.index.difference(kept))


@held_by(Case("R3", "the loss is no number", "stopped with the step named; no checkpoint holds it"))
def test_a_loss_that_is_no_number(case: Case, data: Path, run: Path, capsys, monkeypatch):
    from visavox.detectors.base import Detector

    step = Detector.training_step
    calls = 0

    def broken(self, batch, index):
        nonlocal calls
        calls += 1
        loss = step(self, batch, index)
        return loss * math.nan if calls == 3 else loss

    monkeypatch.setattr(Detector, "training_step", broken)
    assert train.main(command(data, "broken", "train_batch_size=1", "num_workers=0")) == 2
    assert "the loss of step 3 (epoch 0) is no finite number" in capsys.readouterr().err
    assert not list((data / "runs/broken").rglob("*.ckpt"))


@held_by(
    Case("R3", "resumed with another learning rate", "refused with both values", ["lr=0.5"]),
    Case("R3", "resumed with more epochs", "refused with both values", ["epoch=5"]),
    Case("R3", "resumed with fewer epochs", "refused with both values", ["epoch=2"]),
    Case("R3", "resumed with another seed", "refused with both values", ["seed=1"]),
)
def test_resumed_with_something_else(case: Case, data: Path, run: Path, capsys):
    before = (run / "best.ckpt").read_bytes()
    assert train.main(command(data, "first", "--resume", *case.given)) == 2
    name, value = case.given[0].split("=")
    said = capsys.readouterr().err
    assert f"{name}: " in said and f"{value} now" in said
    assert (run / "best.ckpt").read_bytes() == before


def of_another_run(last: Path) -> None:
    content = torch.load(last, weights_only=True)
    content["hyper_parameters"]["config"]["seed"] = 7
    torch.save(content, last)


def damaged(last: Path) -> None:
    last.write_bytes(last.read_bytes()[:1000])


@held_by(
    Case(
        "R3",
        "resumed from another run's checkpoint",
        "refused with both values",
        (of_another_run, [], "last.ckpt is of another run; .*: seed: 7 there, 100 now"),
    ),
    Case(
        "R3",
        "resumed from a damaged checkpoint",
        "refused with its name",
        (damaged, [], "last.ckpt: checkpoint is damaged"),
    ),
    Case(
        "R3",
        "resumed with other weights to start from",
        "refused with both values",
        (None, ["--pret-version", "runs/other/best.ckpt"], "--pret-version: none then, runs/other/best.ckpt now"),
    ),
    Case(
        "R3",
        "resumed on another split",
        "refused with both values",
        (None, ["split2"], "--data-version: split then, split2 now"),
    ),
)
def test_resumed_from_another_checkpoint(case: Case, data: Path, run: Path, tmp_path: Path, capsys):
    change, more, said = case.given
    shutil.copytree(run, tmp_path / "first")
    shutil.copy(data / "data/split.csv", data / "data/split2.csv")
    words = [*command(data, "first", "--resume"), f"runs_path={tmp_path}"]
    words = [word for word in words if word != f"runs_path={data / 'runs'}"]
    (tmp_path / "first/config.json").write_text(
        (run / "config.json").read_text().replace(str(data / "runs"), str(tmp_path))
    )
    last = tmp_path / "first/checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    content["hyper_parameters"]["config"]["runs_path"] = str(tmp_path)
    torch.save(content, last)
    if change:
        change(last)
    elif more == ["split2"]:
        words[words.index("split")] = "split2"
    else:
        words += more
    before = last.read_bytes()
    assert train.main(words) == 2
    assert re.search(f"(?s){said}", capsys.readouterr().err)
    assert last.read_bytes() == before


@held_by(Case("R3", "workers 0 and 2", "the same weights, bit for bit"))
def test_the_number_of_workers_changes_nothing(case: Case, data: Path, run: Path):
    assert train.main(command(data, "two-workers", "num_workers=2")) == 0
    one, two = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (run, data / "runs/two-workers")
    )
    assert json.loads((run / "config.json").read_text())["num_workers"] == 0
    assert all(torch.equal(one[name], two[name]) for name in one)


@held_by(Case("R3", "bundles moved to another root", "trained from there, as root_path says"))
def test_bundles_that_were_moved(case: Case, data: Path, run: Path, tmp_path: Path):
    shutil.copytree(data / "data", tmp_path / "elsewhere/data")
    words = [*command(data, "moved"), f"root_path={tmp_path / 'elsewhere'}", f"runs_path={tmp_path / 'runs'}"]
    assert train.main([word for word in words if word != f"root_path={data}"]) == 0
    assert (tmp_path / "runs/moved/metrics.csv").read_text() == (run / "metrics.csv").read_text()


@held_by(
    Case("R4", "eval on an empty folder", "exit code 2: holds no video", ("empty", 2, "holds no video")),
    Case("R4", "eval on a file that is not there", "exit code 2: no such file", ("gone", 2, "no such file or folder")),
    Case("R4", "eval on one file", "one row", ("one", 0, "1 files: 1 scored")),
    Case(
        "R4",
        "eval without a label for some",
        "AUC over the others, said",
        ("some", 0, "without a label"),
    ),
)
def test_eval_on_little(case: Case, data: Path, run: Path, tmp_path: Path, capsys):
    kind, code, said = case.given
    bundles = sorted((data / "data/bundles").rglob("*.npz"))
    (tmp_path / "in").mkdir()
    source, more = tmp_path / "in", []
    if kind == "gone":
        source = tmp_path / "nowhere"
    elif kind == "one":
        source = bundles[0]
    elif kind == "some":
        for i, path in enumerate((bundles[0], bundles[-1], bundles[1])):
            shutil.copy(path, source / f"{i}.npz")
        (tmp_path / "labels.csv").write_text("filename,label\n0.npz,0\n1.npz,1\n")
        more = ["--labels", str(tmp_path / "labels.csv")]
    words = ["-input", str(source), "-output", str(tmp_path / "s.csv"), "--checkpoint", str(run / "best.ckpt"), *more]
    assert evaluation.main(words) == code
    assert said in "".join(capsys.readouterr())
    assert (tmp_path / "s.csv").exists() == (code == 0)


@held_by(Case("R3", "a training that had stopped early is resumed", "no epoch is added, the same weights"))
def test_resumed_after_it_had_stopped_early(case: Case, data: Path):
    """As one that is killed after its last epoch, before it has ended."""
    words = command(data, "early", "epoch=40", "patience=3")
    last = data / "runs/early/checkpoints/last.ckpt"
    found = []
    for more in ([], ["--resume"]):
        assert train.main([*words, *more]) == 0
        found.append(torch.load(last, weights_only=True))
    one, two = found
    assert one["epoch"] == two["epoch"] < 39
    assert all(torch.equal(a, b) for a, b in zip(one["state_dict"].values(), two["state_dict"].values(), strict=True))
