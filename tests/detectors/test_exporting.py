"""Detectors for other programs: ONNX that gives torch's numbers or is not written, a folder that loads back, a citation."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import visavox
from visavox import config as configuration
from visavox.__main__ import main
from visavox.detectors import build
from visavox.detectors.analysis import ModelCard
from visavox.detectors.exporting import card as cards
from visavox.detectors.exporting import onnx as exporting
from visavox.training import checkpoint, hub
from visavox.weights import WeightsError

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def trained(tmp_path: Path):
    """trained(name): a checkpoint of a tiny configuration, with seeded weights."""

    def make(name: str) -> Path:
        config = configuration.load(CONFIGS / f"{name}.json")
        torch.manual_seed(5)
        detector = build.build(config)
        for buffer_name, buffer in detector.named_buffers():
            if buffer_name.endswith("fitted"):
                buffer.fill_(True)
        path = tmp_path / f"{name}.ckpt"
        checkpoint.write(path, config, detector.state_dict(), {"trained_on": "nothing, drawn by seed"})
        return path

    return make


@pytest.mark.parametrize("name", ["tiny", "xception_video_tiny"])
def test_onnx_gives_the_scores_of_torch_for_batches_of_any_size(name: str, trained, make_bundle, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export`")
    detector = build.load(trained(name))
    bundles = [make_bundle(i, config=detector.config) for i in range(3)]
    made = exporting.export(detector, bundles, tmp_path / "m.onnx")
    assert made.difference < 1e-5 and made.clips == 3 and list(tmp_path.glob("*.part*")) == []
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    clips = [detector.prepare(make_bundle(i, config=detector.config), None) for i in range(5)]
    for count in (1, 2, 5):
        batch = torch.utils.data.default_collate(clips[:count])
        given = {name: getattr(batch, name).numpy() for name in made.inputs}
        [logit] = session.run(["logit"], given)
        with torch.inference_mode():
            assert np.abs(logit.reshape(-1) - detector(batch).numpy()).max() < 1e-4
    held = dict(session.get_modelmeta().custom_metadata_map)
    assert held["visavox.output"] == "logit, higher = more fake" and len(held["visavox.checkpoint"]) == 64


def test_a_graph_that_differs_is_not_written(trained, make_bundle, tmp_path: Path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra `export`")
    detector = build.load(trained("xception_video_tiny"))
    bundles = [make_bundle(i, config=detector.config) for i in range(2)]
    real = exporting._run
    monkeypatch.setattr(exporting, "_run", lambda *given: real(*given) + 2e-4)
    with pytest.raises(exporting.ExportError, match="not written"):
        exporting.export(detector, bundles, tmp_path / "m.onnx")
    with pytest.raises(exporting.ExportError, match="two or more"):
        exporting.export(detector, bundles[:1], tmp_path / "m.onnx")
    assert not list(tmp_path.glob("m.onnx*"))


def test_a_hub_folder_loads_back_and_says_what_it_is(trained, make_bundle, tmp_path: Path):
    path, folder = trained("tiny"), tmp_path / "hub"
    report = tmp_path / "report"
    report.mkdir()
    auc = {"metrics": {"auc": {"value": 0.75, "low": 0.6, "high": 0.9}}, "n_real": 10, "n_fake": 12}
    (report / "report.json").write_text(json.dumps({"overall": auc, "provenance": {"labels": "test.csv"}}))
    assert main(["export", str(path), "--hub", str(folder), "--reported", str(report)]) == 0
    assert {each.name for each in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    ours, theirs = visavox.load(path, ["device=cpu"]), visavox.load(folder, ["device=cpu"])
    bundle = make_bundle(3, config=ours.config)
    assert ours.score([bundle])[0] == theirs.score([bundle])[0]
    assert theirs.card.trained_on == "nothing, drawn by seed" and theirs.card.checkpoint != ours.card.checkpoint
    text = (folder / "README.md").read_text()
    for part in (
        "| test.csv | 10 | 12 | 0.750 | 0.600 to 0.900 |",
        "higher = more fake",
        "Out of scope",
        "uncalibrated",
        "@software",
    ):
        assert part in text, part
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="model.safetensors missing"):
        visavox.load(folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    (folder / "config.json").write_text('{"format": "other"}')
    with pytest.raises(WeightsError, match="format is 'other'"):
        hub.read(folder)


def test_a_citation_names_the_checkpoint_and_what_it_rests_on(trained, capsys):
    assert main(["export", str(trained("tiny")), "--cite"]) == 0
    said = capsys.readouterr().out
    assert "@software{visavox," in said and "bertasius2021timesformer" in said and "chung2016syncnet" in said
    assert all(key in cards.ENTRIES[key] for key in cards.ENTRIES)
    assert "nothing is claimed" in cards.readme(ModelCard("tiny"), {}, [], "0")


def test_what_is_to_be_written_has_to_be_said(trained, capsys):
    path = str(trained("tiny"))
    for words in ([], ["--onnx", "m.onnx"]):
        with pytest.raises(SystemExit):
            main(["export", path, *words])
    assert "--on PATH" in capsys.readouterr().err


def test_onnxruntime_is_told_to_send_nothing_before_it_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)  # what stands before it cannot be imported
    with pytest.raises(exporting.ExportError, match="extra"):
        exporting.export(None, [], tmp_path / "x.onnx")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
