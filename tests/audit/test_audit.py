"""The audit hears a planted shortcut and nothing else, and trim_silence takes it away."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from visavox import config
from visavox.audit.__main__ import main
from visavox.audit.measures import Finding, audit_split, detail, judge, of_bundle, told_by_words, within
from visavox.audit.words import describe, in_words
from visavox.bundle import Bundle, BundleError
from visavox.bundle.trim import Silence, silence, trimmed, trimmed_as
from visavox.commands import streaming
from visavox.config import XceptionFusedConfig
from visavox.detectors import build
from visavox.detectors.base import Detector
from visavox.detectors.scorer import Scorer
from visavox.evaluation.metrics import auc
from visavox.features import audio
from visavox.training.dataset import BundleDataset

RATE, FPS = 16000, 25
SAMPLES = RATE // FPS


def speech(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise that swells and fades without a beat, never silent: (samples,) int16."""
    knots = rng.uniform(0.1, 1, samples // 800 + 3)
    envelope = np.interp(np.arange(samples) / 800 + rng.random(), np.arange(len(knots)), knots)
    return (rng.normal(0, 2500, samples) * envelope).clip(-32000, 32000).astype(np.int16)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(make_bundle):
    """clip(seed, planted=0.0, longer=False): a bundle of 30 to 45 frames whose sound starts `planted` seconds late.

    The sound is moved within the clip; with `longer`, picture and sound are prolonged by the silence instead.
    """

    def make(seed: int, planted: float = 0.0, longer: bool = False) -> Bundle:
        rng = np.random.default_rng(seed)
        frames = int(rng.integers(30, 46))
        extra = round(planted * FPS) if longer else 0
        sound = speech(rng, frames * SAMPLES)
        late = np.concatenate([np.zeros(extra * SAMPLES or round(planted * RATE), np.int16), sound])
        late = late[: (frames + extra) * SAMPLES]
        return with_frames(make_bundle(seed), frames + extra, late)

    return make


def with_frames(bundle: Bundle, frames: int, sound: np.ndarray) -> Bundle:
    """The bundle with another number of frames, and this sound."""
    which = np.arange(frames) % bundle.track_frames
    jpegs = [bundle.track[bundle.track_offsets[t] : bundle.track_offsets[t + 1]] for t in which]
    return replace(
        bundle,
        boxes=bundle.boxes[which],
        landmarks=bundle.landmarks[which],
        det_score=bundle.det_score[which],
        times=(np.arange(frames) / FPS).astype(np.float32),
        audio=sound,
        mel_3cs=audio.mel_3cs(sound, RATE, bundle.mel_3cs.shape[1]),
        track=np.concatenate(jpegs),
        track_offsets=np.cumsum([0, *map(len, jpegs)]),
    )


@pytest.fixture(scope="module")
def planted(clip, tmp_path_factory):
    """planted(seconds, longer) -> folder with s.csv and the bundles of 12 people, half of their 48 clips fake."""
    made: dict[tuple, Path] = {}

    def make(seconds: float, longer: bool = False) -> Path:
        if (seconds, longer) in made:
            return made[seconds, longer]
        root = tmp_path_factory.mktemp("planted")
        rows = []
        for i in range(48):
            label = i % 2
            clip(i, seconds if label else 0.0, longer).save(root / f"{i}.npz")
            split = ("train", "val")[i >= 40]
            rows.append([f"{i}.mp4", f"{i}.npz", split, label, f"id{i // 4}"])
        columns = ["filename", "filepath", "split", "label", "identity"]
        pd.DataFrame(rows, columns=columns).to_csv(root / "s.csv", index=False)
        made[seconds, longer] = root
        return root

    return make


def flags(root: Path, **how) -> dict[str, Finding]:
    return {found.name: found for found in audit_split(root / "s.csv", root, **how) if found.flagged}


def test_without_a_cue_nothing_is_flagged(planted, capsys):
    root = planted(0.0)
    assert main([str(root / "s.csv"), "--root", str(root)]) == 0
    assert "No red flag" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "longer"), [(0.06, False), (0.3, True)])
