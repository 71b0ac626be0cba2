"""`visavox lomo`: a training without each manipulation, judged on it; what is trained is not trained again."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from visavox.bundle import Bundle
from visavox.commands import lomo, train

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = {"-": 60, "dark/0": 10, "bright": 190}
"""Kind of a clip, and the grey level of its faces: real clips stand between the two manipulations."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Bundle]) -> Path:
    """Six people, two in each split, with a real clip and one fake of each kind."""
    root, rows = tmp_path_factory.mktemp("lomo"), []
    for person in range(6):
        for number, (kind, grey) in enumerate(KINDS.items()):
            seed = 10 * person + number
            faces = np.random.default_rng(seed).integers(grey, grey + 20, (8, 64, 64, 3)).astype(np.uint8)
            path = root / f"data/bundles/{seed}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            make_bundle(seed, faces=faces).save(path)
            split = ("train", "val", "test")[person // 2]
            rows.append((f"{seed}.mp4", path.relative_to(root), split, int(kind != "-"), f"p{person}", kind))
    columns = ["filename", "filepath", "split", "label", "source", "kind"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "data/all.csv", index=False)
    return root


def words(root: Path, *more: str) -> list[str]:
    settings = [f"root_path={root}", f"runs_path={root / 'runs'}", "epoch=2", "device=cpu"]
    return ["--config", "tiny", "--data-version", "all", *more, *settings]


def test_each_manipulation_is_left_out_once_and_judged(root: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    assert lomo.main(words(root, "--column", "kind")) == 0
    said = capsys.readouterr().out
    assert "left out" in said and "kind=dark/0 is left out of train and val" in said
    with (root / "runs/lomo/lomo.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {row["left_out"] for row in table} == {"dark/0", "bright"} and [row["fakes"] for row in table] == ["2", "2"]
    for row in table:
        assert all(0 <= float(row[f"{which}_auc"]) <= 1 for which in ("unseen", "seen"))
        assert float(row["unseen_low"]) <= float(row["unseen_auc"]) <= float(row["unseen_high"])
    assert float(table[0]["unseen_auc"]) <= float(table[1]["unseen_auc"])
    for name, left in (("dark_0", "dark/0"), ("bright", "bright")):
        part = pd.read_csv(root / f"data/all-without-{name}.csv")
        fakes = part[part["label"] == 1]
        assert set(fakes.loc[fakes["split"] == "test", "kind"]) == {left}
        assert left not in set(fakes.loc[fakes["split"] != "test", "kind"]) and (part["label"] == 0).sum() == 6
        assert (root / "runs/lomo" / name / "test.json").is_file()
    monkeypatch.setattr(train, "train", None)  # whatever would be trained again fails
    before = (root / "runs/lomo/lomo.csv").read_text()
    assert lomo.main(words(root, "--column", "kind")) == 0
    assert (root / "runs/lomo/lomo.csv").read_text() == before


def test_what_names_no_manipulations_is_refused(root: Path, capsys):
    assert lomo.main(words(root)) == 2
    assert "--column method: no such column; found filename" in capsys.readouterr().err
    assert lomo.main(words(root, "--column", "label")) == 2
    assert "two at least are needed" in capsys.readouterr().err
