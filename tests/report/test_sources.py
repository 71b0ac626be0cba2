"""Between corpora: pooled beside average, real clips told apart, the worst first."""

import numpy as np
import pandas as pd
import pytest

from visavox.evaluation.metrics import auc
from visavox.report.analysis import analyse
from visavox.report.compare import describe_matrix, matrix


def scores(shift: float) -> pd.DataFrame:
    """Two corpora, each told apart well; all scores of the second lie higher by `shift`."""
    rng = np.random.default_rng(0)
    rows = []
    for corpus, more in (("one", 0.0), ("two", shift)):
        for label in (0, 1):
            for i in range(40):
                p = np.clip(0.25 + 0.25 * label + more + rng.normal(0, 0.06), 0, 1)
                rows.append(
                    (f"{corpus}{label}{i}", p, label, corpus, f"{corpus}{i}", "ok", "-" if not label else "ab"[i % 2])
                )
    names = ["filename", "probability", "label", "corpus", "identity", "status", "method"]
    found = pd.DataFrame(rows, columns=names)
    found.loc[(found["method"] == "b"), "probability"] -= 0.15  # fakes of b look real
    return found.assign(probability=found["probability"].clip(0, 1))


def test_a_detector_that_reads_the_corpus_is_named():
    numbers = analyse(scores(0.4), resamples=200)
    (pair,) = numbers["real_sources"]
    rows = scores(0.4)
    real = rows[rows["label"] == 0]
    assert pair["auc"]["value"] == pytest.approx(
        auc((real["corpus"] == "two").astype(int).to_numpy(), real["probability"].to_numpy())
    )
    assert (pair["lower"], pair["higher"]) == ("one", "two") and pair["auc"]["low"] > 0.9
    assert any("read the corpus" in text for text in numbers["warnings"])
    assert numbers["cross_corpus"]["pooled"] < numbers["cross_corpus"]["average"] - 0.1


def test_one_that_does_not_is_not():
    numbers = analyse(scores(0.0), resamples=200)
    assert numbers["real_sources"][0]["auc"]["value"] < 0.65
    assert not any("read the corpus" in text for text in numbers["warnings"])
    assert numbers["cross_corpus"]["pooled"] == pytest.approx(numbers["cross_corpus"]["average"], abs=0.02)


def test_the_worst_manipulation_stands_first():
    values = analyse(scores(0.0), resamples=100)["breakdowns"]["method"]["values"]
    assert list(values) == ["b", "a"]
    assert values["b"]["metrics"]["auc"]["value"] < values["a"]["metrics"]["auc"]["value"]


def test_without_corpora_nothing_is_said():
    numbers = analyse(scores(0.0).drop(columns="corpus"), resamples=50)
    assert numbers["real_sources"] == [] and numbers["cross_corpus"] is None


def test_the_matrix_has_pooled_beside_average():
    cells = matrix({"mine": scores(0.4)}, resamples=50)
    by = dict(zip(cells["corpus"], cells["value"]))
    assert by["pooled"] < by["average"] and list(by) == ["one", "two", "average", "pooled"]
    assert describe_matrix(cells).splitlines()[0].split() == ["detector", "one", "two", "average", "pooled"]
