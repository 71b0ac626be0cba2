"""How sure a number is: bootstrap clustered by identity, DeLong's variance, and both for the difference of two detectors.

Clips of one person are alike, so they are drawn together: a resample draws identity groups with replacement and takes
every clip of each (cluster bootstrap; Field and Welsh, 2007). Clips drawn one by one give intervals that are too narrow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visavox.evaluation.metrics import Ranked

RESAMPLES = 2000
CHUNK = 2_000_000
"""Weights held at once: some 16 MB per array."""
FEW_GROUPS = 20
"""With fewer identity groups than this an interval is a rough guess, and reports say so."""


class Estimate(NamedTuple):
    """A number with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """As tables show it: 0.737 [0.679, 0.799]."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Every number of `metrics.METRICS` with its interval.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) P(fake).
        groups: (N,) identity of each clip; None takes every clip for a group of its own.
        level: coverage of the interval.
    """
    ranked = Ranked(labels, scores)
    values = ranked.metrics(np.ones((1, len(ranked.labels))), threshold)
    member, size = _members(groups, len(ranked.labels))
    draws: dict[str, list[np.ndarray]] = {name: [] for name in values}
    for weights in _resampled(member, size, resamples, seed):
        for name, drawn in ranked.metrics(weights, threshold).items():
            draws[name].append(drawn)
    return {
        name: Estimate(float(value[0]), *interval(np.concatenate(draws[name]), size, level))
        for name, value in values.items()
    }


def interval(draws: np.ndarray, groups: int, level: float = 0.95) -> tuple[float, float]:
    """Expanded percentile interval of bootstrap draws (Hesterberg, 2015, section 3.3); undefined draws do not count.

    Percentiles of n groups are too narrow by sqrt((n - 1) / n) and by the normal in place of Student's quantile; asking
    for percentiles further out makes up for both.
    """
    from scipy.stats import norm, t

    draws = draws[np.isfinite(draws)]
    if groups < 2 or len(draws) < 2:
        return float("nan"), float("nan")
    tail = norm.cdf(np.sqrt(groups / (groups - 1)) * t.ppf((1 - level) / 2, groups - 1))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


class Difference(NamedTuple):
    """AUC of b minus AUC of a on the same clips."""

    auc_a: float
    auc_b: float
    value: float
    low: float
    high: float
    p: float
    """Two-sided probability of a difference at least this large where there is none."""


