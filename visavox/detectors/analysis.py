"""What is said about one clip, by every detector alike: the only thing that pages, reports and notebooks read.

    analysis = scorer.explain(bundle)
    analysis.verdict, analysis.probability, analysis.flagged
    Analysis.from_json(analysis.to_json()) == analysis

Probabilities are P(fake); seconds are those of the video's own clock. docs/analysis.schema.json is the JSON form's schema, as
`json_schema` gives it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Verdict = Literal["fake", "real", "undetermined"]

NOTHING = "No part of the detector had anything to judge by."
NO_FACE = "No face was found: what the sound alone says is a number, and no verdict on the video."
UNCALIBRATED = "It was calibrated on no clips, so no number is known from which on a clip counts as fake."
"""Why there is no verdict, whatever the probability."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a clip."""

    start: float
    """Seconds."""
    end: float
    """Seconds; segments of one time line may overlap."""
    probability: float
    """P(fake) of this stretch."""
    weight: float | None = None
    """What it counts for beside the other branches in the same seconds, in [0, 1]; None where nothing is weighed."""


@dataclass(frozen=True)
class Branch:
    """One part of a detector that has an opinion of its own, such as the one that sees and the one that hears."""

    name: str
    """`video`, `audio`, or the detector's own name where it has one part only."""
    probability: float | None
    """P(fake) by this part alone; None where its modality is missing."""
    weight: float
    """What it counts for in the clip's probability, in [0, 1]."""
    seconds: float
    """Seconds that its network took; 0 where it had been run before."""
    timeline: list[Segment] = field(default_factory=list)
    """What this part alone says over time; empty where it judges the clip as a whole."""


@dataclass(frozen=True)
class Weighed:
    """One line of the ledger: what a part adds to the log-odds of fake."""

    name: str
    """A branch, a feature, or `bias` and `calibration`."""
    log_odds: float
    """Natural logarithm of odds; above 0 speaks for fake, below 0 for real."""


@dataclass(frozen=True)
class Calibrated:
    """What made scores probabilities."""

    on: str
    """Name of the labelled clips."""
    n: int
    """How many they were."""
    date: str
    """When it was fitted, ISO 8601 day."""


@dataclass(frozen=True)
class LeftOut:
    """Something that a verdict usually rests on and that was not there."""

    what: str
    """A branch or a modality."""
    why: str
    """The reason, in words."""


@dataclass(frozen=True)
class Counterfactual:
    """What would have been said without one part."""

    without: str
    """The branch or modality."""
    probability: float | None
    """P(fake) of all others together; None where there are no others."""


@dataclass(frozen=True)
class Novelty:
    """How unlike the clip is to those that the detector knows: beyond them a score means little."""

    distance: float
    """Of the clip's features to those known, in the detector's own measure."""
    quantile: float
    """Share of known clips that lie nearer, in [0, 1]."""
    known: str
    """Which clips those are, in words."""
    n: int
    """How many they are."""

    @property
    def novel(self) -> bool:
        """Whether the clip lies beyond 99 in 100 of those known."""
        return self.quantile > 0.99


@dataclass(frozen=True)
class ModelCard:
    """The model card in short: what gave the verdict, and what it knows."""

    detector: str
    """Name of the detector, `detector.name` of its configuration."""
    checkpoint: str = ""
    """sha256 of the checkpoint, 64 hex digits; empty for a network that was not loaded from one."""
    prep_hash: str = ""
    """Hash of the settings and weights that the clip was preprocessed with."""
    calibration: str = "uncalibrated"
    """What the probabilities were calibrated on, in words."""
    trained_on: str = ""
    """What it was trained on, in words; empty where that is not known."""
    synthetic: bool = False
    """It was trained on drawn clips alone, and says nothing about real videos."""


