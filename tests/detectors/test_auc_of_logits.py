"""The AUC that training logs is that of all logits together, whichever batch they came in."""

import numpy as np
import pytest
import torch

from visavox.detectors.base import LogitAUROC
from visavox.evaluation.metrics import auc


def test_batches_whose_logits_lie_between_0_and_1_count_like_others():
    """As a network that has learnt nothing gives them, real clips after fakes."""
    rng = np.random.default_rng(0)
    logits = np.sort(rng.uniform(0.01, 0.2, 24)).astype(np.float32).reshape(3, 8)
    logits[0, 0], labels = -0.05, np.repeat([[1], [0], [0]], 8, 1)
    metric = LogitAUROC()
    for some, truth in zip(logits, labels):
        metric.update(torch.from_numpy(some), torch.from_numpy(truth))
    assert float(metric.compute()) == pytest.approx(auc(labels.ravel(), logits.ravel())) == 0.0
