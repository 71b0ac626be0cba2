"""Every detector says the same kind of thing of a clip, and it can be written down and read again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from visavox import config as configuration
from visavox.config import XceptionFusedConfig
from visavox.detectors import build
from visavox.detectors.analysis import Analysis, Branch, ModelCard, Segment, decide, flagged
from visavox.detectors.scorer import Scorer

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = {path.stem: path for path in sorted(CONFIGS.glob("*tiny.json")) if path.stem != "fiveway_tiny"}
"""Those that score with fresh weights; the five branches refuse before their fusion is fitted, see tests/detectors/fiveway."""


def scorer_of(name: str) -> Scorer:
    """One of the tiny configurations with fresh weights, or the fusion of both Xceptions."""
    if name == "fused":
        video, audio = (configuration.load(CONFIGS / f"xception_{branch}_tiny.json") for branch in ("video", "audio"))
        config = video.model_copy(update={"detector": XceptionFusedConfig(video=video.detector, audio=audio.detector)})
    else:
        config = configuration.load(TINY[name])
    torch.manual_seed(0)
    scorer = build.build(config).eval()
    for buffer_name, buffer in scorer.named_buffers():
        if buffer_name.endswith("fitted"):  # what was not fitted refuses to score
            buffer.fill_(True)
        if buffer_name == "real_std":  # of the anomaly score; at 1 it would always be sure
            buffer.fill_(1e3)
    return scorer


@pytest.mark.parametrize("name", [*TINY, "fused"])
def test_every_detector_explains_what_it_scores(name: str, make_bundle):
    scorer = scorer_of(name)
    bundle = make_bundle(1, config=scorer.config)
    late = replace(bundle, times=bundle.times + np.float32(2))  # the face comes into view after two seconds
    ended: list[tuple[str, float]] = []
    analysis = scorer.explain(late, watch=lambda branch, seconds: ended.append((branch, seconds)))
    assert sorted(ended) == sorted((branch.name, branch.seconds) for branch in analysis.branches)
    assert analysis.probability == pytest.approx(scorer.score([late])[0], abs=1e-6)
    assert analysis.confidence == max(analysis.probability, 1 - analysis.probability)
    assert analysis.verdict == decide(analysis.probability, analysis.threshold, analysis.least_confidence)
    assert analysis.card.detector == scorer.config.detector.name and analysis.card.prep_hash == bundle.prep_hash
    assert analysis.branches and sum(branch.weight for branch in analysis.branches) == pytest.approx(1)
    assert all(branch.seconds > 0 for branch in analysis.branches)
    if not analysis.timeline:
        assert any("no time line" in note for note in analysis.notes)
    else:
        assert analysis.timeline[0].start == pytest.approx(2) and all(
            part.end > part.start for part in analysis.timeline
        )
        assert analysis.timeline[-1].end >= 2.99  # 25 frames: to the end of the third second
    assert Analysis.from_json(analysis.to_json()) == analysis


@pytest.mark.parametrize("name", ["xception_video_tiny", "xception_audio_tiny", "anomaly_tiny", "fused"])
def test_detectors_of_parts_have_a_time_line(name: str, make_bundle):
    assert scorer_of(name).explain(make_bundle(1)).timeline


@pytest.mark.parametrize("name", ["xception_audio_tiny", "anomaly_tiny"])
def test_without_sound_a_detector_that_needs_it_gives_no_verdict(name: str, make_bundle):
    scorer = scorer_of(name)
    silent = make_bundle(2, config=scorer.config, status="no_audio", audio=np.zeros(0, np.int16))
    analysis = scorer.explain(silent)
    assert (analysis.verdict, analysis.probability, analysis.flagged) == ("undetermined", 0.5, [])
    assert analysis.branches[0].probability is None and "No sound" in analysis.notes[0]


def test_a_verdict_needs_the_threshold_and_the_confidence():
    assert decide(0.5) == "fake" and decide(0.4999) == "real" and decide(0.65, threshold=0.7) == "real"
    assert [decide(p, 0.5, 0.8) for p in (0.2, 0.21, 0.79, 0.8)] == ["real", "undetermined", "undetermined", "fake"]


def test_flagged_seconds_are_joined_where_they_touch():
    line = [Segment(0, 2, 0.6), Segment(1, 3, 0.2), Segment(2, 4, 0.9), Segment(5, 6, 0.5), Segment(6, 7, 0.4)]
    assert flagged(line, 0.5) == [(0, 4), (5, 6)]
    assert flagged(line, 0.95) == []


def test_what_is_no_analysis_is_refused_by_name():
    given = Analysis.of(0.7, card=ModelCard("made_up"), branches=[Branch("video", 0.7, 1.0, 0.1)])
    assert given.verdict == "fake"
    with pytest.raises(ValueError, match="no analysis"):
        Analysis.from_json(given.to_json().replace('"detector"', '"detektor"'))
    with pytest.raises(ValueError, match="no analysis"):
        Analysis.from_json("[]")


def test_a_loaded_detector_knows_its_checkpoint(tmp_path: Path, make_bundle):
    from visavox.files import sha256_of

    scorer = scorer_of("fused")
    hyper = {
        "config": scorer.config.model_dump(mode="json"),
        "about": {"trained_on": "drawn faces", "calibration": "none"},
    }
    torch.save({"hyper_parameters": hyper, "state_dict": scorer.state_dict()}, tmp_path / "pair.ckpt")
    card = build.load(tmp_path / "pair.ckpt").explain(make_bundle(1)).card
    assert card.checkpoint == sha256_of(tmp_path / "pair.ckpt")
    assert (card.trained_on, card.calibration) == ("drawn faces", "none")
