"""The fusion of Xception's two branches: equations against hand-computed values, and what is aligned with what."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from xception_values import tiny

from visavox.config import LogitCalibration, XceptionFusedConfig
from visavox.detectors import build
from visavox.detectors.analysis import Analysis, ModelCard
from visavox.detectors.xception import __main__ as command
from visavox.detectors.xception import analysis as xception_analysis
from visavox.detectors.xception import fusion
from visavox.detectors.xception.evidence import Evidence, clip_probability, fuse_segments
from visavox.detectors.xception.network import pool
from visavox.evaluation import calibration
from visavox.files import sha256_of

SETTINGS = XceptionFusedConfig(audio_temperature=1.0, abstain_below=0.5)

pytestmark = pytest.mark.usefixtures("one_thread")


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
