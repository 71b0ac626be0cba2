"""Several judges as one: the mean of their log-odds, with the weight of each equal until somebody calibrates the whole.

What a clip lacks (no face, no sound) or an installation lacks (weights, an extra) leaves its branch out, which the analysis says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.bundle import BundleError
from visavox.detectors.analysis import (
    NO_FACE,
    UNCALIBRATED,
    Analysis,
    Branch,
    Counterfactual,
    LeftOut,
    ModelCard,
    Weighed,
)
from visavox.detectors.judging import ModelError
from visavox.evaluation.calibration import log_odds, sigmoid
from visavox.preprocessing.pipeline import CropError
from visavox.preprocessing.voice_input import NoVoiceError

if TYPE_CHECKING:
    from visavox.detectors.judging import Judge
    from visavox.detectors.scorer import Watch
    from visavox.progress import Stopwatch


class FusedJudge:
    """Judges of one file, fused by equal weights of their log-odds.

    Args:
        judges: branch -> judge.
        missing: branches that are not here, with the reason.
    """

    def __init__(self, name: str, judges: Mapping[str, Judge], missing: Mapping[str, str]) -> None:
        self.name, self.judges, self.missing = name, dict(judges), dict(missing)

    @property
    def card(self) -> ModelCard:
        """Return the card of all branches together."""
        return self._card({branch: judge.card for branch, judge in self.judges.items()})

    def __call__(self, path: str | Path, *, watch: Stopwatch | None = None, ended: Watch | None = None) -> Analysis:
        """Judge one file by every branch that can.

        Args:
            watch: books the seconds of the stages.
            ended: told of each branch that has ended.

        Raises:
            CropError: no branch found anything to judge by; the message holds the reason of each.
            MediaError: the file cannot be read.
        """
        said: dict[str, Analysis] = {}
        lost, faceless = dict(self.missing), False
        for branch, judge in self.judges.items():
            try:
                analysis = judge(path, watch=watch)
            except (
                CropError,
                BundleError,
                ModelError,
                NoVoiceError,
            ) as error:  # what the clip lacks; a file that cannot be read ends here
                lost[branch] = str(error)
                faceless |= isinstance(error, CropError) and error.status == "no_face"
                continue
            if ended:
                ended(branch, sum(part.seconds for part in analysis.branches))
            if all(part.probability is None for part in analysis.branches):
                lost[branch] = analysis.notes[0] if analysis.notes else "it gave no opinion"
            else:
                said[branch] = analysis
        if not said:
            reasons = "; ".join(f"{branch}: {why}" for branch, why in lost.items())
            raise CropError("no_face", f"no branch has anything to judge by ({reasons})")
        faceless |= any(analysis.undecided == NO_FACE for analysis in said.values())
        ranked = all(analysis.undecided == UNCALIBRATED for analysis in said.values())  # none has a number for fake
        return self._fused(said, lost, NO_FACE if faceless else UNCALIBRATED if ranked else "")

    def _fused(self, said: Mapping[str, Analysis], lost: Mapping[str, str], undecided: str) -> Analysis:
        odds = {branch: float(log_odds(analysis.probability)) for branch, analysis in said.items()}
        n, total = len(odds), sum(odds.values())
        probability = float(sigmoid(total / n))
        branches = [
            Branch(
                branch,
                analysis.probability,
                1 / n,
                sum(part.seconds for part in analysis.branches),
                analysis.timeline,
            )
            for branch, analysis in said.items()
        ]
        branches += [Branch(branch, None, 0.0, 0.0) for branch in lost]
        notes = [f"{branch}: {note}" for branch, analysis in said.items() for note in analysis.notes]
        cards = {branch: analysis.card for branch, analysis in said.items()}
        return Analysis.of(
            probability,
            card=self._card(cards),
            branches=branches,
            notes=[*notes, "Branches are fused over the clip as a whole: the time lines are those of the branches."],
            ledger=[Weighed(branch, value / n) for branch, value in odds.items()],
            degraded=[LeftOut(branch, why) for branch, why in lost.items()],
            counterfactuals=[
                Counterfactual(branch, float(sigmoid((total - value) / (n - 1))) if n > 1 else None)
                for branch, value in odds.items()
            ],
            undecided=undecided,
            settings={
                "fusion": "mean of log-odds",
                "branches": {branch: card.detector for branch, card in cards.items()},
            },
        )

    def _card(self, cards: Mapping[str, ModelCard]) -> ModelCard:
        return ModelCard(
            detector=self.name,
            checkpoint=identity({branch: card.checkpoint or card.detector for branch, card in cards.items()}),
            trained_on="; ".join(f"{branch}: {card.trained_on}" for branch, card in cards.items() if card.trained_on),
            synthetic=all(card.synthetic for card in cards.values()),
        )


def identity(checkpoints: Mapping[str, str]) -> str:
    """Return one sha256 for the branches that spoke, 64 hex digits."""
    lines = [f"{branch} {checkpoints[branch]}" for branch in sorted(checkpoints)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
