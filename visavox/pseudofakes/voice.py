"""Forged sound, and picture and sound that do not belong together.

N samples over the stretch · T frames of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from visavox.bundle import BundleError
from visavox.pseudofakes.footage import SPARE, Footage
from visavox.pseudofakes.forgery import Forgery, Segment, Span, gates, short_span
from visavox.pseudofakes.vocoders import TOOLS

GATE = (0.5, 2.0)
"""Seconds of a window in which a tool changes the sound; AVPF's are 2 s."""
FADE = 0.005
"""Seconds over which a forged part takes over from the real sound, inside of the part."""
LEAST_OFFSET = 3
"""Frames; a smaller offset is within what real clips have."""
AVSS_AWAY = (0.5, 1.0)
"""Seconds between a frame and the one that `avss` puts in its place (AVPF)."""
AVSS_ALIKE = 10.0
"""Mean difference in grey levels that the two may have (AVPF)."""
AVSS_FADE = 0.002


def with_tool(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None, kind: str) -> Forgery:
    """The sound as a tool of `vocoders` changes it, in windows of 0.5 to 2 s."""
    changed = TOOLS[kind](footage.sound, footage.rate, rng, _sound_of(other)).changed
    windows = gates(span, rng, float(footage.bundle.fps), GATE)
    return _patched(footage, changed, windows)


def unchanged_by(footage: Footage, rng: np.random.Generator, other: Footage | None, kind: str) -> Footage:
    """The whole sound after the same tool, which changes nothing: for both classes alike."""
    if kind not in TOOLS or not footage.sound.any():
        return footage
    return footage.with_sound(TOOLS[kind](footage.sound, footage.rate, rng, _sound_of(other)).plain)


def splice_sound(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """0.2 to 1 s that are reversed, left out, said again, or said elsewhere in the clip, where something is heard."""
    fps, T = float(footage.bundle.fps), footage.length
    places = [short_span(span, rng, fps, (0.2, 1.0)) for _ in range(6)]
    place = max(places, key=lambda p: _level(footage.sound[footage.samples(p[0]) : footage.samples(p[1])]))
    a, b = footage.samples(place[0]), footage.samples(place[1])
    changed, n = footage.sound.copy(), b - a
    how = str(rng.choice(["reverse", "drop", "repeat", "elsewhere"]))
    gap = n // 2
    match how:
        case "reverse":
            part = footage.sound[a:b][::-1]
        case "drop":  # jumps ahead, and what follows comes twice
            part = np.resize(footage.sound[min(a + gap, len(footage.sound) - 1) :], n)
        case "repeat":
            part = np.resize(footage.sound[a : a + max(1, gap)], n)
        case _:
            away = int(rng.integers(T // 3, max(T // 3 + 1, 2 * T // 3)))
            part = np.roll(footage.sound, -footage.samples(away))[a:b]
    changed[a:b] = part
    forged = _patched(footage, changed, [place])
    differs = np.flatnonzero(forged.footage.sound != footage.sound)
    if not len(differs):
        return forged
    first, last = (int(at / footage.per_frame) for at in differs[[0, -1]])  # of a repeat the beginning is as it was
    return forged._replace(segments=(Segment(first, last + 1, "sound"),))


def offset(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """The sound moved by 3 to 15 frames, either way; what moves in is the clip's own sound from before or after.

    Raises:
        BundleError: the clip is too short to spare 3 frames at each end.
    """
    if footage.spare < LEAST_OFFSET:
        raise BundleError(f"the clip spares {footage.spare} frames at its ends, an offset needs {LEAST_OFFSET}")
    late = int(rng.integers(LEAST_OFFSET, min(SPARE, footage.spare) + 1)) * int(rng.choice([-1, 1]))
    start = footage.lead - round(late * footage.per_frame)
    return _whole(footage, footage.around[start : start + len(footage.sound)])


def swap(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """The sound of somebody else, as loud as the own.

    Raises:
        BundleError: there is no other clip with sound.
    """
    theirs = _sound_of(other)
    if not theirs.any():
        raise BundleError("swap needs a clip of somebody else with sound")
    wanted = len(footage.sound)
    start = int(rng.integers(max(1, len(theirs) - wanted + 1)))
    taken = np.resize(theirs[start : start + wanted], wanted).astype(np.float64)
    gain = _level(footage.sound) / max(_level(taken), 1.0)
    loud = np.clip(np.round(taken * gain), -32768, 32767).astype(np.int16)
    first, last = span
    return _patched(footage, loud, [span]) if (first, last) != (0, footage.length) else _whole(footage, loud)


def avss(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """One frame and its 40 ms of sound from half a second to a second away: lips fit the sound, continuity breaks.

    Of frames that differ by 10 grey levels at most one is drawn; where there is none, the most similar one is taken.

    Raises:
        BundleError: no frame lies half a second away.
    """
    T, fps = footage.length, float(footage.bundle.fps)
    least, most = (round(seconds * fps) for seconds in AVSS_AWAY)
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in footage.frames])
    pairs = [(t, s) for t in range(*span) for s in range(max(0, t - most), min(T, t + most + 1)) if abs(s - t) >= least]
    if not pairs:
        raise BundleError(f"a clip of {T} frames has none that lie {least} frames apart, which avss needs")
    drawn = [pairs[i] for i in rng.permutation(len(pairs))[:40]]
    apart = [float(cv2.absdiff(grey[t], grey[s]).mean()) for t, s in drawn]
    t, s = next((pair for pair, far in zip(drawn, apart) if far <= AVSS_ALIKE), drawn[int(np.argmin(apart))])
    frames, sound = footage.frames.copy(), footage.sound.copy()
    frames[t] = footage.frames[s]
    a, b, c = footage.samples(t), footage.samples(t + 1), footage.samples(s)
    taken = np.resize(footage.sound[c : c + b - a], b - a).astype(np.float64)
    rise = np.minimum(1.0, (np.arange(b - a) + 1) / (AVSS_FADE * footage.rate))
    sound[a:b] = np.round(footage.sound[a:b] * (1 - rise) + taken * rise).astype(np.int16)
    chosen, landmarks = footage.chosen.copy(), footage.landmarks.copy()
    chosen[t], landmarks[t] = footage.chosen[s], footage.landmarks[s]
    made = replace(footage, frames=frames, sound=sound, chosen=chosen, landmarks=landmarks)
    return Forgery(made, (Segment(t, t + 1, "picture"), Segment(t, t + 1, "sound")))


def _whole(footage: Footage, sound: np.ndarray) -> Forgery:
    made = footage.with_sound(np.ascontiguousarray(sound))
    return Forgery(made, (Segment(0, footage.length, "sound"),))


def _patched(footage: Footage, changed: np.ndarray, windows: Sequence[Span]) -> Forgery:
    """The footage with a changed sound (N,) int16 inside of some windows, faded in and out within them."""
    sound, fade = footage.sound.copy(), max(1, round(FADE * footage.rate))
    for first, last in windows:
        a, b = footage.samples(first), footage.samples(last)
        at = np.arange(b - a)
        share = np.minimum(1.0, (np.minimum(at, at[::-1]) + 1) / (fade + 1))
        mixed = footage.sound[a:b] * (1 - share) + changed[a:b] * share
        sound[a:b] = np.clip(np.round(mixed), -32768, 32767).astype(np.int16)
    return Forgery(footage.with_sound(sound), tuple(Segment(first, last, "sound") for first, last in windows))


def _sound_of(other: Footage | None) -> np.ndarray:
    return np.zeros(0, np.int16) if other is None else other.around


def _level(sound: np.ndarray) -> float:
    """RMS, in the sound's own unit; 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0
