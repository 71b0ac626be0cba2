"""What the examples share: clips that are made once, the same again, and refused where they are others."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from examples import common
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
