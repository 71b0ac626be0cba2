"""Xception on faces and on mel images, and their fusion: equations against hand-computed values, weights, alignment."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.bundle.trim import trimmed
from visavox.commands import evaluate as evaluation
from visavox.commands import train
from visavox.config import Config, ConfigError, LogitCalibration, XceptionFusedConfig
from visavox.detectors import build
from visavox.detectors.analysis import Analysis, ModelCard
from visavox.detectors.scorer import Hearing
from visavox.detectors.xception import __main__ as command
from visavox.detectors.xception import analysis as xception_analysis
from visavox.detectors.xception import fusion
from visavox.detectors.xception.audio import images, mel_windows, spec_augment, window_starts
from visavox.detectors.xception.evidence import Evidence, clip_probability, fuse_segments
from visavox.detectors.xception.network import image_network, pool
from visavox.detectors.xception.scorer import FusedScorer, Session, join
from visavox.detectors.xception.video import XceptionVideo, scored_frames
from visavox.evaluation import calibration
from visavox.files import sha256_of
from visavox.training.checkpoint import starting
from visavox.weights import WeightsError

CONFIGS = Path(__file__).parents[3] / "configs"
SETTINGS = XceptionFusedConfig(audio_temperature=1.0, abstain_below=0.5)


def tiny(branch: str, *words: str) -> Config:
    return configuration.load(CONFIGS / f"xception_{branch}_tiny.json", words)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pair() -> FusedScorer:
    """Both branches with fresh weights whose statistics have seen something."""
    torch.manual_seed(1)
    scorer = join(build.build(tiny("video")), build.build(tiny("audio")))
    with torch.no_grad():
        scorer.video.net.fc.weight.mul_(20)
        scorer.audio.classifier[-1].weight.mul_(20)
    return scorer


@pytest.fixture
def long_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """5 s: 125 frames, 80000 samples."""
    short = make_bundle(3)
    rng = np.random.default_rng(3)
    repeats = 5
    sizes = np.tile(np.diff(short.track_offsets), repeats)
    return replace(
        short,
        boxes=np.tile(short.boxes, (repeats, 1)),
        landmarks=np.tile(short.landmarks, (repeats, 1, 1)),
        det_score=np.tile(short.det_score, repeats),
        times=(np.arange(125) / 25).astype(np.float32),
        audio=rng.integers(-3000, 3000, 80000, np.int16),
        track=np.tile(short.track, repeats),
        track_offsets=np.cumsum([0, *sizes]),
    )


def explain(evidence: Evidence, settings: XceptionFusedConfig) -> Analysis:
    return xception_analysis.explain(evidence, settings, ModelCard(settings.name))


def evidence(window_logits: list[float], frame_logits: np.ndarray) -> Evidence:
    """8 s at 25 fps, windows of 2 s every second."""
    n = len(frame_logits)
    seconds = np.arange(n) / 25
    starts = np.arange(len(window_logits), dtype=float)
    return Evidence(np.arange(n), seconds, frame_logits, starts, np.array(window_logits), 2.0, (0.0, 8.0))


# Equations


def test_equal_and_video_trust_against_hand_computed_values():
    equal = fusion.fuse([2.0], [-1.0], strategy="equal")
    assert equal.logit[0] == pytest.approx(0.5) and equal.alpha_video[0] == 0.5
    trusting = fusion.fuse([2.0], [-1.0], strategy="video_trust")
    assert trusting.logit[0] == pytest.approx(0.85 * 2 - 0.15 * 1)  # 1.55
    cooled = fusion.fuse([2.0], fusion.calibrate(np.array([-1.0]), temperature=2.0), strategy="equal")
    assert cooled.logit[0] == pytest.approx(0.5 * 2 - 0.5 * 0.5)  # 0.75


def test_adaptive_is_the_softmax_of_the_reliabilities():
    # r_v = 1/(1+e^-2) = 0.880797, r_a = 1/(1+e^-1) = 0.731059; alpha_v = 1/(1+exp(-5 * 0.149738)) = 0.678894
    fused = fusion.fuse([2.0], [-1.0], strategy="adaptive", tau=5.0)
    assert fusion.reliability(np.array([2.0, -1.0])) == pytest.approx([0.880797, 0.731059], abs=1e-6)
    assert fused.alpha_video[0] == pytest.approx(0.678894, abs=1e-6)
    assert fused.logit[0] == pytest.approx(0.678894 * 2 - 0.321106, abs=1e-5)  # 1.036682
    classes = torch.tensor([[0.0, 2.0], [0.0, -1.0]]).softmax(1).amax(1)  # the seed's own formula, on two classes
    assert torch.softmax(5 * classes, 0)[0].item() == pytest.approx(fused.alpha_video[0], abs=1e-6)


@pytest.mark.parametrize(("tau", "low"), [(0.2, 0.475), (1.0, 0.378), (5.0, 0.076), (10.0, 0.007)])
def test_what_tau_does(tau: float, low: float):
    sure, unsure = np.array([50.0]), np.array([0.0])
    assert fusion.adaptive(unsure, sure, tau)[0] == pytest.approx(low, abs=5e-4)
    assert fusion.adaptive(sure, unsure, tau)[0] == pytest.approx(1 - low, abs=5e-4)


def test_either_is_as_fake_as_the_most_fake_modality():
    video, audio = np.array([3.0, -3.0, -1.0, 2.0]), np.array([-3.0, 3.0, -2.0, 2.0])
    fused = fusion.fuse(video, audio, strategy="either")
    assert fused.logit.tolist() == [3, 3, -1, 2] and fused.alpha_video.tolist() == [1, 0, 1, 1]
    assert fusion.fuse(video, audio, strategy="equal").logit.tolist()[:2] == [0, 0]  # sure of both: 0.5


def test_calibration_is_a_line_in_the_logit_before_the_temperature():
    raw = evidence([1.0] * 7, np.full(200, -2.0))
    settings = SETTINGS.model_copy(
        update={
            "video_calibration": LogitCalibration(a=0.5, b=3.0),
            "audio_calibration": LogitCalibration(a=4.0, b=-1.0),
            "audio_temperature": 3.0,
        }
    )
    said = raw.calibrated(settings)
    assert set(said.frame_logits) == {2.0} and set(said.window_logits) == {1.0}
    assert fuse_segments(raw, settings).fused.logit == pytest.approx(1.5)
    analysis = explain(raw, settings)
    video, audio = analysis.branches
    assert video.probability == pytest.approx(expit(2)) and audio.probability == pytest.approx(expit(1))
    assert video.timeline[0].probability == pytest.approx(expit(2)) and analysis.probability == pytest.approx(
        expit(1.5)
    )


def test_fuse_takes_the_calibration_beside_each_checkpoint(tmp_path: Path, capsys):
    """What eval.py would make of a branch's scores with this calibration is what the fusion makes of its logits."""
    paths = {}
    for seed, branch in enumerate(("video", "audio")):
        torch.manual_seed(seed)
        detector = build.build(tiny(branch))
        paths[branch] = tmp_path / branch / "best.ckpt"
        paths[branch].parent.mkdir()
        torch.save({"state_dict": detector.state_dict(), "hyper_parameters": dict(detector.hparams)}, paths[branch])
    z = np.array([-2.0, 0.3, 4.0])
    labels, scores = np.arange(80) % 2, expit(np.random.default_rng(0).normal(2 * (np.arange(80) % 2) + 1, 2))
    prior = {"video": None, "audio": 0.1}
    fitted = {
        branch: calibration.fit(labels, scores, "platt", target_prior=prior[branch], checkpoint=sha256_of(path))
        for branch, path in paths.items()
    }
    fitted["video"].save(tmp_path / "video/calibration.json")
    words = [
        "fuse",
        "--video",
        str(paths["video"]),
        "--audio",
        str(paths["audio"]),
        "--output",
        str(tmp_path / "x.ckpt"),
    ]
    assert command.main(words) == 0
    assert "video: platt a = " in (said := capsys.readouterr().out) and "audio: not calibrated" in said
    assert "uncalibrated as a whole; of its branches video: platt" in said, (
        "what the page and /model say of its number alike"
    )
    assert build.load(tmp_path / "x.ckpt").settings.audio_temperature == 2.0, "the seed's, where nothing is known"
    fitted["audio"].save(tmp_path / "audio/calibration.json")
    assert command.main(words) == 0
    settings = build.load(tmp_path / "x.ckpt").settings
    assert settings.audio_temperature == 1.0
    for branch, line in {"video": settings.video_calibration, "audio": settings.audio_calibration}.items():
        assert expit(fusion.calibrate(z, line.a, line.b)) == pytest.approx(fitted[branch](expit(z)), abs=1e-12)

    replace(fitted["audio"], checkpoint="another").save(tmp_path / "audio/calibration.json")
    assert command.main(words) == 2 and "fitted for another checkpoint" in capsys.readouterr().err
    isotonic = calibration.fit(labels, scores, "isotonic")
    isotonic.save(tmp_path / "audio/calibration.json")
    assert command.main(words) == 2 and "isotonic is no line in the logit" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", ["equal", "video_trust", "adaptive", "either"])
