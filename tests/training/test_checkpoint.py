"""Checkpoints: one reader and one writer, and those of before still load."""

from pathlib import Path

import pytest
import torch
from conftest import command

from visavox.detectors import build
from visavox.training import checkpoint
from visavox.weights import WeightsError


def test_what_is_written_is_read_again(tiny_config, tmp_path: Path):
    detector = build.build(tiny_config)
    checkpoint.write(tmp_path / "a.ckpt", tiny_config, detector.state_dict(), {"trained_on": "nothing"})
    found = checkpoint.read(tmp_path / "a.ckpt")
    assert found.config == tiny_config and found.about == {"trained_on": "nothing"}
    assert all(torch.equal(value, found.state[name]) for name, value in detector.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_checkpoints_of_before_load_without_what_they_do_not_say(tiny_config, tmp_path: Path):
    """Neither `about` nor a setting that came later is in them."""
    values = tiny_config.model_dump(mode="json")
    del values["score_precision"]
    state = build.build(tiny_config).state_dict()
    torch.save({"hyper_parameters": {"config": values}, "state_dict": state, "epoch": 3}, tmp_path / "old.ckpt")
    assert checkpoint.read(tmp_path / "old.ckpt").about == {}
    assert build.load(tmp_path / "old.ckpt").card.trained_on == ""


def test_a_write_that_fails_leaves_the_old_file(tiny_config, tmp_path: Path, monkeypatch):
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"old")

    def fail(content, beside):
        Path(beside).write_bytes(b"half")
        raise RuntimeError("killed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="killed"):
        checkpoint.write(path, tiny_config, {}, {})
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_what_was_trained_on_drawn_clips_says_so(data: Path, run: Path):
    """By the column `corpus` of the split; of checkpoints of before, by the words of `trained_on`."""
    from visavox.commands import train

    assert not build.load(run / "best.ckpt").card.synthetic  # a split without the column
    rows = (data / "data/split.csv").read_text().splitlines()
    for name, last in (("drawn", "synthetic"), ("mixed", "lavdf")):
        cells = ["corpus", *["synthetic"] * (len(rows) - 1)]
        train_rows = [n for n, row in enumerate(rows) if ",train," in row]
        cells[train_rows[-1]] = last
        text = "\n".join(f"{row},{cell}" for row, cell in zip(rows, cells))
        (data / f"data/{name}.csv").write_text(text + "\n")
        words = command(data, f"by_{name}", "epoch=1")
        words[words.index("split")] = name
        assert train.main(words) == 0
        assert build.load(data / f"runs/by_{name}/best.ckpt").card.synthetic == (name == "drawn")
    assert checkpoint.is_synthetic({"trained_on": "24 synthetic clips"})
    assert not checkpoint.is_synthetic({"trained_on": "synthetic_voices, 24 clips", "synthetic": "no"})


def test_a_run_says_what_it_was_trained_on(run: Path):
    about = checkpoint.read(run / "best.ckpt").about
    assert about["trained_on"].startswith("split, ") and "real and" in about["trained_on"]
    assert build.load(run / "best.ckpt").card.trained_on == about["trained_on"]


def test_our_own_checkpoints_have_a_direction_that_cannot_be_denied(run: Path):
    assert "state_dict" in checkpoint.starting(run / "best.ckpt", 1)
    with pytest.raises(WeightsError, match="class 1 means fake, not 0"):
        checkpoint.starting(run / "best.ckpt", 0)
