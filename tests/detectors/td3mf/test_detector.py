"""2D3MF as a detector: trained by train.py, scored by eval.py, features from a folder or made on the way."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import BACKBONES
from test_features import silent, sounding

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.commands import evaluate, features, train
from visavox.config import Config, ConfigError
from visavox.detectors import build
from visavox.detectors.td3mf.clips import padded
from visavox.detectors.td3mf.detector import TD3MF
from visavox.detectors.td3mf.features import FeatureError
from visavox.weights import WeightsError

TINY = Path(__file__).parents[3] / "configs" / "td3mf_tiny.json"


def settings(*words: str) -> Config:
    return configuration.load(TINY, words)


def detector(*words: str) -> TD3MF:
    torch.manual_seed(0)
    built = build.build(settings(*words)).eval()
    assert isinstance(built, TD3MF)
    return built


def some(make_bundle: Callable[..., Bundle], count: int = 3) -> list[Bundle]:
    bundles = [sounding(make_bundle, 2 + seed, seed) for seed in range(count)]
    return [*bundles, sounding(make_bundle, 2, 9, **silent(bundles[0]))]


def test_scores_do_not_depend_on_order_or_batch(make_bundle: Callable[..., Bundle]) -> None:
    network, bundles = detector(), some(make_bundle)
    scores = network.score(bundles)
    assert scores.shape == (4,) and ((scores > 0) & (scores < 1)).all() and len(set(scores)) == 4
    assert np.allclose(network.score(bundles[::-1])[::-1], scores, atol=1e-6)
    assert np.allclose([network.score([bundle])[0] for bundle in bundles], scores, atol=1e-6)
    analysis = network.explain(bundles[0])
    assert analysis.probability == pytest.approx(scores[0], abs=1e-6) and analysis.card.detector == "td3mf"


def test_a_clip_without_sound_is_scored_by_its_face(make_bundle: Callable[..., Bundle]) -> None:
    network = detector()
    bundle = some(make_bundle)[-1]
    clip = network.prepare(bundle)
    assert not clip.heard.any() and clip.seen.sum() == 1
    louder = sounding(make_bundle, 2, 9, **silent(bundle), audio=np.full(32000, 9000, np.int16))
    assert network.score([louder])[0] == network.score([bundle])[0]


@pytest.mark.parametrize("name", ["lp_only", "audio_only"])
def test_probes(name: str, make_bundle: Callable[..., Bundle]) -> None:
    network = detector(f"detector.{name}=true")
    first, second = sounding(make_bundle, 2, 0), sounding(make_bundle, 2, 1)
    crossed = sounding(make_bundle, 2, 0, audio=second.audio)
    changed, kept = (second, first) if name == "audio_only" else (first, second)
    assert network.score([crossed])[0] == pytest.approx(network.score([changed])[0], abs=1e-6)
    assert network.score([crossed])[0] != pytest.approx(network.score([kept])[0], abs=1e-6)


def test_modality_dropout_is_for_training_only(make_bundle: Callable[..., Bundle]) -> None:
    network = detector("detector.modality_dropout=1", "detector.modality_dropout_by=mask")
    bundle = sounding(make_bundle, 2, 0)
    clips = [network.prepare(bundle, np.random.default_rng(seed)) for seed in range(12)]
    assert all(clip.seen.any() != clip.heard.any() for clip in clips)
    assert {bool(clip.seen.any()) for clip in clips} == {True, False}
    again = network.prepare(bundle, np.random.default_rng(3))
    assert torch.equal(again.seen, clips[3].seen)
    clip = network.prepare(bundle)
    assert clip.seen.any() and clip.heard.any()


def test_finetune_trains_the_encoder_on_frames(make_bundle: Callable[..., Bundle]) -> None:
    network = detector("detector.finetune=true", "detector.temporal_axis=7").train()
    clip = network.prepare(sounding(make_bundle, 2, 0), np.random.default_rng(0))
    assert clip.video.shape == (7, 16, 32, 32, 3) and clip.video.dtype == torch.uint8
    batch = type(clip)(*(torch.stack([x, x]) for x in clip))
    network(batch).sum().backward()
    assert network.net.model.patch_embedding.projection.weight.grad.abs().sum() > 0
    with pytest.raises(ConfigError, match="detector.finetune trains MARLIN"):
        settings("detector.finetune=true", "detector.video_backbone=efficientface_tiny")


def test_features_come_from_the_folder_and_are_kept_there(
    make_bundle: Callable[..., Bundle], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = sounding(make_bundle, 2, 0)
    expected = detector().score([bundle])
    network = detector(f"detector.features={tmp_path}")
    with caplog.at_level(logging.INFO):
        assert np.array_equal(network.score([bundle]), expected)
    assert f"the folder {tmp_path} lacks them" in caplog.text
    kept = tmp_path / f"{bundle.source_sha256}.npz"
    assert kept.is_file()

    other = detector(f"detector.features={tmp_path}")
    assert np.array_equal(other.score([bundle]), expected)
    assert other._features.extractor is None, "no backbone is loaded where the folder has what is asked for"
    with pytest.raises(FeatureError, match="steps 8, not 9"):
        detector(f"detector.features={tmp_path}", "detector.temporal_axis=9").score([bundle])
    with pytest.raises(FeatureError, match="video_backbone marlin_vit_tiny, not efficientface_tiny"):
        detector(f"detector.features={tmp_path}", "detector.video_backbone=efficientface_tiny").score([bundle])


def test_a_trained_network_refuses_features_of_other_weights(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle = sounding(make_bundle, 2, 0)
    trained = detector()
    trained.score([bundle])
    other = detector("detector.backbone_seed=1")
    other.load_state_dict(trained.state_dict())
    with pytest.raises(FeatureError, match="trained on features of other weights: video_sha256"):
        other.score([bundle])


def test_unknown_names_and_too_many_steps(make_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(ValueError, match="did you mean marlin_vit_tiny"):
        detector("detector.video_backbone=marlin_tiny")
    with pytest.raises(ConfigError, match="exclude each other"):
        settings("detector.lp_only=true", "detector.audio_only=true")
    assert settings('detector.fusion="LF"').detector.fusion == "lf"
    with pytest.raises(FeatureError, match="9 steps of features, at most 8"):
        padded(np.zeros((9, 2), np.float32), 8)


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A finished run on `data`, with features that the command made."""
    bundles, folder = data / "data/bundles", data / "features"
    words = [*BACKBONES]
    assert features.main([*words, "--config", str(TINY), "--input", str(bundles), "--output", str(folder)]) == 0
    words = ["--config", str(TINY), "--data-version", "split", "--code-version", "td3mf", f"root_path={data}"]
    words += [
        f"runs_path={data / 'runs'}",
        "device=cpu",
        "epoch=3",
        "train_batch_size=4",
        f"detector.features={folder}",
    ]
    assert train.main(words) == 0
    return data / "runs/td3mf"


