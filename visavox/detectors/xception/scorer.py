"""The two Xceptions as one scorer, for eval.py, the app and notebooks alike.

scorer = model.load("xception.ckpt", ["detector.strategy=adaptive", "detector.tau=5"])
scorer.score(bundles)                       # (N,) P(fake)
scorer.evidence(bundle)                     # what each frame and each window says, before any fusing
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from visavox.bundle import Bundle
from visavox.bundle.trim import trimmed
from visavox.config import Config, ConfigError, XceptionFusedConfig
from visavox.detectors.base import Detector
from visavox.detectors.xception import fusion
from visavox.detectors.xception.audio import Windows, XceptionAudio
from visavox.detectors.xception.video import Faces, XceptionVideo, frame_times, scored_frames
from visavox.progress import Stopwatch

log = logging.getLogger(__name__)
REMEMBERED = 8  # clips


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the branches said of one clip, before fusing. Seconds are those of the video's own clock."""

    frame_index: np.ndarray
    """(n,) int64: which frames of the track were looked at."""
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

    def calibrated(self, settings: XceptionFusedConfig) -> "Evidence":
        """After the calibration of each branch and the temperature of the audio."""
        video, audio = settings.video_calibration, settings.audio_calibration
        return replace(
            self,
            frame_logits=fusion.calibrate(self.frame_logits, video.a, video.b),
            window_logits=fusion.calibrate(self.window_logits, audio.a, audio.b, settings.audio_temperature),
        )


class Segments(NamedTuple):
    """Evidence fused segment by segment."""

    spans: np.ndarray
    """(W, 2) seconds."""
    video: np.ndarray
    """(W,) logits, NaN = no frame."""
    audio: np.ndarray
    """(W,) logits after calibration and temperature, NaN = no sound."""
    fused: fusion.Fused


class FusedScorer(Detector):
    """XceptionVideo and XceptionAudio, fused where they speak of the same seconds."""

    settings: XceptionFusedConfig
    needs_track = True

    def __init__(self, config: Config, settings: XceptionFusedConfig) -> None:
        super().__init__(config, settings)
        self.video = XceptionVideo(config.model_copy(update={"detector": settings.video}), settings.video)
        self.audio = XceptionAudio(config.model_copy(update={"detector": settings.audio}), settings.audio)
        self._looked: OrderedDict[int, tuple[Bundle, Any]] = OrderedDict()

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None) -> tuple[Faces, Windows]:
        return self.video.prepare(bundle, rng), self.audio.prepare(bundle, rng)

    def forward(self, clip: tuple[Faces, Windows]) -> Tensor:
        """The branches' clip logits, (B,), fused as one segment: what can be trained in common."""
        settings, of_video, of_audio = self.settings, self.settings.video_calibration, self.settings.audio_calibration
        video = fusion.calibrate(self.video(clip[0]), of_video.a, of_video.b)
        audio = fusion.calibrate(self.audio(clip[1]), of_audio.a, of_audio.b, settings.audio_temperature)
        if settings.strategy == "either":
            return torch.maximum(video, audio).where(clip[1].heard, video)
        if settings.strategy == "adaptive":
            reliable = torch.sigmoid(video.abs()) - torch.sigmoid(audio.abs())
            alpha = torch.sigmoid(settings.tau * reliable)
        else:
            alpha = 0.5 if settings.strategy == "equal" else fusion.VIDEO_TRUST
        return (alpha * video + (1 - alpha) * audio).where(clip[1].heard, video)

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """P(fake) of bundles, (N,) float64: fused per segment, then pooled over the clip; `evidence` trims for itself."""
        return np.array([clip_probability(self.evidence(bundle), self.settings) for bundle in bundles])

    def evidence(
        self,
        bundle: Bundle,
        *,
        frame_skip: int | None = None,
        max_frames: int | None = None,
        watch: Stopwatch | None = None,
    ) -> Evidence:
        """Run both networks over a clip. Asked again of the same bundle, only frames not yet seen go through a network."""
        watch = watch or Stopwatch()
        with watch("sound"):
            bundle, frames, (starts, logits) = self._remembered(bundle)
        settings = self.settings.video
        seconds = frame_times(bundle)
        chosen = scored_frames(len(seconds), frame_skip or settings.frame_skip, max_frames or settings.max_frames)
        unseen = np.array([t for t in chosen if int(t) not in frames], np.int64)
        with watch("frames"):
            frames.update(zip(unseen.tolist(), self.video.look(bundle, unseen)))
        end = float(bundle.times[-1]) + 1 / float(bundle.fps)
        return Evidence(
            frame_index=chosen,
            frame_seconds=seconds[chosen],
            frame_logits=np.array([frames[int(t)] for t in chosen]),
            window_starts=starts,
            window_logits=logits,
            window=self.settings.audio.window,
            span=(float(bundle.times[0]), end),
        )

    def evidence_of_sound(self, sound: np.ndarray) -> Evidence:
        """For a clip in which no face was found: sound (N,) int16 at resample_rate, no frames."""
        rate = self.config.resample_rate
        starts, logits = self.audio.hear_sound(sound, rate)
        none = np.zeros(0)
        window = self.settings.audio.window
        return Evidence(none.astype(np.int64), none, none, starts, logits, window, (0.0, len(sound) / rate))

    def _remembered(self, bundle: Bundle) -> tuple[Bundle, dict[int, float], tuple[np.ndarray, np.ndarray]]:
        """Of the clips asked for last: what is judged of the bundle, logits of the frames seen so far, and the sound's."""
        known = self._looked.pop(id(bundle), None)
        if known is None or known[0] is not bundle:
            judged = _trimmed_in_time(bundle, self.config)
            known = (bundle, (judged, {}, self.audio.hear(judged)))
        self._looked[id(bundle)] = known
        while len(self._looked) > REMEMBERED:
            self._looked.popitem(last=False)
        return known[1]


