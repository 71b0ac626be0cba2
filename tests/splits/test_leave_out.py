"""One manipulation left out: its fakes stand in the test alone, and the test has no others."""

import pandas as pd
import pytest

from visavox.splits.protocols import leave_out, share_out
from visavox.splits.table import SplitError


def table(text: bool = False) -> pd.DataFrame:
    rows = []
    for split in ("train", "val", "test"):
        rows += [(f"{split}{i}", split, 0, "real") for i in range(3)]
        rows += [(f"{split}{method}{i}", split, 1, method) for method in ("a", "b", "c") for i in range(2)]
    found = pd.DataFrame(rows, columns=["filename", "split", "label", "method"])
    return found.assign(label=found["label"].astype(str)) if text else found


@pytest.mark.parametrize("text", [False, True])
def test_what_is_tested_was_never_trained_on(text: bool):
    kept, said = leave_out(table(text), "b")
    fakes = kept[kept["method"] != "real"]
    assert set(fakes.loc[fakes["split"] == "test", "method"]) == {"b"}
    assert set(fakes.loc[fakes["split"] != "test", "method"]) == {"a", "c"}
    assert (kept["method"] == "real").sum() == 9 and "8 fakes are in neither" in said


def test_what_cannot_be_left_out_is_refused_by_name():
    with pytest.raises(SplitError, match="a, b, c"):
        leave_out(table(), "d")
    with pytest.raises(SplitError, match="no column kind"):
        leave_out(table(), "a", "kind")
    rows = table()
    with pytest.raises(SplitError, match="left to train on"):
        leave_out(rows[rows["method"].isin(["real", "a"])], "a")


def test_as_a_protocol_nobody_crosses_either():
    people = 24
    rows = pd.DataFrame(
        {
            "filename": [f"{i}-{kind}" for i in range(people) for kind in ("real", "a", "b")],
            "label": [int(kind != "real") for _ in range(people) for kind in ("real", "a", "b")],
            "method": [kind for _ in range(people) for kind in ("real", "a", "b")],
            "source": [f"p{i}" for i in range(people) for _ in range(3)],
            "donors": "",
            "content": "",
            "split": "",
            "race": "",
            "gender": "",
        }
    )
    kept, said = share_out(rows, "lomo", val=0.2, test=0.3, seed=1, leave="a")
    assert set(kept["protocol"]) == {"lomo"} and any("left out" in text for text in said)
    where = kept.groupby("source")["split"].nunique()
    assert (where == 1).all() and set(kept.loc[(kept["split"] == "test") & (kept["label"] == 1), "method"]) == {"a"}
