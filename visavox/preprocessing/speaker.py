"""Which of several faces speaks: the one whose lips run with the sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from visavox.faces import FaceTrack

CANDIDATES = 3
"""Faces whose lips are compared with the sound: those with the most weight, so that few crops wait for it."""


def choose_speaker(
    tracks: Sequence[FaceTrack],
    sound: np.ndarray | None,
    sync: Callable[..., Any],
    samples_per_frame: float,
    least: int,
) -> tuple[FaceTrack, str]:
    """Return the track of the face that speaks, and in words how it was chosen.

    The speaker has the largest confidence of audio-visual sync (median minus minimum of the distances over all shifts):
    who does not speak has lips that fit no shift better than another.

    Args:
        tracks: at least one, the main face first; it is taken where nothing tells the speaker.
        sound: (N,) int16 from the first frame of the video, or None.
        sync: measures audio-visual distances, (track, sound (N,) int16) -> Sync.
        samples_per_frame: of the sound.
        least: frames of a track that is long enough to be measured.
    """
    if len(tracks) == 1:
        return tracks[0], "the larger"
    if sound is None:
        return tracks[0], "as there is no sound, the larger"
    long = [track for track in tracks if len(track.boxes) >= least]
    if len(long) < 2:
        return tracks[0], "as no two are seen long enough to be compared with the sound, the larger"
    confidence = [float(sync(track, span(sound, track.frame_index, samples_per_frame)).conf) for track in long]
    if not any(value > 0 for value in confidence):
        return tracks[0], "as nobody's lips run with the sound, the larger"
    best = int(np.argmax(confidence))
    others = ", ".join(f"{value:.2f}" for i, value in enumerate(confidence) if i != best)
    return long[best], f"the one that speaks (sync confidence {confidence[best]:.2f}, of others {others})"


def span(sound: np.ndarray, frame_index: np.ndarray, samples_per_frame: float) -> np.ndarray:
    """Return the sound of a track's frames, (T * samples_per_frame,) int16; silence where it ends early."""
    first, last = round(frame_index[0] * samples_per_frame), round((frame_index[-1] + 1) * samples_per_frame)
    part = sound[first:last]
    return np.pad(part, (0, last - first - len(part)))
