"""The detector that never sees a fake: its parts hold what they promise, whatever they were trained on."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.config import AnomalyConfig, Config, ConfigError
from visavox.detectors import build
from visavox.detectors.anomaly import __main__ as command
from visavox.detectors.anomaly.decoder import NextStep
from visavox.detectors.anomaly.detector import AnomalyDetector, window_starts
from visavox.detectors.anomaly.guard import PATIENCE, Collapse, Guard, spread
from visavox.detectors.anomaly.losses import sync_loss
from visavox.detectors.anomaly.mouth import PAD, STEPS, augment, log_mel, mouth
from visavox.detectors.anomaly.streams import Fusion, align, cut_chunks, load_imagenet, positions
from visavox.pseudofakes import sound
from visavox.weights import WeightsError

CONFIGS = Path(__file__).parents[3] / "configs"


def tiny(*words: str) -> Config:
    return configuration.load(CONFIGS / "anomaly_tiny.json", words)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    """Fresh weights, standardised by scores 0 to 10."""
    torch.manual_seed(0)
    detector = build.build(tiny("detector.window_stride=5"))
    detector.standardise(torch.arange(11.0))
    return detector.eval()


def bundle_of(make_bundle: Callable[..., Bundle], frames: int, seed: int = 0) -> Bundle:
    """A talking bundle of so many frames: other mouths, sound and landmarks than those of other seeds."""
    base, rng = make_bundle(seed), np.random.default_rng(seed)
    jpegs = [cv2.imencode(".jpg", image)[1] for image in rng.integers(0, 256, (frames, 64, 64, 3), np.uint8)]
    face = np.float32([[20, 24], [44, 24], [32, 36], [24, 46], [40, 46]])
    return replace(
        base,
        boxes=np.repeat(base.boxes[:1], frames, 0),
        landmarks=np.repeat(face[None], frames, 0),
        det_score=np.ones(frames, np.float32),
        times=(np.arange(frames) / 25).astype(np.float32),
        audio=rng.integers(-3000, 3000, 640 * frames, np.int16),
        track=np.concatenate(jpegs),
        track_offsets=np.cumsum([0, *map(len, jpegs)]),
    )


# Configuration


def test_every_size_of_the_description_is_a_setting_with_its_range():
    ranges = {
        "vis_num_frames": (8, 32, 16),
        "vis_transformer_layers": (2, 6, 4),
        "vis_transformer_d_model": (128, 512, 256),
        "aud_num_chunks": (4, 16, 8),
        "aud_n_mels": (64, 128, 80),
        "aud_transformer_layers": (2, 6, 4),
    }
    for name, (low, high, default) in ranges.items():
        assert getattr(AnomalyConfig(), name) == default
        for value in (low - 1, high + 1):
            with pytest.raises(ConfigError, match=f"detector.{name}"):
                configuration.load(CONFIGS / "anomaly.json", [f"detector.{name}={value}"])
    full = configuration.load(CONFIGS / "anomaly.json")
    assert (full.lr, full.train_batch_size, full.weight_decay, full.epoch) == (1e-4, 8, 1e-5, 50)


def test_heads_divide_widths():
    with pytest.raises(
        ConfigError, match="detector.vis_transformer_d_model=130 is no multiple .* detector.decoder_d_model=40"
    ):
        tiny("detector.vis_transformer_d_model=130", "detector.decoder_d_model=40", "detector.decoder_heads=8")


def test_the_parts_add_up_and_are_printed(detector: AnomalyDetector, capsys):
    assert sum(command.part_sizes(detector).values()) == sum(p.numel() for p in detector.parameters())
    assert command.main(["params", "--config", str(CONFIGS / "anomaly_tiny.json")]) == 0
    printed = capsys.readouterr().out
    assert f"{sum(command.part_sizes(detector).values()):,}" in printed and "~52M" in printed
    assert command.main(["params", "--config", str(CONFIGS / "tiny.json")]) == 2


# What the streams are given


def test_a_tone_peaks_in_its_mel_bin_and_equals_librosa():
    import librosa

    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.int16)
    mel = log_mel(tone, 16000, 80)
    assert mel.shape == (80, 101)
    centres = librosa.mel_frequencies(82, fmin=0, fmax=8000)[1:-1]
    assert abs(centres[mel[:, 50].argmax()] - 1000) < 40
    expected = librosa.feature.melspectrogram(
        y=tone / 32768, sr=16000, n_fft=1024, hop_length=160, win_length=400, n_mels=80, pad_mode="constant"
    )
    assert np.exp(mel[:, 10:-10]) == pytest.approx(expected[:, 10:-10], rel=1e-3, abs=2e-8)


def test_the_mouth_lies_in_the_crop_whatever_the_size_and_tilt_of_the_face():
    for angle, size, side in ((0.0, 64, 32), (0.3, 200, 32), (-0.4, 100, 112)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centred = np.array([[-0.18, -0.15], [0.18, -0.15], [0, 0.05], [-0.12, 0.2], [0.12, 0.2]])
        landmarks = (centred @ turn.T + 0.5) * size
        face = np.zeros((size, size, 3), np.uint8)
        cv2.circle(face, tuple(int(round(v)) for v in landmarks[3:].mean(0)), size // 25, (255, 0, 0), -1)
        seen = mouth(face, landmarks, side)
        ys, xs = np.nonzero(seen[..., 0] > 100)
        assert (xs.mean() / side, ys.mean() / side) == pytest.approx((0.5, 0.42), abs=0.04)


def test_a_click_is_heard_in_the_chunk_of_its_moment():
    """Frame 9 of a window that begins at frame 5: chunks are 2 frames apart, so it lies in chunk 4."""
    mel = torch.zeros(1, 3, 2 * PAD + STEPS * 40)
    mel[0, :, PAD + STEPS * (5 + 9)] = 1
    chunks = cut_chunks(mel, torch.tensor([[5]]), 16, 8, 8)[0, 0]  # (C, F, W)
    assert chunks.shape == (8, 3, 8)
    assert chunks.sum((1, 2)).nonzero().flatten().tolist() == [4]


def test_chunks_are_aligned_with_frames_by_time():
    """A feature that is the time of its chunk's centre becomes, between the outer centres, the time of each frame."""
    for count, frames in ((8, 16), (4, 9), (16, 16), (16, 8)):
        seconds = (torch.arange(count) + 0.5) / count
        at = align(seconds[None, :, None], frames)[0, :, 0]
        wanted = ((torch.arange(frames) + 0.5) / frames).clamp(seconds[0], seconds[-1])
        assert torch.allclose(at, wanted, atol=1e-6)