def test_weights_sum_to_one_and_what_is_missing_weighs_nothing(strategy: fusion.Strategy):
    video, audio = np.array([3.0, np.nan, -1.0, np.nan]), np.array([-2.0, 4.0, np.nan, np.nan])
    fused = fusion.fuse(video, audio, strategy=strategy, tau=3.0)
    assert (fused.alpha_video + fused.alpha_audio)[:3] == pytest.approx(1)
    assert fused.alpha_video[1:].tolist() == [0, 1, 0] and fused.alpha_audio[1:].tolist() == [1, 0, 0]
    assert fused.logit[1:3].tolist() == [4, -1] and np.isnan(fused.logit[3])


def test_pooling_is_that_of_probabilities():
    z = torch.randn(3, 21, dtype=torch.float64) * 3
    p = torch.sigmoid(z)
    expected = {
        "mean": p.mean(1),
        "max": p.amax(1),
        "p90": torch.from_numpy(np.percentile(p, 90, axis=1)),
        "top_k": p.sort(1).values[:, -4:].mean(1),
    }
    for how, value in expected.items():
        assert torch.allclose(torch.sigmoid(pool(z, how, 4)), value, atol=1e-9), how
    certain = pool(torch.full((2, 5), -80.0), "mean", 1)
    assert torch.allclose(certain, torch.tensor(-80.0))  # where the probability itself would round to 0


