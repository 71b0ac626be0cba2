"""The gate opens only where validation vouches for the recall that was asked for, and keeps it on clips it has not seen."""

import numpy as np
import pytest
from scipy.stats import binomtest

from visavox.detectors.fiveway.gate import Gate, exact_interval, fakes_needed, fit_gate, most_lost


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99])
def test_the_interval_vouches_for_the_recall_and_no_threshold_above_does(recall):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.1), 0, 1)
    gate = fit_gate(labels, scores, recall)
    fakes = scores[labels == 1]
    assert gate.open and recall <= gate.low <= gate.recall <= gate.high and gate.fakes == len(fakes)
    assert gate.recall == (fakes >= gate.threshold).mean()
    kept = int((fakes > gate.threshold).sum())
    assert exact_interval(kept, len(fakes))[0] < recall
    assert gate.exits == (scores[labels == 0] < gate.threshold).mean() > 0
    assert not gate.lets_out(gate.threshold) and gate.lets_out(np.nextafter(gate.threshold, 0))


@pytest.mark.parametrize(("recall", "fakes"), [(0.9, 60), (0.9, 400), (0.99, 400), (0.99, 2000)])
def test_recall_on_new_clips_is_the_one_asked_for(recall, fakes):
    """In 97.5 % of all draws, by Wilks; of 400 at least 380 then (3.2 deviations below the mean)."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], fakes)
    kept = 0
    for _ in range(400):
        gate = fit_gate(labels, rng.beta(2 + 2 * labels, 3), recall)
        kept += _share_of_beta_above(gate.threshold) >= recall
    assert kept >= 380


def test_few_fakes_leave_it_shut_and_it_says_how_many_would_do():
    labels = np.arange(72) % 2
    gate = fit_gate(labels, 0.1 + 0.8 * labels, 0.99)
    assert not gate.open and not gate.lets_out(0.0) and gate.exits == 0 and gate.recall == 1
    assert "36 fake validation clips cannot vouch for a recall of 0.99" in str(gate) and "368 would" in str(gate)
    assert fit_gate(labels, 0.1 + 0.8 * labels, 0.9).open


def test_how_many_are_needed_is_the_least_number_that_opens_it():
    for recall in (0.5, 0.9, 0.95, 0.99, 0.999):
        least = fakes_needed(recall)
        assert exact_interval(least, least)[0] >= recall > exact_interval(least - 1, least - 1)[0]
        assert most_lost(least - 1, recall) is None and most_lost(least, recall) == 0
    assert fakes_needed(0.99) == 368


def test_a_fake_that_scores_nothing_leaves_it_shut():
    labels = np.arange(800) % 2
    scores = np.where(labels == 1, 0.9, 0.5)
    scores[1] = 0.0
    gate = fit_gate(labels, scores, 0.99)
    assert not gate.open and "scores 0" in gate.warning()


def test_one_of_an_earlier_version_that_nobody_vouched_for_is_shut():
    assert not Gate(0.3, 1.0, 0.903, 1.0, 36, 0.1).open
    assert Gate(0.3, 0.9975, 0.99, 1.0, 500, 0.1).lets_out(0.2)


def test_the_interval_is_clopper_and_pearson_s():
    for hits, count in ((0, 5), (5, 5), (37, 40), (1, 3)):
        theirs = binomtest(hits, count).proportion_ci(method="exact")
        assert exact_interval(hits, count) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("recall", [0.0, 1.0])
def test_a_recall_that_no_number_of_clips_vouches_for_is_refused(recall):
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_gate(np.ones(3), np.ones(3), recall)


def _share_of_beta_above(threshold: float) -> float:
    from scipy.stats import beta

    return float(beta.sf(threshold, 4, 3))
