"""Every metric of one set of scores, as plain numbers."""

import numpy as np

from visavox.evaluation.metrics import Ranked


def evaluate(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """Return METRICS of labels (N,) and scores (N,), every clip counted once."""
    ranked = Ranked(labels, scores)
    return {name: float(values[0]) for name, values in ranked.metrics(np.ones((1, len(labels))), threshold).items()}
