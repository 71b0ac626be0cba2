"""Small backbones trained on clips of one's own: what is learnt, what is written, and where it is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_detector import TINY, settings
from test_features import sounding

from visavox.bundle import Bundle
from visavox.commands import pretrain_backbones as command
from visavox.detectors.td3mf import backbones
from visavox.detectors.td3mf.features import Extractor
from visavox.detectors.td3mf.pretraining import Examples, pretrain
from visavox.weights import WeightsError


def noisy(kind: str, backbone: Any, fake: bool, rng: np.random.Generator) -> np.ndarray:
    """Inputs of a clip; a fake is striped, or loud."""
    if kind == "video":
        images = rng.integers(0, 200, (64, 32, 32, 3), np.uint8)
        images[:, ::4] += np.uint8(50 * fake)
        return backbone.inputs(images.__getitem__, 64, 2)
    rate = backbone.sample_rate
    return backbone.inputs(rng.normal(0, 0.3 if fake else 0.01, 2 * rate).astype(np.float32), [0.0, 1.0])


@pytest.mark.parametrize(("kind", "name"), [("video", "marlin_vit_tiny"), ("audio", "eat_tiny")])
def test_a_backbone_learns_and_is_frozen(kind: str, name: str) -> None:
    rng = np.random.default_rng(0)
    loaded = backbones.load(name, kind, weights="random")
    sets = [
        Examples([noisy(kind, loaded.backbone, i % 2 == 1, rng) for i in range(count)], np.arange(count) % 2)
        for count in (32, 16)
    ]
    before = {key: value.clone() for key, value in loaded.backbone.parts[name].state_dict().items()}
    done = pretrain(loaded.backbone, *sets, epochs=12, batch=8, lr=5e-3)
    assert done.val_auc > 0.9 and 1 <= done.epoch <= 12
    after = loaded.backbone.parts[name]
    assert not after.training and not any(p.requires_grad for p in after.parameters())
    same = {key for key, value in after.state_dict().items() if torch.equal(value, before[key])}
    assert same < before.keys() and all("emb" in key or "positions" in key or "num_batches" in key for key in same)
    with pytest.raises(ValueError, match="one class only"):
        pretrain(loaded.backbone, sets[0], Examples(sets[1].inputs[::2], sets[1].labels[::2]))


@pytest.fixture
def root(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Path:
    """A split of clips whose fakes hum; the sound of one in each split is genuine though its picture is fake."""
    rows = []
    for split, count in (("train", 16), ("val", 8), ("test", 4)):
        for i in range(count):
            name, fake = f"{split}{i}", i % 2
            hum = 9000 * np.sin(2 * np.pi * 1500 * np.arange(32000) / 16000) * (fake and i > 1)
            audio = (np.random.default_rng(i).normal(0, 900, 32000) + hum).astype(np.int16)
            path = tmp_path / "data/bundles" / f"{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            sounding(make_bundle, 2, len(rows), audio=audio, source_sha256=name.ljust(64, "0")).save(path)
            rows.append([name, f"data/bundles/{name}.npz", split, fake, name, int(fake and i > 1)])
    table = pd.DataFrame(rows, columns=["filename", "filepath", "split", "label", "source", "audio_label"])
    table.to_csv(tmp_path / "data/split.csv", index=False)
    return tmp_path


def words(root: Path, *more: str) -> list[str]:
    return [
        *("--config", str(TINY), "--data-version", "split", "--output", str(root / "own"), "--epochs", "3"),
        *("--batch", "8", f"root_path={root}", "device=cpu", *more),
    ]


def test_the_command_writes_what_the_detector_takes(
    root: Path, make_bundle: Callable[..., Bundle], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words(root)) == 0
    said = capsys.readouterr()
    found = json.loads((root / "own/pretrained.json").read_text())
    assert json.loads(said.out) == found and found.keys() == {"marlin_vit_tiny", "eat_tiny"}
    assert found["eat_tiny"]["clips"] == {"train": 16, "val": 8}
    assert "marlin_vit_tiny: 16 clips, 8 of them fake in video" in said.err
    assert "eat_tiny: 16 clips, 7 of them fake in audio" in said.err, "by the column audio_label"

    bundle = sounding(make_bundle, 2)
    made = {
        weights: Extractor.build("marlin_vit_tiny", "eat_tiny", settings(), steps=8, weights=weights)
        for weights in (str(root / "own"), "random")
    }
    own, random = (extractor(bundle) for extractor in made.values())
    assert not np.allclose(own.video, random.video) and not np.allclose(own.audio, random.audio)
    assert own.stamp.video_sha256 != random.stamp.video_sha256

    before = {path: path.stat().st_mtime_ns for path in (root / "own").glob("*.pt")}
    assert len(before) == 2 and command.main(words(root)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what is there is kept"


def test_what_is_wrong(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["detector.audio_backbone=xvectors_posteriors_tiny", "detector.video_backbone=efficientface_tiny"]
    assert command.main(words(root, *more)) == 2
    assert "posteriors of speakers are not learnt from fakes" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="eat_tiny.pt: no such weights; `visavox pretrain-backbones --output"):
        backbones.load("eat_tiny", "audio", weights=str(root / "none"))
    (root / "none").mkdir()
    torch.save({"a": torch.zeros(1)}, root / "none/eat_tiny.pt")
    with pytest.raises(WeightsError, match="does not fit"):
        backbones.load("eat_tiny", "audio", weights=str(root / "none"))
    table = pd.read_csv(root / "data/split.csv")
    table["source"] = "one"
    table.to_csv(root / "data/split.csv", index=False)
    assert command.main(words(root)) == 2
    assert "backbones would be trained on people of the test" in capsys.readouterr().err
