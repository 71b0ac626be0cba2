"""The audio branch learns from files of ASVspoof's layout, and its weights start the detector."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import CHECKOUT

from visavox import config as configuration
from visavox.commands import pretrain_audio
from visavox.detectors import build

CONFIG = str(CHECKOUT / "configs/fiveway_tiny.json")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Bona fide: harmonics of a gliding pitch. Spoofed: the same without anything above 2 kHz."""
    rng = np.random.default_rng(0)
    for end, part, letter in (("train.trn", "train", "T"), ("dev.trl", "dev", "D"), ("eval.trl", "eval", "E")):
        folder = tmp_path / f"LA/ASVspoof2019_LA_{part}/flac"
        folder.mkdir(parents=True)
        lines = []
        for i in range(12):
            name, spoofed = f"LA_{letter}_{i:07d}", i % 2
            soundfile.write(folder / f"{name}.flac", voice(rng, 2000 if spoofed else 7000), 16000, subtype="PCM_16")
            lines.append(f"LA_00{i % 3} {name} - {'A01 spoof' if spoofed else '- bonafide'}")
        protocols = tmp_path / "LA/ASVspoof2019_LA_cm_protocols"
        protocols.mkdir(exist_ok=True)
        (protocols / f"ASVspoof2019.LA.cm.{end}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "LA"


def voice(rng: np.random.Generator, highest: float) -> np.ndarray:
    time = np.arange(12000) / 16000
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(1, 3) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    tones = [np.sin(k * phase) / k * (k * pitch < highest) for k in range(1, 60)]
    return (4000 * np.sum(tones, axis=0) + rng.normal(0, 20, len(time))).clip(-32768, 32767).astype(np.int16)


def test_it_learns_and_its_weights_start_the_branch(corpus, tmp_path, capsys):
    words = ["--root", str(corpus), "--output", str(tmp_path / "audio.pth"), "--config", CONFIG]
    how = ["--epochs", "12", "--batch", "6", "--lr", "5e-3", "detector.audio_standardise=false"]
    assert pretrain_audio.main([*words, *how]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["clips"] == {"train": 12, "val": 12, "test": 12} and metrics["val_eer"] <= 0.2
    assert metrics["test_auc"] >= 0.8

    detector = build.build(configuration.load(CONFIG, [f"detector.audio_weights={tmp_path / 'audio.pth'}"]))
    before = detector.audio.fc.weight.clone()
    detector.start_fresh()
    assert not before.equal(detector.audio.fc.weight)


def test_what_is_missing_is_said(corpus, tmp_path, capsys):
    words = ["--output", str(tmp_path / "audio.pth"), "--config", CONFIG]
    for path in (corpus / "ASVspoof2019_LA_dev/flac").iterdir():
        path.unlink()
    assert pretrain_audio.main(["--root", str(corpus), *words]) == 2
    assert "for val on the disk" in capsys.readouterr().err
    assert pretrain_audio.main(["--root", str(tmp_path / "LA/ASVspoof2019_LA_train"), *words]) == 2
    assert "as downloaded" in capsys.readouterr().err
    assert (
        pretrain_audio.main(["--root", str(corpus), *words[:2], "--config", str(CHECKOUT / "configs/tiny.json")]) == 2
    )
    assert "wanted is fiveway" in capsys.readouterr().err
