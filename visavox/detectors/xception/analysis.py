"""Evidence of both branches -> everything that is to be said about a clip; pure arithmetic."""

from __future__ import annotations

import numpy as np

from visavox.config import XceptionFusedConfig
from visavox.detectors.analysis import (
    NO_FACE,
    NOTHING,
    Analysis,
    Branch,
    Counterfactual,
    LeftOut,
    ModelCard,
    Segment,
    Verdict,
    decide,
    flagged,
)
from visavox.detectors.xception import fusion
from visavox.detectors.xception.evidence import Evidence, clip_probability, fuse_segments


def explain(evidence: Evidence, settings: XceptionFusedConfig, card: ModelCard) -> Analysis:
    """Return the analysis of a clip.

    The time line holds the fused segments. The branch `video` has one segment per frame that was scored, the branch
    `audio` one per window of sound with its weight there.
    """
    parts = fuse_segments(evidence, settings)
    probability = clip_probability(evidence, settings)
    said = evidence.calibrated(settings)
    undecided = "" if len(said.frame_logits) else NO_FACE if len(said.window_logits) else NOTHING
    p_video = _probability(fusion.pool(said.frame_logits, settings.video.pooling, settings.video.top_k))
    p_audio = _probability(fusion.pool(said.window_logits, settings.audio.pooling, settings.audio.top_k))
    timeline = _segments(parts.spans, parts.fused.logit)
    decided = decide(probability, settings.threshold, settings.abstain_below)
    verdict: Verdict = "undetermined" if undecided else decided
    return Analysis.of(
        probability,
        card=card,
        branches=[
            Branch(
                "video",
                p_video,
                float(parts.fused.alpha_video.mean()),
                evidence.video_took,
                frame_segments(said.frame_seconds, said.frame_logits, said.span[1]),
            ),
            Branch(
                "audio",
                p_audio,
                float(parts.fused.alpha_audio.mean()),
                evidence.audio_took,
                _segments(parts.spans, parts.audio, parts.fused.alpha_audio),
            ),
        ],
        timeline=timeline,
        notes=_notes(evidence, settings)
        + _disagreement(p_video, p_audio, settings)
        + _local(timeline, settings, verdict),
        threshold=settings.threshold,
        least_confidence=settings.abstain_below,
        undecided=undecided,
        settings=settings.model_dump(mode="json"),
        counterfactuals=[Counterfactual("video", p_audio), Counterfactual("audio", p_video)],
        degraded=[
            LeftOut(name, f"the clip has no {missing}")
            for name, p, missing in (("video", p_video, "face"), ("audio", p_audio, "sound"))
            if p is None
        ],
    )


def frame_segments(seconds: np.ndarray, logits: np.ndarray, end: float) -> list[Segment]:
    """Return one segment per scored frame, each reaching to the next one, the last to `end`: seconds and logits (n,)."""
    order = np.argsort(seconds, kind="stable")
    seconds, p = seconds[order], fusion.sigmoid(logits[order])
    ends = [*seconds[1:], end]
    return [
        Segment(round(float(start), 3), round(float(stop), 3), float(each))
        for start, stop, each in zip(seconds, ends, p)
    ]


def _segments(spans: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> list[Segment]:
    """Spans (W, 2), logits (W,), weights (W,) -> segments, without those of which nothing is known (NaN)."""
    return [
        Segment(
            round(float(start), 3),
            round(float(end), 3),
            float(fusion.sigmoid(logit)),
            None if weights is None else float(weights[i]),
        )
        for i, ((start, end), logit) in enumerate(zip(spans, logits))
        if np.isfinite(logit)
    ]


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
    return [f"The {accuser} alone would be called fake (P = {p:.2f}), the other modality real: look at both."]


def _local(timeline: list[Segment], settings: XceptionFusedConfig, verdict: Verdict) -> list[str]:
    """What a mean over the clip hides."""
    found = flagged(timeline, settings.threshold)
    if verdict == "fake" or not found:
        return []
    spans = ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in found)
    return [f"Parts of the clip reach the threshold ({spans}), though its {settings.pooling} does not."]


def _probability(logit: float) -> float | None:
    return float(fusion.sigmoid(logit)) if np.isfinite(logit) else None
