"""What the branches say of one clip before fusing, and the arithmetic that makes one probability of it.

n frames of a clip · W windows of its sound
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from visavox.config import XceptionFusedConfig
from visavox.detectors.xception import fusion


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the branches said of one clip, before fusing. Seconds are those of the video's own clock."""

    frame_index: np.ndarray
    """(n,) int64: which frames of the track were scored."""
    frame_seconds: np.ndarray
    """(n,) float64."""
    frame_logits: np.ndarray
    """(n,) float64, as the network gave them; n = 0 without a face."""
    window_starts: np.ndarray
    """(W,) float64 seconds."""
    window_logits: np.ndarray
    """(W,) float64, as the network gave them; W = 0 without sound."""
    window: float
    """Seconds of a window."""
    span: tuple[float, float]
    """First and last second of the clip."""
    video_took: float = 0.0
    """Seconds that the network over frames was busy; 0 where all of them had been scored before."""
    audio_took: float = 0.0
    """Seconds that the network over windows was busy."""
    prep_hash: str = ""
    """Hash of the settings that the bundle was made with; empty for sound alone."""

    def calibrated(self, settings: XceptionFusedConfig) -> Evidence:
        """Return the evidence after the calibration of each branch and the temperature of the audio."""
        video, audio = settings.video_calibration, settings.audio_calibration
        return replace(
            self,
            frame_logits=fusion.calibrate(self.frame_logits, video.a, video.b),
            window_logits=fusion.calibrate(self.window_logits, audio.a, audio.b, settings.audio_temperature),
        )


class FusedSegments(NamedTuple):
    """Evidence fused segment by segment."""

    spans: np.ndarray
    """(W, 2) seconds."""
    video: np.ndarray
    """(W,) logits, NaN = no frame."""
    audio: np.ndarray
    """(W,) logits after calibration and temperature, NaN = no sound."""
    fused: fusion.Fused


def fuse_segments(evidence: Evidence, settings: XceptionFusedConfig) -> FusedSegments:
    """Fuse each window of sound with the frames of its own seconds. Without sound, the same seconds of video alone."""
    evidence = evidence.calibrated(settings)
    starts, audio = evidence.window_starts, evidence.window_logits
    if not len(starts):
        first, end = evidence.span
        stride = evidence.window * (1 - settings.audio.overlap)
        count = 1 + max(0, int((end - first - 0.8 * evidence.window) // stride))
        starts, audio = first + np.arange(count) * stride, np.full(count, np.nan)
    spans = fusion.segments(starts, evidence.window, evidence.span[1])
    video = fusion.align(evidence.frame_seconds, evidence.frame_logits, spans)
    fused = fusion.fuse(video, audio, strategy=settings.strategy, tau=settings.tau)
    return FusedSegments(spans, video, audio, fused)


def clip_probability(evidence: Evidence, settings: XceptionFusedConfig) -> float:
    """Return P(fake) of a clip: pooled over its segments; 0.5 where there is nothing to judge by."""
    logits = fuse_segments(evidence, settings).fused.logit
    logits = logits[np.isfinite(logits)]
    if not len(logits):
        return 0.5
    return float(fusion.sigmoid(fusion.pool(logits, settings.pooling, settings.top_k)))