@dataclass(frozen=True)
class Analysis:
    """Verdict on one clip, how sure it is, which part of the detector says so, and at which seconds."""

    verdict: Verdict
    """`undetermined` where the confidence is too low, no face was found, or there is nothing to judge by."""
    probability: float
    """P(fake) of the clip; what `score` gives."""
    confidence: float
    """max(P, 1 - P), in [0.5, 1]."""
    branches: list[Branch]
    """In the order of their use; never empty."""
    timeline: list[Segment]
    """P(fake) over time; empty where the detector judges the clip as a whole, which a note then says."""
    flagged: list[tuple[float, float]]
    """Start and end in seconds where the time line reaches the threshold, joined where they touch."""
    notes: list[str]
    """What is missing, has no effect or should be looked at, in words."""
    card: ModelCard
    """The detector, its checkpoint and calibration."""
    threshold: float = 0.5
    """P(fake) from which a clip is called fake."""
    least_confidence: float = 0.5
    """Confidence below which no verdict is given."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the detector that the numbers were made with, as plain values."""
    ledger: list[Weighed] = field(default_factory=list)
    """What adds up to the log-odds of the probability; empty where the detector does not add log-odds."""
    calibrated: Calibrated | None = None
    """What the probability was calibrated on; None: uncalibrated, the number is a score and no frequency."""
    degraded: list[LeftOut] = field(default_factory=list)
    """What was left out, and why; empty where everything was there."""
    counterfactuals: list[Counterfactual] = field(default_factory=list)
    """P(fake) without each of the parts; empty where there is one part only."""
    novelty: Novelty | None = None
    """How unlike it is to what the detector knows; None where that was not measured."""
    undecided: str = ""
    """Why there is no verdict whatever the probability; empty where the probability decides."""

    @classmethod
    def of(
        cls,
        probability: float,
        *,
        card: ModelCard,
        branches: Sequence[Branch],
        timeline: Sequence[Segment] = (),
        notes: Sequence[str] = (),
        threshold: float = 0.5,
        least_confidence: float = 0.5,
        undecided: str = "",
        settings: dict[str, Any] | None = None,
        **evidence: Any,
    ) -> Self:
        """Draw the verdict, the confidence and the flagged seconds from the numbers; what is `UNCALIBRATED` flags none.

        Args:
            undecided: why no verdict is given whatever the probability; empty where the probability decides.
            evidence: the fields `ledger`, `calibrated`, `degraded`, `counterfactuals` and `novelty`.
        """
        return cls(
            verdict="undetermined" if undecided else decide(probability, threshold, least_confidence),
            probability=probability,
            confidence=max(probability, 1 - probability),
            branches=list(branches),
            timeline=list(timeline),
            flagged=[] if undecided == UNCALIBRATED else flagged(timeline, threshold),
            notes=list(notes),
            card=card,
            threshold=threshold,
            least_confidence=least_confidence,
            settings=settings or {},
            undecided=undecided,
            **evidence,
        )

    def to_json(self) -> str:
        """Return every field as JSON, UTF-8 and without NaN."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the analysis that `to_json` wrote.

        Raises:
            ValueError: no JSON of an analysis; the message says what is wrong with it.
        """
        try:
            values = json.loads(text)
            return cls(
                **values
                | {
                    "branches": [
                        Branch(**branch | {"timeline": [Segment(**part) for part in branch["timeline"]]})
                        for branch in values["branches"]
                    ],
                    "timeline": [Segment(**part) for part in values["timeline"]],
                    "flagged": [(start, end) for start, end in values["flagged"]],
                    "card": ModelCard(**values["card"]),
                    "ledger": [Weighed(**line) for line in values.get("ledger", ())],
                    "degraded": [LeftOut(**part) for part in values.get("degraded", ())],
                    "counterfactuals": [Counterfactual(**part) for part in values.get("counterfactuals", ())],
                    "calibrated": Calibrated(**values["calibrated"]) if values.get("calibrated") else None,
                    "novelty": Novelty(**values["novelty"]) if values.get("novelty") else None,
                }
            )
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"no analysis as Analysis.to_json writes it: {error}") from None

    def to_csv(self) -> str:
        """Return one row per segment: of the clip, then of each branch that has a time line. An empty weight: not weighed."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["branch", "start", "end", "probability", "weight"])
        for name, timeline in [("clip", self.timeline), *((branch.name, branch.timeline) for branch in self.branches)]:
            for part in timeline:
                writer.writerow([name, part.start, part.end, part.probability, part.weight])
        return file.getvalue()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what `to_json` writes."""
    from pydantic import ConfigDict, TypeAdapter

    parts: list[Any] = [Analysis, Branch, Segment, ModelCard, Weighed, Calibrated, LeftOut, Counterfactual, Novelty]
    for part in parts:
        part.__pydantic_config__ = ConfigDict(use_attribute_docstrings=True)
    return TypeAdapter(Analysis).json_schema(mode="serialization") | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Analysis of one clip by Visavox",
    }


def decide(probability: float, threshold: float = 0.5, least_confidence: float = 0.5) -> Verdict:
    """Return the verdict on P(fake): none below a confidence, else fake from the threshold on."""
    if max(probability, 1 - probability) < least_confidence:
        return "undetermined"
    return "fake" if probability >= threshold else "real"


def flagged(timeline: Sequence[Segment], threshold: float) -> list[tuple[float, float]]:
    """Return the stretches whose segments, in the order of their start, reach the threshold; joined where they touch."""
    joined: list[tuple[float, float]] = []
    for part in timeline:
        if part.probability < threshold:
            continue
        if joined and part.start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(part.end, joined[-1][1]))
        else:
            joined.append((part.start, part.end))
    return joined
