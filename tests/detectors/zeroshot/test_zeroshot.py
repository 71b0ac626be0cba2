"""Scores without training: four numbers from one set of curves, moved sound found, P(fake) from real clips alone."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.commands import evaluate, zeroshot
from visavox.config import ConfigError
from visavox.detectors.build import build, ready, trainable
from visavox.detectors.steps import steps_of
from visavox.detectors.zeroshot.curves import Curves, of_correlation, of_syncnet
from visavox.detectors.zeroshot.scores import score
from visavox.features import syncnet
from visavox.features.sync import correlation_sync
from visavox.weights import WeightsError

T = 75


def talking(make_bundle: Callable[..., Bundle], late: int = 0, seed: int = 0) -> Bundle:
    """A clip whose mouth opens as loudly as it speaks, `late` frames before its sound."""
    rng = np.random.default_rng(seed)
    opening = np.clip(np.convolve(rng.random(T + 4), np.ones(4) / 4, "valid")[:T], 0, 1)
    images = []
    for t in range(T):
        image = np.full((64, 64, 3), 170, np.uint8)
        half = round(1 + 7 * opening[t])
        image[46 - half // 2 : 46 + half, 24:40] = 20
        images.append(cv2.imencode(".jpg", image)[1])
    heard = np.interp(np.arange(T * 640) / 640 - late, np.arange(T) + 0.5, opening)
    carrier = np.random.default_rng(seed + 100).normal(0, 1, T * 640)
    return make_bundle(
        seed,
        boxes=np.tile(np.float32([10, 20, 110, 120]), (T, 1)),
        landmarks=np.tile(np.float32([[20, 24], [44, 24], [32, 36], [24, 46], [40, 46]]), (T, 1, 1)),
        det_score=np.full(T, np.float32("nan")),
        times=(np.arange(T) / 25).astype(np.float32),
        audio=np.clip(carrier * heard**2 * 8000, -32767, 32767).astype(np.int16),
        track=np.concatenate(images),
        track_offsets=np.cumsum([0, *map(len, images)]),
    )


def test_the_mean_curve_of_one_long_window_is_that_of_the_bundle(make_bundle: Callable[..., Bundle]):
    clip = talking(make_bundle)
    images = [clip.frame(t) for t in range(T)]
    whole = correlation_sync(images, clip.landmarks, clip.audio, vshift=15)
    curves = of_correlation(clip, 15, window=T - 1)
    assert curves.cosine.shape == (1, 31) and 1 - curves.cosine[0, 15] == pytest.approx(whole.mdist[15], abs=1e-5)


@pytest.mark.parametrize("late", [0, 4, -6])
def test_moved_sound_is_found_at_its_shift(make_bundle: Callable[..., Bundle], late: int):
    curves = of_correlation(talking(make_bundle, late), 15, window=25)
    assert int(np.nanmean(curves.cosine, axis=0).argmax()) - 15 == late
    assert int(np.nanmean(curves.distance, axis=0).argmin()) - 15 == late


def test_foreign_sound_scores_higher_in_every_way(make_bundle: Callable[..., Bundle]):
    for name in ("distance", "cosine", "centre", "percentile"):
        own, foreign = [], []
        for seed in range(4):
            clip, other = talking(make_bundle, seed=seed), talking(make_bundle, seed=seed + 50)
            own.append(score(of_correlation(clip, 15), name).clip)
            foreign.append(score(of_correlation(replace(clip, audio=other.audio), 15), name).clip)
        assert max(own) < min(foreign), name


def test_numbers_by_hand():
    cosine = np.array([[0.1, 0.9, np.nan], [0.3, 0.5, 0.2], [np.nan, 0.4, 0.6]])
    curves = Curves(np.arange(3), 5, cosine, 1 - cosine)
    assert score(curves, "cosine").clip == pytest.approx(-0.6) and score(curves, "distance").clip == pytest.approx(0.4)
    assert score(curves, "percentile").clip == pytest.approx(-np.percentile([0.9, 0.5, 0.4], 3))
    lack = []
    for row in cosine:
        there = np.exp(row[~np.isnan(row)] / 0.1)
        lack.append(-np.log(np.exp(row[1] / 0.1) / there.sum()))
    assert score(curves, "centre").clip == pytest.approx(np.log(np.mean(np.exp(lack))))
    assert np.isnan(score(Curves(np.zeros(0, int), 5, np.zeros((0, 3)), np.zeros((0, 3))), "cosine").clip)
    with pytest.raises(ValueError, match="percentile"):
        score(curves, "best")


def test_syncnets_mean_curve_is_that_of_its_distances(make_bundle: Callable[..., Bundle]):
    torch.manual_seed(0)
    network = syncnet.SyncNet().eval()
    clip = talking(make_bundle)
    clip = replace(clip, **{name: getattr(clip, name)[:30] for name in ("boxes", "landmarks", "det_score", "times")})
    clip = replace(clip, track_offsets=clip.track_offsets[:31], audio=clip.audio[: 30 * 640])
    images = [clip.frame(t) for t in range(30)]
    curves = of_syncnet(clip, syncnet.LocalEmbedder(network), 15)
    expected = syncnet.sync_distances(network, images, clip.audio, vshift=15)
    assert np.nanmean(curves.distance, axis=0) == pytest.approx(expected.mdist, rel=2e-3)
    assert len(curves.starts) == 25 and np.nanmax(np.abs(curves.cosine)) <= 1 + 1e-6


@pytest.mark.parametrize("name", ["distance", "cosine"])
def test_a_shift_at_which_no_window_has_a_partner_is_not_the_best_one(name: str):
    cosine = np.array([[np.nan, 0.2, 0.6], [np.nan, 0.4, 0.8]])  # of speech in the first frames alone
    found = score(Curves(np.arange(2), 5, cosine, 1 - cosine), name)
    assert found.clip == pytest.approx({"distance": 0.3, "cosine": -0.7}[name])
    assert found.windows == pytest.approx({"distance": [0.4, 0.2], "cosine": [-0.6, -0.8]}[name])


def test_a_scorer_that_was_not_calibrated_ranks_and_gives_no_verdict(make_bundle: Callable[..., Bundle]):
    scorer = ready("zeroshot")
    clip = talking(make_bundle)
    foreign = replace(clip, audio=talking(make_bundle, seed=9).audio)
    p = scorer.score([clip, foreign])
    assert p[0] < p[1] and scorer.explain(clip).verdict == "undetermined"
    assert "uncalibrated" in scorer.explain(clip).card.calibration
    assert scorer.explain(clip).probability == pytest.approx(p[0])
    silent = replace(clip, status="no_audio", audio=np.zeros(0, np.int16))
    assert scorer.score([silent])[0] == 0.5 and not scorer.explain(silent).timeline


def test_steps_are_highest_where_the_sound_was_replaced(make_bundle: Callable[..., Bundle]):
    clip = talking(make_bundle)
    sound = clip.audio.copy()
    sound[30 * 640 : 45 * 640] = talking(make_bundle, seed=7).audio[30 * 640 : 45 * 640]
    steps = steps_of(ready("zeroshot", ["detector.window=11", "detector.score=percentile"]), replace(clip, audio=sound))
    assert len(steps.fake) == T and steps.fake[32:43].mean() > np.delete(steps.fake, slice(22, 53)).mean() + 0.05


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Bundle]) -> Path:
    """Twelve real bundles and twelve with another one's sound."""
    folder = tmp_path_factory.mktemp("clips")
    own = [talking(make_bundle, seed=seed) for seed in range(12)]
    for seed, clip in enumerate(own):
        clip.save(folder / "real" / f"{seed}.npz")
        replace(clip, audio=own[(seed + 1) % 12].audio).save(folder / "fake" / f"{seed}.npz")
    return folder


