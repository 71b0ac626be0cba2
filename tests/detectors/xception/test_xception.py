"""Xception on faces and on mel images, and both as one scorer: training, scores, the videos' clock."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from xception_values import CONFIGS, tiny

from visavox.bundle import Bundle
from visavox.bundle.trim import trimmed
from visavox.commands import evaluate as evaluation
from visavox.commands import train
from visavox.config import ConfigError
from visavox.detectors import build
from visavox.detectors.scorer import Hearing
from visavox.detectors.xception import __main__ as command
from visavox.detectors.xception.evidence import fuse_segments
from visavox.detectors.xception.scorer import FusedScorer, Session, join
from visavox.detectors.xception.video import scored_frames

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
