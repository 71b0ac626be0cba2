"""A judge whose numbers were fitted to clips with labels: where the fit is kept, on what it was made, and what it changes.

`visavox calibrate --on FOLDER --model NAME` makes it; it lies in the weights folder and is applied from then on, to scores of the
same branches and weights alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visavox.detectors.analysis import UNCALIBRATED, Analysis, Calibrated, ModelCard, Weighed, decide
from visavox.detectors.novelty import Features, Known
from visavox.detectors.published.catalogue import calibration_of
from visavox.evaluation.calibration import Calibration, CalibrationError, log_odds
from visavox.files import replacing

if TYPE_CHECKING:
    from visavox.detectors.judging import Judge
    from visavox.detectors.scorer import Watch
    from visavox.progress import Stopwatch


@dataclass(frozen=True)
class Fitted:
    """A calibration of one model."""

    model: str
    on: str
    """Name of the labelled clips."""
    date: str
    """ISO 8601 day."""
    calibration: Calibration

    def save(self) -> Path:
        """Write it where `stored` finds it; return the path."""
        path = calibration_of(self.model)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path


def stored(model: str) -> Fitted | None:
    """Return the calibration of a model, or None where nobody has fitted one.

    Raises:
        CalibrationError: the file is damaged.
    """
    path = calibration_of(model)
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        inside = values["calibration"]
        inside |= {name: tuple(inside.get(name, ())) for name in ("warnings", "clips")}
        return Fitted(values["model"], values["on"], values["date"], Calibration(**inside))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(
            f"{path}: no calibration of a model ({error!r}); remove it, or calibrate again"
        ) from None


def features_of(model: str) -> Path:
    """Return where the features of the clips that a model was calibrated on lie."""
    return calibration_of(model).with_suffix(".features.npz")


class CalibratedJudge:
    """A judge with its numbers mapped; what it says of branches and seconds stays as it was."""

    def __init__(self, judge: Judge, fitted: Fitted) -> None:
        self.judge, self.fitted, self.name = judge, fitted, judge.name
        self.known = Known.load(features_of(fitted.model))

    @property
    def card(self) -> ModelCard:
        """Return the card of the judge."""
        return self.judge.card

    def __call__(self, path: str | Path, *, watch: Stopwatch | None = None, ended: Watch | None = None) -> Analysis:
        """Judge one file; see `Judge`."""
        with Features(self.judge) as seen:
            raw = self.judge(path, watch=watch, ended=ended)
        known = self.fitted.calibration
        if known.checkpoint and known.checkpoint != raw.card.checkpoint:
            note = (
                f"A calibration on {self.fitted.on} belongs to other branches or weights and was not applied: "
                "`visavox calibrate` fits one for these."
            )
            return replace(raw, notes=[*raw.notes, note])
        if self.known is not None and self.known.checkpoint == raw.card.checkpoint:
            raw = replace(raw, novelty=self.known.novelty(seen.vector))
        p = float(known(np.array([raw.probability]))[0])
        n, ledger = known.n_real + known.n_fake, raw.ledger or [Weighed(self.name, float(log_odds(raw.probability)))]
        undecided = "" if raw.undecided == UNCALIBRATED else raw.undecided
        return replace(
            raw,
            probability=p,
            confidence=max(p, 1 - p),
            verdict="undetermined" if undecided else decide(p, known.threshold, raw.least_confidence),
            undecided=undecided,
            threshold=known.threshold,
            calibrated=Calibrated(self.fitted.on, n, self.fitted.date),
            card=replace(raw.card, calibration=f"{known.method} on {self.fitted.on}, {n} clips, {self.fitted.date}"),
            ledger=[*ledger, Weighed("calibration", float(log_odds(p) - log_odds(raw.probability)))],
            counterfactuals=[],  # they would be of another scale
            notes=[*raw.notes, *known.warnings, "Branches and time lines are not calibrated."],
        )