def test_trained_and_scored_by_the_commands(run: Path, data: Path, tmp_path: Path) -> None:
    metrics = json.loads((run / "test.json").read_text())
    assert metrics["epochs"] == 3 and 0 <= metrics["test_auc"] <= 1
    with (run / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert len(losses) == 3
    output = tmp_path / "submission.csv"
    words = ["--input", str(data / "data/bundles"), "--output", str(output), "--checkpoint", str(run / "best.ckpt")]
    assert evaluate.main([*words, "--workers", "1", "device=cpu"]) == 0
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and len({row["probability"] for row in rows}) > 1


def test_the_seeds_one_liner(run: Path, talking: Path, data: Path) -> None:
    video = next(talking.rglob("*.mp4"))
    model = TD3MF.load_from_checkpoint(run / "best.ckpt")
    found = model.feature_extraction(video)
    assert found["fused"].shape == (1, 16 + 16)
    assert found["video"].shape == (1, 24) and found["audio"].ndim == 2 and found["audio"].shape[1] == 16
    assert model.device.type == TD3MF.load_from_checkpoint(run / "best.ckpt", map_location="cpu").device.type == "cpu"
    with pytest.raises(TypeError, match="not strict, fusion; settings are changed by `visavox.load"):
        TD3MF.load_from_checkpoint(run / "best.ckpt", strict=False, fusion="lf")
    probability = model.predict(video)
    bundle = Bundle.load(data / "data/bundles" / video.relative_to(talking).with_suffix(".npz"))
    assert probability == pytest.approx(model.score([bundle])[0], abs=1e-6)
    again = detector()
    again.start_from(torch.load(run / "best.ckpt", weights_only=True))
    assert torch.equal(again.net.classifier_1[0].weight, model.net.classifier_1[0].weight)


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(
        {"state_dict": {}, "hyper_parameters": {"config": configuration.load("tiny").model_dump(mode="json")}}, path
    )
    with pytest.raises(WeightsError, match="holds timesformer_syncnet, not td3mf"):
        TD3MF.load_from_checkpoint(path)
    torch.save({"state_dict": {"av1.attn.q.weight": torch.ones(1)}}, path)
    with pytest.raises(WeightsError, match="not a checkpoint of Visavox"):
        TD3MF.load_from_checkpoint(path)


def test_an_auc_for_each_corpus(data: Path, run: Path) -> None:
    rows = pd.read_csv(data / "data/split.csv")
    rows["corpus"] = ["one", "two"] * (len(rows) // 2)
    rows["split"] = ["train", "train", "val", "val", "test", "test"] * (len(rows) // 6)
    rows.sort_values("label").to_csv(data / "data/corpora.csv", index=False)
    words = [
        "--config",
        str(TINY),
        "--data-version",
        "corpora",
        "--code-version",
        "corpora",
        "--allow-leaks",
        "device=cpu",
    ]
    words += [f"root_path={data}", f"runs_path={data / 'runs'}", "epoch=1", f"detector.features={data / 'features'}"]
    assert train.main([*words, 'training_datasets=["one"]', 'eval_datasets=["two"]']) == 0
    metrics = json.loads((data / "runs/corpora/test.json").read_text())
    assert metrics["n_test"] == len(rows) // 2
    assert metrics["test_auc_by_corpus"] == {"two": pytest.approx(metrics["test_auc"])}
    assert metrics["test_auc_macro"] == metrics["test_auc_by_corpus"]["two"]