def paired_bootstrap(
    labels: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    metric: str = "auc",
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Difference of two detectors in one metric; both are seen on the same resamples, drawn by identity group."""
    ranked = Ranked(labels, a), Ranked(labels, b)
    whole = np.ones((1, len(labels)))
    first, second = (float(one.metrics(whole, threshold)[metric][0]) for one in ranked)
    member, size = _members(groups, len(labels))
    differences = []
    for weights in _resampled(member, size, resamples, seed):
        one, other = (each.metrics(weights, threshold)[metric] for each in ranked)
        differences.append(other - one)
    drawn = np.concatenate(differences)
    drawn = drawn[np.isfinite(drawn)]
    sides = [(1 + (drawn <= 0).sum()) / (1 + len(drawn)), (1 + (drawn >= 0).sum()) / (1 + len(drawn))]
    return Difference(first, second, second - first, *interval(drawn, size, level), float(min(1.0, 2 * min(sides))))


def delong_variance(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return AUCs and their covariance, clips independent (DeLong et al., 1988; by midranks as Sun and Xu, 2014).

    Args:
        labels: (N,) 0 or 1.
        scores: (D, N) finite, D detectors on the same clips; or (N,).

    Returns:
        AUC (D,), covariance (D, D).

    Raises:
        ValueError: fewer than two clips of a class, or a score that is not finite.
    """
    from scipy.stats import rankdata

    labels, scores = np.asarray(labels), np.atleast_2d(np.asarray(scores, np.float64))
    lost = ~np.isfinite(scores).all(0)
    if lost.any():
        raise ValueError(
            f"DeLong needs finite scores; {int(lost.sum())} of {len(lost)} clips have a score that is NaN or infinite, the "
            f"first is number {int(lost.argmax()) + 1}; score those again or leave them out"
        )
    fake, real = scores[:, labels == 1], scores[:, labels == 0]  # (D, m), (D, n)
    m, n = fake.shape[1], real.shape[1]
    if m < 2 or n < 2:
        raise ValueError(f"DeLong needs two clips of each class at least; found {n} real and {m} fake")
    ranks = rankdata(np.concatenate([fake, real], axis=1), axis=1)
    beaten = (ranks[:, :m] - rankdata(fake, axis=1)) / n  # (D, m) share of reals below each fake
    beating = 1 - (ranks[:, m:] - rankdata(real, axis=1)) / m  # (D, n) share of fakes above each real
    covariance = np.atleast_2d(np.cov(beaten)) / m + np.atleast_2d(np.cov(beating)) / n
    return beaten.mean(1), covariance


def delong(labels: np.ndarray, a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Difference:
    """Test two correlated AUCs as DeLong does; clips count as independent, `paired_bootstrap` respects identities.

    Args:
        labels: (N,) 0 or 1, two of each at least.
        a, b: (N,) finite scores of two detectors on the same clips.
        level: coverage of the interval.

    Raises:
        ValueError: as `delong_variance`.
    """
    from scipy.stats import norm

    (first, second), covariance = delong_variance(labels, np.stack([a, b]))
    value = float(second - first)
    deviation = float(np.sqrt(max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    if deviation < 1e-12:  # the same ranking, or both perfect
        return Difference(float(first), float(second), value, value, value, 1.0 if abs(value) < 1e-12 else 0.0)
    reach = norm.ppf((1 + level) / 2) * deviation
    return Difference(
        float(first), float(second), value, value - reach, value + reach, float(2 * norm.sf(abs(value) / deviation))
    )


def chance_of(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return what AUC would be by chance, and how often chance strays as far from that (p value, two-sided).

    Labels are exchanged within each group (permutation test of Fisher, stratified): where scores tell people apart, chance is
    not 0.5, for it depends on who has how many clips of each class.

    Args:
        labels: (N,) 0 or 1, both there.
        scores: (N,).
        groups: (N,) whose clip it is.
    """
    from scipy.stats import rankdata

    rng, ranks = np.random.default_rng(seed), rankdata(scores)
    places = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    one = int((labels == 1).sum())
    sums = np.zeros(draws)
    for place in places:
        orders = rng.permuted(np.tile(ranks[place], (draws, 1)), axis=1)  # (draws, clips of the group)
        sums += orders[:, : int((labels[place] == 1).sum())].sum(1)
    base, pairs = one * (one + 1) / 2, one * (len(labels) - one)
    null, found = (sums - base) / pairs, (ranks[labels == 1].sum() - base) / pairs
    far = np.abs(null - null.mean()) >= abs(found - null.mean()) - 1e-12
    return float(null.mean()), float((1 + far.sum()) / (1 + draws))


def polarity_warning(auc: Estimate, name: str = "the scores") -> str | None:
    """What to say when scores are surely worse than chance; None when they are not."""
    if not auc.high < 0.5:
        return None
    return (
        f"{name}: AUC {auc.value:.3f} lies below 0.5 with its whole interval [{auc.low:.3f}, {auc.high:.3f}]; labels or "
        "scores are probably turned round (here label 1 = fake and higher = more fake); see --label-map and --scores-of"
    )


def _members(groups: np.ndarray | None, clips: int) -> tuple[np.ndarray, int]:
    """The number of each clip's group, (N,) int64, in order of appearance, and how many groups there are."""
    if groups is None:
        return np.arange(clips), clips
    names, first, member = np.unique(np.asarray(groups, str), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[member], len(names)


def _resampled(member: np.ndarray, size: int, resamples: int, seed: int):
    """Chunks of weights (R', N): how often each clip stands in a resample of `size` groups out of `size`."""
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK // len(member))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        yield counts[:, member].astype(np.float64)
