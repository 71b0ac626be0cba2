"""The fusion network: the published numbers, every combination trains, masks and dropped modalities."""

import itertools
import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from fusion_cases import FUSION_CASES, FusionCase, finetuned_inputs, fusion_inputs, our_finetuned, our_fusion
from td3mf_values import randomise, summary
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from visavox.detectors.td3mf.network import AudioInput, FusionNetwork, FusionType, drop_modality, load_published
from visavox.weights import WeightsError

GOLDENS = json.loads((Path(__file__).parent / "goldens.json").read_text())["values"]

TINY = {
    "MFCC": (AudioInput("mfcc", 10, 7), (7, 10, 13)),
    "eat": (AudioInput("vectors", 12, 16), (16, 12)),
    "emotion2vec": (AudioInput("vectors", 12, 7), (7, 12)),
    "resnet": (AudioInput("vectors", 8, 7), (7, 8)),
    "xvectors": (AudioInput("posteriors", 11, 7, projected=12), (7, 11)),
}
COMBINATIONS = list(itertools.product(get_args(FusionType), ("mf", "lf"), TINY))


def tiny(audio: str, fusion: str = "mf", fusion_type: str = "default", **more: object) -> FusionNetwork:
    torch.manual_seed(0)
    return FusionNetwork(
        video_dim=6, audio=TINY[audio][0], hidden=8, steps=7, fusion=fusion, fusion_type=fusion_type, **more
    )


def clips(audio: str, count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 7, 6, generator=generator), torch.randn(count, *TINY[audio][1], generator=generator)


@pytest.mark.parametrize("case", FUSION_CASES, ids=lambda case: case.name)
@torch.no_grad()
def test_equals_the_published_network(case: FusionCase) -> None:
    found = summary(randomise(our_fusion(case))(*fusion_inputs(case)))
    assert found == pytest.approx(GOLDENS[case.name], abs=1e-4 if case.probe == "none" else 1e-5)


@torch.no_grad()
def test_equals_the_published_network_with_its_encoder() -> None:
    found = summary(randomise(our_finetuned())(*finetuned_inputs()))
    assert found == pytest.approx(GOLDENS["finetune"], abs=1e-4)


@pytest.mark.parametrize("fusion_type, fusion, audio", COMBINATIONS)
def test_every_combination_trains_and_scores(fusion_type: str, fusion: str, audio: str) -> None:
    network = tiny(audio, fusion, fusion_type)
    assert len(COMBINATIONS) == 60
    video, sound = clips(audio)
    labels = torch.tensor([0.0, 1.0, 0.0, 1.0])
    optimiser = torch.optim.Adam(network.parameters(), 5e-3, betas=(0.5, 0.9))
    losses = []
    for _ in range(3):
        loss = binary_cross_entropy_with_logits(network(video, sound)[:, 0], labels)
        optimiser.zero_grad()
        loss.backward()
        unused = [name for name, value in network.named_parameters() if value.grad is None]
        assert not unused, "a parameter that nothing reads"
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    with torch.no_grad():
        logits = network.eval()(video, sound)
    assert logits.shape == (4, 1) and logits.isfinite().all()


@pytest.mark.parametrize("fusion_type, fusion, audio", COMBINATIONS)
@torch.no_grad()
def test_masked_steps_and_modalities_do_not_reach_the_logit(fusion_type: str, fusion: str, audio: str) -> None:
    network = randomise(tiny(audio, fusion, fusion_type, audio_positional_encoding=True))
    video, sound = clips(audio)
    seen, heard = torch.ones(4, 7, dtype=torch.bool), torch.ones(4, TINY[audio][0].steps, dtype=torch.bool)
    whole = network(video, sound, seen, heard)
    assert torch.allclose(whole, network(video, sound), atol=1e-6), "full masks change nothing"

    seen[:2, 5:], heard[:2, 4:] = False, False
    scores = network(video, sound, seen, heard)
    other_video, other_sound = video.clone(), sound.clone()
    other_video[:2, 5:], other_sound[:2, 4:] = 9.0, -9.0
    assert torch.equal(network(other_video, other_sound, seen, heard), scores)
    assert torch.allclose(scores[2:], whole[2:], atol=1e-6), "a clip does not depend on its neighbours' masks"

    deaf = torch.zeros_like(heard)
    silent = network(video, sound, torch.ones_like(seen), deaf)
    assert silent.isfinite().all() and not torch.allclose(silent, whole)
    assert torch.equal(silent, network(video, sound.roll(1, 0), torch.ones_like(seen), deaf)), "the sound is not heard"
    assert not torch.allclose(silent, network(video.roll(1, 0), sound, torch.ones_like(seen), deaf)), "the face is seen"
    features = network.fused(video, sound, torch.ones_like(seen), deaf)
    assert not features[:, : network.audio_width].any()

    blind = torch.zeros_like(seen)
    dark = network(video, sound, blind, torch.ones_like(heard))
    assert torch.equal(dark, network(video.roll(1, 0), sound, blind, torch.ones_like(heard)))
    assert not torch.allclose(dark, network(video, sound.roll(1, 0), blind, torch.ones_like(heard)))
    assert not network.fused(video, sound, blind, torch.ones_like(heard))[:, network.audio_width :].any()