def test_augmentation_moves_nothing_in_time(detector: AnomalyDetector, make_bundle):
    clip = detector.prepare(bundle_of(make_bundle, 40), None)
    other = augment(clip, np.random.default_rng(1))
    a, b = (part.mean(0) - part.mean() for part in (clip.mel[:, PAD : PAD + 160], other.mel[:, PAD : PAD + 160]))
    lags = [float((a[10:-10] * b[10 + lag : len(b) - 10 + lag]).sum()) for lag in range(-10, 11)]
    assert int(np.argmax(lags)) == 10
    brightness = [part[:40].float().mean((1, 2, 3)) for part in (clip.frames, other.frames)]
    assert np.corrcoef(*brightness)[0, 1] > 0.99


def test_training_stretches_hold_a_window_and_room_for_every_offset(detector: AnomalyDetector, make_bundle):
    bundle = bundle_of(make_bundle, 60)
    clip = detector.prepare(bundle, np.random.default_rng(0))
    assert clip.frames.shape == (31, 32, 32, 3) and clip.mel.shape == (80, 2 * PAD + 31 * STEPS) and clip.length == 31
    starts = detector._draw_starts(torch.tensor([31, 20]))
    assert starts.shape == (2, 4) and (starts[0] <= 15).all() and (starts[1] <= 4).all() and (starts.diff() >= 0).all()
    detector.config.model_copy(update={"augment": False})
    whole = detector.prepare(bundle, None)
    assert whole.length == 60 and len(whole.frames) == 100  # max_clip_len 4 s


# The decoder


def test_changing_a_step_leaves_the_scores_before_it_bit_identical():
    torch.manual_seed(0)
    decoder = NextStep(tiny().detector).eval()
    x = torch.randn(3, 16, 128)
    valid = torch.ones(3, 16, dtype=torch.bool)
    with torch.inference_mode():
        before = decoder(x, valid)
        for t in (0, 1, 7, 15):
            changed = x.clone()
            changed[:, t] += 3 * torch.randn(3, 128)
            after = decoder(changed, valid)
            assert torch.equal(after[:, :t], before[:, :t])
            assert (after[:, t] != before[:, t]).all()
            assert t == 15 or (after[:, t + 1] != before[:, t + 1]).all()  # it does look back


