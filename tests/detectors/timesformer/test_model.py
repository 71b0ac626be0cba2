"""TimeSformer against the published code's numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from timesformer_values import KINDS, clips, seeded, small
from torch import nn
from torchvision.ops import StochasticDepth

from visavox.detectors.timesformer.network import FeedForward, TimeSformer
from visavox.detectors.timesformer.pretrained import (
    resize_time,
)

GOLDEN = json.loads((Path(__file__).parent / "goldens.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_the_published_code(kind):
    """GOLDEN: mmaction2 1.2.0 with mmcv 2.2.0 and mmengine 0.10.7 on the same weights and frames."""
    torch.testing.assert_close(small(kind)(clips()), torch.tensor(GOLDEN[kind]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "frames", "expected"),
    [
        ("divided_space_time", 8, 121_258_752),
        ("divided_space_time", 32, 121_277_184),
        ("space_only", 8, 85_798_656),
        ("joint_space_time", 8, 85_804_800),
    ],
)
def test_parameter_count_at_full_size(kind, frames, expected):
    with torch.device("meta"):
        network = TimeSformer(frames, 224, 16, attention_type=kind)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_parameter_names_of_mmaction2():
    names = set(small().state_dict())
    layer = "transformer_layers.layers.2"
    parts = [f"attentions.{i}.{part}" for i in (0, 1) for part in ("norm.weight", "norm.bias", "attn.in_proj_weight")]
    parts += [f"attentions.{i}.attn.{part}" for i in (0, 1) for part in ("in_proj_bias", "out_proj.weight")]
    parts += [f"attentions.{i}.attn.out_proj.bias" for i in (0, 1)]
    parts += ["attentions.0.temporal_fc.weight", "attentions.0.temporal_fc.bias", "ffns.0.norm.weight"]
    parts += ["ffns.0.norm.bias", "ffns.0.layers.0.0.weight", "ffns.0.layers.0.0.bias", "ffns.0.layers.1.weight"]
    parts += ["ffns.0.layers.1.bias"]
    assert {name for name in names if name.startswith(layer)} == {f"{layer}.{part}" for part in parts}
    assert {name for name in names if "layers" not in name} == {
        *("cls_token", "pos_embed", "time_embed", "norm.weight", "norm.bias"),
        *("patch_embed.projection.weight", "patch_embed.projection.bias"),
    }


def test_order_of_frames_matters_only_through_time():
    frames = clips()
    turned = frames.flip(2)
    assert (small()(frames) - small()(turned)).abs().max() > 0.01

    start = small(seeds=False)  # temporal_fc and time embedding start at zero
    torch.testing.assert_close(start(frames), start(turned), atol=1e-5, rtol=0)

    unordered = small("joint_space_time")
    nn.init.zeros_(unordered.time_embed)
    torch.testing.assert_close(unordered(frames), unordered(turned), atol=1e-5, rtol=0)


def test_temporal_attention_mixes_frames_of_one_patch():
    """Without spatial attention's change, a patch reaches the same patch of other frames and nothing else."""
    layer = small().transformer_layers["layers"][0].attentions[0]
    x = seeded("tokens", (1, 1 + 4 * 3, 16)).requires_grad_()
    layer(x, 3)[0, 1 + 2 * 3 + 1].sum().backward()  # patch 2, frame 1
    reached = x.grad[0].abs().sum(1).nonzero().flatten().tolist()
    assert reached == [1 + 2 * 3 + t for t in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layer_computes_no_more_than_is_read(kind):
    layer, x = small(kind).transformer_layers["layers"][-1], seeded("tokens", (2, 1 + 4 * 3, 16))
    alone = layer(x, 3, class_only=True)
    torch.testing.assert_close(alone, layer(x, 3)[:, :1], atol=1e-5, rtol=1e-5)


def test_batch_of_eight_equals_eight_singles():
    network, frames = small(), clips(8)
    singles = torch.cat([network(frame[None]) for frame in frames])
    torch.testing.assert_close(network(frames), singles, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_parameter(kind):
    network = small(kind, drop_path_rate=0.0).train()
    network(clips()).square().sum().backward()
    assert [name for name, value in network.named_parameters() if not value.grad.abs().sum() > 0] == []


def test_checkpointed_activations_give_the_same_gradients():
    gradients = []
    for checkpointed in (False, True):
        network = small(drop_path_rate=0.5, checkpoint_activations=checkpointed).train()
        torch.manual_seed(0)
        network(clips()).square().sum().backward()
        gradients.append(torch.cat([value.grad.flatten() for value in network.parameters()]))
    assert torch.equal(*gradients)


def test_drop_path_rises_linearly():
    network = TimeSformer(2, 16, 8, 16, 4, 12)
    rates = [layer.ffns[0].drop_path.p for layer in network.transformer_layers["layers"]]
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 12))
    for layer in network.transformer_layers["layers"]:
        assert len({part.p for part in layer.modules() if isinstance(part, StochasticDepth)}) == 1


def test_drop_path_acts_in_training_only():
    network, frames = small(drop_path_rate=0.9), clips()
    assert torch.equal(network(frames), network(frames))
    network.train()
    assert not torch.equal(network(frames), network(frames))


def test_drop_path_drops_whole_rows_and_scales_the_rest():
    branch, x = FeedForward(16, 0.5), seeded("x", (64, 3, 16))
    dropped = branch.train()(x)
    kept = dropped.flatten(1).any(1)
    assert 0 < kept.sum() < 64
    torch.testing.assert_close(dropped[kept], 2 * branch.eval()(x)[kept])


def test_another_number_of_frames_uses_the_nearest_time_embedding():
    embed = torch.arange(4.0).reshape(1, 4, 1)
    assert resize_time(embed, 8).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert resize_time(embed, 2).flatten().tolist() == [0, 2]

    network, longer = small(frames=3), small(frames=6)
    state = network.state_dict()
    longer.load_state_dict(state | {"time_embed": state["time_embed"].repeat_interleave(2, 1)})
    torch.testing.assert_close(network(clips(2, 6)), longer(clips(2, 6)))


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="frames are 32x32, this TimeSformer was built for 16x16"):
        small()(clips(size=32))


def test_attention_over_time_is_what_forward_uses():
    network = small()
    over_time = network.attention_over_time(clips())
    assert over_time.shape == (3, 2, 3, 3)
    torch.testing.assert_close(over_time.sum(-1), torch.ones(3, 2, 3))

    attention, x = network.transformer_layers["layers"][0].attentions[0].attn, seeded("x", (2, 5, 16))
    _, _, value = attention._heads(x)
    mixed = (attention.weights(x) @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.out_proj(mixed), attention(x))
    with pytest.raises(ValueError, match="no attention of its own along time"):
        small("space_only").attention_over_time(clips())
