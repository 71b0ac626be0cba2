"""GenD: published names, the published alignment and losses, norms alone trained, and a judge of files."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import visavox
from visavox import config as configuration
from visavox.config import GenDConfig
from visavox.detectors import build
from visavox.detectors.gend.augment import augment
from visavox.detectors.gend.losses import alignment, uniformity
from visavox.detectors.gend.network import INPUTS, GenDNetwork, picture_input, published_names
from visavox.detectors.published import MODELS, gend
from visavox.preprocessing.alignment import PLACES, align, natural_size
from visavox.training.batch import Example
from visavox.weights import REGISTRY, WeightsError, loading

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[3]


def tiny() -> GenDNetwork:
    torch.manual_seed(0)
    return GenDNetwork("test_vit", size=64)


@pytest.mark.parametrize(("backbone", "entries", "width"), [("clip_l14", 26, 1024), ("dinov3_l16", 26, 1024)])
def test_a_layer_of_the_published_backbones_has_the_published_names(backbone: str, entries: int, width: int):
    pytest.importorskip("transformers", reason="the extra `foundation`")
    net = GenDNetwork(backbone, layers=1)
    names = set(net.state_dict())
    first = {
        "clip_l14": "feature_extractor.vision_model.encoder.layers.0.self_attn.k_proj.weight",
        "dinov3_l16": "feature_extractor.backbone.model.layer.0.attention.k_proj.weight",
    }[backbone]
    assert {first, "model.linear.weight", "model.linear.bias"} <= names and len(names) == entries
    written = {
        name.replace("backbone.model.layer.", "backbone.layer."): value for name, value in net.state_dict().items()
    }
    other = GenDNetwork(backbone, layers=1)
    assert loading.fit(other, published_names(written), what="x").loaded == entries
    assert net.model.linear.weight.shape == (2, width)
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(images), other.eval()(images), rtol=0, atol=0)


def test_the_logit_is_the_log_odds_of_the_class_fake():
    net, images = tiny().eval(), torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        seen = net.see(images)
        torch.testing.assert_close(torch.sigmoid(net(images)), seen.logits.softmax(1)[:, 1])
        torch.testing.assert_close(seen.features.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(seen.logits, net.model.linear(seen.features))


def test_a_backbone_that_nobody_knows_names_those_that_are_near():
    with pytest.raises(ValueError, match="clip_l14"):
        GenDNetwork("clip_l15")


def test_an_aligned_face_has_its_landmarks_where_they_belong():
    """A frame in which each landmark is a bright dot, turned and moved."""
    turn = np.radians(25)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = (PLACES - 0.5) * 90 @ rotation.T + (160, 140)
    size = natural_size(landmarks)
    assert size == round(90 * 1.3)
    frame = np.zeros((300, 320, 3), np.uint8)
    for x, y in landmarks:
        yy, xx = np.mgrid[0:300, 0:320]
        frame[np.hypot(xx - x, yy - y) < 2.5] = 255
    face = align(frame, landmarks, 224)
    assert face is not None and face.shape == (224, 224, 3)
    for place in PLACES:
        x, y = (place + 0.15) / 1.3 * 224
        yy, xx = np.mgrid[0:224, 0:224]
        near = np.hypot(xx - x, yy - y) < 12
        weight = face[..., 0] * near
        found = (weight * xx).sum() / weight.sum(), (weight * yy).sum() / weight.sum()
        assert np.hypot(found[0] - x, found[1] - y) < 1
    assert align(frame, np.zeros((5, 2)), 224) is None


def test_losses_of_known_points():
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    distances = torch.tensor([2.0, 4, 2, 2, 4, 2])  # squared
    assert uniformity(square).item() == pytest.approx(math.log(torch.exp(-2 * distances).mean().item()), abs=1e-6)
    assert alignment(square, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(2.0, abs=1e-6)
    assert alignment(square, torch.arange(4)).item() == 0 and uniformity(square[:1]).item() == 0
    assert uniformity(square[:1].repeat(3, 1)).item() == 0  # all at one place: the worst there is


def test_norms_alone_are_trained(make_bundle):
    config = configuration.load(ROOT / "configs/gend_tiny.json", ["detector.train=norms"])
    torch.manual_seed(0)
    detector = build.trainable(config)
    trained = {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    assert trained and all("norm" in name or name.startswith("net.model.linear") for name in trained)
    assert any("norm" in name for name in trained)
    batch = Example(
        clip=type(detector.prepare(make_bundle(0, config=config)))(
            torch.stack([detector.prepare(make_bundle(i, config=config)).images for i in range(4)])
        ),
        label=torch.tensor([0.0, 1, 0, 1]),
        **{name: None for name in Example._fields if name not in ("clip", "label")},
    )
    detector.log = lambda *args, **kwargs: None
    optimiser = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    before = {name: parameter.detach().clone() for name, parameter in detector.named_parameters()}
    for _ in range(6):
        loss = detector.training_step(batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {name for name, parameter in detector.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed and changed <= trained


def test_a_clip_is_the_mean_of_its_faces(make_bundle):
    config = configuration.load(ROOT / "configs/gend_tiny.json")
    torch.manual_seed(0)
    detector = build.trainable(config).eval()
    bundle = make_bundle(1, config=config)
    analysis = detector.explain(bundle)
    assert len(analysis.timeline) == 8 and analysis.probability == pytest.approx(detector.score([bundle])[0])
    assert analysis.probability == pytest.approx(np.mean([part.probability for part in analysis.timeline]))
    clip = detector.prepare(bundle)
    with torch.inference_mode():
        together = torch.sigmoid(detector(type(clip)(clip.images[None])))
        one = torch.sigmoid(detector.net(clip.images)).mean()
    assert together.item() == pytest.approx(one.item(), abs=1e-6)


def test_augmentation_changes_all_faces_alike():
    face = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    a, b = augment([face, face.copy()], np.random.default_rng(3))
    assert np.array_equal(a, b) and a.shape == face.shape and a.dtype == np.uint8 and not np.array_equal(a, face)


def test_inputs_are_those_of_the_published_preprocessors():
    """Square pictures, as aligned faces are. GenD pins transformers 4.56, whose CLIP resizes with Pillow; 5 does by torch."""
    pytest.importorskip("transformers", reason="the extra `foundation`")
    import timm
    from PIL import Image
    from transformers import DINOv3ViTImageProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    faces = [np.random.default_rng(i).integers(0, 256, (s, s, 3), np.uint8) for i, s in enumerate((150, 224, 391))]
    data = timm.data.resolve_data_config(
        {}, pretrained_cfg=timm.get_pretrained_cfg("vit_pe_core_large_patch14_336").to_dict()
    )
    pe = timm.data.create_transform(**data | {"input_size": (3, 224, 224)}, is_training=False)
    clip, dino = CLIPImageProcessorPil(), DINOv3ViTImageProcessor()
    published = {
        "clip_l14": lambda image: clip(images=image, return_tensors="pt")["pixel_values"][0],
        "dinov3_l16": lambda image: dino(images=image, return_tensors="pt")["pixel_values"][0],
        "vit_pe_core_large_patch14_336": pe,
    }
    for name, wanted in INPUTS.items():
        for face in faces:
            expected = torch.as_tensor(np.asarray(published[name](Image.fromarray(face))))
            torch.testing.assert_close(wanted(face), expected, atol=1e-5, rtol=0, msg=name)
    assert picture_input("vit_pe_core_large_patch14_336", 224) == INPUTS["vit_pe_core_large_patch14_336"]
    assert picture_input("test_vit", 64).size == 64


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch) -> Path:
    """A weights folder with a small network under GenD's names, and a tiny face finder that sees one face in the middle."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(folder))
    monkeypatch.setitem(gend.BACKBONES, "gend_pe_l", "test_vit")
    monkeypatch.setitem(INPUTS, "test_vit", picture_input("test_vit", 160))
    torch.manual_seed(1)
    save_file(GenDNetwork("test_vit", size=160).state_dict(), folder / "gend_pe_l.safetensors")
    (folder / "gend_pe_l.config.json").write_text(json.dumps({"backbone": "vit_pe", "head": "LinearNorm"}))

    from visavox.faces import Detections

    class Middle:
        name, landmark_source = "middle", "template"

        def detect(self, frames):
            return [
                Detections(
                    np.float32([[10, 10, 80, 80]]), np.float32([0.9]), (PLACES[None] * 60 + 15).astype(np.float32)
                )
                for _ in frames
            ]

    monkeypatch.setattr(gend, "RetinaFaceDetector", lambda *args, **kwargs: Middle())
    real = loading.state_dict
    monkeypatch.setattr(loading, "state_dict", lambda name: {} if name == gend.FACES else real(name))
    return folder