def test_planted_silence_is_flagged_and_gone_after_trimming(planted, seconds: float, longer: bool):
    root = planted(seconds, longer)
    found = flags(root)
    expected = {"leading_silence", "leading_zeros"}
    follow = {"audio_probe"} | ({"duration", "loudness"} if longer else set())
    assert expected <= {name.removesuffix("_within") for name in found} <= expected | follow
    assert found["leading_silence"].auc > 0.9 and found["leading_zeros"].auc == 1
    assert float(found["leading_zeros"].fake) == pytest.approx(0.28 if longer else 0.06, abs=0.045)
    assert flags(root, trim="leading") == {}


def test_words_and_exit_code(planted, tmp_path: Path, capsys):
    root = planted(0.06)
    output = tmp_path / "audit.json"
    assert main([str(root / "s.csv"), "--root", str(root), "--no-probes", "--output", str(output)]) == 1
    said = capsys.readouterr().out
    assert (
        "RED FLAG: silence before the first sound (s) alone tells real from fake with AUC 0.9" in said
        or "AUC 1.0" in said
    )
    assert "trim_silence=leading" in said
    rows = {row["name"]: row for row in json.loads(output.read_text())}
    assert rows["leading_zeros"]["flagged"] and not rows["loudness"]["flagged"]
    assert main([str(root / "none.csv")]) == 2


def test_few_clips_are_never_flagged():
    four = judge([{"fps": 25.0}, {"fps": 30.0}] * 4, np.tile([0, 1], 4), None)
    assert not four[0].flagged and four[0].auc == 1 and "Too few clips" in describe(four)
    five = judge([{"fps": 25.0}, {"fps": 30.0}] * 5, np.tile([0, 1], 5), None)
    assert five[0].flagged
    less = judge([{"fps": 30.0}, {"fps": 25.0}] * 5, np.tile([0, 1], 5), None)
    assert less[0].flagged and less[0].auc == 0 and "AUC 1.000 (real 30, fake 25)" in describe(less)


def test_what_people_differ_in_is_gone_within_one_person():
    """Twenty people, loud and quiet; the fakes of each are a decibel quieter, which between people is nothing."""
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(20), 4)
    labels = np.tile([0, 0, 0, 1], 20)  # three real clips for each fake
    level = rng.normal(0, 20, 20)[people] + rng.normal(0, 0.4, 80) - labels
    measured = [{"loudness": value, "audio_probe": value} for value in level]
    found = {finding.name: finding for finding in judge(measured, labels, np.array([f"p{i}" for i in people]))}
    assert set(found) == {"loudness", "loudness_within", "audio_probe"}
    assert not found["loudness"].flagged and 0.4 < found["loudness"].auc < 0.6
    assert found["loudness_within"].flagged and found["loudness_within"].auc < 0.1
    assert "loudness (dB of full scale) within one person alone tells" in in_words(found["loudness_within"])
    even = judge([{"loudness": value + label} for value, label in zip(level, labels)], labels, people.astype(str))
    assert not any(finding.flagged for finding in even)
    few = judge([{"loudness": -label} for label in labels[:28]], labels[:28], people[:28].astype(str))
    assert [finding.name for finding in few] == ["loudness"]  # seven people lean the same way by chance
    strangers = np.array([f"{i}/{label}" for i, label in zip(people, labels)])  # nobody has clips of both classes
    assert [finding.name for finding in judge(measured, labels, strangers)] == ["loudness", "audio_probe"]


@pytest.mark.parametrize("fakes", [1, 9])
def test_a_skewed_measure_says_nothing_however_many_fakes_a_person_has(fakes: int):
    people = np.repeat(np.arange(3000), 1 + fakes)
    labels = np.tile([0] + [1] * fakes, 3000)
    apart, both = within(np.random.default_rng(0).exponential(size=len(people)), labels, people)
    assert both.all() and auc(labels, apart) == pytest.approx(0.5, abs=0.02)