# Alignment


def test_a_fake_window_lights_up_in_its_own_seconds_and_nowhere_else():
    """Planted at 3.0 to 5.0 s, where the seed's pairing by counting would spread it over the clip."""
    frames = np.where((np.arange(200) >= 75) & (np.arange(200) < 125), 6.0, -6.0)
    windows = [-6.0, -6.0, -6.0, 6.0, -6.0, -6.0, -6.0]
    for strategy in ("equal", "video_trust", "adaptive"):
        settings = SETTINGS.model_copy(update={"strategy": strategy, "tau": 5.0})
        analysis = explain(evidence(windows, frames), settings)
        lit = [segment for segment in analysis.timeline if segment.probability >= 0.5]
        assert [(segment.start, segment.end) for segment in lit] == [(3.0, 5.0)]
        assert analysis.flagged == [(3.0, 5.0)]
        assert analysis.verdict == "real" and "3.0 to 5.0 s" in analysis.notes[-1]  # 2 of 8 seconds
        assert explain(evidence(windows, frames), settings.model_copy(update={"pooling": "max"})).verdict == "fake"
        assert all(frame.probability > 0.9 for frame in analysis.branches[0].timeline if 3 <= frame.start < 5)


def test_the_order_of_frames_does_not_change_a_clip():
    rng = np.random.default_rng(0)
    whole = evidence(rng.normal(0, 3, 7).tolist(), rng.normal(0, 3, 200))
    order = rng.permutation(200)
    mixed = replace(
        whole,
        frame_index=whole.frame_index[order],
        frame_seconds=whole.frame_seconds[order],
        frame_logits=whole.frame_logits[order],
    )
    assert clip_probability(mixed, SETTINGS) == clip_probability(whole, SETTINGS)


