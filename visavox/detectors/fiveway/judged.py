"""What was found about one clip, and what is said of it: the branches, what each counted for, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from visavox.bundle import Bundle
from visavox.config import SYNC_FPS, FiveWayConfig
from visavox.config.fiveway import STAGES
from visavox.detectors.analysis import (
    NO_FACE,
    Analysis,
    Branch,
    Calibrated,
    Counterfactual,
    LeftOut,
    ModelCard,
    Segment,
    Weighed,
)
from visavox.detectors.fiveway import fusion
from visavox.detectors.fiveway.fusion import Fusion, Head

BRANCHES = STAGES[:-1]
NO_FUSION = (
    "this detector has no fusion yet: it is the checkpoint of an early stage, or fresh. Train it with "
    "`python train.py --config configs/fiveway.json`, and score with RUN/best.ckpt"
)
Timeline = Sequence[tuple[float, float, float]]
"""(start, end, P(fake)), in seconds of the video's own clock."""


@dataclass
class Judged:
    """What was found about one clip."""

    row: dict[str, float]
    """The twelve features, NaN where a branch said nothing."""
    logit: float
    """Calibrated log-odds of fake; NaN before the fusion is fitted."""
    head: Head | None
    exited: bool
    """Whether the gate let it through without the heavy branches."""
    seconds: dict[str, float]
    """Of each branch that ran."""
    notes: list[str]
    """Which branches said nothing, and why; which head judged."""
    silent: dict[str, str] = field(default_factory=dict)
    """Branch that said nothing -> why."""
    faces: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n,) P(fake) of each face by the visual branch; empty where it did not run."""
    windows: list[tuple[float, float, float]] = field(default_factory=list)
    """(start, end, P(out of step)) of each window of the sync branch, in seconds of the video's own clock."""
    seen: bool = True
    """Whether it shows a face."""

    @property
    def probability(self) -> float:
        """P(fake)."""
        return torch.sigmoid(torch.tensor(self.logit, dtype=torch.float64)).item()


def analysis_of(
    judged: Judged, fitted: Fusion | None, card: ModelCard, settings: FiveWayConfig, timelines: Mapping[str, Timeline]
) -> Analysis:
    """Return the analysis of a clip: what each branch found, what it counted for, and why, in words.

    Raises:
        RuntimeError: there is no fusion yet.
    """
    head = judged.head
    if head is None or fitted is None:
        raise RuntimeError(NO_FUSION)
    parts = head.contributions(judged.row)
    weights = {branch: abs(sum(parts.get(name, 0.0) for name in fusion.BRANCHES[branch])) for branch in head.branches}
    whole = sum(weights.values()) or 1.0
    branches = [
        Branch(
            branch,
            _opinion(judged.row, branch),
            weights.get(branch, 0.0) / whole,
            judged.seconds.get(branch, 0.0),
            [Segment(round(start, 3), round(end, 3), p) for start, end, p in timelines.get(branch, ())],
        )
        for branch in BRANCHES
    ]
    notes = [
        *fusion.explain(head, judged.row),
        *judged.notes,
        *(f"head {head.name}: {warning}" for warning in head.warnings),
        "Branches are fused over the clip as a whole: it has no time line of its own, those of `visual` and `sync` have.",
    ]
    return Analysis.of(
        judged.probability,
        card=replace(card, calibration=head.calibration),
        branches=branches,
        notes=notes,
        undecided="" if judged.seen else NO_FACE,
        settings=settings.model_dump(mode="json"),
        ledger=[Weighed(name, part) for name, part in parts.items()],
        calibrated=Calibrated(head.fitted_on, head.n_real + head.n_fake, head.fitted_at[:10]),
        degraded=[LeftOut(branch, why) for branch, why in judged.silent.items()],
        counterfactuals=_without_each(fitted, head, judged.row),
    )


def _without_each(fitted: Fusion, head: Head, row: Mapping[str, float]) -> list[Counterfactual]:
    """P(fake) by the head of the other branches, for each branch of a head; None where there is no such head."""
    found = []
    for branch in head.branches if len(head.branches) > 1 else ():
        others = dict(row) | dict.fromkeys(fusion.BRANCHES[branch], float("nan"))
        try:
            logit, _ = fitted.logit(others)
            found.append(Counterfactual(branch, float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64)))))
        except fusion.FusionError:
            found.append(Counterfactual(branch, None))
    return found


def faces_in_time(bundle: Bundle, judged: Judged) -> list[tuple[float, float, float]]:
    """(start, end, P(fake)) of each face that the visual branch saw: the seconds that it stands for."""
    n = len(judged.faces)
    if not n:
        return []
    begin, end = float(bundle.times[0]), float(bundle.times[-1]) + 1 / SYNC_FPS
    edges = begin + (end - begin) * np.arange(n + 1) / n
    return [(float(a), float(b), float(p)) for a, b, p in zip(edges, edges[1:], judged.faces)]


def _opinion(row: Mapping[str, float], branch: str) -> float | None:
    """P(fake) by one branch alone, for show; None where it said nothing. The calibrated heads read more than this."""
    name = {"tiny": "tiny_prob_mean", "visual": "visual_prob_mean", "sync": "sync_prob"}.get(
        branch, f"{branch}_prob_fake"
    )
    if not np.isfinite(row[name]):
        return None
    return 1 - row[name] if branch == "sync" else row[name]
