"""Everything that is to be said about one clip, for a page, a notebook or a report.

analysis = analyse(bundle, scorer, settings)      # the networks run on what they have not seen yet, the rest is arithmetic
analysis.verdict, analysis.p_fake, analysis.flagged
"""

import csv
import io
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from visavox.bundle import Bundle
from visavox.config import XceptionFusedConfig
from visavox.detectors.xception import fusion
from visavox.detectors.xception.scorer import Evidence, FusedScorer, Segments, clip_probability, fuse_segments
from visavox.progress import Stopwatch


@dataclass(frozen=True)
class Frame:
    """One frame that was looked at."""

    index: int
    second: float
    p_fake: float


@dataclass(frozen=True)
class Segment:
    """A window of sound and the frames of its own seconds; None where a modality is missing."""

    start: float
    end: float
    p_video: float | None
    p_audio: float | None
    p_fused: float
    alpha_video: float
    alpha_audio: float


@dataclass(frozen=True)
class Analysis:
    """The answer. Probabilities are P(fake); seconds are the video's own."""

    verdict: Literal["FAKE", "REAL", "ABSTAIN"]
    p_fake: float
    confidence: float
    """max(p_fake, 1 - p_fake)."""
    p_video: float | None
    """Pooled over frames, after calibration; None without a face."""
    p_audio: float | None
    """Pooled over windows, after calibration and temperature; None without sound."""
    alpha_video: float
    """Mean weight of the video over the segments."""
    alpha_audio: float
    frames: list[Frame]
    segments: list[Segment]
    flagged: list[tuple[float, float]]
    """Seconds whose segments reach the threshold, joined where they touch."""
    notes: list[str]
    """What is missing or has no effect, in words."""
    settings: dict[str, Any]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def to_csv(self) -> str:
        """One row per segment, then one per frame; empty cells are what is missing."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        names = ["start", "end", "p_video", "p_audio", "p_fused", "alpha_video", "alpha_audio"]
        writer.writerow(["kind", *names])
        for segment in self.segments:
            writer.writerow(["segment", *(getattr(segment, name) for name in names)])
        for frame in self.frames:
            writer.writerow(["frame", frame.second, frame.second, frame.p_fake, "", "", "", ""])
        return file.getvalue()


def analyse(
    bundle: Bundle,
    scorer: FusedScorer,
    settings: XceptionFusedConfig | None = None,
    *,
    watch: Stopwatch | None = None,
) -> Analysis:
    """Score one clip and explain the score.

    Args:
        bundle: loaded with its track and audio.
        settings: strategy, temperature, threshold, frames; the scorer's own by default. The networks in it are ignored.
        watch: books the seconds of the stages `sound` and `frames`.
    """
    settings = settings or scorer.settings
    video = settings.video
    evidence = scorer.evidence(bundle, frame_skip=video.frame_skip, max_frames=video.max_frames, watch=watch)
    return explain(evidence, settings)


def explain(evidence: Evidence, settings: XceptionFusedConfig) -> Analysis:
    """Evidence -> the answer; pure arithmetic."""
    parts = fuse_segments(evidence, settings)
    p_fake = clip_probability(evidence, settings)
    said = evidence.calibrated(settings)
    judged = bool(len(said.frame_logits) or len(said.window_logits))
    verdict = fusion.decide(p_fake, settings.threshold, settings.abstain_below) if judged else "ABSTAIN"
    frame_p = fusion.sigmoid(said.frame_logits)
    video, audio = settings.video, settings.audio
    p_video = _probability(fusion.pool(said.frame_logits, video.pooling, video.top_k))
    p_audio = _probability(fusion.pool(said.window_logits, audio.pooling, audio.top_k))
    return Analysis(
        verdict=verdict,
        p_fake=p_fake,
        confidence=fusion.confidence(p_fake),
        p_video=p_video,
        p_audio=p_audio,
        alpha_video=float(parts.fused.alpha_video.mean()),
        alpha_audio=float(parts.fused.alpha_audio.mean()),
        frames=[
            Frame(int(index), round(float(second), 3), float(p))
            for index, second, p in zip(evidence.frame_index, evidence.frame_seconds, frame_p)
        ],
        segments=_segments(parts),
        flagged=_flagged(parts, settings.threshold),
        notes=_notes(evidence, settings) + _disagreement(p_video, p_audio, settings) + _local(parts, settings, verdict),
        settings=settings.model_dump(mode="json"),
    )


def _segments(parts: Segments) -> list[Segment]:
    columns = (parts.video, parts.audio, parts.fused.logit, parts.fused.alpha_video, parts.fused.alpha_audio)
    return [
        Segment(
            start=round(float(start), 3),
            end=round(float(end), 3),
            p_video=_probability(video),
            p_audio=_probability(audio),
            p_fused=float(fusion.sigmoid(fused)) if np.isfinite(fused) else 0.5,
            alpha_video=float(alpha_video),
            alpha_audio=float(alpha_audio),
        )
        for (start, end), video, audio, fused, alpha_video, alpha_audio in zip(parts.spans, *columns)
    ]


def _flagged(parts: Segments, threshold: float) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for (start, end), logit in zip(parts.spans, parts.fused.logit):
        if not fusion.sigmoid(logit) >= threshold:  # NaN, neither seen nor heard, is never flagged
            continue
        start, end = round(float(start), 3), round(float(end), 3)
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _notes(evidence: Evidence, settings: XceptionFusedConfig) -> list[str]:
    notes = []
    if not len(evidence.window_logits):
        notes.append("No sound: judged by the faces alone.")
    if not len(evidence.frame_logits):
        notes.append("No face: judged by the sound alone.")
    if settings.strategy == "adaptive" and settings.tau < 1:
        low = float(fusion.sigmoid(-settings.tau / 2))
        notes.append(
            f"With tau = {settings.tau:g} the adaptive weights stay within {low:.3f} and {1 - low:.3f}: "
            "as good as equal. From tau = 5 on they differ visibly."
        )
    return notes


def _disagreement(p_video: float | None, p_audio: float | None, settings: XceptionFusedConfig) -> list[str]:
    """A forgery of one modality alone is outvoted by the other, so it is said where they differ."""
    if p_video is None or p_audio is None or (p_video >= settings.threshold) == (p_audio >= settings.threshold):
        return []
    accuser, p = ("faces", p_video) if p_video > p_audio else ("sound", p_audio)
    return [f"The {accuser} alone would be called FAKE (P = {p:.2f}), the other modality REAL: look at both."]


def _local(parts: Segments, settings: XceptionFusedConfig, verdict: str) -> list[str]:
    """What a mean over the clip hides."""
    flagged = _flagged(parts, settings.threshold)
    if verdict == "FAKE" or not flagged:
        return []
    spans = ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in flagged)
    return [f"Parts of the clip reach the threshold ({spans}), though its {settings.pooling} does not."]


def _probability(logit: float) -> float | None:
    return float(fusion.sigmoid(logit)) if np.isfinite(logit) else None
