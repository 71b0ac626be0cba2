"""Training on real clips alone: fakes are made on the way, in pairs, others in each epoch, the same after a resume."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.commands import train
from visavox.corpora.__main__ import main as corpora
from visavox.pseudofakes.make import kind_of
from visavox.training.data_module import BundleDataModule
from visavox.training.made import MadeDataset, PairSampler

pytestmark = pytest.mark.usefixtures("one_thread")
CHECKOUT = Path(__file__).parents[2]
MADE = ["train_on=real", 'fakes=["sbv","offset:0.5"]', "fake_seconds=1.0", "train_batch_size=4", "device=cpu"]


@pytest.fixture(scope="module")
def reals(data: Path, tmp_path_factory) -> Path:
    """A root_path of real clips alone, five people (the real ones of `data`, each under a name of its own)."""
    root = tmp_path_factory.mktemp("reals")
    found = sorted((data / "data/bundles/real").rglob("*.npz"))
    for index in range(5):
        bundle = Bundle.load(found[index % len(found)])
        place = root / f"data/bundles/real/p{index}/clip.npz"
        place.parent.mkdir(parents=True)
        replace(bundle, source_sha256=f"{index:064x}").save(place)
    split = root / "data/split.csv"
    words = ["--root", str(root / "data/bundles"), "--output", str(split), "--val", "0.2", "--test", "0.2"]
    assert corpora(["folder", *words]) == 0
    return root


@pytest.fixture(scope="module")
def config(reals: Path):
    return configuration.load(CHECKOUT / "configs/tiny.json", [*MADE, f"root_path={reals}"])


def module_of(config, reals: Path) -> BundleDataModule:
    return BundleDataModule(config, reals / "data/split.csv", lambda bundle, rng: bundle)


def test_a_folder_of_real_clips_is_a_split_and_says_what_it_is_for(reals, capsys):
    rows = pd.read_csv(reals / "data/split.csv")
    assert (rows["label"] == 0).all() and set(rows["split"]) == {"train", "val", "test"}
    words = ["folder", "--root", str(reals / "data/bundles"), "--output", str(reals / "again.csv")]
    assert corpora(words) == 0
    assert "real clips alone: train with train_on=real, and fakes=[sbv,offset,...]" in capsys.readouterr().out


def test_pairs_stand_side_by_side_and_epochs_differ():
    sampler = PairSampler(5, 3, seed=1)
    first = list(sampler)
    assert len(first) == len(sampler) == 15
    for start in range(0, 15, 3):
        (a, s), (b, t), (c, u) = first[start : start + 3]
        assert (b, c) == (a + 1, a + 2) and a % 3 == 0 and s == t == u
    sampler.set_epoch(1)
    second = list(sampler)
    assert {seed for _, seed in first}.isdisjoint({seed for _, seed in second})
    sampler.set_epoch(0)
    assert list(sampler) == first
    turns = [list(PairSampler(5, 3, seed=1, rank=rank, world=2)) for rank in (0, 1)]
    assert len(turns[0]) == len(turns[1]) == 9
    assert {p for p, _ in turns[0]} | {p for p, _ in turns[1]} == set(range(15))


def test_a_real_clip_and_its_fake_show_the_same_stretch_and_differ(config, reals):
    made = module_of(config, reals).split("train")
    assert isinstance(made, MadeDataset) and made.labels.tolist() == [0, 1] * (len(made) // 2)
    for seed in (1, 2, 3):
        real, fake = made[0, seed], made[1, seed]
        assert (float(real.label), float(fake.label)) == (0.0, 1.0)
        assert np.array_equal(real.clip.times, fake.clip.times) and 21 <= real.clip.track_frames <= 25
        assert not np.array_equal(real.clip.track, fake.clip.track) or not np.array_equal(
            real.clip.sound, fake.clip.sound
        )
    assert np.array_equal(made[1, 5].clip.track, made[1, 5].clip.track)
    assert made[1, 5].clip.source_sha256 != made[1, 6].clip.source_sha256


def test_a_stage_that_sees_or_hears_alone_learns_what_is_forged_of_it(config, reals):
    """Of a forged picture the voice is genuine; in a clip that is out of step both are."""
    data = module_of(config, reals)
    taught = {}
    for data.target in ("label", "video_label", "audio_label"):
        items = [data.split("train")[position, seed] for position in (0, 1) for seed in range(1, 9)]
        kinds = [kind_of(item.clip) for item in items]
        taught[data.target] = [float(item.label) for item in items]
    assert kinds[:8] == [""] * 8 and set(kinds[8:]) == {"sbv", "offset"}
    assert taught["label"] == [0.0] * 8 + [1.0] * 8
    assert taught["video_label"] == [float(kind == "sbv") for kind in kinds] and not any(taught["audio_label"])


def test_a_clip_that_no_kind_changes_stays_real_and_is_said(config, reals, tmp_path, caplog):
    made = module_of(config.model_copy(update={"fakes": ["splice_sound"]}), reals).split("train")
    bundle = Bundle.load(made.paths[0])
    made.paths[0] = str(tmp_path / "flat.npz")
    replace(bundle, audio=np.ones_like(bundle.audio)).save(made.paths[0])
    for which in ((0, 7), (1, 7)), (0, 1):
        real, beside = (made[each] for each in which)
        assert float(real.label) == float(beside.label) == 0.0 and np.array_equal(real.clip.track, beside.clip.track)
    assert caplog.text.count("none of splice_sound changes it; it stays real") == 1
    assert float(made[3, 7].label) == 1.0


def test_validation_has_the_same_fakes_in_every_epoch(config, reals):
    data = module_of(config, reals)
    val = data.split("val")
    assert data.makes_fakes("val") and data.labels("val") == [0, 1] * (len(val) // 2)
    assert list(data.judged("val")["label"]) == data.labels("val")
    a, b = (data.split("val")[1].clip for _ in range(2))
    assert np.array_equal(a.track, b.track) and np.array_equal(a.sound, b.sound)


def test_a_split_with_fakes_of_its_own_keeps_them(data, config):
    mine = BundleDataModule(
        config.model_copy(update={"root_path": str(data)}), data / "data/split.csv", None, allow_leaks=True
    )
    assert mine.makes_fakes("train") and set(mine.labels("train")) == {0, 1}
    assert not mine.makes_fakes("val") and len(mine.judged("val")) == len(mine.split("val"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train_on=all"], "set train_on=real"),
        (["train_batch_size=3"], "train_batch_size=3 is no multiple of 1 \\+ fakes_per_real=2"),
        (['fakes=["sbw"]'], "did you mean sbv"),
        (["store_track=false"], "set store_track=true"),
    ],
)
def test_settings_that_make_no_fakes_say_so(words, said):
    with pytest.raises(configuration.ConfigError, match=said):
        configuration.load(CHECKOUT / "configs/tiny.json", [*MADE, *words])


def test_detectors_that_learn_from_no_fakes_refuse_them():
    with pytest.raises(configuration.ConfigError, match="detector.name=anomaly learns from no fakes"):
        configuration.load(CHECKOUT / "configs/anomaly_tiny.json", MADE)


@pytest.mark.parametrize("name", ["tiny", "xception_video_tiny", "xception_audio_tiny", "td3mf_tiny"])
def test_detectors_train_on_real_clips_alone(name, reals):
    config = configuration.load(
        CHECKOUT / f"configs/{name}.json",
        [*MADE, f"root_path={reals}", f"runs_path={reals / 'runs'}", "epoch=1", 'fakes=["sbv","splice_sound"]'],
    )
    metrics = train.train(config, data_version="split", code_version=name)
    assert metrics["made_fakes"] == {"splits": ["val", "test"], "kinds": ["sbv", "splice_sound"]}
    assert metrics["n_test"] == 2 and 0 <= metrics["test_auc"] <= 1


@pytest.mark.parametrize("auxiliary", ["false", "true"])
def test_a_resumed_run_ends_with_the_same_weights(reals, auxiliary):
    def go(version: str, epochs: int, resume: bool = False):
        config = configuration.load(
            CHECKOUT / "configs/tiny.json",
            [
                *MADE,
                f"root_path={reals}",
                f"runs_path={reals / 'runs'}",
                f"epoch={epochs}",
                "warmup_epochs=0",
                "num_workers=0",
                f"detector.auxiliary={auxiliary}",
            ],
        )
        version = f"{version}-{auxiliary}"
        if resume:  # as if it had been killed after its first epoch
            run = reals / "runs" / version / "config.json"
            run.write_text(json.dumps(config.model_dump(mode="json")))
        return train.train(config, data_version="split", code_version=version, resume=resume)

    go("whole", 2)
    from unittest.mock import patch

    from visavox.training.callbacks import History

    plain = History.on_train_epoch_end

    def stop(self, trainer, module):
        plain(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with patch.object(History, "on_train_epoch_end", stop), pytest.raises((KeyboardInterrupt, SystemExit)):
        go("killed", 2)
    go("killed", 2, resume=True)
    a, b = (
        torch.load(reals / "runs" / f"{v}-{auxiliary}" / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for v in ("whole", "killed")
    )
    assert all(torch.equal(a[name], b[name]) for name in a)
