"""The form of TimeSformer that scores: the numbers of the network it was folded from, however it is cut into chunks."""

import copy

import pytest
import torch
from timesformer_values import CONFIG, bundle, clips, fitted, small

from visavox.detectors import build
from visavox.detectors.scorer import inference as inference_of
from visavox.detectors.timesformer import inference
from visavox.detectors.timesformer.inference import FoldedTimeSformer


def fold(network, dtype=torch.float32) -> FoldedTimeSformer:
    return FoldedTimeSformer(copy.deepcopy(network), dtype)


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
@pytest.mark.parametrize("frames", [3, 1, 5])
def test_it_computes_what_the_network_computes(chunk, frames, monkeypatch):
    monkeypatch.setattr(inference, "CHUNK", chunk)
    network, seen = small(), clips(2, frames)
    torch.testing.assert_close(fold(network)(seen), network(seen), atol=1e-5, rtol=1e-5)


def test_bfloat16_stays_near_and_holds_half():
    network = small()
    half = fold(network, torch.bfloat16)
    out = half(clips())
    assert out.dtype is torch.float32
    assert 0 < (out - network(clips())).abs().max() < 0.1  # outputs near 1
    assert {half.layers[0].widen.weight.dtype, half.layers[0].time.weight.dtype} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(half(clips()), out, atol=0, rtol=0)


def test_the_frames_it_is_given_stay_as_they_are():
    frames = clips()
    before = frames.clone()
    fold(small())(frames)
    assert torch.equal(frames, before)


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="frames are 24x24, this TimeSformer was built for 16x16"):
        fold(small())(clips(size=24))


def test_a_folded_detector_scores_as_before():
    bundles = [bundle(number) for number in range(4)]
    detector = fitted()
    expected, fewer = detector.score(bundles), detector.with_frames(1).score(bundles)
    detector = detector.for_inference(torch.float32)
    assert isinstance(detector.timesformer, FoldedTimeSformer)
    torch.testing.assert_close(detector.score(bundles), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(detector.with_frames(1).score(bundles), fewer, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["space_only", "joint_space_time"])
def test_other_attention_types_stay_as_they_are(kind):
    settings = CONFIG.detector.model_copy(update={"attention_type": kind})
    detector = build.build(CONFIG.model_copy(update={"detector": settings}))
    before = detector.timesformer
    detector = detector.for_inference(torch.bfloat16)
    assert detector.timesformer is before


def test_weights_are_merged_in_their_own_precision_whoever_scores():
    """Under the autocast of scoring the merged matrices would be products of bfloat16, and scores others."""
    detector = fitted()
    config = detector.config.model_copy(update={"score_precision": "bf16"})
    detector.config = config
    expected = copy.deepcopy(detector).for_inference(torch.bfloat16).timesformer.state_dict()
    with inference_of(detector) as ready:
        found = ready.timesformer.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
