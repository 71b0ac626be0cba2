"""`python -m examples.td3mf` on a few made bundles: what its lines are, what each hears or sees, and what is not done twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from examples import common, td3mf
from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.evaluation.metrics import auc
from visavox.synthetic.dataset import plan
from visavox.synthetic.fakes import KINDS

PEOPLE, CLIPS = 12, 4
KINDS_HALF = {"face_blended": "video_label", "voice_vocoded": "audio_label"}
WORDS = ["epoch=4", "train_batch_size=8", "lr=1e-2"]


@pytest.fixture(scope="module")
def root(make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles in place of clips: blended faces are bright, vocoded voices hum, the other fakes are as real ones."""
    root = tmp_path_factory.mktemp("td3mf")
    config = configuration.load(td3mf.CONFIG)
    rows = []
    for i, job in enumerate(plan(PEOPLE, CLIPS, 0, (1.0, 1.0), 0.5, KINDS, None)):
        rng = np.random.default_rng(i)
        low = 120 if job.kind == "face_blended" else 0
        jpegs = [cv2.imencode(".jpg", image)[1] for image in rng.integers(low, low + 136, (25, 16, 16, 3), np.uint8)]
        hum = 6000 * np.sin(2 * np.pi * 1500 * np.arange(16000) / 16000) * (job.kind == "voice_vocoded")
        bundle = make_bundle(
            i,
            config,
            track=np.concatenate(jpegs),
            track_offsets=np.cumsum([0, *map(len, jpegs)]),
            audio=(rng.normal(0, 900, 16000) + hum).astype(np.int16),
        )
        path = root / common.BUNDLES / Path(job.filename).with_suffix(".npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        bundle.save(path)
        row = {"filename": job.filename, "label": int(job.kind != "real"), "kind": job.kind, "identity": job.names}
        rows.append(row | {column: int(job.kind == kind) for kind, column in KINDS_HALF.items()})
    (root / common.VIDEOS).mkdir()
    pd.DataFrame(rows).to_csv(root / common.VIDEOS / "labels.csv", index=False)
    return root


@pytest.fixture(scope="module")
def made(root: Path, one_thread: None) -> dict[str, Any]:
    """What the example gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "make_clips", lambda root, **_: root / common.VIDEOS / "labels.csv")
        patch.setattr(common, "crop_clips", lambda root, **_: [])
        return td3mf.example(root, words=WORDS, epochs=3)


def test_the_lines_are_those_of_the_runs(root: Path, made: dict[str, Any]) -> None:
    rows = made["rows"]
    assert list(rows) == ["video", "audio", "random_video", "random_audio", "fusion", "shuffled"]
    assert json.loads((root / "td3mf.json").read_text())["rows"] == json.loads(json.dumps(rows))
    split = pd.read_csv(root / "data/td3mf.csv")
    test = split[split["split"] == "test"]
    assert not set(test["identity"]) & set(split.loc[split["split"] != "test", "identity"])
    for name, row in rows.items():
        scores = pd.read_csv(
            root / "runs" / ("td3mf_shuffled/fusion" if name == "shuffled" else f"td3mf/{name}") / "test_scores.csv"
        )
        assert set(scores["filename"]) == set(test["filename"]) and row["clips"] == len(test), name
        assert row["identities"] == test["identity"].nunique() > 1
        assert row["auc"] == pytest.approx(auc(scores["label"].to_numpy(), scores["probability"].to_numpy()))
        assert row["low"] <= row["auc"] <= row["high"] and set(row["by_kind"]) == set(KINDS)
        for kind, value in row["by_kind"].items():
            some = scores[(scores["label"] == 0) | (scores["kind"] == kind)]
            assert value == pytest.approx(auc(some["label"].to_numpy(), some["probability"].to_numpy()), abs=1e-4)


def test_each_probe_finds_what_its_half_shows_and_no_more(made: dict[str, Any]) -> None:
    of = {name: row["by_kind"] for name, row in made["rows"].items()}
    assert of["video"]["face_blended"] > 0.9 and of["audio"]["voice_vocoded"] > 0.9
    assert of["video"]["voice_vocoded"] < 0.9 and of["audio"]["face_blended"] < 0.9
    assert made["backbones"]["td3mf"].keys() == {"marlin_vit_tiny", "eat_tiny"}


def test_only_training_and_validation_are_shuffled(root: Path, made: dict[str, Any]) -> None:
    true, shuffled = (
        pd.read_csv(root / f"data/{name}.csv").set_index("filename") for name in ("td3mf", "td3mf_shuffled")
    )
    labels = ["label", "video_label", "audio_label"]
    assert true.drop(columns=labels).equals(shuffled.drop(columns=labels))
    for part in ("train", "val"):
        one, other = (table.loc[table["split"] == part, labels] for table in (true, shuffled))
        assert not one.equals(other)
        assert sorted(map(tuple, one.to_numpy())) == sorted(map(tuple, other.to_numpy())), (
            "the same labels, other clips"
        )
    assert true.loc[true["split"] == "test", labels].equals(shuffled.loc[shuffled["split"] == "test", labels])


def test_what_is_there_is_not_made_again(root: Path, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from visavox.commands import pretrain_backbones, train

    kept = [*root.rglob("best.ckpt"), *(root / "backbones").rglob("*.pt"), *root.rglob("runs/**/features*/*.npz")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len([path for path in before if path.name == "best.ckpt"]) == 6
    monkeypatch.setattr(common, "make_clips", lambda root, **_: root / common.VIDEOS / "labels.csv")
    monkeypatch.setattr(common, "crop_clips", lambda root, **_: [])

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("done twice")

    monkeypatch.setattr(train, "train", never)
    monkeypatch.setattr(pretrain_backbones, "_train_one", never)
    again = td3mf.example(root, words=WORDS, epochs=3)
    assert again["rows"] == made["rows"] and again["backbones"] == made["backbones"]
    assert {path: path.stat().st_mtime_ns for path in kept} == before
