"""Probes beside the fusion: which are trained, on which features, and the table."""

import csv
from pathlib import Path

import pytest

from visavox import config as configuration
from visavox.commands import probes
from visavox.config import ConfigError


def test_which_rows_there_are() -> None:
    full = configuration.load("td3mf", ["detector.features=kept", "detector.finetune=true"])
    found = probes.variants(full, Path("runs/probes"))
    assert list(found) == ["video", "audio", "random_video", "random_audio", "fusion"]
    of = {name: config.detector for name, config in found.items()}
    assert {name: of[name].features for name in of} == {
        name: "kept-random" if name.startswith("random") else "kept" for name in of
    }
    assert [name for name in of if of[name].lp_only] == ["video", "random_video"]
    assert [name for name in of if of[name].audio_only] == ["audio", "random_audio"]
    assert [name for name in of if of[name].finetune] == ["fusion"], "a probe is on frozen features"
    assert of["fusion"] == full.detector
    mfcc = configuration.load("td3mf", ["detector.audio_backbone=MFCC"])
    assert "random_audio" not in probes.variants(mfcc, Path("runs/probes"))
    with pytest.raises(ConfigError, match="probes are of 2D3MF"):
        probes.variants(configuration.load("tiny"), Path("runs/probes"))


def test_the_table(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "td3mf_tiny", "--data-version", "split", "--allow-leaks", f"root_path={data}", "device=cpu"]
    words += [f"runs_path={tmp_path}", "epoch=2", "train_batch_size=4", "detector.audio_backbone=MFCC"]
    assert probes.main(words) == 0
    said = capsys.readouterr().out
    with (tmp_path / "probes/probes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["video", "audio", "fusion"]
    for row in rows:
        assert f"{row['name']:14} AUC {float(row['auc']):.3f}" in said
        assert float(row["low"]) <= float(row["auc"]) <= float(row["high"])
    assert len(list((tmp_path / "probes/features").glob("*.npz"))) == 12, "all rows read the same features"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("best.ckpt")}
    assert len(before) == 3 and probes.main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing is trained again"
