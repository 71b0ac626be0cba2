"""Intervals cover what they promise, and tests of a difference find one where there is one."""

import time

import numpy as np
import pytest

from visavox.evaluation.intervals import (
    Estimate,
    chance_of,
    delong,
    delong_variance,
    estimate,
    interval,
    paired_bootstrap,
    polarity_warning,
)
from visavox.evaluation.metrics import auc


def test_an_estimate_is_shown_with_its_interval():
    assert str(Estimate(0.7371, 0.6789, 0.8)) == "0.737 [0.679, 0.800]"


def clustered(seed: int, groups: int = 60, each: int = 8, spread: float = 1.0) -> tuple[np.ndarray, ...]:
    """Labels, scores and identities; `spread` is how much the clips of a person have in common. One label per person."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(groups) % 2)
    logits = label * 1.5 + spread * rng.normal(size=groups)
    member = np.repeat(np.arange(groups), each)
    scores = 1 / (1 + np.exp(-(logits[member] + rng.normal(size=len(member)))))
    return label[member], scores, member


def test_delong_equals_its_definition():
    """Variance by placement values, written out as in DeLong et al. (1988)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    scores = np.stack([labels + rng.normal(size=80), (labels + rng.normal(size=80)).round(1)])
    fakes, reals = scores[:, labels == 1], scores[:, labels == 0]
    above = (fakes[:, :, None] > reals[:, None]) + 0.5 * (fakes[:, :, None] == reals[:, None])  # (2, m, n)
    of_fakes, of_reals = above.mean(2), above.mean(1)
    expected = np.cov(of_fakes) / fakes.shape[1] + np.cov(of_reals) / reals.shape[1]
    areas, covariance = delong_variance(labels, scores)
    assert areas == pytest.approx([auc(labels, one) for one in scores], abs=1e-12)
    assert covariance == pytest.approx(expected, abs=1e-14)


S100B = {  # (outcome, WFNS grade) -> S100 beta in 10 ng/l, sorted
    (0, 1): "4 4 4 4 5 5 6 6 7 7 7 7 8 8 8 8 9 9 9 9 10 10 10 10 11 11 13 13 14 14 14 15 16 18 19 48 50",
    (0, 2): "4 7 8 8 9 9 10 10 10 11 11 13 14 15 15 15 16 17 19 43",
    (0, 3): "5 7 33",
    (0, 4): "16 17 28 32 34 38 45 47",
    (0, 5): "24 46 47 50",
    (1, 1): "7 8",
    (1, 2): "7 7 9 9 10 10 11 14 25 30 41 58",
    (1, 3): "13",
    (1, 4): "13 16 23 26 27 48 71 96",
    (1, 5): "3 12 22 32 33 35 44 44 49 52 56 70 71 74 77 82 86 207",
}
"""113 patients with aneurysmal subarachnoid haemorrhage (Turck et al., Intensive Care Medicine 36, 2010): outcome (1 = poor)
against a clinical grade and a blood protein; the example of R's package pROC (Robin et al., BMC Bioinformatics 12, 2011)."""


def test_delong_equals_the_published_example():
    """AUCs, Z and p of pROC's `roc.test(outcome ~ wfns + s100b)`, version 1.19.0.1, from its own test files."""
    patients = [(label, grade, int(v)) for (label, grade), values in S100B.items() for v in values.split()]
    labels, grade, protein = np.array(patients, float).T
    found = delong(labels, protein, grade)
    assert len(labels) == 113
    assert found.auc_a == pytest.approx(0.73136856368563685, abs=1e-14)
    assert found.auc_b == pytest.approx(0.82367886178861793, abs=1e-14)
    assert found.p == pytest.approx(0.0271757822291882, abs=1e-14)
    assert found.value / ((found.high - found.low) / (2 * 1.959963984540054)) == pytest.approx(
        2.20898359144091, abs=1e-13
    )


def test_delong_by_hand():
    # reals 1 3, fakes 2 4 5: placements of the fakes 1/2 1 1, of the reals 1 2/3; AUC 5/6
    areas, covariance = delong_variance(np.array([0, 0, 1, 1, 1]), np.array([1.0, 3, 2, 4, 5]))
    assert areas[0] == pytest.approx(5 / 6)
    assert covariance[0, 0] == pytest.approx((1 / 12) / 3 + (1 / 18) / 2)


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_delong_refuses_scores_that_are_no_numbers(lost: float):
    labels, scores, _ = clustered(1)
    broken = scores.copy()
    broken[6] = lost
    for a, b in ((scores, broken), (broken, scores)):
        with pytest.raises(ValueError, match="1 of 480 clips .* NaN or infinite, the first is number 7"):
            delong(labels, a, b)


