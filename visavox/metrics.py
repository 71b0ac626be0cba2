"""Numbers that say how good scores are. Labels: 1 = fake; scores: higher = more fake."""

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