def test_a_published_file_judges_a_video_and_is_trusted_on_first_use(made_up: Path, talking: Path, caplog):
    video = sorted(talking.rglob("*.mp4"))[0]
    analysis = visavox.detect(video, "gend_pe_l", device="cpu")
    assert 0 < analysis.probability < 1 and analysis.timeline and "unverified" in caplog.text
    file = made_up / REGISTRY["gend_pe_l"].file
    content = file.read_bytes()
    noted = (made_up / f".{file.name}.first-use").read_text()
    assert noted.startswith(hashlib.sha256(content).hexdigest())
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match="when it was first used"):
        visavox.detect(video, "gend_pe_l", device="cpu")


def test_a_head_that_nobody_knows_is_refused(made_up: Path, talking: Path):
    (made_up / "gend_pe_l.config.json").write_text("{}")
    with pytest.raises(WeightsError, match="expected linear or LinearNorm"):
        gend.network("gend_pe_l")


def test_settings_and_registry_agree():
    for name in gend.BACKBONES:
        assert set(MODELS[name].weights) <= set(REGISTRY) and REGISTRY[name].fake_index == 1
    config = configuration.load(ROOT / "configs/gend.json")
    assert config.detector == GenDConfig() and config.detector.uniformity == 0.5 and config.detector.alignment == 0.1
    assert replace(INPUTS["clip_l14"], size=100) == picture_input("clip_l14", 100)