def _trimmed_in_time(bundle: Bundle, config: Config) -> Bundle:
    """`trim.trimmed` with the video's own clock, which it sets back; the frames' numbers travel through the cut."""
    numbered = replace(bundle, det_score=np.arange(bundle.track_frames, dtype=np.float32))
    judged = trimmed(numbered, config)
    return replace(judged, times=bundle.times[judged.det_score.astype(int)])


def fuse_segments(evidence: Evidence, settings: XceptionFusedConfig) -> Segments:
    """Each window of sound with the frames of its own seconds. Without sound, the same seconds of video alone."""
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
    return Segments(spans, video, audio, fused)


def clip_probability(evidence: Evidence, settings: XceptionFusedConfig) -> float:
    """P(fake) of a clip: pooled over its segments; 0.5 where there is nothing to judge by."""
    logits = fuse_segments(evidence, settings).fused.logit
    logits = logits[np.isfinite(logits)]
    if not len(logits):
        return 0.5
    return float(fusion.sigmoid(fusion.pool(logits, settings.pooling, settings.top_k)))


def join(video: Detector, audio: Detector) -> FusedScorer:
    """One scorer of two trained detectors.

    Raises:
        ConfigError: they are not a video and an audio branch, or their bundles are made with different settings.
    """
    if not isinstance(video, XceptionVideo) or not isinstance(audio, XceptionAudio):
        raise ConfigError(
            f"fuse wants an xception_video and an xception_audio checkpoint, in this order; found "
            f"{video.config.detector.name} and {audio.config.detector.name}"
        )
    there, here = video.config.prep(), audio.config.prep()
    if there != here:
        differ = [f"{key}: {there[key]} (video), {here[key]} (audio)" for key in there if there[key] != here[key]]
        raise ConfigError(f"the branches were trained on bundles of different settings; {'; '.join(differ)}")
    settings = XceptionFusedConfig(video=video.settings, audio=audio.settings)
    scorer = FusedScorer(video.config.model_copy(update={"detector": settings}), settings)
    scorer.video.load_state_dict(video.state_dict())
    scorer.audio.load_state_dict(audio.state_dict())
    return scorer.eval()
