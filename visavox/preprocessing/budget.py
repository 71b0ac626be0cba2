"""A time budget per video: what is left out, in a stated order, so that a video is done in so many seconds.

First the network sees fewer faces (a half, a quarter), then the face detector runs less often, then the lips are read in
fewer of SyncNet's windows. Nothing is left out of a video that fits as it is. What was left out is noted in the bundle and in
the details file; it does not enter prep_hash, for the bundle is scored and thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from visavox.bundle import Bundle
from visavox.config import SYNC_FPS, Config
from visavox.faces.tracking import TRUST

if TYPE_CHECKING:
    from visavox.preprocessing.pipeline import Preprocessor

DETECTIONS = 3.2
"""Frames that the face detector sees in TRUST frames: 20 % of them, the most that any of 36 real clips needed (8 to 20 %)."""
NEWEST = 0.5
"""Weight of the newest video in a running rate."""


class Cuts(NamedTuple):
    """How a video is treated: one level."""

    faces: int
    """Faces, and as many mel images, that the network sees."""
    trust: int
    """Longest stretch of frames that is interpolated without a detection in it."""
    stride: int
    """Lips are read in every stride-th window."""


def levels_of(faces: int, stride: int, *, fewer_faces: bool = True) -> list[Cuts]:
    """Treatments from whole to least, each differing from the last in one number."""
    levels = [Cuts(faces, TRUST, stride)]
    if fewer_faces:
        levels += [levels[0]._replace(faces=faces // part) for part in (2, 4) if faces // part]
    levels += [levels[-1]._replace(trust=TRUST * times) for times in (2, 4)]
    return levels + [levels[-1]._replace(stride=wider) for wider in (2, 5) if wider > stride]


@dataclass
class Rates:
    """What things cost on this machine, in seconds; learnt at the start, and from each video."""

    frame: float = 0.0
    """Decoding, cutting and all that is done for each frame."""
    detection: float = 0.0
    """The face detector, for each frame it sees."""
    window: float = 0.0
    """Audio-visual distances, for each window in which the lips are read."""
    score: Mapping[int, float] = field(default_factory=dict)
    """The network, by the number of faces it sees."""

    def learn(self, seconds: Mapping[str, float], frames: int, detections: int, windows: float) -> None:
        """From the stages of a finished video."""
        each = {"frame": ("decode", "cut", "mel", "encode"), "detection": ("detect",), "window": ("sync",)}
        for (name, stages), count in zip(each.items(), (frames, detections, windows), strict=True):
            if count:
                new = sum(seconds.get(stage, 0.0) for stage in stages) / count
                old = getattr(self, name)
                setattr(self, name, (1 - NEWEST) * old + NEWEST * new if old else new)


class Budget:
    """The seconds of one video, from its opening to its score. Asked before each stage, it answers with what is left out.

    seconds: from now on, scoring included. levels: see `levels_of`. rates: learnt so far, and taught by `finish`.
    """

    def __init__(self, seconds: float, levels: list[Cuts], rates: Rates):
        self.seconds, self.levels, self.rates = seconds, levels, rates
        self.began = time.perf_counter()
        self.cuts = levels[0]
        self.met = True

    def looking(self, frames: int, step: int) -> dict[str, int]:
        """Before faces are detected in a video of so many frames: `step` and `trust` of `faces.track_faces`."""
        rates = self.rates

        def cost(cuts: Cuts) -> float:
            detections = frames * max(DETECTIONS / cuts.trust, 1 / max(step, cuts.trust))
            return (
                frames * (rates.frame + rates.window / cuts.stride) + detections * rates.detection + self._score(cuts)
            )

        trust = self._choose(cost).trust
        return {"step": step if trust == TRUST else max(step, trust), "trust": trust}

    def stride(self, frames: int) -> int:
        """Before distances are measured: in every how many windows of a track of so many frames to read the lips."""
        done = self.cuts.trust
        self._choose(lambda cuts: frames / cuts.stride * self.rates.window + self._score(cuts))
        self.cuts = self.cuts._replace(trust=done)
        return self.cuts.stride

    def faces(self) -> int:
        """Before scoring: how many faces the network is to see."""
        done = self.cuts
        self._choose(self._score)
        self.cuts = done._replace(faces=self.cuts.faces)
        return self.cuts.faces

    def finish(self, seconds: Mapping[str, float], frames: int, detections: int, tracked: int) -> None:
        """After cropping: decide about the faces, and learn from the seconds of the stages."""
        self.faces()
        self.rates.learn(seconds, frames, detections, tracked / self.cuts.stride)

    def note(self) -> str:
        """What was left out, in words; empty where nothing was."""
        whole, cuts = self.levels[0], self.cuts
        parts = []
        if cuts.faces != whole.faces:
            parts.append(f"{cuts.faces} of {whole.faces} faces")
        if cuts.trust != whole.trust:
            parts.append(f"faces detected every {cuts.trust} frames instead of {whole.trust}")
        if cuts.stride != whole.stride:
            parts.append(f"sync_stride {cuts.stride} instead of {whole.stride}")
        late = [] if self.met else [f"{self.seconds:g} s were not enough"]
        return f"time budget: {', '.join([*parts, *late])}" if parts or late else ""

    def record(self) -> dict[str, Any]:
        """For the details file."""
        return {"seconds": self.seconds} | self.cuts._asdict()

    def _choose(self, cost: Any) -> Cuts:
        """The first level that fits into what is left, or the last."""
        left = self.seconds - (time.perf_counter() - self.began)
        self.cuts = next((cuts for cuts in self.levels if cost(cuts) <= left), self.levels[-1])
        self.met = cost(self.cuts) <= left
        return self.cuts

    def _score(self, cuts: Cuts) -> float:
        return self.rates.score.get(cuts.faces, 0.0)


def seconds_of(work: Any) -> float:
    """Seconds of a second call: the first also pays what is paid once."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Sees(Protocol):
    """What a budget has to know of a scorer."""

    def with_frames(self, frames: int) -> Sees | None:
        """Return the same network on so many faces, or None."""

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles."""


@dataclass
class Planner:
    """What the budgets of a run share: made once where the network is, then carried into each worker, which learns alone."""

    seconds: float
    levels: list[Cuts]
    rates: Rates

    @classmethod
    def of(cls, seconds: float, scorer: Sees, config: Config) -> Planner:
        """Measure the network at each number of faces, if it is one that can see fewer."""
        fewer = scorer.with_frames(config.frame_num) is not None
        levels = levels_of(config.frame_num, config.sync_stride, fewer_faces=fewer)
        score = {}
        blank = Bundle.blank(config)
        for faces in {cuts.faces for cuts in levels}:
            if network := scorer.with_frames(faces):
                score[faces] = seconds_of(lambda network=network: network.score([blank]))
        return cls(seconds, levels, Rates(score=score))

    def warm_up(self, preprocess: Preprocessor) -> None:
        """In a worker, before its first video: what a detection and a window cost here."""
        config = preprocess.config
        picture = np.full((720, 1280, 3), 127, np.uint8)
        self.rates.detection = seconds_of(lambda: preprocess.faces.detect([picture]))
        if config.sync == "off":
            return
        frames = 2 * config.vshift + 10
        points = (
            np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]], np.float32) * config.frame_size
        )
        crops = np.random.default_rng(0).integers(0, 256, (frames, config.frame_size, config.frame_size, 3), np.uint8)
        track = SimpleNamespace(crops=crops, landmarks=np.tile(points, (frames, 1, 1)))
        sound = np.zeros(round(frames / SYNC_FPS * config.resample_rate), np.int16)
        self.rates.window = seconds_of(lambda: preprocess.sync(track, sound)) / (frames / config.sync_stride)

    def begin(self) -> Budget:
        """The clock of one video starts."""
        return Budget(self.seconds, self.levels, self.rates)