def test_train_and_eval_tune_the_norms_alone_on_real_clips_and_fakes_made_of_them(data: Path, tmp_path: Path):
    """train.py on pairs, a clip and a fake made of it in one batch, from a backbone that is given; then eval.py."""
    import csv

    from visavox.commands import evaluate, train
    from visavox.training import checkpoint

    save_file(tiny().state_dict(), tmp_path / "start.safetensors")
    begun = {f"net.{name}": value for name, value in tiny().state_dict().items()}
    words = ["--config", str(ROOT / "configs/gend_tiny.json"), "--data-version", "split", "--code-version", "gend"]
    words += ["--pret-version", str(tmp_path / "start.safetensors"), f"root_path={data}", f"runs_path={tmp_path}"]
    small = [
        "detector.train=norms",
        'fakes=["sbv"]',
        "train_on=real",
        "epoch=2",
        "train_batch_size=2",
        "frame_num=2",
        "device=cpu",
    ]
    assert train.main([*words, *small]) == 0
    best = tmp_path / "gend" / "best.ckpt"
    found = checkpoint.read(best)
    detector = build.trainable(found.config)
    tuned = {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    changed = {name for name, value in begun.items() if not torch.equal(value, found.state[name])}
    assert changed == tuned and 0 < len(tuned) < len(begun)
    assert all("norm" in name or name.startswith("net.model.linear") for name in tuned)
    steps = torch.load(tmp_path / "gend" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert steps >= 3
    scores = tmp_path / "scores.csv"
    assert (
        evaluate.main(
            ["-input", str(data / "data/bundles"), "-output", str(scores), "--checkpoint", str(best), "device=cpu"]
        )
        == 0
    )
    with scores.open() as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == 12 and all(0 < float(row[1]) < 1 for row in rows)
