"""Metrics against scikit-learn and hand-made cases, and the properties every one of them must have."""

import numpy as np
import pytest
from measured import evaluate
from sklearn import metrics as sklearn_metrics

from visavox.evaluation.metrics import METRICS, Ranked, auc, best_threshold, risk_coverage

SEEDS = range(12)


def draw(seed: int, clips: int = 300, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of a middling detector; `ties` rounds the scores to one decimal."""
    rng = np.random.default_rng(seed)
    labels = np.append([0, 1], rng.integers(0, 2, clips - 2))
    scores = 1 / (1 + np.exp(-(rng.normal(size=clips) + 1.2 * labels - 0.5)))
    return labels, scores.round(1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_equal_to_scikit_learn(seed: int, ties: bool):
    labels, scores = draw(seed, ties=ties)
    threshold = 0.4
    called = (scores >= threshold).astype(int)
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)
    expected = {
        "auc": sklearn_metrics.roc_auc_score(labels, scores),
        "ap": sklearn_metrics.average_precision_score(labels, scores),
        "brier": sklearn_metrics.brier_score_loss(labels, scores),
        "accuracy": sklearn_metrics.accuracy_score(labels, called),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, called),
        "precision": sklearn_metrics.precision_score(labels, called),
        "recall": sklearn_metrics.recall_score(labels, called),
        "f1": sklearn_metrics.f1_score(labels, called),
        "tpr_at_1_fpr": tpr[fpr <= 0.01].max(),
        "tpr_at_10_fpr": tpr[fpr <= 0.1].max(),
    }
    found = evaluate(labels, scores, threshold)
    assert found.keys() == METRICS.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found["auc"] == pytest.approx(auc(labels, scores), abs=1e-12)


def test_equal_error_rate_of_hand_made_curves():
    # ROC corners (0, 0) (0, .5) (.5, .5) (.5, 1) (1, 1): the line FPR = 1 - TPR is met in the corner (.5, .5)
    assert evaluate([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.1])["eer"] == pytest.approx(0.5)
    # (0, 0) (0, 2/3) (1/2, 2/3) ...: met on the level stretch, where 1 - TPR = 1/3
    assert evaluate([1, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5])["eer"] == pytest.approx(1 / 3)
    # all scores equal: the diagonal, met at 1/2; perfect 0; upside down 1
    assert evaluate([1, 0, 1], [0.3, 0.3, 0.3])["eer"] == pytest.approx(0.5)
    assert evaluate([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])["eer"] == 0
    assert evaluate([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9])["eer"] == 1
    # one fake above, then a tie of one fake and two reals: from (0, 1/2) to (1, 1), met at FPR 1/3
    assert evaluate([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.5])["eer"] == pytest.approx(1 / 3)


def test_calibration_error_by_hand():
    # 30 clips, 15 bins of two: bin i has scores near i / 15 and one fake
    scores = np.repeat((np.arange(15) + 0.5) / 15, 2) + np.tile([-0.01, 0.01], 15)
    labels = np.tile([0, 1], 15)
    by_hand = np.abs((np.arange(15) + 0.5) / 15 - 0.5).mean()
    assert evaluate(labels, scores)["ece"] == pytest.approx(by_hand, abs=1e-12)
    # scores that mean what they say have none; certain and always wrong has all
    assert evaluate([0, 0, 0, 1], [0.25] * 4)["ece"] == pytest.approx(0, abs=1e-12)
    assert evaluate([0, 1], [1.0, 0.0])["ece"] == pytest.approx(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_properties(seed: int):
    labels, scores = draw(seed, ties=seed % 2 == 0)
    found = evaluate(labels, scores)
    monotone = evaluate(labels, scores**3)
    assert all(
        monotone[name] == pytest.approx(found[name], abs=1e-12) for name in ("auc", "ap", "eer", "tpr_at_10_fpr")
    )
    turned = evaluate(labels, 1 - scores)
    assert turned["auc"] == pytest.approx(1 - found["auc"], abs=1e-12)
    assert turned["eer"] == pytest.approx(1 - found["eer"], abs=1e-12)
    mirrored = evaluate(1 - labels, 1 - scores)
    assert all(mirrored[name] == pytest.approx(found[name], abs=1e-12) for name in ("auc", "eer", "brier", "ece"))
    order = np.random.default_rng(seed).permutation(len(labels))
    assert evaluate(labels[order], scores[order]) == pytest.approx(found, abs=1e-12)
    twice = evaluate(np.tile(labels, 2), np.tile(scores, 2))
    assert all(twice[name] == pytest.approx(found[name], abs=1e-12) for name in METRICS if name != "ece")


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_count_clips(seed: int):
    labels, scores = draw(seed, clips=60, ties=seed % 2 == 0)
    times = np.random.default_rng(seed).integers(0, 4, len(labels))
    times[:2] = 1
    weighted = Ranked(labels, scores).metrics(times[None].astype(float), 0.5)
    repeated = evaluate(np.repeat(labels, times), np.repeat(scores, times))
    assert {name: values[0] for name, values in weighted.items()} == pytest.approx(repeated, abs=1e-12)


def test_one_class_leaves_undefined_what_needs_two():
    found = evaluate([1, 1], [0.2, 0.9])
    assert all(np.isnan(found[name]) for name in ("auc", "eer", "tpr_at_1_fpr", "balanced_accuracy"))
    assert found["accuracy"] == 0.5 and np.isfinite(found["brier"])


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "at least one"),
        ([0, 1], [0.5], "as many labels"),
        ([0, 2], [0.1, 0.2], "0 .real. or 1 .fake."),
        ([0, 1], [0.1, 1.2], "between 0 and 1"),
        ([0, 1], [0.1, float("nan")], "between 0 and 1"),
    ],
)
def test_refused(labels, scores, message: str):
    with pytest.raises(ValueError, match=message):
        evaluate(labels, scores)


def test_risk_coverage_by_hand():
    labels, scores = np.array([1, 0, 0, 1]), np.array([0.95, 0.1, 0.8, 0.45])
    coverage, risk = risk_coverage(labels, scores)  # surest first: .95 right, .1 right, .8 wrong, .45 wrong
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 0.5])
    assert risk_coverage(labels, np.full(4, 0.7))[1].tolist() == [0.5] * 4  # no order: errors shared evenly


@pytest.mark.parametrize("seed", SEEDS)
def test_best_threshold_is_best(seed: int):
    labels, scores = draw(seed, clips=40, ties=seed % 2 == 0)
    chosen = evaluate(labels, scores, best_threshold(labels, scores))["balanced_accuracy"]
    assert chosen == max(evaluate(labels, scores, t)["balanced_accuracy"] for t in [*scores, 2.0])


def test_a_threshold_between_neighbouring_floats_still_tells_them_apart():
    for lower in (0.5, 0.1, 0.3, 0.7):
        upper = np.nextafter(lower, 1)
        chosen = best_threshold([0, 1], [lower, upper])
        assert lower < chosen <= upper
        assert evaluate([0, 1], [lower, upper], chosen)["balanced_accuracy"] == 1


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_threshold(label: int):
    with pytest.raises(ValueError, match="both classes; found " + ("2 real and 0 fake", "0 real and 2 fake")[label]):
        best_threshold([label] * 2, [0.2, 0.9])


def test_where_no_threshold_helps_everything_is_called_real():
    assert 0.9 < best_threshold([1, 0], [0.1, 0.9]) < 0.91