def test_the_likelihood_is_that_of_a_mixture_with_a_variance_floor():
    torch.manual_seed(0)
    settings = tiny("detector.mixtures=3", "detector.least_variance=0.5").detector
    decoder = NextStep(settings).eval()
    with torch.no_grad():
        decoder.variances.bias.fill_(-50)  # softplus gives 0
        decoder.variances.weight.zero_()
    x = torch.randn(2, 16, 128)
    hidden = []
    decoder.layers.register_forward_hook(lambda *inout: hidden.append(inout[2]))
    with torch.no_grad():
        nll = decoder(x, torch.ones(2, 16, dtype=torch.bool))
        means = decoder.means(hidden[0]).unflatten(-1, (3, 128))
        parts = torch.distributions.Independent(torch.distributions.Normal(means, math.sqrt(0.5)), 1)
        which = torch.distributions.Categorical(logits=decoder.weights(hidden[0]))
        expected = -torch.distributions.MixtureSameFamily(which, parts).log_prob(x)
    assert torch.allclose(nll, expected, rtol=1e-5)


# The losses


def test_own_sound_is_nearest_and_neighbours_do_not_count_against_it():
    torch.manual_seed(0)
    features = torch.randn(3, 4, 16, 32)
    starts = torch.tensor([[0, 1, 2, 9]] * 3)
    fusion = Fusion(32, 0.0)
    same = features[:, :1].expand(-1, 3, -1, -1)  # windows 0, 1 and 2 of a clip look alike, as neighbours do
    features = torch.cat([same, features[:, 3:]], 1)
    one = sync_loss(features, features, starts, fusion, temperature=0.05, least_offset=3)
    assert one.accuracy == 1 and one.contrastive < 1e-3
    strict = sync_loss(features, features, starts, fusion, temperature=0.05, least_offset=1)
    assert strict.contrastive > 0.5


def test_positions_say_nothing_about_who_belongs_together():
    """Features that are their step's position alone: each of the candidates is equally likely."""
    alone = positions(torch.zeros(16, 32)).expand(3, 4, 16, 32)
    starts = torch.tensor([[0, 4, 8, 12]] * 3)
    one = sync_loss(alone, alone, starts, Fusion(32, 0.0), temperature=0.05, least_offset=3)
    assert one.contrastive.item() == pytest.approx(math.log(12), abs=1e-4)


def test_likelihood_and_losses_are_computed_in_fp32_whatever_the_streams(detector: AnomalyDetector):
    torch.manual_seed(0)
    features, starts = torch.randn(2, 2, 16, 128), torch.tensor([[0, 9]] * 2)
    fusion = detector.streams.fusion
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        half = features.bfloat16()
        loss = sync_loss(half, half, starts, fusion, temperature=0.05, least_offset=3)
        fused = detector.streams.fuse(half, half)
        nll = detector.decoder(fused.flatten(0, 1), torch.ones(4, 16, dtype=torch.bool))
    with torch.inference_mode():
        assert torch.equal(detector.streams.fuse(half.float(), half.float()), fused)
        exact = detector.decoder(fused.flatten(0, 1), torch.ones(4, 16, dtype=torch.bool))
    assert loss.contrastive.dtype == loss.match.dtype == nll.dtype == torch.float32
    assert len(nll.unique()) == nll.numel() and torch.allclose(nll, exact, rtol=0.02)


# The guard


def test_the_guard_fires_on_constant_features_and_lets_others_pass():
    constant = torch.full((8, 16, 32), 3.0)
    guard = Guard(0.01)
    with pytest.raises(Collapse, match="detector.joint=false.*detector.collapse_bound=0"):
        for _ in range(PATIENCE):
            guard.look(constant)
    patient = Guard(0.01, grace=5)
    for _ in range(5 + PATIENCE - 1):
        patient.look(constant)
    with pytest.raises(Collapse):
        patient.look(constant)
    guard = Guard(0.01)
    for _ in range(3 * PATIENCE):
        assert guard.look(torch.randn(8, 16, 32)) > 0.5


def test_the_guard_is_not_fooled_by_positions_nor_by_scale():
    alike = positions(torch.zeros(16, 32)).expand(8, 16, 32)
    assert spread(alike) == 0.0
    x = torch.randn(8, 16, 32)
    assert spread(1e-6 * x) == pytest.approx(spread(x), rel=1e-4)
    assert spread(torch.zeros(8, 16, 32)) == 0.0
    guard = Guard(0.01)
    with pytest.raises(Collapse):
        for _ in range(PATIENCE):
            guard.look(torch.full((8, 16, 32), float("nan")))


