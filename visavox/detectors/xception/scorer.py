"""The two Xceptions as one scorer, for eval.py, the page and notebooks alike.

scorer = build.load("xception.ckpt", ["detector.strategy=adaptive", "detector.tau=5"])
scorer.score(bundles)                       # (N,) P(fake)
scorer.explain(bundle)                      # Analysis
Session(scorer, bundle).explain(settings)   # as often as settings change; only what was not seen yet goes through a network
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from visavox.bundle import Bundle
from visavox.config import Config, ConfigError, XceptionFusedConfig
from visavox.detectors.analysis import Analysis, ModelCard
from visavox.detectors.scorer import Scored, Scorer, Watch
from visavox.detectors.xception.analysis import explain
from visavox.detectors.xception.audio import XceptionAudio
from visavox.detectors.xception.evidence import Evidence, clip_probability
from visavox.detectors.xception.video import XceptionVideo, frame_times, scored_frames
from visavox.progress import Stopwatch


class FusedScorer(nn.Module):
    """XceptionVideo and XceptionAudio, fused where they speak of the same seconds. A `Scorer`; its branches are trained alone."""

    needs_track = True

    def __init__(self, config: Config, settings: XceptionFusedConfig) -> None:
        super().__init__()
        self.config = config
        self.settings = settings
        self.card = ModelCard(detector=settings.name)
        self.video = XceptionVideo(config.model_copy(update={"detector": settings.video}), settings.video)
        self.audio = XceptionAudio(config.model_copy(update={"detector": settings.audio}), settings.audio)

    @property
    def device(self) -> torch.device:
        return self.video.device

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move both branches, as `nn.Module.to`; each keeps track of its own device."""
        self.video.to(*args, **kwargs)
        self.audio.to(*args, **kwargs)
        return self

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64: fused per segment, then pooled over the clip."""
        return np.array([clip_probability(Session(self, bundle).evidence(), self.settings) for bundle in bundles])

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return verdict, branches and time line of one clip, with the scorer's own settings."""
        session = Session(self, bundle)
        session.ended = watch
        return session.explain()

    def score_sound(self, sound: np.ndarray) -> Scored:
        """Return the score of a video without a face, from its sound (N,) int16 at `resample_rate`."""
        probability = clip_probability(Session(self, sound).evidence(), self.settings)
        return Scored(probability, ("no face: judged by the branch audio",), head="audio")

    def explain_sound(self, sound: np.ndarray, watch: Watch | None = None) -> Analysis:
        """Return the analysis of a video without a face, from its sound (N,) int16 at `resample_rate`."""
        session = Session(self, sound)
        session.ended = watch
        return session.explain()

    def with_frames(self, frames: int) -> Scorer | None:
        """Return None: `detector.video.frame_skip` and `max_frames` say how many frames are scored."""
        return None

    def for_inference(self, dtype: torch.dtype) -> Scorer:
        """Return this scorer: its networks score as they are trained."""
        return self


class Session:
    """One clip while settings are tried: networks run on what they have not seen of it yet, the rest is arithmetic.

    Args:
        clip: a bundle, trimmed as the scorer's configuration says; or the sound (N,) int16 at `resample_rate` of a video
            in which no face was found.
    """

    def __init__(self, scorer: FusedScorer, clip: Bundle | np.ndarray) -> None:
        self.scorer = scorer
        self.clip = clip
        self.ended: Watch | None = None
        """Told of each branch that has ended."""
        self._frames: dict[int, float] = {}  # logits by frame of the track
        self._sound: tuple[np.ndarray, np.ndarray] | None = None  # starts and logits of the windows

    def explain(self, settings: XceptionFusedConfig | None = None, *, watch: Stopwatch | None = None) -> Analysis:
        """Score the clip and explain the score.

        Args:
            settings: strategy, temperature, threshold, frames; the scorer's own by default. The networks in it are ignored.
            watch: books the seconds of the stages `sound` and `frames`.
        """
        settings = settings or self.scorer.settings
        video = settings.video
        evidence = self.evidence(frame_skip=video.frame_skip, max_frames=video.max_frames, watch=watch)
        return explain(evidence, settings, replace(self.scorer.card, prep_hash=evidence.prep_hash))

    def evidence(
        self, *, frame_skip: int | None = None, max_frames: int | None = None, watch: Stopwatch | None = None
    ) -> Evidence:
        """Return what both networks say of the clip, before any fusing. Only frames not scored yet go through a network."""
        watch, took = watch or Stopwatch(), Stopwatch()
        audio = self.scorer.settings.audio
        with watch("sound"), took("sound"):
            starts, logits = self._heard()
        if self.ended:
            self.ended("audio", took.seconds["sound"])
        if isinstance(self.clip, np.ndarray):
            none = np.zeros(0)
            span = (0.0, len(self.clip) / self.scorer.config.resample_rate)
            heard_in = took.seconds["sound"]
            return Evidence(none.astype(np.int64), none, none, starts, logits, audio.window, span, audio_took=heard_in)
        bundle, settings = self.clip, self.scorer.settings.video
        seconds = frame_times(bundle)
        chosen = scored_frames(len(seconds), frame_skip or settings.frame_skip, max_frames or settings.max_frames)
        unseen = np.array([t for t in chosen if int(t) not in self._frames], np.int64)
        with watch("frames"), took("frames"):
            self._frames.update(zip(unseen.tolist(), self.scorer.video.look(bundle, unseen)))
        if self.ended:
            self.ended("video", took.seconds["frames"])
        return Evidence(
            frame_index=chosen,
            frame_seconds=seconds[chosen],
            frame_logits=np.array([self._frames[int(t)] for t in chosen]),
            window_starts=starts,
            window_logits=logits,
            window=audio.window,
            span=(float(bundle.times[0]), float(bundle.times[-1]) + 1 / float(bundle.fps)),
            video_took=took.seconds["frames"] if len(unseen) else 0.0,
            audio_took=took.seconds["sound"],
            prep_hash=bundle.prep_hash,
        )

    def _heard(self) -> tuple[np.ndarray, np.ndarray]:
        if self._sound is None:
            audio = self.scorer.audio
            if isinstance(self.clip, np.ndarray):
                self._sound = audio.hear_sound(self.clip, self.scorer.config.resample_rate)
            else:
                self._sound = audio.hear(self.clip)
        return self._sound


def join(video: Scorer, audio: Scorer) -> FusedScorer:
    """Return one scorer of two trained detectors.

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
