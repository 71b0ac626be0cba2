"""The backbones of 2D3MF: the published numbers, what they see and hear, and how their weights are loaded."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from fusion_cases import FUSION_CASES
from td3mf_values import drawn, randomise, summary
from torch import Tensor

from visavox.detectors.td3mf import backbones
from visavox.detectors.td3mf.backbones import eat, efficientface, emotion2vec, marlin, mfcc, resnet, xvector
from visavox.detectors.td3mf.backbones.base import Backbone, windows
from visavox.weights import REGISTRY, WeightsError, store

GOLDENS = json.loads((Path(__file__).parent / "goldens.json").read_text())["values"]
ALL = [("video", name) for name in (*backbones.VIDEO, *backbones.TINY_VIDEO)]
ALL += [("audio", name) for name in (*backbones.AUDIO, *backbones.TINY_AUDIO)]

PUBLISHED: dict[str, Callable[[], Tensor]] = {
    "marlin_vit_small_ytf": lambda: video_encoder("marlin_vit_small_ytf")(drawn("clips", 1, 3, 16, 224, 224)),
    "marlin_vit_base_ytf": lambda: video_encoder("marlin_vit_base_ytf")(drawn("clips", 1, 3, 16, 224, 224)),
    "marlin_vit_tiny": lambda: video_encoder("marlin_vit_tiny")(drawn("clips", 1, 3, 16, 32, 32)),
    "efficientface": lambda: randomise(efficientface.EfficientFaceNetwork(efficientface.SIZES["efficientface"]))(
        drawn("images", 2, 3, 224, 224)
    ),
    "resnet": lambda: randomise(resnet.AudioResNetNetwork(64, 2))(drawn("mfcc", 2, 10, 87)),
    "eat": lambda: randomise(eat.EatEncoder(eat.SIZES["eat"]))(drawn("mel", 1, 1, 1024, 128)),
    "emotion2vec": lambda: randomise(emotion2vec.Emotion2vecEncoder(emotion2vec.SIZES["emotion2vec"]))(
        drawn("sound", 2, 16000)
    ),
    "xvectors": lambda: randomise(xvector.Tdnn(xvector.FULL))(drawn("bands", 2, 101, 24)),
    "xvectors_posteriors": lambda: randomise(xvector.Classifier(xvector.FULL))(drawn("vectors", 2, 512)),
    "xvectors filterbank": lambda: xvector.filterbank(0.1 * drawn("sound", 2, 16000)),
    "kaldi fbank": lambda: eat.fbank(0.1 * drawn("sound", 16000)),
}
PUBLISHED["efficientface of 2D3MF"] = PUBLISHED["efficientface"]
ATTENTION = ("marlin", "eat", "emotion2vec")


def video_encoder(name: str) -> torch.nn.Module:
    return randomise(marlin.MarlinEncoder(marlin.SIZES[name]))


@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_equals_the_published_network(name: str) -> None:
    assert summary(PUBLISHED[name]()) == pytest.approx(GOLDENS[name], abs=1e-4 if name.startswith(ATTENTION) else 1e-5)


def test_every_golden_number_is_read() -> None:
    assert GOLDENS.keys() == {*PUBLISHED, "finetune", *(case.name for case in FUSION_CASES)}


@pytest.mark.parametrize(
    "name, millions",
    [("marlin_vit_small_ytf", 22.48), ("marlin_vit_base_ytf", 87.43), ("marlin_vit_large_ytf", 305.47)],
)
def test_marlin_has_the_published_number_of_parameters(name: str, millions: float) -> None:
    with torch.device("meta"):
        encoder = marlin.MarlinEncoder(marlin.SIZES[name])
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6, 2) == millions


def pictures(seed: int = 0, size: int = 40) -> Callable[[int], np.ndarray]:
    return lambda t: np.random.default_rng(seed * 1000 + t).integers(0, 256, (size, size, 3), np.uint8)


def sound(rate: int, seconds: float = 3.3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize("name, steps", [("marlin_vit_tiny", 2), ("efficientface_tiny", 3)])
def test_video_backbones(name: str, steps: int) -> None:
    backbone = backbones.load(name, "video", weights="random").backbone
    features = backbone.features(pictures(), 80, 10)
    assert isinstance(backbone, Backbone) and backbone.sample_rate == 25
    assert features.shape == (steps, backbone.dim) and features.dtype == np.float32 and np.isfinite(features).all()
    assert np.array_equal(backbone.features(pictures(), 80, 1), features[:1]), "fewer steps are the first ones"
    assert steps == math.floor(80 / 25 / backbone.step)
    assert backbone.features(pictures(), 5, 10).shape == (1, backbone.dim)
    assert not np.allclose(backbone.features(pictures(1), 80, 10), features)


def test_which_frames_marlin_sees() -> None:
    assert marlin.clip_frames(100, 10) == [list(range(a, a + 32, 2)) for a in (0, 32, 64)]
    assert marlin.clip_frames(400, 10)[-1] == list(range(288, 320, 2))
    assert marlin.clip_frames(31, 10) == [list(range(16))]
    assert marlin.clip_frames(3, 10) == [[0, 1, 2, *[2] * 13]]


def test_which_frames_efficientface_sees() -> None:
    seen = efficientface.second_frames(60, 10)
    assert seen == [[1, 3, 6, 8, 11, 13, 16, 18, 21, 23], [t + 25 for t in (1, 3, 6, 8, 11, 13, 16, 18, 21, 23)]]
    assert efficientface.second_frames(4, 10) == [[0, 0, 1, 1, 1, 2, 2, 3, 3, 3]]


@pytest.mark.parametrize("name", ["MFCC", *backbones.TINY_AUDIO])
def test_audio_backbones(name: str) -> None:
    backbone = backbones.load(name, "audio", weights="random").backbone
    rate, starts = backbone.sample_rate, [0, 1.28, 2.56]
    features = backbone.features(sound(rate), starts)
    given = backbone.input(10)
    assert isinstance(backbone, Backbone)
    assert features.dtype == np.float32 and np.isfinite(features).all()
    assert features.shape[1] == given.dim == backbone.dim and len(features) <= given.steps
    assert features.ndim == (3 if given.kind == "mfcc" else 2)
    assert np.array_equal(backbone.features(sound(rate), starts), features)
    assert np.isfinite(backbone.features(np.zeros(rate // 50, np.float32), [0])).all(), "silence, shorter than a window"
    if not name.startswith("eat"):
        assert len(features) == 3
        alone = np.concatenate([backbone.features(sound(rate), [start]) for start in starts])
        assert np.allclose(alone, features, atol=1e-5), "a window does not depend on its neighbours"


def test_windows_of_sound() -> None:
    ramp = np.arange(10, dtype=np.float32)
    assert windows(ramp, 4, [0, 1.5, 2]).tolist() == [[0, 1, 2, 3], [6, 7, 8, 9], [8, 9, 0, 0]]


def test_mfcc_are_librosas() -> None:
    audio = sound(44_100, 2)
    found = mfcc.Mfcc().features(audio, [0, 1])
    assert found.shape == (2, 10, 87)
    assert np.allclose(found[1], librosa.feature.mfcc(y=audio[44_100:], sr=44_100, n_mfcc=10), atol=1e-4)
    assert mfcc.Mfcc(16_000).features(sound(16_000), [0]).shape == (1, 10, 32)


def test_eat_hears_as_many_patches_as_there_is_sound() -> None:
    backbone = backbones.build("eat_tiny", "audio")
    backbone.network.eval()
    assert backbone.input(10).steps == 64
    assert backbones.build("eat", "audio").input(10).steps == 512
    assert len(backbone.features(sound(16_000, 0.32), [0])) == 2 * 8
    assert len(backbone.features(sound(16_000, 0.33), [0])) == 3 * 8
    assert len(backbone.features(sound(16_000, 9), [0])) == 64
    assert eat.fbank(torch.zeros(16_000)).shape == (98, 128)


def test_equal_seeds_give_equal_random_weights() -> None:
    first, again, other = (backbones.load("resnet_tiny", "audio", weights="random", seed=seed) for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 != other.sha256
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    backbones.load("resnet_tiny", "audio", weights="random", seed=9)
    assert torch.equal(torch.rand(1), expected), "the caller's randomness is untouched"
    assert not any(p.requires_grad for p in first.backbone.network.parameters())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    return tmp_path


def test_published_weights_are_fitted_strictly(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = randomise(efficientface.EfficientFaceNetwork(efficientface.SIZES["efficientface"]))
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    state |= {"module.fc.weight": torch.ones(7, 1024), "module.fc.bias": torch.ones(7)}
    path = folder / REGISTRY["efficientface"].file
    torch.save({"state_dict": state}, path)
    with caplog.at_level("INFO"):
        loaded = backbones.load("efficientface", "video")
    assert f"{len(network.state_dict())} parameters from efficientface, 2 of the file unread" in caplog.text
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.backbone.network.state_dict().values(), network.state_dict().values())
    )
    assert loaded.sha256 == store.sha256_of(path)
    torch.save({"state_dict": {name: value for name, value in state.items() if "conv5.0" not in name}}, path)
    with pytest.raises(WeightsError, match="when it was first used"):
        backbones.load("efficientface", "video")
    (folder / f".{path.name}.first-use").unlink()
    with pytest.raises(WeightsError, match=r"1 missing \['conv5.0.weight'\]"):
        backbones.load("efficientface", "video")


def test_names_of_other_files_are_known() -> None:
    """MARLIN's files hold `encoder.`, and perhaps a decoder; EAT's file on Hugging Face has names of its own."""
    backbone = backbones.build("marlin_vit_tiny", "video")
    state = {f"encoder.{name}": value for name, value in backbone.encoder.state_dict().items()} | {
        "decoder.x": torch.ones(1)
    }
    named, unread = backbone.named("marlin_vit_tiny", state)
    assert named.keys() - backbone.encoder.state_dict().keys() == {"decoder.x"} and "decoder.*" in unread

    backbone = backbones.build("eat_tiny", "audio")
    own = backbone.network.state_dict()
    shorter = {ours: theirs for theirs, ours in eat._HUGGING_FACE.items()}
    published = {shorter.get(name, f"model.{name}"): value for name, value in own.items()}
    assert "model.pre_norm.weight" in published and "model.blocks.0.attn.qkv.weight" in published
    assert backbone.named("eat_tiny", published)[0].keys() == own.keys()


WITH_WEIGHTS = {
    ("video", "marlin_vit_small_ytf"): ["marlin_vit_small_ytf"],
    ("video", "marlin_vit_base_ytf"): ["marlin_vit_base_ytf"],
    ("video", "marlin_vit_large_ytf"): ["marlin_vit_large_ytf"],
    ("video", "efficientface"): ["efficientface"],
    ("audio", "xvectors"): ["xvector_voxceleb"],
    ("audio", "xvectors_posteriors"): ["xvector_voxceleb", "xvector_voxceleb_classifier"],
    ("audio", "resnet"): ["audio_resnet18_ravdess"],
    ("audio", "emotion2vec"): ["emotion2vec_base"],
    ("audio", "eat"): ["eat_base_epoch30"],
}
"""Backbone -> the registry entries of its parts."""


@pytest.mark.parametrize(("kind", "name"), WITH_WEIGHTS, ids=lambda value: value)
def test_missing_weights_say_what_to_put_where(kind: Any, name: str, folder: Path) -> None:
    """File, folder, address and command, of whichever part is missing first."""
    for entry in (REGISTRY[part] for part in WITH_WEIGHTS[kind, name]):
        with pytest.raises(WeightsError) as error:
            backbones.load(name, kind)
        first, *lines = str(error.value).splitlines()
        why = "they have to be downloaded by hand" if name == "efficientface" else "the network is switched off"
        assert first == f"{entry.name}: the weights are not here, and {why}."
        said = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in lines[1:]}
        assert said["file"] == entry.file and said["folder"].split()[0] == str(folder)
        assert said["from"] == entry.urls[0] and said["from"].startswith("https://") and len(entry.urls) == 1
        assert said["or"] == f"visavox weights fetch {entry.name} --from-dir DIR, where DIR holds it"
        (folder / entry.file).write_bytes(b"somebody's weights")
    with pytest.raises(WeightsError, match=re.escape(str(folder / REGISTRY[WITH_WEIGHTS[kind, name][0]].file))):
        backbones.load(name, kind)  # found where it was said, and no weights


def test_of_a_size_that_nobody_publishes_it_is_said(folder: Path) -> None:
    with pytest.raises(WeightsError, match="nobody publishes weights for this size"):
        backbones.load("marlin_vit_tiny", "video")
    assert {(kind, name) for kind, name in ALL if not name.endswith("_tiny")} == {*WITH_WEIGHTS, ("audio", "MFCC")}
    assert backbones.load("MFCC", "audio").backbone.parts == {}, "which has no weights"


def test_every_full_size_has_its_registry_entries() -> None:
    for kind, name in ALL:
        with torch.device("meta"):
            parts = backbones.build(name, kind).parts
        if name != "MFCC" and not name.endswith("_tiny"):
            assert parts and parts.keys() <= REGISTRY.keys()


@pytest.mark.parametrize(
    "name, kind, near",
    [("marlin_small", "video", "marlin_vit_small_ytf"), ("mfcc", "audio", "MFCC"), ("xvector", "audio", "xvectors")],
)
def test_an_unknown_name_names_the_nearest(name: str, kind: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"no such backbone; did you mean {near}\\?"):
        backbones.build(name, kind)
