"""The notebook runs from top to bottom on a small run, and is kept without what it printed."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / "notebooks/inspect_checkpoint.ipynb"


def test_it_shows_a_run_from_all_sides(run: Path, data: Path, monkeypatch):
    for name, value in {
        "RUN": run,
        "CSV": data / "data/split.csv",
        "ROOT": data,
        "SPLIT": "test",
        "CLIPS": 500,
    }.items():
        monkeypatch.setenv(f"VISAVOX_{name}", str(value))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # streamlit sets it for its whole process
    notebook = nbformat.read(PATH, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    shown = {section(notebook, cell): cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    pictured = {
        name for name, outputs in shown.items() if any("image/png" in output.get("data", {}) for output in outputs)
    }
    assert pictured == {
        "How it learnt",
        "Scores",
        "Worst errors",
        "Attention over time",
        "What the latency network measures by",
    }
    assert "face_detector" in said(shown["Settings"]) and "haar" in said(shown["Settings"])
    assert "latency network" in said(shown["Size"])
    warnings = [output.text for outputs in shown.values() for output in outputs if output.get("name") == "stderr"]
    assert not warnings


def test_it_is_kept_without_outputs():
    cells = nbformat.read(PATH, as_version=4).cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")


def section(notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> str:
    """The heading that a cell stands under."""
    before = notebook.cells[: notebook.cells.index(cell)]
    headings = [c.source.splitlines()[0].lstrip("# ") for c in before if c.cell_type == "markdown"]
    return headings[-1]


def said(outputs: list[nbformat.NotebookNode]) -> str:
    return "".join(str(output.get("data", output.get("text"))) for output in outputs)
