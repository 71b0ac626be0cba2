"""Average precision and recall of segments, equal to the published code of LAV-DF (Cai et al., 2022; `metrics.py`).

    average_precision(found, truth)   # {0.5: ..., 0.75: ..., 0.9: ..., 0.95: ...}
    average_recall(found, truth)      # {50: ..., 30: ..., 20: ..., 10: ..., 5: ...}

P proposals of a clip · L forged segments of it. A real clip has L = 0: whatever is proposed there is a false alarm. Overlaps are
computed in float32 and must *exceed* a threshold, as there, so that a case on the edge falls on the same side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

AP_AT = (0.5, 0.75, 0.9, 0.95)
AR_AT = (50, 30, 20, 10, 5)
AR_OVER = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Overlaps over which a recall is averaged."""

Found = Mapping[str, np.ndarray]
"""Clip -> proposals (P, 3): score, start, end in seconds; higher scores = more fake."""
Truth = Mapping[str, np.ndarray]
"""Clip -> forged segments (L, 2): start, end in seconds."""


class TruthError(ValueError):
    """Forged segments or proposals cannot be used; the message says which and what to do."""

    code = "BAD_TABLE"


def overlap(proposals: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Return the length two segments share over the length from the first start to the last end: (P, 2), (L, 2) -> (P, L).

    float32, in [0, 1]; of segments that are apart it is 0.
    """
    start, end = (np.asarray(proposals, np.float32)[:, i, None] for i in (0, 1))
    other_start, other_end = (np.asarray(segments, np.float32).reshape(-1, 2)[None, :, i] for i in (0, 1))
    shared = np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0)
    hull = np.maximum(end, other_end) - np.minimum(start, other_start)
    return np.divide(shared, hull, out=np.zeros_like(shared), where=hull > 0)


def average_precision(
    found: Found, truth: Truth, at: Sequence[float] = AP_AT, *, published: bool = True
) -> dict[float, float]:
    """Return overlap -> area below the precision envelope, in [0, 1].

    All proposals of all clips are ranked together. A forged segment is found by the highest proposal of its clip that overlaps it
    by more than the threshold and has found no other one yet, segments in the order of the truth. Equal scores keep the order of
    the clips.

    Args:
        published: leave out what the first proposal of all gains, as the published code does, whose curve has no point at recall
            0. That costs 1 / (forged segments) where the first proposal is right: nothing on a corpus, all of a single segment.

    Raises:
        TruthError: no clip has a forged segment, or the two do not name the same clips.
    """
    _check(found, truth)
    total = sum(len(segments) for segments in truth.values())
    ranked = {name: _ranked(found[name]) for name in truth}
    scores = np.concatenate([proposals[:, 0] for proposals in ranked.values()]).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    result = {}
    for threshold in at:
        hits = [_hits(proposals, truth[name], threshold) for name, proposals in ranked.items()]
        result[threshold] = _area(np.concatenate(hits)[order], total, published)
    return result


def average_recall(
    found: Found, truth: Truth, at: Sequence[int] = AR_AT, over: Sequence[float] = AR_OVER
) -> dict[int, float]:
    """Return N -> the share of all forged segments that one of their clip's N highest proposals overlaps, in [0, 1].

    Averaged over the overlaps `over`. A clip with fewer than N proposals has those it has (the published code needs N of each).

    Raises:
        TruthError: as `average_precision`.
    """
    _check(found, truth)
    total = sum(len(segments) for segments in truth.values())
    thresholds = np.asarray(over, np.float32)
    hits = np.zeros((len(at), len(over)))
    for name, segments in truth.items():
        proposals = _ranked(found[name])
        if not len(segments) or not len(proposals):
            continue
        best = np.maximum.accumulate(overlap(proposals[:, 1:], segments), axis=0)  # (P, L) of the highest p + 1
        for i, count in enumerate(at):
            reached = best[min(count, len(best)) - 1]  # (L,)
            hits[i] += (reached[None] > thresholds[:, None]).sum(1)
    return {count: float(hits[i].mean() / total) for i, count in enumerate(at)}


def _check(found: Found, truth: Truth) -> None:
    missing = [name for name in truth if name not in found]
    if missing:
        raise TruthError(
            f"{len(missing)} of {len(truth)} clips have no proposals, not even an empty list: {missing[0]}"
        )
    if not any(len(segments) for segments in truth.values()):
        raise TruthError("no clip has a forged segment, so that there is nothing to find")


def _ranked(proposals: np.ndarray) -> np.ndarray:
    """Proposals (P, 3), the highest score first; equal ones keep their order."""
    proposals = np.asarray(proposals, np.float64).reshape(-1, 3)
    if not np.isfinite(proposals).all():
        raise TruthError("a proposal has a score or a time that is no number")
    return proposals[np.argsort(-proposals[:, 0].astype(np.float32), kind="stable")]


def _hits(proposals: np.ndarray, segments: np.ndarray, threshold: float) -> np.ndarray:
    """Which proposals, (P,) bool, find a segment."""
    hits = np.zeros(len(proposals), bool)
    good = overlap(proposals[:, 1:], segments) > np.float32(threshold)  # (P, L)
    for column in good.T:
        free = np.flatnonzero(column & ~hits)
        hits[free[:1]] = True
    return hits


def _area(hits: np.ndarray, total: int, published: bool) -> float:
    """hits (P,) bool in the order of the scores, of `total` segments -> area below the precision envelope."""
    if not len(hits):
        return 0.0
    found = np.cumsum(hits)
    precision = found / (np.arange(len(hits)) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or a higher one
    gained = np.diff(np.append(0, found)) / total
    if published:
        gained[0] = 0
    return float((gained * envelope).sum())
