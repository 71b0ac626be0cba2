"""The notebook of the five branches trains them on a few clips and shows the run; it is kept without what it printed."""

import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import CHECKOUT
from nbclient import NotebookClient

PATH = CHECKOUT / "notebooks/fiveway.ipynb"
FULL = "IDENTITIES, CLIPS, SECONDS, WORDS = 48, 12, (2.4, 3.4), []"
EPOCHS = [f"{name}=2" for name in ("epoch", *(f"detector.{stage}_epochs" for stage in ("temporal", "audio", "sync")))]
SMALL = f"IDENTITIES, CLIPS, SECONDS, WORDS = 16, 2, (1.0, 1.2), {EPOCHS}"
"""32 clips of 16 people, so that two are in the validation split."""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nbformat.NotebookNode, Path]:
    """The notebook after it has run from top to bottom, and the folder of the run that it made."""
    demo = tmp_path_factory.mktemp("demo")
    notebook = nbformat.read(PATH, as_version=4)
    setup = notebook.cells[1]
    assert FULL in setup.source
    setup.source = setup.source.replace(FULL, SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISAVOX_DEMO", str(demo))
        patch.delenv("VISAVOX_RUN", raising=False)
        patch.delenv("MPLBACKEND", raising=False)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    return notebook, demo / "runs/fiveway"


def test_it_trains_the_branches_on_what_each_of_them_reads(executed):
    _, run = executed
    for stage in ("tiny", "visual", "temporal", "audio", "sync"):
        history = pd.read_csv(run / stage / "metrics.csv")
        assert len(history) == 2 and history[["train/loss", "val/loss"]].notna().all(axis=None), stage
    table = pd.read_csv(run / "features.csv")
    assert set(table["split"]) == {"val", "test"} and {"audio_label", "video_label", "kind"} <= set(table)
    assert not set(table.loc[table["split"] == "val", "group"]) & set(table.loc[table["split"] == "test", "group"])
    gate = json.loads((run / "gate.json").read_text())
    assert not gate["open"] and "stays shut" in gate["said"]


def test_it_shows_the_run_from_all_sides(executed):
    notebook, _ = executed
    pictured, said, heading = set(), "", ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = cell.source.splitlines()[0].lstrip("# ")
            continue
        said += "".join(str(output.get("data", output.get("text"))) for output in cell.outputs)
        pictured |= {heading for output in cell.outputs if "image/png" in output.get("data", {})}
        if heading != "Training the branches":  # which shows its progress
            assert not [output for output in cell.outputs if output.get("name") == "stderr"]
    assert pictured == {
        "How the branches learnt",
        "ROC of each combination",
        "Confusion matrices",
        "Features by class",
        "What the fusion weighs",
        "Reliability before and after the temperature",
    }
    assert "5way" in said and "voice_vocoded" in said and "log-odds" in said and "the gate stays shut" in said


def test_it_is_kept_without_outputs():
    cells = nbformat.read(PATH, as_version=4).cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")
