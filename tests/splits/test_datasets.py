"""Corpora by name: who is trained on, who is tested on."""

import pandas as pd
import pytest

from visavox.splits.datasets import of_datasets
from visavox.splits.table import SplitError

ROWS = pd.DataFrame(
    [
        (f"{corpus}-{split}", split, corpus)
        for corpus in ("ffpp", "dfdc", "ravdess")
        for split in ("train", "val", "test")
    ],
    columns=["filename", "split", "corpus"],
)


def splits(training: list[str], evaluation: list[str]) -> dict[str, str]:
    rows = of_datasets(ROWS, training, evaluation)
    return dict(zip(rows["filename"], rows["split"]))


def test_who_is_trained_and_tested_on() -> None:
    assert of_datasets(ROWS, [], []) is ROWS
    assert splits(["Forensics++"], ["DFDC"]) == {
        "ffpp-train": "train",
        "ffpp-val": "val",
        "ffpp-test": "train",
        "dfdc-train": "test",
        "dfdc-val": "test",
        "dfdc-test": "test",
    }
    assert splits(["ffpp", "dfdc"], ["ffpp"]) == {
        "ffpp-train": "train",
        "ffpp-val": "val",
        "ffpp-test": "test",
        "dfdc-train": "train",
        "dfdc-val": "val",
        "dfdc-test": "train",
    }
    assert splits(["RAVDESS"], []) == {f"ravdess-{split}": split for split in ("train", "val", "test")}
    assert list(ROWS["split"]) == ["train", "val", "test"] * 3, "the table itself is left alone"


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(SplitError, match="no clip is of the corpus 'dfcd'; did you mean dfdc"):
        splits(["dfcd"], [])
    with pytest.raises(SplitError, match="which this CSV lacks"):
        of_datasets(ROWS.drop(columns="corpus"), ["dfdc"], [])
    with pytest.raises(SplitError, match="of ravdess no clip has split=val; name more training_datasets"):
        of_datasets(ROWS[ROWS["filename"] != "ravdess-val"], ["ravdess"], [])