def test_a_span_takes_its_own_frames_from_its_start_to_before_its_end():
    z = np.array([1.0, 2.0, 3.0, 4.0])
    spans = np.array([[0, 2], [1, 3], [2, 4]])
    aligned = fusion.sigmoid(fusion.align(np.array([0.0, 1.96, 2.0, 3.0]), z, spans))
    p = fusion.sigmoid(z)
    assert aligned == pytest.approx([p[:2].mean(), p[1:3].mean(), p[2:].mean()])


def test_the_tail_belongs_to_the_last_window():
    spans = fusion.segments(np.arange(3.0), 2.0, 4.4)
    assert spans.tolist() == [[0, 2], [1, 3], [2, 4.4]]
    assert np.isnan(fusion.align(np.array([0.5]), np.array([1.0]), spans)).tolist() == [False, True, True]


def test_missing_modalities_are_said():
    none = np.zeros(0)
    silent = explain(evidence([], np.full(200, 3.0)), SETTINGS)
    video, audio = silent.branches
    assert silent.notes == ["No sound: judged by the faces alone."] and audio.probability is None and not audio.timeline
    assert (video.weight, audio.weight) == (1, 0)
    assert silent.probability == pytest.approx(1 / (1 + np.exp(-3)))
    assert len(silent.timeline) == 7 and silent.verdict == "fake"
    unseen = explain(evidence([-2.0] * 7, none), SETTINGS)
    video = unseen.branches[0]
    assert unseen.notes == ["No face: judged by the sound alone."] and (video.weight, video.probability) == (0, None)
    assert unseen.verdict == "undetermined" and unseen.probability != 0.5, "the sound alone gives a number, no verdict"
    nothing = explain(evidence([], none), SETTINGS.model_copy(update={"threshold": 0.4}))
    assert (nothing.verdict, nothing.probability, nothing.timeline, nothing.flagged) == ("undetermined", 0.5, [], [])


def test_a_branch_that_is_outvoted_is_named():
    outvoted = explain(evidence([2.0] * 7, np.full(200, -6.0)), SETTINGS)
    assert outvoted.verdict == "real"
    assert outvoted.notes == ["The sound alone would be called fake (P = 0.88), the other modality real: look at both."]
    assert explain(evidence([2.0] * 7, np.full(200, 6.0)), SETTINGS).notes == []


@pytest.mark.slow
def test_each_branch_sees_its_own_kind_of_fake_and_the_fusion_both(tmp_path: Path):
    from examples import xception as example

    aucs, accuracy, _ = example.table(tmp_path, example.make_pair(tmp_path, small=True))
    assert aucs["video"]["face_blended"] >= 0.9 and aucs["audio"]["voice_vocoded"] >= 0.9
    assert 0.2 < aucs["video"]["voice_vocoded"] < 0.8 and 0.2 < aucs["audio"]["face_blended"] < 0.8
    both = {name: row["blended or vocoded"] for name, row in aucs.items()}
    assert both["equal"] >= max(both["video"], both["audio"])
    assert accuracy["video"]["face_blended"] >= 0.8 and accuracy["audio"]["voice_vocoded"] >= 0.8
    assert accuracy["either"]["blended or vocoded"] >= 0.8


def test_an_analysis_as_json_and_csv():
    analysis = explain(evidence([1.0] * 7, np.full(200, np.log(3))), SETTINGS)
    assert Analysis.from_json(analysis.to_json()) == analysis
    lines = analysis.to_csv().splitlines()
    assert lines[0] == "branch,start,end,probability,weight"
    assert len(lines) == 1 + 7 + 200 + 7 and lines[1].startswith("clip,0.0,2.0,0.74")
    assert lines[207].startswith("video,7.96,8.0,0.75") and lines[-1].startswith("audio,6.0,8.0,0.73")


# Sound


def test_windows_equal_librosas_where_both_hear_the_same():
    import librosa

    sound = np.random.default_rng(2).integers(-8000, 8000, 5 * 16000).astype(np.int16)
    mels = mel_windows(sound, 16000, 128, 2.0, 0.5)
    assert mels.shape == (4, 128, 63)
    with torch.autocast("cpu", torch.bfloat16):
        assert (mel_windows(sound, 16000, 128, 2.0, 0.5) == mels).all()
    window = sound[32000:64000] / np.float32(32768)  # window 2, which begins at a step: 32000 = 62.5 * 512, off by half
    near = round(32000 / 512) * 512
    window = sound[near : near + 32000] / np.float32(32768)
    power = librosa.feature.melspectrogram(
        y=window, sr=16000, n_fft=2048, hop_length=512, n_mels=128, fmin=20, fmax=8000
    )
    expected = librosa.power_to_db(power, ref=1.0)
    np.testing.assert_allclose(mels[2][:, 2:-2], expected[:, 2:-2], atol=2e-3)  # the outer steps see beyond the window


