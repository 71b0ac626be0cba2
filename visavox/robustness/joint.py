"""Changes of picture and sound together: uploads to platforms, sound that runs ahead or behind, frames that are lost.

Platforms publish no settings. PLATFORMS holds what files that they serve show: YouTube's format 18 (640 x 360, H.264 and AAC at
96 kbit/s), the 480 x 270 variant of X (256 kbit/s and AAC at 64), and a messenger's forwarded video (352 high, about 0.4 Mbit/s
and AAC at 32).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np

from visavox.media.recode import through_h264
from visavox.robustness.codec import through_audio
from visavox.robustness.picture import Frames

FPS = 25
"""Frames a second of what is perturbed."""


class Platform(NamedTuple):
    """What a platform makes of an upload."""

    name: str
    longer_side: int
    """Pixels; larger pictures are shrunk to it."""
    bit_rate: int
    """Of the picture, bits a second at this size; smaller pictures get their share."""
    sound_bit_rate: int
    sound_rate: int
    """Hz."""


PLATFORMS = (
    Platform("youtube_18", 640, 500_000, 96_000, 44_100),
    Platform("x_270", 480, 256_000, 64_000, 44_100),
    Platform("messenger", 640, 400_000, 32_000, 16_000),
)
SURELY = 12
"""One of so many frames after the first is lost whatever the share, so that no clip is left as it was."""


def uploads(frames: Frames, count: int, rng: np.random.Generator) -> Frames:
    """Send the picture through so many platforms, one after the other, from the first again when all have been."""
    for number in range(count):
        frames = _uploaded(frames, PLATFORMS[number % len(PLATFORMS)])
    yield from frames


def uploads_of_sound(sound: np.ndarray, rate: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Send the sound the same way."""
    for number in range(count):
        platform = PLATFORMS[number % len(PLATFORMS)]
        sound = through_audio(sound, rate, "aac", platform.sound_bit_rate, at=platform.sound_rate)
    return sound


def late(sound: np.ndarray, rate: int, frames: float, rng: np.random.Generator) -> np.ndarray:
    """Let the sound come so many frames late, + = late: what is missing is silence."""
    count = min(abs(round(frames * rate / FPS)), len(sound))
    if not count:
        return sound
    silence = np.zeros(count, np.int16)
    return np.concatenate([silence, sound[:-count]] if frames > 0 else [sound[count:], silence])


def dropped(frames: Frames, share: float, rng: np.random.Generator) -> Frames:
    """Lose this share of the frames, drawn one by one, and one of the first dozen in any case; the one before stays in their
    place."""
    shown, always = None, 1 + int(rng.integers(SURELY))
    for number, frame in enumerate(frames):
        lost = bool(rng.random() < share) or number == always
        if shown is None or not lost:
            shown = frame
        yield shown


def slower(frames: Frames, fps: float, rng: np.random.Generator) -> Frames:
    """Show only so many frames a second, each until the next one is due."""
    shown, at = None, -1
    for number, frame in enumerate(frames):
        due = int(number * fps / FPS + 1e-9)
        if due > at:
            shown, at = frame, due
        assert shown is not None
        yield shown


def _uploaded(frames: Frames, platform: Platform) -> Iterator[np.ndarray]:
    first = next(frames, None)
    if first is None:
        return
    height, width = first.shape[:2]
    scale = min(1.0, platform.longer_side / max(height, width))
    size = max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))
    pixels = platform.longer_side**2 * 9 / 16
    rate = max(40_000, round(platform.bit_rate * min(1.0, size[0] * size[1] / pixels)))
    small = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in chain([first], frames))
    for frame in through_h264(small, bit_rate=rate, preset="fast"):
        yield cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
