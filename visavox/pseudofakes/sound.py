"""Changes to a bundle's sound that break its sync and nothing else: what the detector ought to notice.

T frames of the track · N audio samples
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from visavox.bundle import Bundle, BundleError


def moved(bundle: Bundle, frames: int) -> Bundle:
    """The clip with its sound moved by so many frames, + = late; what then lacks sound or picture is cut off."""
    heard = _sound(bundle)
    T, per_frame = bundle.track_frames, len(heard) / bundle.track_frames
    gone, samples = abs(frames), round(abs(frames) * per_frame)
    if gone >= T:
        raise BundleError(f"a clip of {T} frames cannot have its sound moved by {frames}")
    if not frames:
        return bundle
    first, last = (gone, T) if frames > 0 else (0, T - gone)
    sound = heard[:-samples] if frames > 0 else heard[samples:]
    track, offsets = bundle.track, bundle.track_offsets
    assert track is not None and offsets is not None  # they are loaded with the sound, or all three are not
    return replace(
        bundle,
        audio=sound,
        track=track[offsets[first] : offsets[last]],
        track_offsets=offsets[first : last + 1] - offsets[first],
        **{name: getattr(bundle, name)[first:last] for name in ("boxes", "landmarks", "det_score", "times")},
    )


def backwards(bundle: Bundle) -> Bundle:
    """The clip with its sound played from the end."""
    return replace(bundle, audio=np.ascontiguousarray(_sound(bundle)[::-1]))


def with_sound_of(bundle: Bundle, other: Bundle) -> Bundle:
    """The clip with another's sound, which is begun again where it is shorter."""
    return replace(bundle, audio=np.resize(_sound(other), len(_sound(bundle))))


def spliced(bundle: Bundle, other: Bundle, start: float, seconds: float, rate: int) -> Bundle:
    """The clip with `seconds` of another's sound from `start` on, both counted from the track's first frame."""
    a, b = round(start * rate), round((start + seconds) * rate)
    sound = _sound(bundle).copy()
    sound[a:b] = np.resize(_sound(other), len(sound))[a:b]
    return replace(bundle, audio=sound)


def _sound(bundle: Bundle) -> np.ndarray:
    if bundle.audio is None or not len(bundle.audio):
        raise BundleError("this bundle has no sound, or was loaded without it (full=True)")
    return bundle.audio
