"""The gate keeps the recall it was asked for, on validation and on clips it has not seen."""

import numpy as np
import pytest
from scipy.stats import binomtest

from visavox.detectors.fiveway.gate import exact_interval, fit_gate


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99, 1.0])
def test_recall_is_the_one_asked_for_and_no_threshold_above_keeps_it(recall):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.15), 0, 1)
    gate = fit_gate(labels, scores, recall)
    fakes = scores[labels == 1]
    assert gate.recall >= recall and gate.recall == (fakes >= gate.threshold).mean()
    above = np.nextafter(gate.threshold, 1)
    assert (fakes >= above).mean() < recall
    assert gate.low <= gate.recall <= gate.high and gate.fakes == len(fakes)
    assert gate.exits == (scores[labels == 0] < gate.threshold).mean()


def test_recall_on_new_clips_lies_within_the_interval():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        labels = np.repeat([0, 1], 200)
        gate = fit_gate(labels, rng.normal(labels, 1.0), 0.9)
        inside += gate.low <= (rng.normal(1, 1.0, 20_000) >= gate.threshold).mean() <= gate.high
    assert inside >= 90


def test_the_interval_is_clopper_and_pearson_s():
    for hits, count in ((0, 5), (5, 5), (37, 40), (1, 3)):
        theirs = binomtest(hits, count).proportion_ci(method="exact")
        assert exact_interval(hits, count) == pytest.approx((theirs.low, theirs.high))


def test_a_gate_that_cannot_be_chosen_says_why():
    with pytest.raises(ValueError, match="there are none"):
        fit_gate(np.zeros(3), np.ones(3), 0.99)
    with pytest.raises(ValueError, match="above 0"):
        fit_gate(np.ones(3), np.ones(3), 0.0)


def test_few_fakes_cannot_vouch_for_a_high_recall():
    few, many = (fit_gate(np.arange(n) % 2, np.arange(n) / n, 0.95) for n in (60, 4000))
    assert few.recall >= 0.95 and "30 fake validation clips cannot vouch for a recall of 0.95" in few.warning(0.95)
    assert many.warning(0.93) == ""
