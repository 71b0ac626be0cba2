"""What happened to the faces of a video, in words for the bundle's notes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visavox.faces import FaceTrack, Sighting

LONG = 12
"""Frames from which on a face beside the main one is worth a word: a false detection lasts for less."""
COVERED = 0.9
"""Least share of the frames of a video that its track should cover; `crop` counts the videos below it."""


def track_notes(track: FaceTrack, fps: float, chosen: str = "the larger") -> list[str]:
    """Return one line for each thing that happened: frames that the track leaves out, other faces, shot cuts.

    Args:
        fps: frames per second of the track.
        chosen: which of several faces was followed, in words.
    """
    first, last = int(track.frame_index[0]), int(track.frame_index[-1])
    notes = []
    if len(track.boxes) < track.frames_read:
        notes.append(f"track: {len(track.boxes)} of {track.frames_read} frames show the main face")
    others = [other for other in track.others if other.last - other.first + 1 >= LONG]
    beside = [other for other in others if min(last, other.last) - max(first, other.first) + 1 >= LONG]
    if beside:
        notes.append(f"{most_at_once(beside, first, last) + 1} faces; {chosen} was followed")
    apart = sorted(other for other in others if other not in beside)
    if apart:
        where = ", ".join(_span(other.first, other.last, fps) for other in apart)
        notes.append(f"a face is also seen at {where}; the track is {_span(first, last, fps)}")
    if track.cuts:
        notes.append(f"shot cuts at {', '.join(f'{cut / fps:.2f}' for cut in track.cuts)} s; one shot was followed")
    return notes


def most_at_once(sightings: Iterable[Sighting], first: int, last: int) -> int:
    """Return the largest number of sightings that share a frame between the frames `first` and `last`."""
    sightings = list(sightings)
    begins = [max(first, sighting.first) for sighting in sightings]
    return max(
        (sum(other.first <= index <= min(last, other.last) for other in sightings) for index in begins), default=0
    )


def _span(first: int, last: int, fps: float) -> str:
    return f"{first / fps:.2f} to {(last + 1) / fps:.2f} s"
