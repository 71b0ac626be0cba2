"""task=emotion: trained on tiny features by the classes of RAVDESS, measured and scored as classes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from test_detector import TINY, settings
from test_features import sounding

import visavox
from visavox.bundle import Bundle
from visavox.commands import evaluate, train
from visavox.config.td3mf import EMOTIONS
from visavox.corpora.__main__ import main as corpora
from visavox.detectors.td3mf.detector import TD3MF
from visavox.detectors.td3mf.features import Extractor, Features
from visavox.evaluation.metrics import accuracy_and_macro_f1
from visavox.splits.classes import Classes

ACTORS = {"train": ("01", "02", "03"), "val": ("11",), "test": ("05",)}


@pytest.fixture(scope="module")
def root(make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RAVDESS in small: eight emotions of five actors, bundles of random clips, and features that tell the emotion."""
    root = tmp_path_factory.mktemp("ravdess")
    config = settings()
    extract = Extractor.build("marlin_vit_tiny", "eat_tiny", config, steps=8, weights="random")
    plain = extract(sounding(make_bundle, 2))
    rng = np.random.default_rng(0)
    for actor in (actor for some in ACTORS.values() for actor in some):
        for emotion in range(1, 9):
            name = f"Actor_{actor}/01-01-{emotion:02d}-01-01-01-{actor}"
            video = root / "videos" / f"{name}.mp4"
            video.parent.mkdir(parents=True, exist_ok=True)
            video.touch()
            source = f"{actor}{emotion:02d}".ljust(64, "0")
            bundle = root / "data/bundles" / f"{name}.npz"
            bundle.parent.mkdir(parents=True, exist_ok=True)
            sounding(make_bundle, 2, source_sha256=source).save(bundle)
            seen = rng.normal(0, 0.3, plain.video.shape).astype(np.float32)
            seen[:, emotion - 1] += 3
            heard = rng.normal(0, 0.3, plain.audio.shape).astype(np.float32)
            heard[:, emotion - 1] += 3
            Features(seen, heard, plain.stamp, source).save(root / "features" / f"{name}.npz")
    words = ["--root", str(root / "videos"), "--bundles", str(root / "data/bundles"), "--protocol", "official"]
    assert corpora(["ravdess", *words, "--output", str(root / "data/ravdess.csv")]) == 0
    return root


def train_on(root: Path, version: str, *more: str, split: str = "ravdess") -> int:
    words = ["--config", str(TINY), "--data-version", split, "--code-version", version, f"root_path={root}"]
    words += [
        f"runs_path={root / 'runs'}",
        "device=cpu",
        "detector.task=emotion",
        f"detector.features={root / 'features'}",
    ]
    return train.main([*words, "train_batch_size=8", *more])


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    assert train_on(root, "emotion", "epoch=12", "lr=0.01") == 0
    return root / "runs/emotion"


def test_it_learns_to_tell_emotions_apart(run: Path) -> None:
    metrics = json.loads((run / "test.json").read_text())
    assert metrics["test_accuracy"] >= 0.75 and metrics["test_macro_f1"] >= 0.7, "features that tell the emotion"
    assert metrics["best_val_macro_f1"] >= 0.7 and metrics["n_test"] == 8 and "test_auc" not in metrics
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"train/loss", "val/loss", "val/accuracy", "val/macro_f1", "train/macro_f1"} <= rows[0].keys()
    assert not any("auc" in name for name in rows[0]) and float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])
    assert visavox.load(run / "best.ckpt").card.trained_on == "ravdess, 24 clips of 8 classes (emotion)"


