"""A bundle taken apart for forging, and put together again by what preprocessing uses.

T frames of the stretch · S side of a crop in pixels · N samples over the stretch
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from visavox.bundle import Bundle, BundleError, kept_frames
from visavox.faces.crop_store import CropStore
from visavox.features import audio
from visavox.features.sync import Sync

SPARE = 15
"""Frames left out at both ends where the clip is long enough: what `offset` moves in comes from there, in both classes alike."""
LEAST_MORE = 6
"""Frames beyond vshift that a stretch keeps where the clip has them, as preprocessing asks for."""


class Crops(NamedTuple):
    """The part of a face track that audio-visual distances are measured on."""

    crops: CropStore
    """T crops (S, S, 3) uint8 RGB."""
    landmarks: np.ndarray
    """(T, 5, 2) float32 crop pixels."""


Measure = Callable[[Crops, np.ndarray], Sync | None]
"""Audio-visual distances of (crops, sound (N,) int16), as `preprocessing.tools.build_sync` gives it; None with sync=off."""


@dataclass(frozen=True, eq=False)
class Footage:
    """A stretch of a bundle as pictures and samples."""

    bundle: Bundle
    """What it was taken from."""
    chosen: np.ndarray
    """(T,) int64: which frame of the bundle each frame shows; its boxes, detector's scores and landmarks go with it."""
    first: int
    """Frame of the bundle at which the stretch begins."""
    frames: np.ndarray
    """(T, S, S, 3) uint8 RGB."""
    landmarks: np.ndarray
    """(T, 5, 2) float32 crop pixels."""
    sound: np.ndarray
    """(N,) int16; empty where the clip has none."""
    around: np.ndarray
    """(M,) int16: the sound of the clip as a whole, of which `sound` was a part."""
    lead: int
    """Sample of `around` at which the stretch begins."""
    spare: int
    """Frames that `around` holds at least before and behind the stretch."""
    points: int = 5
    """Landmarks that outlines are drawn by: the five of the bundle, or 68 found anew (`dense`)."""

    @property
    def length(self) -> int:
        """T."""
        return len(self.frames)

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.bundle.sample_rate

    @property
    def per_frame(self) -> float:
        """Samples of a frame."""
        return self.bundle.sample_rate / float(self.bundle.fps)

    def samples(self, frame: int) -> int:
        """First sample of a frame of the stretch; that of frame T is N."""
        return len(self.sound) if frame >= self.length else round(frame * self.per_frame)

    def with_frames(self, frames: np.ndarray) -> Footage:
        """Return the footage with other pictures."""
        return replace(self, frames=frames)

    def with_sound(self, sound: np.ndarray) -> Footage:
        """Return the footage with another sound of the same length."""
        assert sound.shape == self.sound.shape and sound.dtype == np.int16
        return replace(self, sound=sound)


def spare_frames(bundle: Bundle) -> tuple[int, int]:
    """Return how many frames a clip leaves out at each end, and how many a stretch of it has at least."""
    T = bundle.track_frames
    least = min(T, len(bundle.mdist) // 2 + LEAST_MORE)
    return min(SPARE, (T - least) // 2), least


def take(bundle: Bundle, seconds: float | None = None, rng: np.random.Generator | None = None) -> Footage:
    """Take a stretch of a bundle apart.

    Args:
        bundle: loaded whole (full=True), with its track.
        seconds: longest stretch; None takes all but SPARE frames at both ends.
        rng: draws where a shorter stretch begins; None takes the middle.

    Raises:
        BundleError: the bundle holds no track.
    """
    if bundle.audio is None or not bundle.has_track:
        raise BundleError("fakes are made of the track; crop with store_track=true and load the bundle with full=True")
    T = bundle.track_frames
    spare, least = spare_frames(bundle)
    room = T - 2 * spare
    length = room if seconds is None else max(least, min(room, round(seconds * float(bundle.fps))))
    free = room - length
    first = spare + (free // 2 if rng is None else int(rng.integers(free + 1)))
    per_frame = bundle.sample_rate / float(bundle.fps)
    lead, end = round(first * per_frame), round((first + length) * per_frame)
    whole = bundle.sound if bundle.has_sound else np.zeros(0, np.int16)
    if len(whole):
        whole = np.pad(
            whole, (0, max(0, round(T * per_frame) - len(whole)))
        )  # a track's sound may lack its last frame's end
    chosen = np.arange(first, first + length)
    return Footage(
        bundle=bundle,
        chosen=chosen,
        first=first,
        frames=np.stack([bundle.frame(int(t)) for t in chosen]),
        landmarks=bundle.landmarks[chosen],
        sound=whole[lead:end],
        around=whole,
        lead=lead,
        spare=spare,
    )


def put_together(footage: Footage, measure: Measure | None, mark: str = "") -> Bundle:
    """Make a bundle of footage: every member that follows from picture or sound is computed anew, as preprocessing does.

    Args:
        measure: audio-visual distances; None keeps those of the clip it was taken from, for whoever does not read them.
        mark: what was done, for the notes; empty: nothing is noted. It enters `source_sha256`, so that what is kept of a
            clip elsewhere is not taken for this one's.
    """
    source, T = footage.bundle, footage.length
    store = CropStore(footage.frames.shape[1])
    for frame in footage.frames:
        store.append(frame)
    track, offsets = store.jpegs()
    shown: Sequence[np.ndarray] = store
    landmarks = np.ascontiguousarray(footage.landmarks, np.float32)
    F = source.mel_3cs.shape[1]
    sync: Sync | None = None
    if len(footage.sound):
        mel = audio.mel_3cs(footage.sound, footage.rate, F)
        sync = measure(Crops(store, landmarks), footage.sound) if measure and source.sync != "off" else None
    else:
        mel = audio.mel_floor(F, T / float(source.fps), footage.rate)
    mdist, latency, conf = sync or (source.mdist, source.latency, source.conf)
    stamp = hashlib.sha256(f"{source.source_sha256} {footage.first} {T} {mark}".encode()).hexdigest()
    return replace(
        source,
        faces=np.stack([shown[int(t)] for t in kept_frames(T, len(source.faces))]),
        mel_3cs=mel,
        mdist=np.asarray(mdist, np.float32),
        latency=np.asarray(latency, np.float32),
        conf=np.asarray(conf, np.float32),
        boxes=source.boxes[footage.chosen],
        landmarks=landmarks,
        det_score=source.det_score[footage.chosen],
        times=source.times[footage.first : footage.first + T],
        audio=footage.sound,
        track=track,
        track_offsets=offsets,
        notes="\n".join(line for line in (source.notes, mark) if line),
        source_sha256=stamp,
    )