@pytest.mark.parametrize("probe, read", [("video", 0), ("audio", 1)])
@torch.no_grad()
def test_a_probe_reads_one_modality(probe: str, read: int) -> None:
    network = randomise(tiny("resnet", probe=probe))
    inputs = list(clips("resnet"))
    logits = network(*inputs)
    changed = [x.roll(1, 0) for x in inputs]
    assert torch.equal(network(*(changed[i] if i != read else x for i, x in enumerate(inputs))), logits)
    assert not torch.allclose(network(*(changed[i] if i == read else x for i, x in enumerate(inputs))), logits)
    assert {name.split(".")[0] for name in network.state_dict()} == {
        "lp_only_fc" if probe == "video" else "audio_only_fc"
    }


def test_an_encoder_is_trained_along() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 6)

        def forward(self, clips: Tensor) -> Tensor:
            assert clips.shape == (28, 3, 16, 4, 4)
            return self.fc(clips.mean(dim=(2, 3, 4)))

    network = tiny("resnet", encoder=Encoder())
    frames = torch.rand(4, 7, 16, 3, 4, 4)
    network(frames, clips("resnet")[1]).sum().backward()
    assert network.model.fc.weight.grad.abs().sum() > 0


def test_dropped_modalities() -> None:
    video, sound = clips("resnet", 400)
    seen, heard = torch.ones(400, 7, dtype=torch.bool), torch.ones(400, 7, dtype=torch.bool)
    heard[:50] = False

    def drop(how: str, p: float = 0.5) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(3)
        return drop_modality(video, sound, seen, heard, probability=p, how=how, generator=generator)

    v, a, see, hear = drop("noise")
    no_video, no_audio = (v != video).flatten(1).any(1), (a != sound).flatten(1).any(1)
    assert not (no_video & no_audio).any() and not (no_video | no_audio)[:50].any()
    assert 0.4 < (no_video | no_audio)[50:].float().mean() < 0.6 and abs(int(no_video.sum()) - int(no_audio.sum())) < 60
    assert v[no_video].mean().abs() < 0.1 and 0.9 < v[no_video].std() < 1.1
    assert see is seen and hear is heard
    v, a, see, hear = drop("mask")
    assert v is video and a is sound
    assert torch.equal(~see.any(1), no_video) and torch.equal(~hear.any(1)[50:], no_audio[50:])
    assert see[:50].all()
    assert all(torch.equal(x, y) for x, y in zip(drop("noise", 0.0), (video, sound, seen, heard)))


def test_a_published_checkpoint_of_the_wrong_width_leaves_the_classifier_fresh() -> None:
    network = tiny("emotion2vec")
    state = dict(network.state_dict())
    state |= {"classifier_1.0.weight": torch.ones(1, 16), "vv.attn.q.weight": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"1 unknown \['vv.attn.q.weight'\]"):
        load_published(network, state)
    del state["vv.attn.q.weight"]
    state |= {"eat_down.conv1.weight": torch.ones(2, 2), "av2.norm2.weight": torch.ones(8)}
    before = network.state_dict()["classifier_1.0.weight"].clone()
    report = load_published(network, state)
    assert report.fresh == ("classifier_1.0.weight", "classifier_1.0.bias")
    assert report.unread == ("eat_down.conv1.weight", "av2.norm2.weight")
    assert torch.equal(network.state_dict()["classifier_1.0.weight"], before)
    with pytest.raises(WeightsError, match="its classifier reads 30 features, 20 were expected"):
        load_published(network, state | {"classifier_1.0.weight": torch.ones(1, 30)})
    with pytest.raises(WeightsError, match="1 missing"):
        load_published(network, {key: value for key, value in state.items() if key != "project_down.bias"})


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads=3 does not divide hidden_layers=8"):
        tiny("resnet", heads=3)
    with pytest.raises(ValueError, match="6 steps are too few for fusion=mf"):
        FusionNetwork(video_dim=6, audio=TINY["eat"][0], hidden=8, steps=6)
    FusionNetwork(video_dim=6, audio=TINY["eat"][0], hidden=8, steps=1, fusion="lf")
