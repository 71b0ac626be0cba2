"""Training on real clips alone: what is dropped, two stages in one command, resuming, what a run leaves."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.commands import evaluate as evaluation
from visavox.commands import train
from visavox.config import Config
from visavox.detectors import build
from visavox.detectors.anomaly import __main__ as command
from visavox.splits.table import SplitError
from visavox.training.data_module import BundleDataModule, EpochSampler
from visavox.weights import WeightsError, safe_load

CONFIG = Path(__file__).parents[3] / "configs" / "anomaly_tiny.json"
SMALL = ["detector.vis_size=16", "detector.window_stride=8", "detector.sync_epochs=2", "epoch=2", "device=cpu"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(data: Path) -> Path:
    """The root of `data` with reals.csv: three real clips to train on, two to validate; with_fakes.csv has fakes as well."""
    rows = pd.read_csv(data / "data/split.csv")
    real, fake = (rows[rows["label"] == label].reset_index(drop=True) for label in (0, 1))
    real["split"] = ["train"] * 3 + ["val"] * 2 + ["test"]
    fake["split"] = ["test"] * len(fake)
    pd.concat([real, fake]).to_csv(data / "data/reals.csv", index=False)
    fake["split"] = ["train", "train", "val", "val", "test", "test"]
    pd.concat([real, fake]).to_csv(data / "data/with_fakes.csv", index=False)
    return data


def settings(root: Path, *words: str) -> Config:
    return configuration.load(CONFIG, [*SMALL, f"root_path={root}", f"runs_path={root / 'runs'}", *words])


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    """A finished run of two epochs of both stages on reals.csv."""
    words = ["--config", str(CONFIG), "--data-version", "reals", "--code-version", "anomaly"]
    assert train.main([*words, *SMALL, f"root_path={root}", f"runs_path={root / 'runs'}"]) == 0
    return root / "runs/anomaly"


# Data


def data_module(root: Path, version: str, *words: str) -> BundleDataModule:
    return BundleDataModule(settings(root, *words), root / f"data/{version}.csv", lambda bundle, rng: 0)


def test_fakes_are_dropped_from_training_and_from_nothing_else(root: Path):
    data = data_module(root, "with_fakes")
    assert data.labels("train") == [0, 0, 0]
    assert sorted(data.labels("val")) == [0, 0, 1, 1] and sorted(data.labels("test")) == [0, 1, 1]
    assert sorted(data_module(root, "with_fakes", "train_on=all").labels("train")) == [0, 0, 0, 1, 1]


def test_a_split_without_fakes_is_refused_unless_it_is_meant(root: Path):
    assert data_module(root, "reals").labels("val") == [0, 0]
    with pytest.raises(SplitError, match="the train split holds real clips only"):
        data_module(root, "reals", "train_on=all").labels("train")
    rows = pd.read_csv(root / "data/reals.csv")
    rows[(rows["split"] != "val") | (rows["label"] == 1)].to_csv(root / "data/no_val.csv", index=False)
    with pytest.raises(SplitError, match="no real clips with split=val; train_on=real needs them"):
        data_module(root, "no_val").labels("val")


def test_each_class_is_capped_by_seed(root: Path):
    def names(seed: int) -> list[str]:
        words = ("train_on=all", "max_videos_per_class=2", f"seed={seed}")
        split = data_module(root, "with_fakes", *words).split("train")
        assert sorted(split.labels) == [0, 0, 1, 1]
        return split.paths

    assert names(0) == names(0)
    assert len({tuple(names(seed)) for seed in range(8)}) > 1
    assert len(data_module(root, "with_fakes", "max_videos_per_class=2").split("train")) == 2


def test_one_class_is_drawn_whole_whatever_balance_says():
    for balance in (True, False):
        sampler = EpochSampler(np.zeros(7), seed=0, balance=balance)
        first = [position for position, _ in sampler]
        sampler.set_epoch(1)
        assert sorted(first) == list(range(7)) and first != [position for position, _ in sampler]


# A run


def test_one_command_runs_both_stages_and_leaves_what_is_listed(run: Path):
    for name in ("best.ckpt", "training_curves.png", "evaluation_results.png", "detailed_results.csv", "test.json"):
        assert (run / name).stat().st_size > 100, name
    assert (run / "sync/best.ckpt").is_file()
    stages = {stage: pd.read_csv(run / f"logs/{stage}.csv") for stage in ("sync", "density")}
    assert all(len(history) == 2 for history in stages.values())
    assert {"train/loss", "val/loss", "val/accuracy"} <= set(stages["sync"])
    assert {"train/nll", "val/nll"} <= set(stages["density"]) and "val/auc" not in stages["density"]
    metrics = json.loads((run / "test.json").read_text())
    assert metrics["best_val_nll"] == pytest.approx(stages["density"]["val/nll"].min())
    assert not list(run.glob("*.part"))


def test_results_are_those_of_the_detector(run: Path, root: Path):
    results = pd.read_csv(run / "detailed_results.csv")
    assert list(results) == [
        *("filename", "split", "category", "label", "score"),
        *("log_probability", "probability", "frames", "seconds"),
    ]
    rows = pd.read_csv(root / "data/reals.csv")
    assert sorted(results["filename"]) == sorted(rows.loc[rows["split"] != "train", "filename"])
    assert (results["category"] == "real").equals(results["label"] == 0)
    detector = build.load(run / "best.ckpt")
    paths = dict(zip(rows["filename"], rows["filepath"]))
    bundles = [Bundle.load(root / paths[name]) for name in results["filename"]]
    assert detector.score(bundles) == pytest.approx(results["probability"], abs=1e-4)
    assert [len(detector.step_scores(bundle).times) for bundle in bundles] == list(results["frames"])
    assert np.allclose(results["log_probability"], -results["score"])


def test_the_threshold_is_that_of_real_validation_clips(run: Path):
    results = pd.read_csv(run / "detailed_results.csv")
    real = results.loc[(results["split"] == "val") & (results["label"] == 0), "score"]
    detector = build.load(run / "best.ckpt")
    assert float(detector.threshold) == pytest.approx(np.quantile(real, 0.95), rel=1e-3)
    assert float(detector.real_mean) == pytest.approx(real.mean(), rel=1e-3)


def test_the_second_stage_leaves_the_streams_as_the_first_stage_left_them(run: Path):
    first, second = (safe_load(run / name)["state_dict"] for name in ("sync/best.ckpt", "best.ckpt"))
    streams = [name for name in second if name.startswith("streams.")]
    assert any("running_mean" in name for name in streams)
    assert all(torch.equal(first[name], second[name]) for name in streams)
    assert not torch.equal(first["decoder.embed.weight"], second["decoder.embed.weight"])


def test_the_first_stages_checkpoint_does_not_judge(run: Path, root: Path):
    bundle = Bundle.load(next((root / "data/bundles").rglob("*.npz")))
    with pytest.raises(RuntimeError, match="no threshold yet"):
        build.load(run / "sync/best.ckpt").score([bundle])


def test_the_submission_and_the_command_take_its_checkpoint(run: Path, root: Path, tmp_path: Path, capsys):
    bundles = root / "data/bundles/real"
    words = ["--input", str(bundles), "--output", str(tmp_path / "s.csv"), "--checkpoint", str(run / "best.ckpt")]
    assert evaluation.main([*words, "--workers", "1"]) == 0
    with (tmp_path / "s.csv").open() as file:
        scores = [float(row["probability"]) for row in csv.DictReader(file)]
    assert len(scores) == 6 and all(0 <= p <= 1 for p in scores)
    capsys.readouterr()
    one = next(bundles.rglob("*.npz"))
    assert command.main(["locate", "--checkpoint", str(run / "best.ckpt"), str(one)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + Bundle.load(one).track_frames
    assert command.main(["locate", "--checkpoint", str(one), str(one)]) == 2


@pytest.mark.parametrize(
    ("stage", "epoch"),
    [
        pytest.param("sync", 1, marks=pytest.mark.slow),
        ("density", 0),
        pytest.param("density", 1, marks=pytest.mark.slow),
    ],
)
def test_what_was_killed_in_either_stage_ends_as_the_undisturbed_run(stage, epoch, run: Path, root: Path, monkeypatch):
    """Killed after an epoch of the first stage, between the stages, and after an epoch of the second."""
    from visavox.detectors.anomaly.detector import AnomalyDetector

    class Killed(Exception):
        pass

    def stop(detector):
        if (detector.stage, detector.current_epoch) == (stage, epoch):
            raise Killed

    how = {"data_version": "reals", "code_version": f"{stage}{epoch}"}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(AnomalyDetector, "on_train_epoch_start", stop)
        train.train(settings(root), **how)
    assert not (root / "runs" / how["code_version"] / "test.json").exists()
    train.train(settings(root), **how, resume=True)
    resumed = safe_load(root / "runs" / how["code_version"] / "best.ckpt")["state_dict"]
    whole = safe_load(run / "best.ckpt")["state_dict"]
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_fakes_in_validation_choose_by_auc(root: Path):
    metrics = train.train(
        settings(root, "epoch=1", "detector.sync_epochs=1", "submit_batch_size=1"),
        data_version="with_fakes",
        code_version="auc",
    )
    assert 0 <= metrics["best_val_auc"] <= 1 and metrics["test_auc"] is not None


def test_an_earlier_run_is_where_training_can_start(run: Path, root: Path):
    fresh = build.build(settings(root))
    assert fresh.start_from(safe_load(run / "best.ckpt")) == "an earlier run"
    state = safe_load(run / "best.ckpt")["state_dict"]
    assert torch.equal(fresh.decoder.embed.weight, state["decoder.embed.weight"]) and not fresh.fitted
    with pytest.raises(WeightsError, match="detector.vis_weights"):
        build.build(settings(root, "detector.decoder_d_model=64")).start_from(safe_load(run / "best.ckpt"))


def test_the_reference_system_has_one_stage(root: Path):
    reference = build.build(configuration.load(TINY[1]))
    assert reference.stages == ("",) and reference.monitor([0, 1]) == ("val/auc", "max")


@pytest.mark.slow
def test_three_steps_of_both_stages_at_full_size(make_bundle):
    """configs/anomaly.json on bundles of 224 pixels and 2 s, batch 2; random weights, said so."""
    import cv2
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader

    from visavox.training.batch import Example

    torch.manual_seed(0)
    words = ["detector.vis_weights=none", "detector.aud_weights=none", "train_batch_size=2"]
    config = configuration.load(CONFIG.with_name("anomaly.json"), words)
    detector = build.build(config)
    rng = np.random.default_rng(0)

    def bundle(seed: int) -> Bundle:
        images = rng.integers(0, 256, (50, 28, 28, 3), np.uint8)
        jpegs = [cv2.imencode(".jpg", cv2.resize(image, (224, 224)))[1] for image in images]
        face = np.float32([[84, 90], [140, 90], [112, 120], [90, 150], [134, 150]])
        return make_bundle(
            seed,
            config,
            boxes=np.tile(np.float32([0, 0, 224, 224]), (50, 1)),
            landmarks=np.tile(face, (50, 1, 1)),
            det_score=np.ones(50, np.float32),
            times=(np.arange(50) / 25).astype(np.float32),
            audio=rng.integers(-3000, 3000, 32000, np.int16),
            track=np.concatenate(jpegs),
            track_offsets=np.cumsum([0, *map(len, jpegs)]),
        )

    bundles = [bundle(seed) for seed in range(2)]
    examples = [
        Example(detector.prepare(one, np.random.default_rng(i)), torch.tensor(0.0)) for i, one in enumerate(bundles * 3)
    ]
    for stage in detector.stages:
        before = {name: value.clone() for name, value in detector.named_parameters()}
        detector.begin(stage)
        trainer = pl.Trainer(
            max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        trainer.fit(detector, DataLoader(examples, batch_size=2))
        assert trainer.global_step == 3 and all(torch.isfinite(p).all() for p in detector.parameters())
        changed = {
            name.split(".")[0] for name, value in detector.named_parameters() if not torch.equal(value, before[name])
        }
        assert changed == {"streams" if stage == "sync" else "decoder"}
    assert detector.step_scores(bundles[0]).scores.shape == (50,)
