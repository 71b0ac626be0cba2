"""Files of features in place of bundles: trained on without opening a bundle, and scored by eval.py, good ones and bad."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import BACKBONES
from test_detector import TINY, detector

from visavox.bundle import Bundle
from visavox.commands import evaluate, features, train
from visavox.detectors.td3mf.detector import TD3MF
from visavox.detectors.td3mf.features import FeatureError, Features, is_features


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of the bundles of `data`."""
    output = tmp_path_factory.mktemp("features")
    words = [*BACKBONES, "--config", str(TINY), "--input", str(data / "data/bundles"), "--output", str(output)]
    assert features.main(words) == 0
    return output


def trained(data: Path, runs: Path, version: str, *more: str) -> int:
    words = ["--config", str(TINY), "--data-version", "split", "--code-version", version, f"root_path={data}"]
    return train.main([*words, f"runs_path={runs}", "device=cpu", "epoch=2", "train_batch_size=4", *more])


def losses(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(data: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`opened` read its bundles; `kept` found them unreadable beyond their stamps."""
    runs = tmp_path_factory.mktemp("runs")
    assert trained(data, runs, "opened") == 0

    def refuse(*_: Any, **__: Any) -> Bundle:
        raise AssertionError("a bundle was opened")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bundle, "load", refuse)
        assert trained(data, runs, "kept", f"detector.features={folder}", "detector.modality_dropout=0") == 0
    return runs


def test_a_training_on_features_opens_no_bundle_and_ends_the_same(runs: Path) -> None:
    assert losses(runs / "kept") == losses(runs / "opened")
    sums = [torch.load(runs / name / "best.ckpt", weights_only=True)["state_dict"] for name in ("kept", "opened")]
    assert sums[0]["backbone_sums"].any() and all(torch.equal(sums[0][name], sums[1][name]) for name in sums[0])


def test_what_it_was_trained_on_is_kept_whoever_loads_the_data(data: Path, tmp_path: Path) -> None:
    """Processes that load data have copies of the parameters; the one that trains has to know the sums by itself."""
    assert trained(data, tmp_path, "workers", "num_workers=2", "epoch=1") == 0
    state = torch.load(tmp_path / "workers/best.ckpt", weights_only=True)["state_dict"]
    assert state["backbone_sums"].any()


def test_nothing_is_begun_with_features_of_two_kinds(
    data: Path, folder: Path, make_bundle: Callable[..., Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    first = next(iter(sorted(folder.rglob("*.npz"))))
    (mixed / "a.npz").write_bytes(first.read_bytes())
    other = Features.load(first)
    stamp = type(other.stamp)(**vars(other.stamp) | {"audio_sha256": "0" * 64})
    Features(other.video, other.audio, stamp, other.source_sha256).save(mixed / "b.npz")
    assert trained(data, tmp_path / "runs", "mixed", f"detector.features={mixed}") == 2
    assert "mixes features of 2 kinds" in capsys.readouterr().err
    assert trained(data, tmp_path / "runs", "other", f"detector.features={folder}", "detector.temporal_axis=7") == 2
    assert "steps 8, not 7" in capsys.readouterr().err
    assert not (tmp_path / "runs/mixed").exists() and not (tmp_path / "runs/other").exists()


def test_weights_that_are_missing_are_said_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    more = ["detector.backbone_weights=published", "detector.audio_backbone=emotion2vec"]
    assert trained(data, tmp_path, "none", *more, "detector.video_backbone=efficientface") == 2
    said = capsys.readouterr().err
    assert "EfficientFace_Trained_on_AffectNet7" in said and str(tmp_path / "weights") in said
    assert not (tmp_path / "none").exists()


def scored(inputs: Path, output: Path, checkpoint: Path, *more: str) -> dict[str, dict[str, Any]]:
    words = ["--input", str(inputs), "--output", str(output), "--checkpoint", str(checkpoint), "--workers", "1"]
    assert evaluate.main([*words, "device=cpu", *more]) == 0
    with output.with_suffix(".details.jsonl").open() as file:
        rows = {row["filename"]: row for row in map(json.loads, file)}
    with output.open() as file:
        assert {row["filename"]: float(row["probability"]) for row in csv.DictReader(file)} == {
            name: pytest.approx(row["probability"], abs=1e-8) for name, row in rows.items()
        }
    return rows


def test_features_score_as_their_bundles_do(data: Path, folder: Path, runs: Path, tmp_path: Path) -> None:
    checkpoint = runs / "kept/best.ckpt"
    of_features = scored(folder, tmp_path / "features.csv", checkpoint)
    of_bundles = scored(data / "data/bundles", tmp_path / "bundles.csv", checkpoint)
    assert len(of_features) == 12 and of_features.keys() == of_bundles.keys()
    for name, row in of_features.items():
        assert row["status"] == "ok" and row["probability"] == pytest.approx(of_bundles[name]["probability"], abs=1e-6)
    assert len({row["probability"] for row in of_features.values()}) > 1


def test_bad_features_cost_their_own_row(
    folder: Path, runs: Path, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    whole = next(iter(sorted(folder.rglob("*.npz"))))
    good, inputs = Features.load(whole), tmp_path / "in"
    inputs.mkdir()
    (inputs / "good.npz").write_bytes(whole.read_bytes())
    (inputs / "truncated.npz").write_bytes(whole.read_bytes()[:-200])

    def write(name: str, video: np.ndarray = good.video, audio: np.ndarray = good.audio, **stamp: Any) -> None:
        stamped = vars(good.stamp) | stamp
        np.savez(
            inputs / f"{name}.npz",
            video=video,
            audio=audio,
            stamp=json.dumps(stamped),
            source_sha256=good.source_sha256,
        )

    write("nan", np.full_like(good.video, np.nan))
    write("backbone", video_backbone="efficientface_tiny")
    write("weights", audio_sha256="0" * 64)
    write("settings", prep_hash="0" * 16)
    write("steps", steps=4)
    write("long", np.tile(good.video, (9, 1)))
    write("wide", good.video.repeat(2, axis=1))
    write("heard", audio=np.tile(good.audio, (65, 1)))
    write("silent", audio=good.audio[:0])
    rows = scored(inputs, tmp_path / "out.csv", runs / "kept/best.ckpt")
    reasons = {
        "truncated": "remove it and extract it again",
        "nan": "video is not finite",
        "backbone": "video_backbone efficientface_tiny, not marlin_vit_tiny",
        "weights": "audio_sha256 000000000000..., not",
        "settings": "prep_hash 0000000000000000, not",
        "steps": "steps 4, not 8",
        "long": "video has 9 steps, expected 1 to 8",
        "wide": "video is (1, 48), expected steps of (24,)",
        "heard": "steps of features, at most 64 were expected",
    }
    for name, reason in reasons.items():
        row = rows[f"{name}.npz"]
        assert row["status"] == "failed" and row["probability"] == 0.5 and reason in row["reason"], row
        assert row["code"] in ("BAD_FEATURES", "OTHER_SETTINGS")
    assert rows["good.npz"]["status"] == "ok" and rows["silent.npz"]["status"] == "no_audio"
    assert rows["good.npz"]["probability"] != rows["silent.npz"]["probability"] != 0.5


def test_features_are_refused_where_frames_or_another_detector_are_meant(
    folder: Path, run: Path, tmp_path: Path
) -> None:
    rows = scored(folder, tmp_path / "other.csv", run / "best.ckpt")
    assert len(rows) == 12
    for row in rows.values():
        assert row["status"] == "failed" and "features for td3mf, and the checkpoint is of timesformer" in row["reason"]
    tuned = detector("detector.finetune=true")
    with pytest.raises(FeatureError, match="give the video or its bundle"):
        tuned.score([Features.load(next(folder.rglob("*.npz")))])


def test_the_seeds_one_liner_reads_features_too(folder: Path, runs: Path, data: Path) -> None:
    model = TD3MF.load_from_checkpoint(runs / "kept/best.ckpt")
    path = next(iter(sorted(folder.rglob("*.npz"))))
    bundle = data / "data/bundles" / path.relative_to(folder)
    of_features, of_bundle = model.feature_extraction(path), model.feature_extraction(bundle)
    assert of_features.keys() == {"video", "audio", "fused"} and of_features["fused"].shape == (1, 16 + 16)
    for name, value in of_features.items():
        assert np.allclose(value, of_bundle[name], atol=1e-6)
    assert model.predict(path) == pytest.approx(model.predict(bundle), abs=1e-6)


def test_what_is_a_file_of_features(folder: Path, data: Path, tmp_path: Path) -> None:
    assert all(is_features(path) for path in folder.rglob("*.npz"))
    assert not any(is_features(path) for path in (data / "data/bundles").rglob("*.npz"))
    (tmp_path / "empty.npz").touch()
    assert not is_features(tmp_path / "empty.npz") and not is_features(tmp_path / "none.npz")