def test_sharpness_falls_with_each_encoding():
    faces = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    soft = np.stack([cv2.GaussianBlur(face, (0, 0), 1.5) for face in faces])
    assert detail(faces) > detail(soft) + 10 and detail(np.zeros_like(faces)) == -60


def test_a_word_that_only_one_person_has_tells_nothing():
    labels = np.tile([0, 1], 20)
    people = np.repeat(np.arange(10), 4)
    own = [f"{person}{label}" for person, label in zip(people, labels)]
    assert len(set(told_by_words(own, labels, people))) == 1
    codec = ["h264" if label == 0 else "mpeg4" for label in labels]
    shares = told_by_words(codec, labels, people)
    assert shares[labels == 1].min() > 0.4 and shares[labels == 0].max() < -0.4
    assert judge([{"codec": word} for word in codec], labels, people)[0].flagged
    assert judge([{"codec": word} for word in own], labels, people)[0].auc == 0.5


def test_files_are_looked_at_too(talking: Path, make_bundle, tmp_path: Path):
    rows = []
    for i, path in enumerate(sorted(talking.rglob("*.mp4"))):
        make_bundle(i).save(tmp_path / f"{i}.npz")
        name, label = path.relative_to(talking).as_posix(), int("fake" in path.parts[-3])
        rows.append([name, f"{i}.npz", ("train", "val")[i % 6 == 0], label])
    pd.DataFrame(rows, columns=["filename", "filepath", "split", "label"]).to_csv(tmp_path / "s.csv", index=False)
    found = {f.name for f in audit_split(tmp_path / "s.csv", tmp_path, videos=talking, probes=False)}
    assert "bit_rate" in found and "codec" not in found  # every synthetic clip has the same
    with pytest.raises(ValueError, match="--videos is the folder"):
        audit_split(tmp_path / "s.csv", tmp_path, videos=tmp_path, probes=False)


def test_silence_is_measured_at_both_ends():
    tone = (10_000 * np.sin(np.arange(RATE) * 0.3)).astype(np.int16)
    padded = np.concatenate([np.zeros(4800, np.int16), tone, np.full(1600, 20, np.int16)])
    assert silence(padded, RATE) == Silence(pytest.approx(0.3), pytest.approx(0.1))
    assert silence(tone, RATE) == Silence(0, 0)
    assert silence(np.zeros(RATE, np.int16), RATE) == Silence(1, 1)


def test_trimming_cuts_picture_and_sound_together(clip, tmp_path: Path):
    bundle = clip(3, planted=0.3)
    cut = trimmed(bundle, "leading")
    gone = bundle.track_frames - cut.track_frames
    assert gone == 8  # 0.3 s are 7.5 frames
    assert np.array_equal(cut.audio, bundle.audio[gone * SAMPLES :])
    assert np.array_equal(cut.frame(0), bundle.frame(gone)) and np.array_equal(cut.boxes, bundle.boxes[gone:])
    assert np.array_equal(cut.times, bundle.times[gone:])  # the video's own clock
    assert np.array_equal(cut.mel_3cs, audio.mel_3cs(cut.audio, RATE, 64))
    assert cut.faces.shape == bundle.faces.shape and np.array_equal(cut.faces[-1], bundle.faces[-1])
    assert not np.array_equal(cut.faces[0], bundle.faces[0])
    cut.save(tmp_path / "cut.npz")  # keeps the schema
    assert of_bundle(cut)["leading_silence"] == 0
    both = trimmed(replace(bundle, audio=bundle.audio[::-1].copy()), "both")
    assert both.track_frames == bundle.track_frames - 1 - 8