def test_it_is_calibrated_on_real_clips_alone_and_scores_by_the_same_door(clips: Path, tmp_path: Path, capsys):
    mine, out = tmp_path / "mine.json", tmp_path / "s.csv"
    tiny = configuration.load("tiny").prep()
    words = [f"{key}={json.dumps(value)}" for key, value in tiny.items()]
    assert zeroshot.main(["--input", str(clips / "real"), "--output", str(mine), "--workers", "1", *words]) == 0
    assert "12 real clips" in capsys.readouterr().out
    settings = configuration.load(mine).detector
    assert settings.threshold is not None and settings.calibrated_on == "12 clips of real"
    (tmp_path / "labels.csv").write_text(
        "filename,label\n"
        + "".join(f"{kind}/{i}.npz,{label}\n" for kind, label in (("real", 0), ("fake", 1)) for i in range(12))
    )
    labels = ["--labels", str(tmp_path / "labels.csv"), "--workers", "1"]
    assert evaluate.main(["--input", str(clips), "--output", str(out), "--detector", str(mine), *labels]) == 0
    said = capsys.readouterr().out
    assert float(re.search(r"AUC: ([\d.]+) over 24 files", said)[1]) > 0.95
    rows = dict(line.split(",") for line in out.read_text().splitlines()[1:])
    assert sum(float(p) > 0.5 for name, p in rows.items() if name.startswith("real")) == 1  # 5 % of twelve
    identity = json.loads((tmp_path / "s.details.jsonl").read_text().splitlines()[0])["identity"]
    assert len(identity["checkpoint"]) == 64
    assert evaluate.main(["--input", str(clips), "--output", str(out), "--detector", "tiny"]) == 2
    assert "is trained" in capsys.readouterr().err


def test_too_few_clips_and_training_are_refused(clips: Path, tmp_path: Path, capsys):
    assert zeroshot.main(["--input", str(clips / "real/0.npz"), "--output", str(tmp_path / "x.json")]) == 2
    with pytest.raises(ConfigError, match="not trained"):
        trainable(configuration.load("zeroshot"))


def test_syncnet_is_never_random(tmp_path: Path, make_bundle: Callable[..., Bundle], monkeypatch):
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    with pytest.raises(WeightsError):
        build(configuration.load("zeroshot", ["detector.encoder=syncnet"])).score([talking(make_bundle)])