def test_identical_scores_do_not_differ():
    labels, scores, member = clustered(1)
    for found in (delong(labels, scores, scores), paired_bootstrap(labels, scores, scores, member, resamples=200)):
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_better_detector_is_found_by_both_tests():
    labels, scores, member = clustered(2, spread=0.2)
    noisy = 1 / (1 + np.exp(-(np.log(scores / (1 - scores)) + 3 * np.random.default_rng(0).normal(size=len(scores)))))
    for found in (delong(labels, noisy, scores), paired_bootstrap(labels, noisy, scores, member, resamples=500)):
        assert found.value > 0 and found.low > 0 and found.p < 0.01
        assert found.auc_b - found.auc_a == pytest.approx(found.value)
    back = paired_bootstrap(labels, scores, noisy, member, resamples=500)
    assert back.high < 0 and back.p < 0.01


def test_seeded_and_independent_of_the_names_of_groups():
    labels, scores, member = clustered(3)
    once = estimate(labels, scores, member, resamples=100)
    assert once == estimate(labels, scores, member, resamples=100)
    assert once != estimate(labels, scores, member, resamples=100, seed=1)
    assert once == estimate(labels, scores, np.char.add("id", np.char.zfill(member.astype(str), 3)), resamples=100)


def test_clips_of_a_person_are_drawn_together():
    """People whose clips score alike widen the interval, in whatever order the clips stand; copies of clips do not narrow it."""
    labels, scores, member = clustered(5, groups=40, spread=2.0)
    order = np.random.default_rng(0).permutation(len(labels))
    labels, scores, member = labels[order], scores[order], member[order]

    def width(found: Estimate) -> float:
        return found.high - found.low

    grouped, alone = (width(estimate(labels, scores, g, resamples=400)["auc"]) for g in (member, None))
    assert grouped > 1.5 * alone
    four_times = (np.tile(labels, 4), np.tile(scores, 4), np.tile(member, 4))
    assert width(estimate(*four_times, resamples=400)["auc"]) == pytest.approx(grouped, abs=1e-12)


def test_an_interval_of_one_group_is_not_defined():
    assert all(np.isnan(interval(np.linspace(0, 1, 50), groups=1)))


def test_twenty_thousand_clips_in_under_twenty_seconds_of_one_core():
    labels, scores, member = clustered(0, groups=500, each=40)
    start = time.process_time()
    estimate(labels, scores, member, resamples=200)
    assert time.process_time() - start < 2.0  # a tenth of the resamples, a tenth of the time


def test_polarity():
    labels, scores, member = clustered(4)
    assert polarity_warning(estimate(labels, scores, member, resamples=200)["auc"]) is None
    said = polarity_warning(estimate(labels, 1 - scores, member, resamples=200)["auc"], "ours.csv")
    assert said.startswith("ours.csv: AUC 0.") and "turned round" in said
    assert polarity_warning(Estimate(0.45, 0.38, 0.52)) is None


@pytest.mark.slow
def test_clustered_intervals_cover_the_truth_and_unclustered_ones_do_not():
    """500 data sets of 60 people with 8 clips each; the true AUC is that of the generating normals."""
    from scipy.stats import norm

    truth = norm.cdf(1.5 / np.sqrt(2 * (1 + 1)))
    covered = {"clustered": 0, "unclustered": 0}
    for seed in range(500):
        labels, scores, member = clustered(seed)
        for name, groups in (("clustered", member), ("unclustered", None)):
            found = estimate(labels, scores, groups, resamples=500, seed=seed)["auc"]
            covered[name] += found.low <= truth <= found.high
    assert 0.93 <= covered["clustered"] / 500 <= 0.97, covered
    assert covered["unclustered"] / 500 < 0.8, covered


def test_chance_is_that_of_the_people_and_what_is_beyond_it_is_found():
    """Scores that know people alone: AUC is far from 0.5, and no further than chance has it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 9)
    fakes = [5, 5, 4, 1, 1, 1, 1, 1]  # of nine clips each
    labels = np.concatenate([np.arange(9) < n for n in fakes]).astype(int)
    people = groups + 0.01 * rng.normal(size=72)
    found = auc(labels, people)
    chance, p = chance_of(labels, people, groups)
    assert found < 0.4 and chance == pytest.approx(found, abs=0.03) and p > 0.05
    chance, p = chance_of(labels, people + 2.0 * labels, groups)
    assert p < 0.01
    ps = [chance_of(labels, rng.normal(size=72), groups, draws=200, seed=i)[1] for i in range(200)]
    assert 0.01 <= np.mean(np.array(ps) <= 0.05) <= 0.11  # 0.05 expected, 0.016 its deviation
