"""One video -> one bundle, in one pass over its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from visavox import config as configuration
from visavox.bundle import Bundle, kept_frames
from visavox.config import Config
from visavox.errors import OF_STATUS
from visavox.features import audio
from visavox.features.sync import TooShort
from visavox.files import sha256_of, utf8_name
from visavox.preprocessing.notes import track_notes
from visavox.preprocessing.provenance import prep_hash
from visavox.preprocessing.speaker import CANDIDATES, choose_speaker, span
from visavox.progress import Stopwatch
from visavox.status import Status

if TYPE_CHECKING:
    from visavox.bundle import Bundle
    from visavox.faces import FaceDetector, FaceTrack
    from visavox.features.sync import Sync


class CropError(ValueError):
    """The video was read, but gives no bundle.

    Args:
        sound: what is left to judge it by, (N,) int16 mono at `resample_rate`; None without sound.
    """

    def __init__(self, status: Status, message: str, sound: np.ndarray | None = None):
        super().__init__(message)
        self.status = status
        self.sound = sound
        self.code = OF_STATUS[status]


class Plan(Protocol):
    """What is left out of a video; see `visavox.preprocessing.budget`."""

    def looking(self, frames: int, step: int) -> dict[str, int]:
        """Return `step` and `trust` of `track_faces` for a video of so many frames."""

    def stride(self, frames: int) -> int:
        """Return in every how many windows of a track of so many frames the lips are read."""

    def finish(self, seconds: Mapping[str, float], frames: int, detections: int, tracked: int) -> None:
        """Take note of what the stages took."""

    def note(self) -> str:
        """Return what was left out, in words; empty where nothing was."""


class Followed(NamedTuple):
    """What one pass over a video gives."""

    tracks: list[FaceTrack]
    """Of the faces that may be the main one, the largest first."""
    sound: np.ndarray | None
    """(N,) int16 mono at `resample_rate`; None without sound."""
    notes: list[str]
    """Of the video."""


@dataclass(frozen=True)
class Preprocessor:
    """One video to its bundle. Built once by `visavox.preprocessing.tools.build`, called once per video.

    preprocess = tools.build(config)
    bundle = preprocess(Path("clip.mp4"))
    """

    config: Config
    """The settings; those marked `Prep` decide what the bundle holds."""
    faces: FaceDetector
    """Finds faces in frames."""
    sync: Callable[..., Sync | None]
    """Measures audio-visual distances: (track, sound (N,) int16, stride=n) -> Sync."""
    threads: int = 0
    """Threads of the decoder; 0 leaves their number to libav."""
    plan: Plan | None = None
    """What is left out so that the video is done in time; None: nothing. See `within`."""
    opener: Callable[..., Any] | None = None
    """Opens a video, as `visavox.media.confined.open_video`, which it is without; `visavox.robustness` opens perturbed ones."""

    @cached_property
    def prep_hash(self) -> str:
        """16 hex digits over settings and weights; every bundle carries it."""

        return prep_hash(self.config)

    def within(self, plan: Plan) -> Preprocessor:
        """Return this preprocessor under a plan of one video, such as a time budget."""
        return replace(self, plan=plan)

    def __call__(self, path: str | Path, *, watch: Stopwatch | None = None, source_sha256: str | None = None) -> Bundle:
        """Preprocess one video in one pass over its file.

        Args:
            watch: books the seconds of the stages decode, detect, cut, mel, sync and encode, and counts the frames decoded.
            source_sha256: of the file where it is known already; hashed here otherwise.

        Raises:
            MediaError: not a video, unreadable, too large; its message holds the cure.
            CropError: `no_face`, or `too_short` (fewer than vshift + 6 frames with a face).
        """

        path, watch = Path(path), watch or Stopwatch()
        followed = self.follow(path, watch)
        return self.bundle(followed, watch, source_sha256 or sha256_of(path))

    def bundle(self, followed: Followed, watch: Stopwatch, source_sha256: str) -> Bundle:
        """Make the bundle of a video that `follow` has read.

        Raises:
            CropError: as `__call__`.
        """
        (tracks, sound, video_notes), config = followed, self.config
        notes = list(video_notes)
        fps, rate = configuration.SYNC_FPS, config.resample_rate
        if not tracks:
            raise CropError(
                "no_face",
                f"no face scored above {config.face_threshold} by {self.faces.name}; lower face_threshold",
                sound,
            )
        least = config.vshift + 6
        with watch("sync"):
            track, chosen = choose_speaker(tracks, sound, self.sync, rate / fps, 2 * least)
        T = len(track.boxes)
        if least > T:
            raise CropError("too_short", f"{T} frames with a face, {least} are needed ({least / fps:.2f} s)")
        notes += track_notes(track, fps, chosen)
        sound = None if sound is None else span(sound, track.frame_index, rate / fps)
        with watch("mel"):
            if sound is None:
                mel = audio.mel_floor(config.freq_num, T / fps, rate)  # (3, F, M)
            else:
                mel = audio.mel_3cs(sound, rate, config.freq_num)  # (3, F, M)
        mdist, latency, conf = np.full(2 * config.vshift + 1, np.nan), np.float32(np.nan), np.float32(np.nan)
        with watch("sync"):
            if sound is not None and config.sync != "off":
                how = {"stride": self.plan.stride(T)} if self.plan else {}
                measured = self.sync(track, sound, **how)
                assert measured is not None  # only sync=off measures nothing
                mdist, latency, conf = measured
        with watch("encode"):
            images, offsets = np.zeros(0, np.uint8), np.zeros(T + 1, np.int64)
            if config.store_track:
                images, offsets = track.crops.jpegs()
            faces_kept = np.stack([track.crops[t] for t in kept_frames(T, config.bundle_faces)])  # (K, S, S, 3)
        if self.plan:
            self.plan.finish(watch.seconds, track.frames_read, track.frames_detected, T)
            notes += [self.plan.note()] if self.plan.note() else []
        return Bundle(
            faces=faces_kept,
            mel_3cs=mel,
            mdist=np.asarray(mdist, np.float32),
            latency=np.asarray(latency, np.float32),
            conf=np.asarray(conf, np.float32),
            boxes=track.boxes,
            landmarks=track.landmarks,
            det_score=track.det_score,
            times=(track.frame_index / fps).astype(np.float32),
            fps=np.asarray(fps, np.float32),
            audio=np.zeros(0, np.int16) if sound is None else sound,
            track=images,
            track_offsets=offsets,
            status="no_audio" if sound is None else "ok",
            sync=config.sync,
            landmark_source=self.faces.landmark_source,
            notes="\n".join(notes),
            settings=json.dumps(config.prep(), sort_keys=True),
            prep_hash=self.prep_hash,
            source_sha256=source_sha256,
        )

    def follow(self, path: Path, watch: Stopwatch) -> Followed:
        """Read the file once and follow its faces.

        Raises:
            MediaError: as `__call__`.
        """
        from visavox.faces import follow_faces
        from visavox.media import confined

        config, fps = self.config, configuration.SYNC_FPS
        looking = {"step": config.face_detection_step}
        opened = (self.opener or confined.open_video)(
            path,
            fps=fps,
            sample_rate=config.resample_rate,
            max_seconds=config.max_clip_len,
            threads=self.threads,
            confine=config.confine,
        )
        with opened as video:
            if self.plan:
                declared = min(config.max_clip_len, video.info.duration or config.max_clip_len)
                looking = self.plan.looking(round(declared * fps), config.face_detection_step)
            with watch("cut"):
                tracks = follow_faces(
                    watch.each("decode", video.frames()),
                    _Timed(self.faces, watch),
                    **looking,
                    size=config.frame_size,
                    margin=config.face_margin,
                    expected_frames=round(config.max_clip_len * fps),
                    keep=CANDIDATES if config.main_face == "speaker" else 1,
                )
            return Followed(tracks, video.audio(), list(video.notes))


def explain(error: Exception) -> tuple[Status, str]:
    """Status and reason of a video that gave no bundle."""

    if isinstance(error, CropError):
        return error.status, str(error)
    if isinstance(error, TooShort):
        return "too_short", str(error)
    if isinstance(error, ValueError | OSError):  # MediaError, BundleError and the system's own words
        return "failed", utf8_name(str(error))
    return "failed", utf8_name(f"{type(error).__name__}: {error}")


class _Timed:
    """A face detector whose time is booked on the stage `detect`."""

    def __init__(self, faces: FaceDetector, watch: Stopwatch):
        self.faces, self.watch = faces, watch
        self.name, self.landmark_source = faces.name, faces.landmark_source

    def detect(self, frames: Sequence[np.ndarray]) -> Any:
        with self.watch("detect"):
            return self.faces.detect(frames)
