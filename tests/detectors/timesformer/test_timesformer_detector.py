"""The latency network, and the detector of TimeSformer and SyncNet: build, load, scores."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from timesformer_values import CONFIG, batch, bundle, clips, fitted, seeded
from torch import nn

from visavox import config as configuration
from visavox.config import ConfigError
from visavox.detectors import build
from visavox.detectors.timesformer.clip import Clip
from visavox.detectors.timesformer.detector import LatencyNet
from visavox.weights import WeightsError, safe_load

# The latency network


def test_latency_inputs_are_standardised_by_the_training_split():
    network = LatencyNet().eval()
    network.layers = nn.Identity()
    vectors = 5 + 3 * seeded("vectors", (200, 33))
    vectors[:, 4] = 2.0  # a column that never varies
    network.fit(torch.cat([vectors, torch.full((50, 33), torch.nan)]))
    standard = network(vectors)
    torch.testing.assert_close(standard.mean(0), torch.zeros(33), atol=1e-5, rtol=0)
    expected = torch.ones(33)
    expected[4] = 0
    torch.testing.assert_close(standard.std(0, correction=0), expected, atol=1e-5, rtol=0)
    assert network.mean[4] == 2
    assert network.std[4] == 1


def test_missing_audio_counts_as_the_training_means():
    network = LatencyNet().eval()
    network.fit(seeded("vectors", (20, 33)))
    silent = torch.full((1, 33), torch.nan)
    assert torch.equal(network(silent), network(network.mean[None]))
    mixed = torch.cat([silent, seeded("one", (1, 33))])
    mixed.requires_grad_()
    network(mixed).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_a_split_without_any_audio_gives_finite_features():
    network = LatencyNet().eval()
    network.fit(torch.full((4, 33), torch.nan))
    assert network(torch.full((2, 33), torch.nan)).isfinite().all()


def test_unfitted_latency_network_refuses_to_evaluate():
    with pytest.raises(RuntimeError, match="call fit"):
        LatencyNet().eval()(torch.zeros(1, 33))
    assert LatencyNet().train()(torch.zeros(1, 33)).shape == (1, 8)


# The detector, build and load


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A checkpoint as Lightning writes it."""
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.connect(fitted())
    trainer.save_checkpoint(path)
    return path


def test_build_makes_the_network_of_the_config():
    detector = build.build(CONFIG)
    assert detector.timesformer.time_embed.shape == (1, 4, 16)  # 2 faces, 2 mel images
    assert detector.timesformer.pos_embed.shape == (1, 1 + 4, 16)
    assert detector.latency.mean.shape == (9,)  # 7 distances, latency, confidence
    assert detector.classifier[-1].weight.shape == (1, 16 + 8)
    faces_only = build.build(CONFIG.model_copy(update={"mel_frames": False}))
    assert faces_only.timesformer.time_embed.shape == (1, 2, 16)


def test_reference_sizes():
    with torch.device("meta"):
        detector = build.build(configuration.Config())
    assert detector.timesformer.time_embed.shape == (1, 32, 768)
    assert detector.latency.layers[0].in_features == 33
    assert detector.classifier[-1].in_features == 776


def test_logit_depends_on_every_input():
    detector = fitted()
    detector.requires_grad_(False)
    frames, latency = (value.requires_grad_() for value in batch())
    logits = detector(Clip(frames, latency))
    assert logits.shape == (2,)
    logits.sum().backward()
    assert (latency.grad != 0).all()
    assert (frames.grad.abs().sum((1, 3, 4)) > 0).all()


def test_every_parameter_of_the_detector_learns():
    torch.manual_seed(0)  # stochastic depth may not drop the same branch of both clips
    detector = fitted().train()
    detector(batch()).square().sum().backward()
    assert [name for name, value in detector.named_parameters() if not value.grad.abs().sum() > 0] == []


def test_scores_do_not_depend_on_the_batch():
    detector, bundles = fitted(), [bundle(number) for number in range(8)]
    together = detector.score(bundles)
    singles = np.concatenate([detector.score([each]) for each in bundles])
    np.testing.assert_allclose(together, singles, atol=1e-5)
    np.testing.assert_allclose(together[::-1], detector.score(bundles[::-1]), atol=1e-5)
    assert np.isfinite(together).all()  # the first has no audio


def test_start_from_takes_the_timesformer_of_another_detector(saved):
    detector = build.build(CONFIG)
    report = detector.start_from(safe_load(saved))
    expected = fitted().timesformer.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in detector.timesformer.state_dict().items())
    assert not detector.latency.fitted
    assert {name.split(".")[0] for name in report.dropped} == {"latency", "classifier"}


def test_load_gives_the_trained_detector(saved):
    original = fitted()
    original.load_state_dict(torch.load(saved, weights_only=True)["state_dict"])
    detector = build.load(saved, ["submit_batch_size=4", "frame_num=2", "detector.checkpoint_activations=true"])
    assert not detector.training
    assert detector.config.submit_batch_size == 4
    assert torch.equal(detector(batch()), original(batch()))
    assert detector.latency.fitted
    assert torch.equal(detector.latency.mean, original.latency.mean)


@pytest.mark.parametrize(
    ("override", "asked", "trained"),
    [
        ("frame_num=4", "frame_num=4", "frame_num=2"),
        ("mel_frames=false", "mel_frames=False", "mel_frames=True"),
        ("face_margin=0.2", "face_margin=0.2", "face_margin=0.4"),
        ("sync=syncnet", "sync='syncnet'", "sync='correlation'"),
        ("detector.num_layers=3", "detector.num_layers=3", "detector.num_layers=2"),
    ],
)
def test_a_conflicting_override_is_refused_with_both_values(saved, override, asked, trained):
    with pytest.raises(ConfigError) as error:
        build.load(saved, [override])
    assert asked in str(error.value)
    assert trained in str(error.value)


def test_an_unknown_override_is_refused(saved):
    with pytest.raises(ConfigError, match="did you mean frame_num"):
        build.load(saved, ["frame_nmu=2"])


def test_files_that_are_no_checkpoint_are_refused_with_a_cure(tmp_path):
    path = tmp_path / "model.ckpt"
    with pytest.raises(WeightsError, match=r"model\.ckpt: no such checkpoint; train\.py writes"):
        build.load(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        build.load(path)
    torch.save({"state_dict": {"a": torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match="it holds no config; .*--pret-version"):
        build.load(path)
    torch.save(torch.zeros(1), path)
    with pytest.raises(WeightsError, match="it holds no config"):
        build.load(path)
    config = CONFIG.model_dump(mode="json")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hyper_parameters": {"config": config}}, path)
    with pytest.raises(WeightsError, match="do not fit its own config"):
        build.load(path)


class Payload:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickled_payload_does_not_run(tmp_path):
    path, trace = tmp_path / "model.ckpt", tmp_path / "it_ran"
    torch.save({"state_dict": {}, "hyper_parameters": {"config": Payload(trace)}}, path)
    with pytest.raises(WeightsError, match="would run code"):
        build.load(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the payload was a live one


@pytest.mark.slow
def test_full_size_forward():
    detector = build.build(configuration.Config())
    vectors = seeded("latency", (4, 33))
    detector.latency.fit(vectors)
    with torch.inference_mode():
        logit = detector.eval()(Clip(clips(1, 32, 224), vectors[:1]))
    assert logit.shape == (1,)
    assert logit.isfinite().all()
