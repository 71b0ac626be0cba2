"""The evidence of one clip as one page: what was said, by what, how much each part counted, and what is not known.

    page(analysis, name="clip.mp4", observations=observe(path))        # -> HTML that loads nothing and prints well

What stands under "The file" (container, codecs, provenance manifest) is said and never weighed: no detector here reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from visavox.report.page import fill

if TYPE_CHECKING:
    from visavox.detectors.analysis import Analysis, Segment

VERDICTS = {"fake": "Called fake", "real": "Called real", "undetermined": "No verdict"}
WIDTH, HEIGHT = 1000, 240
"""Of the time line's picture, in its own units."""
LEFT, TOP, BOTTOM = 46, 10, 34
"""Margins of the time line's picture, in its own units."""


@dataclass(frozen=True)
class Observation:
    """A fact about the file that no detector reads."""

    name: str
    value: str
    note: str = ""
    """What it may mean, in words."""


class Picture(NamedTuple):
    """A frame that is shown beside the numbers."""

    png: bytes
    caption: str
    large: bool = False
    """Whether it has a row of its own, with its caption beside it."""


def page(
    analysis: Analysis,
    *,
    name: str,
    why: str = "",
    observations: Sequence[Observation | Mapping[str, Any]] = (),
    stages: Mapping[str, float] | Sequence[Mapping[str, Any]] = (),
    origin: Mapping[str, Any] | None = None,
    pictures: Sequence[Picture] = (),
) -> str:
    """Return the page of one analysis, UTF-8 HTML without a reference to anything outside.

    Args:
        name: of the file, as people know it; control characters in it are shown, never obeyed.
        why: one sentence; made of the numbers where it is empty.
        observations: facts of the file: `name`, `value` and `note` each.
        stages: stage -> seconds, or mappings of `name` and `seconds`.
        origin: further facts of where the numbers come from, such as `sha256` and `commit`; empty ones are left out.
        pictures: PNG images with captions.
    """
    took = stages.items() if isinstance(stages, Mapping) else [(each["name"], each["seconds"]) for each in stages]
    card = analysis.card
    facts = {
        "detector": card.detector,
        "checkpoint (sha256)": card.checkpoint,
        "trained on": card.trained_on,
        "preprocessing": card.prep_hash,
        **{key.replace("_", " "): value for key, value in (origin or {}).items()},
    }
    return fill(
        "evidence.html.jinja",
        title=name,
        analysis=analysis,
        verdict=VERDICTS[analysis.verdict],
        why=why or sentence(analysis),
        calibration=calibration(analysis),
        timeline=_timeline(analysis),
        ledger=_bars(analysis),
        observations=[asdict(each) if is_dataclass(each) else {"note": "", **each} for each in observations],
        stages=list(took),
        origin={key: value for key, value in facts.items() if value},
        settings=analysis.settings,
        pictures=pictures,
    )


def sentence(analysis: Analysis) -> str:
    """Return the verdict's reason in one sentence, from the numbers alone."""
    p = f"P(fake) is {analysis.probability:.3f}"
    if analysis.verdict == "undetermined":
        if analysis.undecided:
            heard = any(branch.probability is not None for branch in analysis.branches)
            return analysis.undecided + (f" {p}." if heard else "")
        return f"{p}, a confidence of {analysis.confidence:.3f}, below the {analysis.least_confidence:.3f} that is asked for."
    side = "at or above" if analysis.verdict == "fake" else "below"
    text = f"{p}, {side} the threshold of {analysis.threshold:.3f}"
    spoken = [branch for branch in analysis.branches if branch.probability is not None]
    if len(spoken) > 1:
        fake = [branch.name for branch in spoken if (branch.probability or 0) >= analysis.threshold]
        text += f"; {len(fake)} of {len(spoken)} parts say fake" + (f" ({', '.join(fake)})" if fake else "")
    return f"{text}."


def calibration(analysis: Analysis) -> str:
    """Return what the number may be taken for."""
    fitted = analysis.calibrated
    if fitted is None:
        said = "Uncalibrated: the number is a score between 0 and 1. Of clips scored 0.9 not nine in ten need be fake."
        return (
            said if analysis.card.calibration == "uncalibrated" else f"{said} Its model: {analysis.card.calibration}."
        )
    return f"Calibrated on {fitted.on}, {fitted.n:,} clips, {fitted.date or 'at an unknown date'}."


def _timeline(analysis: Analysis) -> dict[str, Any] | None:
    """The lines of the time line's picture: of the clip, or of the branches where the clip has none."""
    lines = {"clip": analysis.timeline} if analysis.timeline else {}
    lines |= {branch.name: branch.timeline for branch in analysis.branches if branch.timeline}
    if not lines:
        return None
    start = min(part.start for line in lines.values() for part in line)
    end = max(part.end for line in lines.values() for part in line)
    span = max(end - start, 1e-6)

    def x(seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - 8) * (seconds - start) / span, 1)

    def y(p: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - p), 1)

    def path(line: Sequence[Segment]) -> str:
        points = []
        for part in line:
            points += [f"{x(part.start)},{y(part.probability)}", f"{x(part.end)},{y(part.probability)}"]
        return " ".join(points)

    step = _step(span)
    ticks = [start + step * i for i in range(int(span / step) + 1)]
    return {
        "lines": [
            (name, path(line)) for name, line in lines.items()
        ],  # drawn last to first: the clip's above the others
        "threshold": y(analysis.threshold),
        "levels": [(p, y(p)) for p in (0.0, 0.5, 1.0)],
        "ticks": [(f"{tick:.3g}", x(tick)) for tick in ticks],
        "flagged": [(x(a), round(x(b) - x(a), 1)) for a, b in analysis.flagged],
        "floor": HEIGHT - BOTTOM,
        "box": (WIDTH, HEIGHT, LEFT, TOP),
    }


def _step(span: float) -> float:
    """A round number of seconds that divides a span into ten parts or fewer."""
    raw = max(span / 10, 1e-3)
    power = 10 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)


def _bars(analysis: Analysis) -> list[dict[str, Any]]:
    """The ledger, the weightiest first, with each bar's start and width in percent of the row."""
    widest = max((abs(line.log_odds) for line in analysis.ledger), default=0.0) or 1.0
    return [
        {
            "name": line.name,
            "log_odds": line.log_odds,
            "left": round(50 + min(0.0, 50 * line.log_odds / widest), 2),
            "width": round(abs(50 * line.log_odds / widest), 2),
        }
        for line in sorted(analysis.ledger, key=lambda line: -abs(line.log_odds))
    ]