def test_a_tone_lies_in_its_bin_and_in_its_window():
    import librosa

    time = np.arange(6 * 16000) / 16000
    sound = (8000 * np.sin(2 * np.pi * 1000 * time) * ((time >= 3) & (time < 5))).astype(np.int16)
    mels = mel_windows(sound, 16000, 128, 2.0, 0.5)
    centres = librosa.mel_frequencies(130, fmin=20, fmax=8000)[1:-1]
    assert abs(centres[mels[3].mean(1).argmax()] - 1000) < 30
    assert window_starts(5, 2.0, 0.5).tolist() == [0, 1, 2, 3, 4]
    assert mels[0].max() < -99 and mels[3][:, 2:-2].max(0).min() > 0  # nothing in 0..2 s, all of 3..5 s


@pytest.mark.parametrize(("seconds", "count"), [(0, 0), (0.4, 1), (1.5, 1), (2.0, 1), (2.59, 1), (2.6, 2), (9.9, 9)])
def test_a_window_needs_four_fifths_of_its_sound(seconds: float, count: int):
    assert len(mel_windows(np.ones(round(seconds * 16000), np.int16), 16000, 64, 2.0, 0.5)) == count


def test_images_are_standardised_and_silence_is_flat():
    mels = np.random.default_rng(0).normal(-40, 12, (3, 128, 63)).astype(np.float32)
    shown = images(mels, 299)
    assert shown.shape == (3, 299, 299) and shown.dtype == np.float32
    assert np.abs(shown.mean(axis=(1, 2))).max() < 0.05
    assert not images(np.full((1, 128, 63), -80, np.float32), 96).any()


def test_spec_augment_blanks_some_bins_and_steps_and_leaves_its_input():
    mel = np.random.default_rng(0).normal(size=(128, 63))
    kept = mel.copy()
    blank = [spec_augment(mel, np.random.default_rng(seed)) != mel for seed in range(20)]
    assert (mel == kept).all() and 0.02 < np.mean(blank) < 0.4
    assert any(change.all(1).any() for change in blank) and any(change.all(0).any() for change in blank)


# Weights


def published(branch: str, folder: Path, monkeypatch) -> tuple[torch.nn.Module, Path]:
    """A stand-in for a published file under its registry name, and the network whose two classes it holds."""
    from visavox.weights import REGISTRY, store

    torch.manual_seed(0)
    if branch == "video":
        network = image_network("test_resnet", classes=2).eval()
        state = network.state_dict()
    else:
        network = build.build(tiny("audio")).eval()
        state = {name.replace("base.", "backbone."): value for name, value in network.state_dict().items()}
    entry = REGISTRY[f"xception_{branch}_favceleb"]
    path = folder / entry.file
    torch.save({"model_state_dict": state, "epoch": 3}, path)
    monkeypatch.setitem(REGISTRY, entry.name, replace(entry, size=path.stat().st_size, sha256=sha256_of(path)))
    monkeypatch.setattr(store, "folder", lambda: folder)
    return network, path


