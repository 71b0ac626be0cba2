"""Published weights of Xception: which class means fake, what fits and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from xception_values import CONFIGS, tiny

from visavox import config as configuration
from visavox.detectors import build
from visavox.detectors.xception import __main__ as command
from visavox.detectors.xception.network import image_network
from visavox.detectors.xception.video import XceptionVideo
from visavox.files import sha256_of
from visavox.training.checkpoint import starting
from visavox.weights import WeightsError

pytestmark = pytest.mark.usefixtures("one_thread")


# Weights


def published(branch: str, folder: Path, monkeypatch) -> tuple[torch.nn.Module, Path]:
    """A stand-in for a published file under its registry name, and the network whose two classes it holds."""
    from visavox.weights import REGISTRY, store

    torch.manual_seed(0)
    if branch == "video":
        network = image_network("test_resnet", classes=2).eval()
        state = network.state_dict()
    else:
        network = build.build(tiny("audio")).eval()
        state = {name.replace("base.", "backbone."): value for name, value in network.state_dict().items()}
    entry = REGISTRY[f"xception_{branch}_favceleb"]
    path = folder / entry.file
    torch.save({"model_state_dict": state, "epoch": 3}, path)
    monkeypatch.setitem(REGISTRY, entry.name, replace(entry, size=path.stat().st_size, sha256=sha256_of(path)))
    monkeypatch.setattr(store, "folder", lambda: folder)
    return network, path


def p_fake(detector, theirs: torch.nn.Module, branch: str, fake_index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """P(fake) of a few inputs by our detector, and by their two classes when `fake_index` means fake."""
    if branch == "video":
        faces = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8)
        classes = theirs((faces.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        return torch.sigmoid(detector.frame_logits(faces)), classes.softmax(1)[:, fake_index]
    mels = torch.randn(4, 96, 96)
    classes = theirs.classifier(theirs.base(mels.unsqueeze(1).expand(-1, 3, -1, -1)))
    return torch.sigmoid(detector.window_logits(mels)), classes.softmax(1)[:, fake_index]


@pytest.mark.parametrize(("branch", "fake_index"), [("video", 0), ("audio", 1)])
@pytest.mark.parametrize("by", ["name", "path"])
def test_each_published_file_has_a_direction_of_its_own(branch, fake_index, by, tmp_path: Path, monkeypatch):
    """The video file's class 0 is fake, the audio file's class 0 is real; by its path a file is known by its sha256."""
    theirs, path = published(branch, tmp_path, monkeypatch)
    ours = build.build(tiny(branch)).eval()
    ours.start_from(starting(f"xception_{branch}_favceleb" if by == "name" else path))
    found, expected = p_fake(ours, theirs, branch, fake_index)
    assert torch.allclose(found, expected, atol=1e-5) and (expected - 0.5).abs().max() > 1e-3
    with pytest.raises(WeightsError, match=f"class {fake_index} means fake"):
        starting(path, 1 - fake_index)


@pytest.mark.parametrize("branch", ["video", "audio"])
@pytest.mark.parametrize("fake_index", [0, 1])
def test_a_file_that_nobody_knows_has_to_state_its_direction(branch, fake_index, tmp_path: Path, monkeypatch):
    theirs, _ = published(branch, tmp_path, monkeypatch)
    path = tmp_path / "unknown.pt"
    torch.save(theirs.state_dict(), path)
    ours = build.build(tiny(branch)).eval()
    with pytest.raises(WeightsError, match=r"--pret-fake-index of train, --video-fake-index"):
        ours.start_from(starting(path))
    ours.start_from(starting(path, fake_index))
    found, expected = p_fake(ours, theirs, branch, fake_index)
    assert torch.allclose(found, expected, atol=1e-5)


def test_fusing_published_files_turns_only_the_one_that_says_real(tmp_path: Path, monkeypatch, capsys):
    theirs = {branch: published(branch, tmp_path, monkeypatch)[0] for branch in ("video", "audio")}
    monkeypatch.setattr(command, "load_branch", lambda source, default, fake_index: _tiny_branch(source, fake_index))
    words = ["fuse", "--output", str(tmp_path / "pair.ckpt")]
    words += [f"--{branch}=xception_{branch}_favceleb" for branch in theirs]
    assert command.main(words) == 0, capsys.readouterr().err
    pair = build.load(tmp_path / "pair.ckpt")
    for branch, network, fake_index in (("video", theirs["video"], 0), ("audio", theirs["audio"], 1)):
        found, expected = p_fake(getattr(pair, branch), network, branch, fake_index)
        assert torch.allclose(found, expected, atol=1e-5), branch


def _tiny_branch(source: str, fake_index: int | None):
    """`load_branch` at the tiny networks' sizes."""
    detector = build.build(tiny(source.split("_")[1])).eval()
    detector.start_from(starting(source, fake_index))
    return detector


@pytest.mark.parametrize(
    ("backbone", "stranger"), [("test_resnet", "test_efficientnet"), ("test_efficientnet", "test_resnet")]
)
def test_imagenet_weights_leave_the_head_fresh_and_strangers_are_refused(backbone: str, stranger: str):
    """timm's ResNets call their last layer `fc`, its EfficientNets `classifier`."""
    theirs = image_network(backbone, classes=1000)
    for detector in (build.build(tiny(branch, f"detector.backbone={backbone}")) for branch in ("video", "audio")):
        head = {
            name: value.clone()
            for name, value in detector.state_dict().items()
            if "fc." in name or "classifier" in name
        }
        assert detector.start_from(theirs.state_dict()) == "ImageNet"
        loaded = detector.state_dict()
        if isinstance(detector, XceptionVideo):  # drawn anew, within what a linear layer's inputs allow
            features = detector.net.num_features
            assert all(loaded[name].abs().max() <= features**-0.5 for name in head)
        else:
            assert all(torch.equal(loaded[name], value) for name, value in head.items())
        name = next(iter(theirs.state_dict()))
        prefix = "net." if isinstance(detector, XceptionVideo) else "base."
        assert torch.equal(loaded[prefix + name], theirs.state_dict()[name])
        with pytest.raises(WeightsError):
            detector.start_from(image_network(stranger, classes=2).state_dict())


def test_the_networks_of_the_seed_have_its_sizes():
    video, audio = (configuration.load(CONFIGS / f"xception_{name}.json") for name in ("video", "audio"))
    assert (video.frame_size, video.detector.size, audio.detector.size, audio.detector.n_mels) == (299, 299, 299, 128)
    with torch.device("meta"):
        video, audio = build.build(video), build.build(audio)
    assert video.net.fc.weight.shape == (2, 2048)
    assert sum(p.numel() for p in video.net.parameters()) == 20_811_050
    assert [tuple(m.weight.shape) for m in audio.classifier if isinstance(m, torch.nn.Linear)] == [
        (512, 2048),
        (256, 512),
        (2, 256),
    ]