def test_nothing_is_cut_unasked_nor_too_much(clip, tiny_config):
    bundle = clip(4, planted=0.3)
    assert trimmed(bundle) is bundle and trimmed_as(tiny_config, bundle) is bundle
    silent = replace(bundle, audio=np.zeros_like(bundle.audio))
    assert trimmed(silent, "leading") is silent  # nothing would be left
    with pytest.raises(BundleError, match="full=True"):
        trimmed(replace(bundle, audio=None, track=None, track_offsets=None), "leading")


def every_detector(*words: str) -> list[Scorer]:
    """One of each kind with fresh weights, as the tiny configurations describe them, and the fusion."""
    paths = [
        path for path in sorted(Path("configs").glob("*tiny.json")) if path.stem != "fiveway_tiny"
    ]  # refuses unfitted
    configs = [config.load(path, words) for path in paths]
    sizes = {each.detector.name.removeprefix("xception_"): each.detector for each in configs}
    fused = configs[-1].model_copy(
        update={"detector": XceptionFusedConfig(video=sizes["video"], audio=sizes["audio"], abstain_below=0.5)}
    )
    detectors = []
    for each in [*configs, fused]:
        torch.manual_seed(0)
        detector = build.build(each)
        for name, buffer in detector.named_buffers():
            if name.endswith("fitted"):  # what was not fitted refuses to score
                buffer.fill_(True)
            if name == "real_std":  # of the anomaly score; at 1 it would always be sure
                buffer.fill_(1e3)
        detectors.append(detector)
    return detectors


def test_every_detector_is_given_the_cut(clip, tmp_path: Path):
    """Training and scoring load a bundle with silence as one that was cut beforehand, whichever detector reads it."""
    bundle, path = clip(5, planted=0.3), tmp_path / "clip.npz"
    bundle.save(path)
    rows = pd.DataFrame({"path": [str(path)], "label": [1]})
    for detector, cutting in zip(every_detector(), every_detector("trim_silence=leading"), strict=True):
        name, beforehand = detector.config.detector.name, trimmed(bundle, "leading")
        scored = streaming.bundle_of(cutting.config, None, False, (None, None), ("clip.npz", path)).bundle
        assert scored.track_frames == beforehand.track_frames, name
        assert detector.score([scored]) == pytest.approx(detector.score([beforehand]), abs=1e-12), name
        assert abs(detector.score([scored]) - detector.score([bundle])).max() > 1e-9, f"{name} sees no difference"
        if isinstance(detector, Detector):
            data = BundleDataset(rows, cutting.config, detector.prepare, full=detector.needs_track)
            of_cut, expected = (_tensors(each) for each in (data[0].clip, detector.prepare(beforehand)))
            assert all(a.equal(b) for a, b in zip(of_cut, expected, strict=True)), name


def test_a_clip_begins_at_a_random_moment_in_training_only(clip, tiny_config, tmp_path: Path):
    bundle, path = clip(5, planted=0.3), tmp_path / "clip.npz"
    bundle.save(path)
    rows = pd.DataFrame({"path": [str(path)], "label": [1]})
    jitter = tiny_config.model_copy(update={"temporal_jitter": 0.5})
    data = BundleDataset(
        rows, jitter, lambda bundle, rng: bundle.times[0]
    )  # no track asked for: the jitter needs sound
    assert data[0].clip == bundle.times[0]
    once, again, other = (data[0, seed].clip for seed in (1, 1, 2))
    assert once == again != other and once > bundle.times[0]
    starts = {trimmed(bundle, jitter=0.5, rng=np.random.default_rng(seed)).track_frames for seed in range(20)}
    assert max(starts) <= bundle.track_frames and min(starts) >= bundle.track_frames - 13 and len(starts) > 5


def _tensors(clip) -> list[torch.Tensor]:
    """The tensors of what `prepare` gave, however they are nested."""
    return [clip] if isinstance(clip, torch.Tensor) else [tensor for part in clip for tensor in _tensors(part)]
