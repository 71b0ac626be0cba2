"""Numbers that say how good scores are. Labels: 1 = fake; scores: higher = more fake."""

from __future__ import annotations

import numpy as np


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: P(a fake scores higher than a real one), ties counting a half (Mann and Whitney, 1947).

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) finite.

    Raises:
        ValueError: one class only, or a score that is not finite.
    """
    from scipy.stats import rankdata

    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    fakes, reals = int((labels == 1).sum()), int((labels == 0).sum())
    if not fakes or not reals or fakes + reals != len(labels):
        raise ValueError(
            f"AUC needs both classes, labelled 0 and 1; found {reals} real and {fakes} fake of {len(labels)}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("AUC needs finite scores")
    ranks = rankdata(scores)
    return float((ranks[labels == 1].sum() - fakes * (fakes + 1) / 2) / (fakes * reals))


def accuracy_and_macro_f1(labels: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Return the share of clips whose class is found, and the mean of the F1 of all classes that occur in either.

    Args:
        labels, predicted: (N,) whole numbers or text, N > 0.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    found = []
    for name in np.union1d(labels, predicted):
        right = ((labels == name) & (predicted == name)).sum()
        found.append(2 * right / ((labels == name).sum() + (predicted == name).sum()))
    return float((labels == predicted).mean()), float(np.mean(found))


METRICS = {
    "auc": "ROC AUC",
    "ap": "Average precision",
    "eer": "Equal error rate",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "tpr_at_10_fpr": "TPR at 10 % FPR",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "Calibration error",
}
"""What `Ranked.metrics` returns, with its name for people. Fake is the positive class."""
LOWER_IS_BETTER = frozenset({"eer", "brier", "ece"})
ECE_BINS = 15


class Ranked:
    """Labelled scores, sorted once, so that many weightings of the same clips are evaluated at little cost.

    A bootstrap resample is a weighting: how often each clip was drawn. N clips · R weightings · U distinct scores.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray):
        labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
        if not len(labels) or labels.shape != scores.shape or labels.ndim != 1:
            raise ValueError(
                f"expected as many labels as scores, at least one; found {labels.shape} and {scores.shape}"
            )
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(f"labels are 0 (real) or 1 (fake), found {sorted(set(labels.tolist()) - {0, 1})[:5]}")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("scores are probabilities of fake, between 0 and 1; found others or NaN")
        self.order = np.argsort(-scores, kind="stable")  # (N,) highest first
        self.labels, self.scores = labels[self.order].astype(np.float64), scores[self.order]
        self.ends = np.flatnonzero(np.append(self.scores[1:] != self.scores[:-1], True))  # (U,) last clip of each score
        self.distinct = self.scores[self.ends]  # (U,) falling

    def curves(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of fakes and of reals at or above each distinct score, ties together: weights (R, N) -> two (R, 1 + U).

        Entry 0 is the threshold above every score. Weights are in the order the clips were given in.
        """
        weights = weights[:, self.order]
        true = np.cumsum(weights * self.labels, axis=1)[:, self.ends]
        false = np.cumsum(weights, axis=1)[:, self.ends] - true
        return np.pad(true, ((0, 0), (1, 0))), np.pad(false, ((0, 0), (1, 0)))

    def metrics(self, weights: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
        """METRICS for each weighting: weights (R, N) -> name -> (R,)."""
        true, false = self.curves(weights)
        fakes, reals = true[:, -1], false[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):  # one class only: NaN
            tpr, fpr = true / fakes[:, None], false / reals[:, None]  # (R, 1 + U)
            called = int(np.searchsorted(-self.distinct, -threshold, side="right"))  # distinct scores >= threshold
            hit, alarm = true[:, called], false[:, called]
            return {
                "auc": (np.diff(fpr) * (tpr[:, 1:] + tpr[:, :-1])).sum(1) / 2,
                "ap": _average_precision(true, false),
                "eer": _equal_error_rate(tpr, fpr),
                "tpr_at_1_fpr": _tpr_at(0.01, tpr, fpr),
                "tpr_at_10_fpr": _tpr_at(0.1, tpr, fpr),
                "accuracy": (hit + reals - alarm) / (fakes + reals),
                "balanced_accuracy": (hit / fakes + 1 - alarm / reals) / 2,
                "precision": hit / (hit + alarm),
                "recall": hit / fakes,
                "f1": 2 * hit / (hit + alarm + fakes),
                **self._calibration(np.diff(true), np.diff(false)),
            }

    def _calibration(self, fakes: np.ndarray, reals: np.ndarray) -> dict[str, np.ndarray]:
        """Brier score, and the expected calibration error over bins of equal mass: weights per distinct score (R, U)."""
        p, mass = self.distinct, fakes + reals
        total = mass.sum(1)
        brier = (fakes * (1 - p) ** 2 + reals * p**2).sum(1) / total
        which = equal_mass_bins(mass)  # (R, U)
        gap = fakes - mass * p  # (R, U) observed minus predicted number of fakes
        flat = which + ECE_BINS * np.arange(len(mass))[:, None]
        sums = np.bincount(flat.ravel(), gap.ravel(), ECE_BINS * len(mass)).reshape(len(mass), ECE_BINS)
        return {"brier": brier, "ece": np.abs(sums).sum(1) / total}

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rates, each (1 + U,) from 0 to 1."""
        true, false = (curve[0] for curve in self.curves(np.ones((1, len(self.labels)))))
        return false / false[-1], true / true[-1]

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision at each distinct score, each (U,)."""
        true, false = (curve[0, 1:] for curve in self.curves(np.ones((1, len(self.labels)))))
        return true / true[-1], true / (true + false)

    def reliability(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean score, share of fakes and number of clips of each bin that is not empty."""
        fakes, reals = (np.diff(curve) for curve in self.curves(np.ones((1, len(self.labels)))))
        which = equal_mass_bins(fakes + reals)[0]
        count = np.bincount(which, (fakes + reals)[0], ECE_BINS)
        said = np.bincount(which, (fakes + reals)[0] * self.distinct, ECE_BINS)
        seen = np.bincount(which, fakes[0], ECE_BINS)
        full = count > 0
        return said[full] / count[full], seen[full] / count[full], count[full].astype(int)


def equal_mass_bins(mass: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The bin of each distinct score, mass (R, U) -> (R, U) int64 in [0, bins).

    A score belongs where the middle of its mass falls, so that equal scores are never torn apart and the result does not
    depend on the order of the clips; without ties the bins are those of `np.array_split` where N divides.
    """
    upto = np.cumsum(mass, axis=1)
    middle = (upto - mass / 2) / upto[:, -1:]
    return np.clip((middle * bins).astype(np.int64), 0, bins - 1)


def risk_coverage(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Error rate among the most confident clips: coverage (N,) from 1/N to 1, and risk (N,) (El-Yaniv and Wiener, 2010).

    Confidence is the distance to the threshold as a share of what is possible on that side. Equally confident clips
    share their errors evenly.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    confidence = np.where(
        scores >= threshold,
        (scores - threshold) / max(1 - threshold, 1e-12),
        (threshold - scores) / max(threshold, 1e-12),
    )
    wrong = (scores >= threshold) != (labels == 1)
    _, level = np.unique(-confidence, return_inverse=True)  # 0 = most confident
    shared = (np.bincount(level, wrong) / np.bincount(level))[np.sort(level)]  # (N,) errors, evenly within a level
    count = np.arange(1, len(labels) + 1)
    return count / len(labels), np.cumsum(shared) / count


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold of highest balanced accuracy; for the validation split.

    It lies halfway between two neighbouring scores, on the upper one where no number lies between them, and above every
    score where calling all clips real is best. A clip at or above it is called fake.

    Args:
        labels: (N,) 0 or 1, both present.
        scores: (N,) P(fake) in [0, 1].

    Raises:
        ValueError: one class only, or as `Ranked`.
    """
    ranked = Ranked(labels, scores)
    fakes = int(ranked.labels.sum())
    if not 0 < fakes < len(ranked.labels):
        raise ValueError(
            f"a threshold needs both classes; found {len(ranked.labels) - fakes} real and {fakes} fake clips"
        )
    fpr, tpr = ranked.roc()
    best = int(np.argmax(tpr - fpr))  # before the last corner, where all clips are called fake and the gain is 0 again
    if best == 0:
        return float(np.nextafter(ranked.distinct[0], 2))
    upper, lower = (float(score) for score in ranked.distinct[best - 1 : best + 1])
    middle = (upper + lower) / 2
    return middle if middle > lower else upper


def _average_precision(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Sum over thresholds of precision times the gain in recall, as scikit-learn's: (R, 1 + U) -> (R,)."""
    called = true[:, 1:] + false[:, 1:]
    precision = np.divide(true[:, 1:], called, out=np.zeros_like(called), where=called > 0)
    return (np.diff(true) * precision).sum(1) / true[:, -1]


def _equal_error_rate(tpr: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """Where the ROC polygon meets FPR = 1 - TPR, interpolated between its corners: (R, 1 + U) -> (R,)."""
    excess = fpr - (1 - tpr)  # (R, 1 + U), rises from -1 to 1
    after = np.argmax(excess >= 0, axis=1)[:, None]
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(excess, which, 1) for which in (before, after))
    left, right = (np.take_along_axis(fpr, which, 1) for which in (before, after))
    return (left + (right - left) * -low / (high - low))[:, 0]


def _tpr_at(rate: float, tpr: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """Highest TPR of a threshold whose FPR does not exceed `rate`: (R, 1 + U) -> (R,)."""
    last = (fpr <= rate + 1e-12).sum(1) - 1
    return np.where(np.isnan(fpr[:, -1]), np.nan, np.take_along_axis(tpr, np.maximum(last, 0)[:, None], 1)[:, 0])