def test_eval_writes_the_probability_of_each(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tmp_path / "in"
    (inputs / "Actor_05").mkdir(parents=True)
    for path in (root / "features/Actor_05").glob("*.npz"):
        (inputs / "Actor_05" / path.name).write_bytes(path.read_bytes())
    (inputs / "bad.npz").write_bytes(b"no features")
    output = tmp_path / "emotions.csv"
    words = ["--input", str(inputs), "--output", str(output), "--checkpoint", str(run / "best.ckpt"), "--workers", "1"]
    words += ["device=cpu"]
    assert evaluate.main([*words, "--labels", str(root / "data/ravdess.csv")]) == 0
    said = capsys.readouterr().out
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["filename", "emotion", *EMOTIONS] and len(rows) == 9
    model = TD3MF.load_from_checkpoint(run / "best.ckpt")
    right = 0
    for row in rows[:-1]:
        found = np.array([float(row[name]) for name in EMOTIONS])
        assert found.sum() == pytest.approx(1, abs=1e-6) and row["emotion"] == EMOTIONS[found.argmax()]
        alone = model.emotions([Features.load(root / "features" / row["filename"])])
        assert np.allclose(alone[0], found, atol=1e-6)
        right += row["emotion"] == EMOTIONS[int(row["filename"].split("-")[2]) - 1]
    assert rows[-1] == {"filename": "bad.npz", "emotion": "", **dict.fromkeys(EMOTIONS, "")}
    metrics = json.loads((run / "test.json").read_text())
    assert right / 8 == metrics["test_accuracy"] and f"accuracy {right / 8:.4f}, mean F1" in said
    details = [json.loads(line) for line in output.with_suffix(".details.jsonl").read_text().splitlines()]
    assert details[0]["classes"].keys() == set(EMOTIONS) and "classes" not in details[-1]

    table = tmp_path / "labels.csv"
    table.write_text("filename,label\na,0\n")
    assert evaluate.main([*words, "--labels", str(table)]) == 2
    assert "emotion" in capsys.readouterr().err
    more = ["--labels", str(table), "--report", str(tmp_path / "report")]
    assert evaluate.main([*words, *more]) == 2
    assert "--report: about P(fake), and the checkpoint tells apart neutral" in capsys.readouterr().err


def test_one_task_is_not_taken_for_the_other(run: Path, root: Path, make_bundle: Callable[..., Bundle]) -> None:
    model = TD3MF.load_from_checkpoint(run / "best.ckpt")
    features = Features.load(next((root / "features").rglob("*.npz")))
    with pytest.raises(ValueError, match="it gives no P"):
        model.predict(features)
    assert model.feature_extraction(features)["fused"].shape == (1, 16 + 16)
    torch.manual_seed(0)
    fake = visavox.detectors.build.build(settings())
    with pytest.raises(ValueError, match="it knows no emotions"):
        fake.emotions([sounding(make_bundle, 2)])


def test_a_split_without_emotions_says_what_is_missing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(root / "data/ravdess.csv", dtype=str, keep_default_na=False)

    def refused(changed: pd.DataFrame) -> str:
        changed.to_csv(root / "data/other.csv", index=False)
        assert train_on(root, "other", split="other") == 2
        assert not (root / "runs/other").exists()
        return capsys.readouterr().err

    assert "the column emotion is missing; `visavox corpora ravdess` writes it" in refused(rows.drop(columns="emotion"))
    angry = rows.copy()
    angry.loc[[0, 3], "emotion"] = ["furious", ""]
    said = refused(angry)
    assert "emotion is '', 'furious' in 2 of 40 rows" in said and "neutral, calm" in said and "line" in said
    assert "the train split holds 1 emotion(s), 2 are needed" in refused(
        rows[(rows["split"] != "train") | (rows["emotion"] == "calm")]
    )
    assert "the val split holds 0 emotion(s)" in refused(rows[rows["split"] != "val"])


def test_what_is_learnt_of_a_row() -> None:
    rows = pd.DataFrame({"label": [0, 1], "emotion": ["Calm", "surprised"], "split": ["train", "val"]})
    assert Classes("emotion", EMOTIONS).labels(rows).tolist() == [1, 7]
    assert Classes("emotion", EMOTIONS).describe([1, 7, 7]) == "3 clips of 2 classes (emotion)"


def test_accuracy_and_f1_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    for classes in (2, 5, 8):
        labels, found = rng.integers(0, classes, (2, 40))
        accuracy, f1 = accuracy_and_macro_f1(labels, found)
        assert accuracy == pytest.approx(accuracy_score(labels, found))
        assert f1 == pytest.approx(f1_score(labels, found, average="macro"))