def p_fake(detector, theirs: torch.nn.Module, branch: str, fake_index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """P(fake) of a few inputs by our detector, and by their two classes when `fake_index` means fake."""
    if branch == "video":
        faces = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8)
        classes = theirs((faces.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        return torch.sigmoid(detector.frame_logits(faces)), classes.softmax(1)[:, fake_index]
    mels = torch.randn(4, 96, 96)
    classes = theirs.classifier(theirs.base(mels.unsqueeze(1).expand(-1, 3, -1, -1)))
    return torch.sigmoid(detector.window_logits(mels)), classes.softmax(1)[:, fake_index]


@pytest.mark.parametrize(("branch", "fake_index"), [("video", 0), ("audio", 1)])
@pytest.mark.parametrize("by", ["name", "path"])
def test_each_published_file_has_a_direction_of_its_own(branch, fake_index, by, tmp_path: Path, monkeypatch):
    """The video file's class 0 is fake, the audio file's class 0 is real; by its path a file is known by its sha256."""
    theirs, path = published(branch, tmp_path, monkeypatch)
    ours = build.build(tiny(branch)).eval()
    ours.start_from(starting(f"xception_{branch}_favceleb" if by == "name" else path))
    found, expected = p_fake(ours, theirs, branch, fake_index)
    assert torch.allclose(found, expected, atol=1e-5) and (expected - 0.5).abs().max() > 1e-3
    with pytest.raises(WeightsError, match=f"class {fake_index} means fake"):
        starting(path, 1 - fake_index)


@pytest.mark.parametrize("branch", ["video", "audio"])
@pytest.mark.parametrize("fake_index", [0, 1])
def test_a_file_that_nobody_knows_has_to_state_its_direction(branch, fake_index, tmp_path: Path, monkeypatch):
    theirs, _ = published(branch, tmp_path, monkeypatch)
    path = tmp_path / "unknown.pt"
    torch.save(theirs.state_dict(), path)
    ours = build.build(tiny(branch)).eval()
    with pytest.raises(WeightsError, match=r"--pret-fake-index of train, --video-fake-index"):
        ours.start_from(starting(path))
    ours.start_from(starting(path, fake_index))
    found, expected = p_fake(ours, theirs, branch, fake_index)
    assert torch.allclose(found, expected, atol=1e-5)


def test_fusing_published_files_turns_only_the_one_that_says_real(tmp_path: Path, monkeypatch, capsys):
    theirs = {branch: published(branch, tmp_path, monkeypatch)[0] for branch in ("video", "audio")}
    monkeypatch.setattr(command, "load_branch", lambda source, default, fake_index: _tiny_branch(source, fake_index))
    words = ["fuse", "--output", str(tmp_path / "pair.ckpt")]
    words += [f"--{branch}=xception_{branch}_favceleb" for branch in theirs]
    assert command.main(words) == 0, capsys.readouterr().err
    pair = build.load(tmp_path / "pair.ckpt")
    for branch, network, fake_index in (("video", theirs["video"], 0), ("audio", theirs["audio"], 1)):
        found, expected = p_fake(getattr(pair, branch), network, branch, fake_index)
        assert torch.allclose(found, expected, atol=1e-5), branch


def _tiny_branch(source: str, fake_index: int | None):
    """`load_branch` at the tiny networks' sizes."""
    detector = build.build(tiny(source.split("_")[1])).eval()
    detector.start_from(starting(source, fake_index))
    return detector


@pytest.mark.parametrize(
    ("backbone", "stranger"), [("test_resnet", "test_efficientnet"), ("test_efficientnet", "test_resnet")]
)
def test_imagenet_weights_leave_the_head_fresh_and_strangers_are_refused(backbone: str, stranger: str):
    """timm's ResNets call their last layer `fc`, its EfficientNets `classifier`."""
    theirs = image_network(backbone, classes=1000)
    for detector in (build.build(tiny(branch, f"detector.backbone={backbone}")) for branch in ("video", "audio")):
        head = {
            name: value.clone()
            for name, value in detector.state_dict().items()
            if "fc." in name or "classifier" in name
        }
        assert detector.start_from(theirs.state_dict()) == "ImageNet"
        loaded = detector.state_dict()
        if isinstance(detector, XceptionVideo):  # drawn anew, within what a linear layer's inputs allow
            features = detector.net.num_features
            assert all(loaded[name].abs().max() <= features**-0.5 for name in head)
        else:
            assert all(torch.equal(loaded[name], value) for name, value in head.items())
        name = next(iter(theirs.state_dict()))
        prefix = "net." if isinstance(detector, XceptionVideo) else "base."
        assert torch.equal(loaded[prefix + name], theirs.state_dict()[name])
        with pytest.raises(WeightsError):
            detector.start_from(image_network(stranger, classes=2).state_dict())


def test_the_networks_of_the_seed_have_its_sizes():
    video, audio = (configuration.load(CONFIGS / f"xception_{name}.json") for name in ("video", "audio"))
    assert (video.frame_size, video.detector.size, audio.detector.size, audio.detector.n_mels) == (299, 299, 299, 128)
    with torch.device("meta"):
        video, audio = build.build(video), build.build(audio)
    assert video.net.fc.weight.shape == (2, 2048)
    assert sum(p.numel() for p in video.net.parameters()) == 20_811_050
    assert [tuple(m.weight.shape) for m in audio.classifier if isinstance(m, torch.nn.Linear)] == [
        (512, 2048),
        (256, 512),
        (2, 256),
    ]


# Detectors


@pytest.mark.parametrize("branch", ["video", "audio"])
def test_a_few_steps_lower_the_loss(branch: str, make_bundle: Callable[..., Bundle]):
    torch.manual_seed(0)
    detector = build.build(tiny(branch))
    bundles = [make_bundle(seed) for seed in range(6)]
    rng = np.random.default_rng(0)
    clips = [detector.prepare(bundle, rng) for bundle in bundles]
    clip = torch.utils.data.default_collate(clips)
    labels = torch.tensor([0.0, 1, 0, 1, 0, 1])
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        loss = detector.loss(detector(clip), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert detector(clip).shape == (6,)
    assert losses[-1] < 0.7 * losses[0]


def test_scores_do_not_depend_on_batch_chunk_or_order(pair: FusedScorer, long_bundle: Bundle, make_bundle):
    bundles = [long_bundle, make_bundle(1), make_bundle(2, status="no_audio", audio=np.zeros(0, np.int16))]
    for scorer in (pair, pair.video, pair.audio):
        together = scorer.score(bundles)
        assert ((together >= 0) & (together <= 1)).all() and len(set(together)) == 3
        assert scorer.score(bundles[::-1])[::-1] == pytest.approx(together, abs=1e-6)
        assert [scorer.score([one])[0] for one in bundles] == pytest.approx(together, abs=1e-6)
    chosen = np.arange(0, 125, 5)
    whole = pair.video.look(long_bundle, chosen)
    pair.video.settings = pair.video.settings.model_copy(update={"chunk": 3})
    assert pair.video.look(long_bundle, chosen) == pytest.approx(whole, abs=1e-4)


def test_a_clip_without_sound_is_not_guessed(pair: FusedScorer, make_bundle):
    silent = make_bundle(2, status="no_audio", audio=np.zeros(0, np.int16))
    assert pair.audio.score([silent]).tolist() == [0.5]
    clip = torch.utils.data.default_collate([pair.audio.prepare(silent, None)])
    assert pair.audio.eval()(clip).tolist() == [0]
    assert pair.score([silent]) == pytest.approx(pair.video.score([silent]), abs=0.02)  # pooled over segments


def test_a_video_without_a_face_is_judged_by_its_sound(pair: FusedScorer):
    sound = np.random.default_rng(3).integers(-3000, 3000, 5 * 16000).astype(np.int16)
    scored = pair.score_sound(sound)
    ended: list[str] = []
    analysis = pair.explain_sound(sound, watch=lambda branch, _: ended.append(branch))
    assert scored.head == "audio" and scored.probability == pytest.approx(analysis.probability) and ended == ["audio"]
    assert analysis == replace(Session(pair, sound).explain(), branches=analysis.branches)
    assert isinstance(pair, Hearing) and not isinstance(pair.video, Hearing)


def test_frames_are_skipped_and_thinned():
    assert scored_frames(20, 5, 300).tolist() == [0, 5, 10, 15]
    assert scored_frames(100, 1, 4).tolist() == [0, 25, 50, 75]
    assert len(scored_frames(400, 1, 300)) == 300


def test_other_settings_cost_only_frames_not_seen_before(pair: FusedScorer, long_bundle: Bundle, monkeypatch):
    looked = []
    look = pair.video.look
    monkeypatch.setattr(pair.video, "look", lambda bundle, chosen: looked.append(len(chosen)) or look(bundle, chosen))
    hear = pair.audio.hear
    monkeypatch.setattr(pair.audio, "hear", lambda bundle: looked.append("sound") or hear(bundle))
    session = Session(pair, long_bundle)
    first = session.evidence(frame_skip=10)
    again = session.evidence(frame_skip=5)
    third = session.evidence(frame_skip=5)
    assert looked == ["sound", 13, 12, 0]
    assert again.frame_logits[::2] == pytest.approx(first.frame_logits)
    assert first.video_took > 0 and third.video_took == 0
    pair.score([long_bundle])
    assert looked[4:] == ["sound", 25], "a scorer itself remembers no clip"


def test_windows_and_frames_share_the_videos_clock(pair: FusedScorer, long_bundle: Bundle):
    late = replace(long_bundle, times=(np.arange(125) / 25 + 2).astype(np.float32))
    seen = Session(pair, late).evidence()
    assert seen.window_starts.tolist() == [2, 3, 4, 5] and seen.frame_seconds[0] == 2
    assert seen.span == pytest.approx((2, 7))
    assert fuse_segments(seen, pair.settings).spans[-1] == pytest.approx([5, 7])


def test_silence_is_trimmed_for_both_branches_alike(pair: FusedScorer, long_bundle: Bundle):
    quiet = long_bundle.audio.copy()
    quiet[:32000] = 0
    late = replace(long_bundle, audio=quiet)
    seen = Session(pair, trimmed(late, "leading")).evidence()
    assert 2 <= seen.window_starts[0] < 2.2 and 2 <= seen.frame_seconds[0] < 2.2
    assert Session(pair, late).evidence().window_starts[0] == 0


def test_a_fusion_is_refused_in_training_with_the_cure(pair: FusedScorer):
    with pytest.raises(ConfigError, match=r"visavox.detectors.xception fuse"):
        build.trainable(pair.config)


def test_faces_kept_stand_in_for_a_track_left_out(pair: FusedScorer, make_bundle):
    lean = make_bundle(1, track=np.zeros(0, np.uint8), track_offsets=np.zeros(26, np.int64))
    seen = Session(pair, lean).evidence(frame_skip=1)
    assert len(seen.frame_logits) == len(lean.faces) and (np.diff(seen.frame_seconds) > 0).all()


def test_training_fusing_and_scoring_through_the_ordinary_commands(data: Path, tmp_path: Path, capsys):
    for branch in ("video", "audio"):
        words = ["--data-version", "split", "--code-version", f"x_{branch}", f"root_path={data}"]
        words += [f"runs_path={data / 'runs'}", "--config", str(CONFIGS / f"xception_{branch}_tiny.json")]
        assert train.main([*words, "epoch=1", "train_batch_size=4", "device=cpu"]) == 0, capsys.readouterr().err
    runs = [str(data / f"runs/x_{branch}/best.ckpt") for branch in ("video", "audio")]
    both = tmp_path / "xception.ckpt"
    assert command.main(["fuse", "--video", runs[0], "--audio", runs[1], "--output", str(both)]) == 0
    assert command.main(["fuse", "--video", runs[1], "--audio", runs[0], "--output", str(tmp_path / "no.ckpt")]) == 2
    assert "xception_video and an xception_audio checkpoint" in capsys.readouterr().err
    for name, checkpoint in {"video": runs[0], "audio": runs[1], "both": str(both)}.items():
        output = tmp_path / f"{name}.csv"
        words = ["-input", str(data / "data/bundles"), "-output", str(output), "--checkpoint", checkpoint]
        assert evaluation.main([*words, "--workers", "1"]) == 0
        lines = output.read_text().splitlines()
        assert len(lines) == 13 and all(0 < float(line.rsplit(",", 1)[1]) < 1 for line in lines[1:])
    scorer = build.load(both, ["detector.strategy=adaptive", "detector.tau=5", "detector.video.frame_skip=2"])
    assert (scorer.settings.tau, scorer.settings.video.frame_skip) == (5, 2)
    with pytest.raises(ConfigError, match=r"detector.video"):
        build.load(both, ["detector.video.size=96"])


def test_branches_of_different_bundles_are_not_joined():
    with pytest.raises(ConfigError, match=r"freq_num: 64 \(video\), 32 \(audio\)"):
        join(build.build(tiny("video")), build.build(tiny("audio", "freq_num=32")))
    with pytest.raises(ValueError, match="test_resnet"):
        build.build(tiny("video", "detector.backbone=test_resnte"))
