"""Short stretches of a real clip replaced by somebody else's picture or sound, without a cross-fade: something to find.

    fake, segment = planted(bundle, other, np.random.default_rng(0), seconds=0.5, where="sound")

T frames of the track
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from visavox.bundle import Bundle, BundleError
from visavox.features import audio

Where = Literal["picture", "sound"]
LEAST_AROUND = 0.4
"""Seconds of the clip's own before and after a planted stretch."""


class Planted(NamedTuple):
    """A clip with a planted stretch."""

    bundle: Bundle
    segment: tuple[float, float]
    """Start and end in seconds of the video's clock, exact to the frame."""


def planted(bundle: Bundle, other: Bundle, rng: np.random.Generator, seconds: float, where: Where) -> Planted:
    """Replace a stretch of a clip, drawn by `rng`, by as many frames of `other`; the rest stays bit for bit.

    Distances, latency and confidence stay those of the whole clip: a detector that reads nothing else finds nothing here.

    Args:
        seconds: length of the stretch; rounded to whole frames.
        where: `picture` replaces images of the track, those of the kept faces too; `sound` replaces samples.

    Raises:
        BundleError: a clip is too short, lacks sound or track, or the two differ in size or rate.
    """
    fps, T = float(bundle.fps), bundle.track_frames
    count, room = max(1, round(seconds * fps)), round(LEAST_AROUND * fps)
    if count + 2 * room > T or count > other.track_frames:
        raise BundleError(
            f"clips of {T} and {other.track_frames} frames have no room for {seconds:g} s with {LEAST_AROUND} s around it"
        )
    first = int(rng.integers(room, T - room - count + 1))
    source = int(rng.integers(0, other.track_frames - count + 1))
    times = bundle.times
    segment = (float(times[first]), float(times[first + count - 1]) + 1 / fps)
    change = _picture if where == "picture" else _sound
    return Planted(change(bundle, other, first, source, count), segment)


def _picture(bundle: Bundle, other: Bundle, first: int, source: int, count: int) -> Bundle:
    (track, offsets), (foreign, starts) = bundle.images, other.images
    if bundle.faces.shape[1:] != other.faces.shape[1:]:
        raise BundleError("the two clips have faces of different sizes; crop both with one frame_size")
    images = [track[offsets[t] : offsets[t + 1]] for t in range(bundle.track_frames)]
    for i in range(count):
        images[first + i] = foreign[starts[source + i] : starts[source + i + 1]]
    new = replace(
        bundle,
        track=np.concatenate(images),
        track_offsets=np.cumsum([0, *(len(image) for image in images)]).astype(np.int64),
        landmarks=_between(bundle.landmarks, other.landmarks, first, source, count),
        notes=_noted(bundle, "picture", first, count),
    )
    inside = [k for k, t in enumerate(bundle.kept_frames) if first <= t < first + count]
    if inside:
        faces = bundle.faces.copy()
        for k in inside:
            faces[k] = new.frame(int(bundle.kept_frames[k]))
        new = replace(new, faces=faces)
    return new


def _sound(bundle: Bundle, other: Bundle, first: int, source: int, count: int) -> Bundle:
    if not bundle.has_sound or not other.has_sound:
        raise BundleError("sound cannot be planted in, or taken from, a clip without sound")
    if bundle.sample_rate != other.sample_rate:
        raise BundleError("the two clips have different sample rates; crop both with one resample_rate")
    per_frame = bundle.sample_rate / float(bundle.fps)
    begin, end, at = round(first * per_frame), round((first + count) * per_frame), round(source * per_frame)
    sound = bundle.sound.copy()
    begin, end = min(begin, len(sound)), min(end, len(sound))
    taken = other.sound[at : at + end - begin]
    sound[begin : begin + len(taken)] = taken
    sound[begin + len(taken) : end] = 0
    mel = audio.mel_3cs(sound, bundle.sample_rate, bundle.mel_3cs.shape[1])
    return replace(bundle, audio=sound, mel_3cs=mel, notes=_noted(bundle, "sound", first, count))


def _between(own: np.ndarray, foreign: np.ndarray, first: int, source: int, count: int) -> np.ndarray:
    changed = own.copy()
    changed[first : first + count] = foreign[source : source + count]
    return changed


def _noted(bundle: Bundle, where: str, first: int, count: int) -> str:
    note = f"planted: {json.dumps({'where': where, 'first': first, 'frames': count})}"
    return "\n".join(filter(None, [bundle.notes, note]))
