"""TimeSformer against the published code's numbers and timm's ViT, the latency network, key maps, build and load."""

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.config import ConfigError
from visavox.detectors import build
from visavox.detectors.timesformer.clip import Clip
from visavox.detectors.timesformer.detector import LatencyNet, MultimodalDetector
from visavox.detectors.timesformer.network import FeedForward, TimeSformer
from visavox.detectors.timesformer.pretrained import (
    from_huggingface,
    from_mmaction2,
    from_vit,
    load_pretrained,
    resize_grid,
    resize_time,
)
from visavox.weights import WeightsError, safe_load

KINDS = ("divided_space_time", "space_only", "joint_space_time")


def seeded(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values that depend on the name alone; no parameter is left at its start value, and outputs stay near 1."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if "norm" in name and name.endswith("weight"):
        values = 1 + 0.2 * values
    elif name.endswith("weight"):
        values = values / np.sqrt(np.prod(shape[1:]))
    else:
        values = 0.2 * values
    return torch.from_numpy(values).float()


def seed(module: nn.Module) -> dict[str, Tensor]:
    state = {name: seeded(name, tuple(value.shape)) for name, value in module.state_dict().items()}
    module.load_state_dict(state)
    return state


def small(attention_type: str = "divided_space_time", frames: int = 3, seeds: bool = True, **kwargs) -> TimeSformer:
    network = TimeSformer(frames, 16, 8, 16, 4, 3, attention_type=attention_type, **kwargs).eval()
    if seeds:
        seed(network)
    return network


def clips(count: int = 2, frames: int = 3, size: int = 16) -> Tensor:
    return seeded("frames", (count, 3, frames, size, size)).mul(2.5).clamp(-1, 1)


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


# The latency network


def test_latency_inputs_are_standardised_by_the_training_split():
    network = LatencyNet().eval()
    network.layers = nn.Identity()
    vectors = 5 + 3 * seeded("vectors", (200, 33))
    vectors[:, 4] = 2.0  # a column that never varies
    network.fit(torch.cat([vectors, torch.full((50, 33), torch.nan)]))
    standard = network(vectors)
    torch.testing.assert_close(standard.mean(0), torch.zeros(33), atol=1e-5, rtol=0)
    expected = torch.ones(33)
    expected[4] = 0
    torch.testing.assert_close(standard.std(0, correction=0), expected, atol=1e-5, rtol=0)
    assert network.mean[4] == 2
    assert network.std[4] == 1


def test_missing_audio_counts_as_the_training_means():
    network = LatencyNet().eval()
    network.fit(seeded("vectors", (20, 33)))
    silent = torch.full((1, 33), torch.nan)
    assert torch.equal(network(silent), network(network.mean[None]))
    mixed = torch.cat([silent, seeded("one", (1, 33))])
    mixed.requires_grad_()
    network(mixed).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_a_split_without_any_audio_gives_finite_features():
    network = LatencyNet().eval()
    network.fit(torch.full((4, 33), torch.nan))
    assert network(torch.full((2, 33), torch.nan)).isfinite().all()


def test_unfitted_latency_network_refuses_to_evaluate():
    with pytest.raises(RuntimeError, match="call fit"):
        LatencyNet().eval()(torch.zeros(1, 33))
    assert LatencyNet().train()(torch.zeros(1, 33)).shape == (1, 8)


# The detector, build and load

CONFIG = configuration.load(None, [
    *("frame_num=2", "frame_size=16", "bundle_faces=4", "vshift=3", "sync=correlation", "face_detector=haar"),
    *("detector.embed_dims=16", "detector.num_layers=2", "detector.num_heads=4", "detector.patch_size=8"),
])  # fmt: skip


def fitted(config: configuration.Config = CONFIG) -> MultimodalDetector:
    detector = build.build(config).eval()
    seed(detector.timesformer)
    rows = seeded("latency vectors", (12, 2 * config.vshift + 3)).numpy()
    detector.fit_inputs(SimpleNamespace(latency_vector=row) for row in rows)
    return detector


def batch(count: int = 2) -> Clip:
    return Clip(clips(count, 4), seeded("latency", (count, 9)))


def bundle(number: int = 0) -> Bundle:
    """A clip of noise, in the shapes that CONFIG wants."""
    rng = np.random.default_rng(number)
    mdist = rng.random(7).astype(np.float32) if number else np.full(7, np.nan, np.float32)
    return Bundle(
        faces=rng.integers(0, 256, (4, 16, 16, 3), np.uint8),
        mel_3cs=rng.uniform(-80, 0, (3, 128, 60)).astype(np.float16),
        mdist=mdist,
        latency=np.float32(mdist.argmin() - 3 if number else np.nan),
        conf=np.float32(np.median(mdist) - mdist.min()),
        **{"boxes": np.zeros((5, 4), np.float32), "landmarks": np.zeros((5, 5, 2), np.float32)},
        **{"det_score": np.ones(5, np.float32), "times": np.arange(5, dtype=np.float32) / 25, "fps": np.float32(25)},
        **{"audio": None, "track": None, "track_offsets": None, "status": "ok" if number else "no_audio"},
        **{"sync": "correlation", "landmark_source": "template", "notes": "", "settings": "{}", "prep_hash": ""},
        source_sha256="",
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A checkpoint as Lightning writes it."""
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.connect(fitted())
    trainer.save_checkpoint(path)
    return path


def test_build_makes_the_network_of_the_config():
    detector = build.build(CONFIG)
    assert detector.timesformer.time_embed.shape == (1, 4, 16)  # 2 faces, 2 mel images
    assert detector.timesformer.pos_embed.shape == (1, 1 + 4, 16)
    assert detector.latency.mean.shape == (9,)  # 7 distances, latency, confidence
    assert detector.classifier[-1].weight.shape == (1, 16 + 8)
    faces_only = build.build(CONFIG.model_copy(update={"mel_frames": False}))
    assert faces_only.timesformer.time_embed.shape == (1, 2, 16)


def test_reference_sizes():
    with torch.device("meta"):
        detector = build.build(configuration.Config())
    assert detector.timesformer.time_embed.shape == (1, 32, 768)
    assert detector.latency.layers[0].in_features == 33
    assert detector.classifier[-1].in_features == 776


def test_logit_depends_on_every_input():
    detector = fitted()
    detector.requires_grad_(False)
    frames, latency = (value.requires_grad_() for value in batch())
    logits = detector(Clip(frames, latency))
    assert logits.shape == (2,)
    logits.sum().backward()
    assert (latency.grad != 0).all()
    assert (frames.grad.abs().sum((1, 3, 4)) > 0).all()


def test_every_parameter_of_the_detector_learns():
    torch.manual_seed(0)  # stochastic depth may not drop the same branch of both clips
    detector = fitted().train()
    detector(batch()).square().sum().backward()
    assert [name for name, value in detector.named_parameters() if not value.grad.abs().sum() > 0] == []


def test_scores_do_not_depend_on_the_batch():
    detector, bundles = fitted(), [bundle(number) for number in range(8)]
    together = detector.score(bundles)
    singles = np.concatenate([detector.score([each]) for each in bundles])
    np.testing.assert_allclose(together, singles, atol=1e-5)
    np.testing.assert_allclose(together[::-1], detector.score(bundles[::-1]), atol=1e-5)
    assert np.isfinite(together).all()  # the first has no audio


def test_start_from_takes_the_timesformer_of_another_detector(saved):
    detector = build.build(CONFIG)
    report = detector.start_from(safe_load(saved))
    expected = fitted().timesformer.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in detector.timesformer.state_dict().items())
    assert not detector.latency.fitted
    assert {name.split(".")[0] for name in report.dropped} == {"latency", "classifier"}


def test_load_gives_the_trained_detector(saved):
    original = fitted()
    original.load_state_dict(torch.load(saved, weights_only=True)["state_dict"])
    detector = build.load(saved, ["submit_batch_size=4", "frame_num=2", "detector.checkpoint_activations=true"])
    assert not detector.training
    assert detector.config.submit_batch_size == 4
    assert torch.equal(detector(batch()), original(batch()))
    assert detector.latency.fitted
    assert torch.equal(detector.latency.mean, original.latency.mean)


@pytest.mark.parametrize(
    ("override", "asked", "trained"),
    [
        ("frame_num=4", "frame_num=4", "frame_num=2"),
        ("mel_frames=false", "mel_frames=False", "mel_frames=True"),
        ("face_margin=0.2", "face_margin=0.2", "face_margin=0.4"),
        ("sync=syncnet", "sync='syncnet'", "sync='correlation'"),
        ("detector.num_layers=3", "detector.num_layers=3", "detector.num_layers=2"),
    ],
)
def test_a_conflicting_override_is_refused_with_both_values(saved, override, asked, trained):
    with pytest.raises(ConfigError) as error:
        build.load(saved, [override])
    assert asked in str(error.value)
    assert trained in str(error.value)


def test_an_unknown_override_is_refused(saved):
    with pytest.raises(ConfigError, match="did you mean frame_num"):
        build.load(saved, ["frame_nmu=2"])


def test_files_that_are_no_checkpoint_are_refused_with_a_cure(tmp_path):
    path = tmp_path / "model.ckpt"
    with pytest.raises(WeightsError, match=r"model\.ckpt: no such checkpoint; train\.py writes"):
        build.load(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        build.load(path)
    torch.save({"state_dict": {"a": torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match="it holds no config; .*--pret-version"):
        build.load(path)
    torch.save(torch.zeros(1), path)
    with pytest.raises(WeightsError, match="it holds no config"):
        build.load(path)
    config = CONFIG.model_dump(mode="json")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hyper_parameters": {"config": config}}, path)
    with pytest.raises(WeightsError, match="do not fit its own config"):
        build.load(path)


class Payload:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickled_payload_does_not_run(tmp_path):
    path, trace = tmp_path / "model.ckpt", tmp_path / "it_ran"
    torch.save({"state_dict": {}, "hyper_parameters": {"config": Payload(trace)}}, path)
    with pytest.raises(WeightsError, match="would run code"):
        build.load(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the payload was a live one


@pytest.mark.slow
def test_full_size_forward():
    detector = build.build(configuration.Config())
    vectors = seeded("latency", (4, 33))
    detector.latency.fit(vectors)
    with torch.inference_mode():
        logit = detector.eval()(Clip(clips(1, 32, 224), vectors[:1]))
    assert logit.shape == (1,)
    assert logit.isfinite().all()