def test_joint_training_collapses_and_the_guard_says_so(make_bundle):
    """Streams and decoder trained together on likelihood, as the description words it."""
    torch.manual_seed(0)
    detector = build.build(tiny("detector.joint=true", "detector.vis_size=16", "detector.dropout=0"))
    detector.begin(*detector.stages)
    clips = [detector.prepare(bundle_of(make_bundle, 31, seed), np.random.default_rng(seed)) for seed in range(3)]
    clip, starts = default_collate(clips), torch.tensor([[0, 8]] * 3)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    spreads, losses = [], []
    with pytest.raises(Collapse, match="features collapsed"):
        for _ in range(100):
            fused = detector._fused(clip, starts).flatten(0, 1)
            loss = detector.decoder(fused, torch.ones_like(fused[..., 0], dtype=torch.bool)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            spreads.append(spread(fused))
            detector._watch(fused)
    assert losses[-1] < losses[0] - 100  # likelihood has never been better
    assert spreads[0] > 0.01 and spreads[-1] < 0.002 and spreads[-1] < spreads[0] / 5


# Scores


def test_padding_and_company_do_not_change_a_score(detector: AnomalyDetector, make_bundle):
    """Clips shorter than a window, as long as one, and longer; alone, and padded to 4 s beside the others."""
    bundles = [bundle_of(make_bundle, frames, frames) for frames in (11, 16, 23, 60)]
    padded = default_collate([detector.prepare(bundle, None) for bundle in bundles])
    with torch.inference_mode():
        together = detector.clip_scores(padded)
        for bundle, score in zip(bundles, together):
            assert detector.step_scores(bundle).scores.mean() == pytest.approx(
                score.item(), abs=1e-5 * max(1, abs(score.item()))
            )
    for p, bundle in zip(detector.score(bundles), bundles):
        assert detector.score([bundle])[0] == pytest.approx(p, abs=1e-5)


def test_a_window_with_padding_scores_as_without_it(detector: AnomalyDetector):
    """The padded steps may hold anything."""
    torch.manual_seed(1)
    images, mel = torch.randn(16, 128), torch.randn(80, 2 * PAD + 16 * STEPS)
    valid = (torch.arange(16) < 10)[None]
    other = torch.cat([images[:10], 9 * torch.randn(6, 128)])
    with torch.inference_mode():
        a, b = (detector._window_nll(x, mel, torch.zeros(1, dtype=torch.long), valid) for x in (images, other))
    assert torch.allclose(a, b, atol=1e-5) and (a[0, 10:] == 0).all()


def test_frames_are_seen_alike_once_or_window_by_window(detector: AnomalyDetector):
    torch.manual_seed(0)
    frames, starts = torch.randint(0, 256, (2, 40, 32, 32, 3), dtype=torch.uint8), torch.tensor([[3, 20], [0, 24]])
    valid = torch.ones(2, 2, 16, dtype=torch.bool)
    with torch.inference_mode():
        few = detector.streams.see(frames, starts, valid)  # 2 * 16 < 40
        many = detector.streams.see(frames, starts.repeat(1, 2), valid.repeat(1, 2, 1))
    assert torch.allclose(few, many[:, :2], atol=1e-5)


def test_windows_cover_every_frame():
    for length in (5, 16, 17, 31, 100):
        starts = window_starts(length, 16, 4)
        covered = set((starts[:, None] + np.arange(16)).ravel())
        assert covered >= set(range(length)) and starts.max() == max(0, length - 16)


def test_every_frame_has_a_score_on_the_videos_clock(detector: AnomalyDetector, make_bundle):
    bundle = bundle_of(make_bundle, 37)
    bundle = replace(bundle, times=bundle.times + np.float32(0.4))
    found = detector.step_scores(bundle)
    assert found.scores.shape == (37,) and np.isfinite(found.scores).all()
    assert found.times[0] == pytest.approx(0.4) and found.times[-1] == pytest.approx(0.4 + 36 / 25)


def test_what_makes_no_sound_is_not_judged(detector: AnomalyDetector, make_bundle):
    silent = replace(bundle_of(make_bundle, 30), audio=np.zeros(0, np.int16), status="no_audio")
    assert detector.score([silent]).tolist() == [0.5] and len(detector.step_scores(silent).scores) == 0


def test_half_is_what_the_stated_share_of_real_clips_exceeds(detector: AnomalyDetector):
    torch.manual_seed(0)
    fresh = build.build(tiny("detector.false_positive_rate=0.2"))
    real = torch.randn(1000) * 3 + 7
    fresh.standardise(real)
    p = np.array([fresh.probability(float(score)) for score in real])
    assert (p >= 0.5).mean() == pytest.approx(0.2, abs=0.002)
    assert fresh.probability(float(fresh.threshold)) == 0.5 and fresh.probability(math.nan) == 0.5
    assert np.array_equal(np.argsort(p, kind="stable"), np.argsort(real.numpy(), kind="stable"))


def test_a_detector_without_threshold_does_not_judge(make_bundle):
    with pytest.raises(RuntimeError, match="RUN/best.ckpt"):
        build.build(tiny()).eval().score([bundle_of(make_bundle, 20)])


def test_one_real_clip_is_no_threshold():
    with pytest.raises(ValueError, match="1 real clips with sound"):
        build.build(tiny()).standardise(torch.tensor([1.0]))


# Weights


def test_imagenet_weights_are_those_of_the_registry_and_never_random_in_silence(monkeypatch, caplog):
    import timm

    from visavox import weights

    torch.manual_seed(3)
    published = timm.create_model("test_efficientnet", num_classes=10).state_dict()
    monkeypatch.setattr(weights, "state_dict", lambda name: published)
    detector = build.build(tiny("detector.vis_weights=efficientnet_b0_imagenet"))
    with caplog.at_level("INFO"):
        detector.start_fresh()
    assert torch.equal(detector.streams.visual.net.conv_stem.weight, published["conv_stem.weight"])
    assert not torch.equal(detector.streams.audio.net.conv_stem.weight, published["conv_stem.weight"])
    assert "audio stream starts from random weights (detector.aud_weights=none)" in caplog.text
    del published["conv_stem.weight"]
    with pytest.raises(WeightsError, match="conv_stem.weight.*detector.vis_weights=none"):
        load_imagenet(detector.streams.visual, "visual", "efficientnet_b0_imagenet")


def test_imagenet_weights_that_are_missing_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    detector = build.build(tiny("detector.aud_weights=mobilenetv2_100_imagenet"))
    with pytest.raises(WeightsError, match="mobilenetv2_100"):
        detector.start_fresh()


# Probes


def test_moved_sound_is_moved_and_nothing_is_padded(make_bundle):
    bundle = bundle_of(make_bundle, 50)
    late, early = sound.moved(bundle, 3), sound.moved(bundle, -3)
    assert late.track_frames == early.track_frames == 47 and len(late.audio) == len(early.audio) == 47 * 640
    assert np.array_equal(late.frame(0), bundle.frame(3)) and np.array_equal(late.audio, bundle.audio[: 47 * 640])
    assert np.array_equal(early.frame(46), bundle.frame(46)) and np.array_equal(early.audio, bundle.audio[3 * 640 :])
    assert len(late.times) == len(late.landmarks) == 47 and late.times[0] == bundle.times[3]
    assert np.array_equal(sound.backwards(sound.backwards(bundle)).audio, bundle.audio)
    other = bundle_of(make_bundle, 20, 9)
    cut = sound.spliced(bundle, other, 0.4, 0.8, 16000).audio != bundle.audio
    assert 6400 <= np.flatnonzero(cut)[0] < 6410 and 19190 < np.flatnonzero(cut)[-1] < 19200
    assert len(sound.with_sound_of(bundle, other).audio) == len(bundle.audio)


# The example's figures


def test_figures_on_real_clips_are_shares_of_what_they_name():
    from examples.anomaly_real import summarise

    def clip(original: float, *moved: float) -> dict:
        return {"original": original, "moved": dict(zip("abcd", moved)), "backwards": moved[0]}

    apart = summarise([clip(0.1 * i, 3, 4, 5) for i in range(5)])
    assert apart["auc"][0] == 1 and apart["pairs"] == [1, 1, 1] and apart["backwards"] == 1
    mixed = summarise([clip(0, 1, -1), clip(10, 11, 9), clip(20, 21, 19), clip(30, 31, 29)])
    assert mixed["pairs"] == [0.5, 0.5, 0.5] and mixed["people"] == 4
    assert mixed["auc"][0] == pytest.approx(0.5) and mixed["auc"][1] <= 0.5 <= mixed["auc"][2]
