"""Bundles to clips to batches: the right frames, one augmentation per clip, and an order that only the seed decides."""

import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from visavox import config as configuration
from visavox.bundle import Bundle, BundleError
from visavox.detectors.timesformer.clip import choose, clip_from_bundle
from visavox.features.audio import mel_images
from visavox.logs import say_once
from visavox.splits.table import SplitError, read_split
from visavox.training import augment
from visavox.training.data_module import BundleDataModule, EpochSampler
from visavox.training.dataset import BundleDataset, check_bundles


def changed(config, **values):
    return config.model_copy(update=values)


@pytest.fixture(scope="module")
def csv_path(tmp_path_factory, make_bundle) -> Path:
    """A split of 18 bundles: train 6 real and 3 fake, val 3 and 2, test 2 and 2."""
    root = tmp_path_factory.mktemp("split")
    counts = {"train": (6, 3), "val": (3, 2), "test": (2, 2)}
    lines = ["filename,filepath,split,label"]
    for split, (real, fake) in counts.items():
        for label in [0] * real + [1] * fake:
            name = f"{len(lines)}.npz"
            make_bundle(seed=len(lines)).save(root / name)
            lines.append(f"{name},{name},{split},{label}")
    (root / "split.csv").write_text("\n".join(lines) + "\n")
    return root / "split.csv"


@pytest.fixture
def config(tiny_config, csv_path):
    return changed(tiny_config, root_path=str(csv_path.parent), train_batch_size=2, submit_batch_size=2, device="cpu")


@pytest.fixture
def module(config, csv_path):
    """module(**changes of the configuration): the data module with the reference system's clips."""

    def make(**changes):
        mine = changed(config, **changes)
        return BundleDataModule(mine, csv_path, lambda bundle, rng: clip_from_bundle(bundle, mine, rng))

    return make


# Clips


