"""TimeSformer's starts: timm's ViT, mmaction2's and Hugging Face's names, and what is refused."""

import pytest
import torch
from timesformer_values import KINDS, clips, seed, small
from timm.models.vision_transformer import VisionTransformer

from visavox.detectors.timesformer.network import TimeSformer
from visavox.detectors.timesformer.pretrained import (
    from_huggingface,
    from_mmaction2,
    from_vit,
    load_pretrained,
    resize_grid,
)
from visavox.weights import WeightsError

# Pretrained weights


def vit(size: int = 16, **kwargs) -> VisionTransformer:
    network = VisionTransformer(img_size=size, patch_size=8, embed_dim=16, depth=3, num_heads=4, **kwargs).eval()
    seed(network)
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_a_vit_start_is_the_vit_on_one_frame(kind):
    image, start = vit(num_classes=5), small(kind)
    report = load_pretrained(start, image.state_dict())
    assert report.source == "vit"
    assert report.dropped == ["head.weight", "head.bias"]
    assert set(report.loaded) == set(start.state_dict())
    frames = clips(4, 1)
    expected = image.forward_features(frames[:, :, 0])[:, 0]
    torch.testing.assert_close(start(frames), expected, atol=1e-5, rtol=0)
    if kind != "joint_space_time":
        torch.testing.assert_close(start(frames.expand(-1, -1, 3, -1, -1)), expected, atol=1e-5, rtol=0)


def test_a_vit_start_copies_space_into_time():
    state = from_vit(vit(num_classes=0).state_dict())
    for name, value in state.items():
        if ".attentions.1." in name:
            assert torch.equal(state[name.replace(".attentions.1.", ".attentions.0.")], value)
        if "temporal_fc" in name or name == "time_embed":
            assert not value.any()


def test_start_file_of_mmaction2_is_a_vit():
    """Its names are those of mmaction2's space_only TimeSformer."""
    image = vit(num_classes=0).state_dict()
    renamed = from_vit(image, "space_only")
    assert set(renamed) == set(small("space_only").state_dict())
    for kind in KINDS:
        one, other = small(kind), small(kind)
        assert load_pretrained(one, renamed).source == "vit"
        load_pretrained(other, image)
        assert torch.equal(one(clips()), other(clips()))


def test_another_patch_grid_is_interpolated():
    image, larger = vit(num_classes=0), TimeSformer(3, 32, 8, 16, 4, 3)
    report = load_pretrained(larger, image.state_dict())
    assert sorted(report.resized) == ["pos_embed", "time_embed"]
    assert torch.equal(larger.pos_embed[:, :1], image.pos_embed[:, :1])

    ramp = torch.linspace(0, 1, 8).repeat(8, 1).reshape(1, 64, 1)  # rises from left to right
    resized = resize_grid(torch.cat([torch.full((1, 1, 1), 7.0), ramp], 1), 16)
    assert resized[0, 0] == 7
    grid = resized[0, 1:].reshape(4, 4)
    assert (grid.diff(dim=1) > 0).all()
    torch.testing.assert_close(grid, grid[:1].expand(4, 4))


def test_mmaction2_recogniser_loads_and_its_head_is_reported():
    source, target = small(frames=3), small(frames=6, seeds=False)
    state = {f"backbone.{name}": value for name, value in source.state_dict().items()}
    assert from_mmaction2(state).keys() == source.state_dict().keys()
    report = load_pretrained(target, state | {"cls_head.fc_cls.weight": torch.zeros(400, 16)})
    assert report.source == "mmaction2"
    assert report.resized == ["time_embed"]
    assert report.dropped == ["cls_head.fc_cls.weight"]
    torch.testing.assert_close(target(clips(2, 6)), source(clips(2, 6)))


HUGGINGFACE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "time_embed": "embeddings.time_embeddings",
    "patch_embed.projection": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "attentions.0.norm": "temporal_layernorm",
    "attentions.0.attn.in_proj": "temporal_attention.attention.qkv",
    "attentions.0.attn.out_proj": "temporal_attention.output.dense",
    "attentions.0.temporal_fc": "temporal_dense",
    "attentions.1.norm": "layernorm_before",
    "attentions.1.attn.in_proj": "attention.attention.qkv",
    "attentions.1.attn.out_proj": "attention.output.dense",
    "ffns.0.norm": "layernorm_after",
    "ffns.0.layers.0.0": "intermediate.dense",
    "ffns.0.layers.1": "output.dense",
}


def as_huggingface(name: str) -> str:
    """A name of TimeSformer as transformers' TimesformerForVideoClassification has it."""
    name = name.replace("in_proj_", "in_proj.")
    place, dot, leaf = name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
    layer = ""
    if place.startswith("transformer_layers.layers."):
        _, _, number, place = place.split(".", 3)
        layer = f"encoder.layer.{number}."
    return f"timesformer.{layer}{HUGGINGFACE[place]}{dot}{leaf}"


@pytest.mark.parametrize("prefix", ["timesformer.", ""])
def test_huggingface_names_and_normalisation(prefix):
    """Pixels u in [0, 1] were (u - 0.45) / 0.225 there and are 2 u - 1 here."""
    source, target = small(), small(seeds=False)
    state = {as_huggingface(name): value for name, value in source.state_dict().items()}
    state = {name.replace("timesformer.", prefix, 1): value for name, value in state.items()}
    report = load_pretrained(target, state | {"classifier.weight": torch.zeros(400, 16)})
    assert (report.source, report.dropped) == ("huggingface", ["classifier.weight"])
    frames = clips()
    torch.testing.assert_close(target(frames), source(((frames + 1) / 2 - 0.45) / 0.225), atol=1e-5, rtol=0)

    same = from_huggingface(state, mean=0.5, std=0.5)
    assert all(torch.equal(same[name], value) for name, value in source.state_dict().items())


def test_what_does_not_fit_is_listed_and_refused():
    state = small().state_dict()
    state["extra.weight"] = state.pop("norm.bias")
    state["norm.weight"] = torch.ones(7)
    target = small(seeds=False)
    before = target.norm.weight.clone()
    with pytest.raises(WeightsError) as error:
        load_pretrained(target, state)
    for fault in ("1 missing ['norm.bias']", "1 unknown ['extra.weight']", "norm.weight (7,), expected (16,)"):
        assert fault in str(error.value)
    assert torch.equal(target.norm.weight, before)


def test_foreign_weights_are_refused():
    with pytest.raises(ValueError, match=r"no TimeSformer or ViT weights.*layer1\.0"):
        load_pretrained(small(), {"layer1.0.conv.weight": torch.zeros(1)})
