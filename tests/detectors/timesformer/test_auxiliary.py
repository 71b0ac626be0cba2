"""Where and when a made fake is forged: the targets, what moves them, what is said of every frame."""

from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.config import ConfigError
from visavox.detectors.build import build
from visavox.detectors.steps import NoCurve, steps_of
from visavox.detectors.timesformer.auxiliary import Auxiliary, TaughtClip, loss, targets
from visavox.detectors.timesformer.clip import clips_of_all_frames
from visavox.pseudofakes.forgery import Segment
from visavox.training.augment import augment_with_masks
from visavox.training.batch import Example

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """50 frames of 64 pixels, each as bright as twice its number."""
    T = 50
    jpegs = [cv2.imencode(".jpg", np.full((64, 64, 3), 2 * t, np.uint8))[1] for t in range(T)]
    return make_bundle(
        0,
        boxes=np.tile(np.float32([10, 20, 110, 120]), (T, 1)),
        landmarks=np.tile(np.float32([[20, 24], [44, 24], [32, 36], [24, 46], [40, 46]]), (T, 1, 1)),
        det_score=np.full(T, np.float32("nan")),
        times=(np.arange(T) / 25).astype(np.float32),
        audio=np.random.default_rng(0).integers(-3000, 3000, 32000).astype(np.int16),
        track=np.concatenate(jpegs),
        track_offsets=np.cumsum([0, *map(len, jpegs)]),
    )


def fake_of(*segments: Segment, masks: np.ndarray | None = None):
    return SimpleNamespace(segments=segments, masks=masks)


def test_heat_is_highest_on_the_boundary_and_time_says_how_much_is_blended_in():
    masks = np.zeros((3, 64, 64), np.uint8)
    masks[1, :32] = 255
    masks[1, 32:48] = 128
    heat, forged = targets(fake_of(Segment(5, 9, "picture")), np.array([4, 5, 9]), masks, side=4)
    half = 128 / 255
    expected = np.array([0, 0, 4 * half * (1 - half), 0])[:, None].repeat(4, 1)
    assert torch.allclose(heat[1], torch.from_numpy(expected).float(), atol=1e-6)
    assert not heat[0].any() and not heat[2].any() and forged.tolist() == [0, 1, 0]
    masks[1] = np.minimum(masks[1], 64)
    assert targets(fake_of(Segment(5, 9, "picture")), np.array([4, 5, 9]), masks, 4)[1][1] == pytest.approx(64 / 255)
    heat, forged = targets(fake_of(Segment(5, 9, "sound")), np.array([4, 5, 8, 9]), None, side=4)
    assert not heat.any() and forged.tolist() == [0, 1, 1, 0]
    heat, forged = targets(None, np.arange(4), None, side=4)
    assert not heat.any() and not forged.any()


def test_masks_move_with_the_faces():
    """A face that is its own mask stays so, mirrored or not: what is moved apart differs."""
    square = np.zeros((2, 64, 64), np.uint8)
    square[:, 8:24, 4:28] = 255
    mirrored = 0
    for seed in range(12):
        faces, masks = augment_with_masks(np.repeat(square[..., None], 3, 3), square, np.random.default_rng(seed))
        bright = faces.mean(3) > 127
        assert np.mean(bright == (masks > 127)) > 0.97, seed
        mirrored += bool(masks[0, :, 36:60].any())
    assert 0 < mirrored < 12


def test_the_loss_is_the_published_sum():
    torch.manual_seed(0)
    clip = TaughtClip(torch.zeros(0), torch.zeros(0), torch.rand(2, 3, 4, 4), torch.tensor([[0.0, 1, 1], [0, 0, 0]]))
    logits, labels, heat, time = (
        torch.tensor([2.0, -2.0]),
        torch.tensor([1.0, 0.0]),
        torch.rand(2, 3, 4, 4),
        torch.rand(2, 3),
    )
    known = 0.8 * np.log1p(np.exp(-1.0)) + 100 * float(((heat - clip.heat) ** 2).mean())
    softplus = torch.nn.functional.softplus
    known += 0.2 * float((softplus(time) - time * clip.forged).mean())
    assert float(loss(logits, labels, heat, time, clip)) == pytest.approx(known, rel=1e-6)


def test_heads_see_the_moment_they_speak_of():
    torch.manual_seed(0)
    tokens = torch.randn(1, 16, 4, 8)  # eight faces, then eight mel images
    head = Auxiliary(8, 2)
    heat, time = head(tokens, 8)
    assert heat.shape == (1, 8, 2, 2) and time.shape == (1, 8)
    for place in (1, 12):  # a face, and the mel image of moment 4: that moment changes more than one far from it
        changed = tokens.clone()
        changed[:, place] += 3
        other = (head(changed, 8)[1] - time)[0].detach().abs()
        near = [t for t in range(8) if abs(t - place % 8) <= 2]
        assert other[near].mean() > 2 * other[[t for t in range(8) if abs(t - place % 8) > 4] or [7]].mean(), other


def test_every_frame_is_shown_once_and_judged(bundle: Bundle):
    config = configuration.load("tiny", ["device=cpu", "frame_num=8", "detector.auxiliary=true", *MADE])
    shown = [at for at, _ in clips_of_all_frames(bundle, config)]
    assert set(np.concatenate(shown)) == set(range(50)) and all(len(at) == 8 for at in shown)
    for at, clip in clips_of_all_frames(bundle, config):
        assert np.allclose(clip.frames[0, :8].mean((1, 2)) * 127.5 + 127.5, 2 * at, atol=2)
    torch.manual_seed(0)
    detector = build(config)
    detector.latency.fitted.fill_(True)
    steps = steps_of(detector.for_inference(torch.float32), bundle)
    assert len(steps.times) == len(steps.fake) == 50 and 0 < steps.fake.min() < steps.fake.max() < 1
    analysis = detector.explain(bundle)
    assert len(analysis.timeline) == 10 and analysis.timeline == analysis.branches[0].timeline
    assert analysis.probability == pytest.approx(float(detector.score([bundle])[0]))
    assert analysis.timeline[2].probability == pytest.approx(steps.fake[10:15].mean())


MADE = ['fakes=["sbv"]', "train_on=real", "train_batch_size=4"]


def test_a_few_steps_lower_the_loss_and_reach_both_heads():
    torch.manual_seed(0)
    config = configuration.load("tiny", ["device=cpu", "detector.auxiliary=true", *MADE])
    detector = build(config)
    forged = torch.tensor([[0.0, 1, 1, 0], [0] * 4] * 2)
    frames = torch.rand(4, 3, 8, 64, 64)
    frames[:, :, :4] *= 1 - 2 * forged[:, None, :, None, None]  # what is forged is dark
    clip = TaughtClip(frames, torch.zeros(4, 33), 0.5 * forged[..., None, None].expand(4, 4, 4, 4), forged)
    batch = Example(clip, torch.tensor([1.0, 0, 1, 0]))
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        value = detector.judged(batch)[1]
        value.backward()
        losses.append(float(value.detach()))
        assert all(p.grad is not None and p.grad.any() for p in detector.auxiliary.parameters())
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0], losses


def test_without_it_there_is_no_curve_and_without_fakes_no_training(bundle: Bundle):
    torch.manual_seed(0)
    plain = build(configuration.load("tiny", ["device=cpu"]))
    with pytest.raises(NoCurve, match=r"detector\.auxiliary=true"):
        plain.steps(bundle)
    with pytest.raises(ConfigError, match="give fakes"):
        build(configuration.load("tiny", ["device=cpu", "detector.auxiliary=true"])).check_inputs()