def test_a_clip_holds_faces_then_mel_images(make_bundle, tiny_config):
    bundle = make_bundle()
    clip = clip_from_bundle(bundle, tiny_config)
    assert clip.frames.shape == (3, 8, 64, 64) and clip.frames.dtype == torch.float32
    for i, k in enumerate([1, 3, 5, 7]):  # 8 faces kept, 4 wanted
        np.testing.assert_allclose(clip.frames[:, i], bundle.faces[k].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(clip.frames[:, 4:], mel_images(bundle.mel_3cs, 4, 64))
    np.testing.assert_array_equal(clip.latency, [*bundle.mdist, bundle.latency, bundle.conf])
    assert clip.latency.dtype == torch.float32


def test_without_mel_frames_a_clip_holds_faces_only(make_bundle, tiny_config):
    both = clip_from_bundle(make_bundle(), tiny_config).frames
    faces = clip_from_bundle(make_bundle(), changed(tiny_config, mel_frames=False)).frames
    assert torch.equal(faces, both[:, :4])


def test_a_clip_without_sound_says_so(make_bundle, tiny_config):
    nan = np.float32("nan")
    silent = make_bundle(status="no_audio", mdist=np.full(31, nan), latency=nan, conf=nan)
    assert clip_from_bundle(silent, tiny_config).latency.isnan().all()


@pytest.mark.parametrize(("kept", "wanted"), [(32, 16), (16, 16), (17, 16), (31, 16), (8, 1)])
def test_faces_are_chosen_one_from_each_stratum(kept, wanted):
    strata = [np.arange(i * kept // wanted, (i + 1) * kept // wanted) for i in range(wanted)]
    rng = np.random.default_rng(0)
    drawn = np.array([choose(kept, wanted, rng) for _ in range(300)])
    for i, stratum in enumerate(strata):
        assert choose(kept, wanted, None)[i] in stratum
        assert set(drawn[:, i]) == set(stratum)


def test_faces_of_another_size_are_resized_and_enlarging_is_said_once(make_bundle, tiny_config, caplog):
    say_once.cache_clear()
    large = np.full((8, 128, 128, 3), 255, np.uint8)
    large[:, ::2] = 0  # rows of black and white, whose mean is grey
    with caplog.at_level(logging.WARNING):
        clip = clip_from_bundle(make_bundle(faces=large), tiny_config)
        assert not caplog.records
        assert clip.frames[:, :4].abs().max() < 0.01
        for _ in range(3):
            clip = clip_from_bundle(make_bundle(faces=large[:, :32, :32]), tiny_config)
    assert clip.frames.shape == (3, 8, 64, 64)
    assert [record.message for record in caplog.records] == ["faces of 32 pixels are enlarged to frame_size=64"]


def test_a_bundle_that_does_not_fit_says_what_to_do(make_bundle, tiny_config):
    with pytest.raises(
        BundleError, match=r"faces is \(8, 64, 64, 3\), frame_num is 16; crop again with bundle_faces=16"
    ):
        clip_from_bundle(make_bundle(), changed(tiny_config, frame_num=16))
    with pytest.raises(BundleError, match=r"mdist is \(31,\), vshift is 10; set vshift=15, or crop again"):
        clip_from_bundle(make_bundle(), changed(tiny_config, vshift=10))


def test_randomness_is_that_of_the_generator(make_bundle, tiny_config):
    config = tiny_config.model_copy(update={"augment": True})

    def clip(seed):
        return clip_from_bundle(make_bundle(), config, np.random.default_rng(seed)).frames

    clips = [clip(seed) for seed in range(8)]
    assert all(torch.equal(clips[seed], clip(seed)) for seed in reversed(range(8)))
    assert len({a.numpy().tobytes() for a in clips}) == 8
    assert all(torch.equal(a[:, 4:], clips[0][:, 4:]) for a in clips), "mel images are never augmented"
    plain = clip_from_bundle(make_bundle(), tiny_config).frames
    assert torch.equal(plain, clip_from_bundle(make_bundle(), tiny_config).frames)


# Augmentation


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A smooth coloured picture with an edge, (64, 64, 3) uint8."""
    y, x = np.mgrid[:64, :64]
    picture = np.stack([4 * x, 4 * y, 255 - 2 * (x + y)], axis=-1).astype(np.uint8)
    picture[20:40, 20:40] //= 2
    return picture


def test_all_frames_of_a_clip_get_the_same_draw(face):
    clip = np.tile(face, (6, 1, 1, 1))
    drawn = [augment.augment_faces(clip, np.random.default_rng(seed)) for seed in range(60)]
    assert all((frames == frames[0]).all() for frames in drawn)
    assert all(frames.dtype == np.uint8 and frames.shape == clip.shape for frames in drawn)
    assert sum((frames != clip).any() for frames in drawn) > 50


def test_every_augmentation_treats_the_frames_alike(face):
    clip = np.tile(face, (4, 1, 1, 1))
    import albumentations as A

    for transform in augment.face_augmentation().transforms:
        alone = A.Compose([transform], seed=1)
        chance, transform.p = transform.p, 1
        frames = alone(images=clip)["images"]
        transform.p = chance
        assert (frames == frames[0]).all() and (frames != clip).any(), type(transform).__name__


def test_augmentations_are_drawn_independently_of_each_other(face, monkeypatch):
    """One seed for all transforms would make their first draws equal: flips would come with noise, always."""
    composed, applied = augment.face_augmentation(), []
    call = type(composed).__call__

    def keep(self, **data):
        result = call(self, **data)
        names = [name for name, _ in result["applied_transforms"]]
        applied.append([name in names for name in ("HorizontalFlip", "ImageCompression", "GaussNoise")])
        return result

    monkeypatch.setattr(composed, "save_applied_params", True)
    monkeypatch.setattr(type(composed), "__call__", keep)
    for seed in range(300):
        augment.augment_faces(face[None], np.random.default_rng(seed))
    correlation = np.corrcoef(np.array(applied).T)
    assert abs(correlation[np.triu_indices(3, 1)]).max() < 0.2
    np.testing.assert_allclose(np.mean(applied, axis=0), [0.5, 0.4, 0.2], atol=0.1)


def test_an_edge_stays_visible(face):
    """What a blending boundary needs: the strongest draws keep at least a third of an edge's contrast."""
    clip = face[None]
    inside, outside = (slice(28, 32), slice(28, 32)), (slice(28, 32), slice(12, 16))
    for seed in range(100):
        frame = augment.augment_faces(clip, np.random.default_rng(seed))[0].astype(float)
        steps = [abs(frame[inside].mean() - view[outside].mean()) for view in (frame, frame[:, ::-1])]
        assert max(steps) > 20


# Data set and sampler


def test_items_are_asked_for_by_position_or_position_and_seed(module):
    data = module().split("train")
    assert len(data) == 9
    plain, first, again, other = data[3], data[3, 5], data[3, 5], data[3, 6]
    assert plain.label == 0 and data[8].label == 1 and plain.label.dtype == torch.float32
    assert torch.equal(plain.clip.latency, torch.from_numpy(Bundle.load(data.paths[3]).latency_vector))
    assert torch.equal(first.clip.frames, again.clip.frames)
    assert not torch.equal(first.clip.frames, other.clip.frames)
    assert not torch.equal(first.clip.frames, plain.clip.frames)


def test_bundles_come_without_what_the_reference_system_never_reads(module):
    bundles = list(module().bundles("test"))
    assert len(bundles) == 4 and all(bundle.track is None for bundle in bundles)
    assert module().labels("test") == [0, 0, 1, 1]


def test_a_fault_of_preparation_names_the_file(csv_path, config):
    rows = read_split(csv_path, config.root_path)
    many = changed(config, frame_num=16)
    data = BundleDataset(rows, config, lambda bundle, rng: clip_from_bundle(bundle, many, rng))
    with pytest.raises(BundleError, match=r"/1.npz: faces is \(8, 64, 64, 3\), frame_num is 16"):
        data[0]


LABELS = np.array([0] * 60 + [1] * 21)


def epoch(sampler: EpochSampler, number: int) -> np.ndarray:
    sampler.set_epoch(number)
    return np.array(list(sampler))  # (draws, 2): position, seed


def test_what_is_taught_is_the_column_that_the_stage_learns(config, csv_path, tmp_path, caplog):
    """Labels, their balance and the examples are those of the sound or the picture; a column of one class is said."""
    rows = pd.read_csv(csv_path)
    rows["audio_label"] = np.where(rows["filename"].isin(["1.npz", "2.npz", "17.npz"]), 1, 0)
    rows["video_label"] = 0
    rows.to_csv(tmp_path / "split.csv", index=False)
    data = BundleDataModule(config, tmp_path / "split.csv", lambda bundle, rng: torch.zeros(1))
    assert data.labels("train") == [0] * 6 + [1] * 3
    data.target = "audio_label"
    assert data.labels("train") == [1, 1] + [0] * 7 and data.labels("test") == [0, 0, 1, 0][: len(data.labels("test"))]
    taught = torch.cat([batch.label for batch in data.train_dataloader()])
    assert taught.tolist().count(1) == 4  # of nine draws half are of the rarer class
    assert "nothing to learn" not in caplog.text
    data.target = "video_label"
    data.train_dataloader()
    assert "every training clip has the same video_label" in caplog.text


def test_a_balanced_epoch_is_half_real_half_fake():
    sampler = EpochSampler(LABELS, seed=1)
    seen = set()
    for number in range(6):
        positions, seeds = epoch(sampler, number).T
        assert len(positions) == len(sampler) == 81 and len(set(seeds)) == 81
        labels = LABELS[positions]
        assert (labels == 1).sum() == 40
        fakes = np.bincount(positions[labels == 1] - 60, minlength=21)
        assert set(fakes) == {1, 2}, "the smaller class is gone through whole before it is repeated"
        assert len(set(positions[labels == 0])) == 41, "no real clip twice"
        seen |= set(positions)
    assert len(seen) == 81, "every clip has its turn"


def test_an_unbalanced_epoch_is_a_permutation():
    positions = epoch(EpochSampler(LABELS, seed=1, balance=False), 0)[:, 0]
    assert sorted(positions) == list(range(81))


def test_an_epoch_follows_from_seed_and_number_alone():
    one, two = EpochSampler(LABELS, seed=1), EpochSampler(LABELS, seed=1)
    later = epoch(one, 3)
    for number in range(3):
        epoch(two, number)
    assert (epoch(two, 3) == later).all()
    assert (epoch(one, 4) != later).any()
    assert (epoch(EpochSampler(LABELS, seed=2), 3) != later).any()


@pytest.mark.parametrize("world", [2, 3, 4])
def test_devices_share_an_epoch_in_equal_parts(world):
    whole = [tuple(draw) for draw in epoch(EpochSampler(LABELS, seed=1), 2)]
    parts = [epoch(EpochSampler(LABELS, seed=1, rank=rank, world=world), 2) for rank in range(world)]
    assert {len(part) for part in parts} == {-(-81 // world)}
    assert {tuple(draw) for part in parts for draw in part} == set(whole)


@pytest.mark.parametrize("split", ["val", "test"])
def test_scoring_goes_through_a_split_once_in_order(module, split):
    data = module()
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    batches = list(loader)
    in_order = torch.stack([torch.from_numpy(bundle.latency_vector) for bundle in data.bundles(split)])
    assert torch.equal(torch.cat([batch.clip.latency for batch in batches]), in_order)
    assert batches[0].clip.frames.shape == (2, 3, 8, 64, 64) and batches[0].clip.latency.shape == (2, 33)


def test_batches_do_not_depend_on_the_number_of_workers(module):
    def run(workers):
        loader = module(num_workers=workers).train_dataloader()
        batches = []
        for number in range(2):
            loader.sampler.set_epoch(number)
            torch.manual_seed(workers)
            batches += list(loader)
        return batches

    alone, shared = run(0), run(2)
    assert len(alone) == len(shared) == 10
    for a, b in zip(alone, shared):
        assert torch.equal(a.clip.latency, b.clip.latency) and torch.equal(a.clip.frames, b.clip.frames)


def test_loading_leaves_the_global_generator_alone(module):
    loader = module().train_dataloader()
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), expected)


class Recorder(pl.LightningModule):
    """Trains nothing; remembers which clips it was shown in which epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[float], float]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.clip.latency[:, 0].tolist(), float(batch.clip.frames.sum())))
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.log("val", 0.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_what_an_undisturbed_one_sees(module, tmp_path, workers):
    def fit(epochs, resume=None):
        recorder = Recorder()
        saver = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[saver],
            default_root_dir=tmp_path,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(recorder, module(num_workers=workers, augment=False), ckpt_path=resume, weights_only=True)
        return recorder.seen

    whole = fit(3)
    (tmp_path / "last.ckpt").unlink()
    first = fit(1)
    assert first + fit(3, tmp_path / "last.ckpt") == whole
    assert len({str(seen) for _, *seen in whole}) == len(whole) == 15


# Checks before training


def test_sound_bundles_pass(module):
    assert len(module().rows) == 18


def test_the_whole_split_is_checked_before_training(config, csv_path, make_bundle, tiny_config, tmp_path):
    rows = read_split(csv_path, config.root_path)
    other = changed(tiny_config, face_margin=0.2)
    make_bundle(seed=100, config=other).save(tmp_path / "other.npz")
    make_bundle(seed=101, faces=np.zeros((2, 64, 64, 3), np.uint8)).save(tmp_path / "few.npz")
    make_bundle(seed=1).save(tmp_path / "copy.npz")  # of train's first video
    (tmp_path / "cut.npz").write_bytes((csv_path.parent / "1.npz").read_bytes()[:-100])
    names = ["other.npz", "few.npz", "copy.npz", "cut.npz"]
    more = rows.iloc[-4:].assign(filepath=names, path=[str(tmp_path / name) for name in names])
    more.index += 4
    rows = pd.concat([rows, more])
    with pytest.raises(SplitError) as caught:
        check_bundles(rows, config)
    text = str(caught.value)
    assert "bundles: 4 fault(s)" in text
    assert "cut.npz: not a readable .npz" in text
    assert "1 of 21 bundles: faces is (2, 64, 64, 3), frame_num is 4; crop again" in text
    assert "1 of 21 bundles: made with other settings (face_margin: 0.2 there, 0.4 here); train with those" in text
    assert "bundle_faces=4 or more: few.npz" in text and "again with these: other.npz" in text
    assert "made of the same video: 1.npz (train), copy.npz (test); keep one" in text
    check_bundles(rows[rows["filepath"].isin(["1.npz", "other.npz"])], config, any_bundles=True)


def test_a_damaged_bundle_stops_training_with_its_name(module, csv_path):
    """Bytes that only reading finds: the check before training sees no more than headers."""
    data = module()
    data.prepare_data()
    path = csv_path.parent / "5.npz"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
        with pytest.raises(BundleError, match="5.npz: not a readable .npz .*CRC.*crop the video again"):
            list(data.train_dataloader())
    finally:
        path.write_bytes(whole)


def test_workers_use_one_thread_each(module):
    def threads(bundle, rng):
        return cv2.getNumThreads(), torch.get_num_threads()

    data = module(num_workers=1)
    data.prepare = threads
    (opencv, torch_threads) = next(iter(data.test_dataloader())).clip
    assert set(opencv.tolist()) == set(torch_threads.tolist()) == {1}


# Logging


def test_imports_are_silent_and_messages_go_to_stderr():
    code = (
        "import utils, sys, logging\n"
        "print('imported', file=sys.stderr); log = utils.set_up_logging('INFO'); log.info('ours')\n"
        "logging.getLogger('visavox.x').info('below'); logging.getLogger('theirs').info('noise')\n"
        "logging.getLogger('theirs').warning('matters'); logging.getLogger('pytorch_lightning').info('noise')\n"
        "log.info('one ' + 25 * 'long ' + 'line')"
    )
    folder = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert ran.stdout == "" and ran.stderr.startswith("imported\n")
    assert all(word in ran.stderr for word in ("ours", "below", "matters")) and "noise" not in ran.stderr
    assert "one " + 25 * "long " + "line" in ran.stderr


def test_the_reference_configuration_takes_its_clip_from_a_full_size_bundle(make_bundle, tiny_config):
    config = configuration.load(overrides=["sync=correlation", "face_detector=haar"])
    clip = clip_from_bundle(make_bundle(config=config), config, np.random.default_rng(0))
    assert clip.frames.shape == (3, 32, 224, 224) and clip.frames.abs().max() <= 1
