"""What the examples share: clips that are made once, the same again, and refused where they are others; trainings done once."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from examples import common
from visavox.commands import train
from visavox.synthetic.fakes import KINDS

FEW: dict[str, Any] = {"identities": 2, "clips_per_identity": 1, "seconds": (1.0, 1.0), "workers": 1}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two clips of two people."""
    return common.make_clips(tmp_path_factory.mktemp("clips"), seed=3, **FEW)


def test_clips_that_are_there_are_not_made_again(labels: Path) -> None:
    made = sorted(labels.parent.rglob("*.mp4"))
    assert len(made) == len(pd.read_csv(labels)) == 2
    before = {path: path.stat().st_mtime_ns for path in (*made, labels)}
    assert common.make_clips(labels.parents[1], seed=3, **FEW) == labels
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"identities": 3},
        {"clips_per_identity": 2},
        {"seconds": (1.2, 1.2)},
        {"kinds": KINDS[2:]},
    ],
    ids=str,
)
def test_other_clips_than_those_asked_for_are_refused(labels: Path, other: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="holds 2 clips, of which .* give another --output, or the --seed"):
        common.make_clips(labels.parents[1], **({"seed": 3, **FEW} | other))


def test_a_training_is_done_once_and_one_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def noted(config: Any, **words: Any) -> dict[str, Any]:
        asked.append(words)
        return {"test_auc": 0.5}

    monkeypatch.setattr(train, "train", noted)
    config = common.settings(common.CONFIG, tmp_path, 5, ["epoch=2"])
    assert (config.root_path, config.seed, config.epoch) == (str(tmp_path), 5, 2)
    folder = tmp_path / "runs/one"
    assert common.train_once(config, "one", "split") == {"test_auc": 0.5}
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    common.train_once(config, "one", "split")
    assert [words["resume"] for words in asked] == [False, True]
    assert asked[0]["code_version"] == "one" and asked[0]["data_version"] == "split"
    (folder / "test.json").write_text('{"test_auc": 0.75}')
    common.train_once(config, "one", "split", done="gate.json")
    assert len(asked) == 3, "what training writes last is not there yet"
    assert common.train_once(config, "one", "split") == {"test_auc": 0.75} and len(asked) == 3
