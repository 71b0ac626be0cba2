"""The notebook of the five branches runs from top to bottom on a small run, and is kept without what it printed."""

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import CHECKOUT
from nbclient import NotebookClient
from scipy.special import expit

from visavox.detectors.fiveway import fusion
from visavox.detectors.fiveway.fusion import FEATURES

PATH = CHECKOUT / "notebooks/fiveway.ipynb"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves: histories of five stages, the features of 160 clips, a fusion fitted on half of them, the gate."""
    root = tmp_path_factory.mktemp("fiveway")
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2
    kind = np.where(labels == 0, "real", np.array(["face_blended", "voice_vocoded"])[np.arange(160) // 2 % 2])
    sees = {"audio": "voice_vocoded", "tiny": "face_blended", "visual": "face_blended", "temporal": "face_blended"}
    table = pd.DataFrame({"filename": [f"{i}.mp4" for i in range(160)], "label": labels, "kind": kind})
    table["group"] = [f"id{i // 4}" for i in range(160)]
    table["split"] = np.where(np.arange(160) // 4 % 2, "val", "test")
    for name in FEATURES:
        found = kind == sees.get(name.split("_")[0], "none")
        table[name] = expit(rng.normal(0, 1, 160) + 2.5 * found) if "prob" in name else 4.0
    val = table[table["split"] == "val"]
    columns = {name: val[name].to_numpy() for name in FEATURES}
    fusion.fit(columns, val["label"].to_numpy(), val["group"].to_numpy(), fitted_on="made clips").save(
        root / "fusion.json"
    )
    table.to_csv(root / "features.csv", index=False)
    for stage in ("tiny", "visual", "temporal", "audio", "sync"):
        (root / stage).mkdir()
        history = pd.DataFrame({"epoch": [0, 1], "train/loss": [0.7, 0.6], "val/loss": [0.7, 0.65]})
        history.to_csv(root / stage / "metrics.csv", index=False)
    (root / "gate.json").write_text(
        '{"threshold": 0.2, "recall": 1.0, "low": 0.9, "high": 1.0, "fakes": 40, "exits": 0.1, '
        '"test": {"exits": 0.1, "seconds_per_clip": 0.2, "seconds_per_clip_with_gate": 0.18}}'
    )
    return root


def test_it_shows_a_run_from_all_sides(run, monkeypatch):
    monkeypatch.setenv("VISAVOX_RUN", str(run))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(PATH, as_version=4)
    NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    pictured, said = set(), ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = cell.source.splitlines()[0].lstrip("# ")
            continue
        said += "".join(str(output.get("data", output.get("text"))) for output in cell.outputs)
        pictured |= {heading for output in cell.outputs if "image/png" in output.get("data", {})}
        assert not [output for output in cell.outputs if output.get("name") == "stderr"]
    assert pictured == {
        "How the branches learnt",
        "ROC of each combination",
        "Confusion matrices",
        "Features by class",
        "What the fusion weighs",
        "Reliability before and after the temperature",
    }
    assert "5way" in said and "voice_vocoded" in said and "log-odds for a fake" in said and "recall 1.000" in said


def test_it_is_kept_without_outputs():
    cells = nbformat.read(PATH, as_version=4).cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")
