"""The road that real and forged clips take alike: encoded, resampled, shrunk and encoded again as on their way to a viewer.

What is drawn does not depend on the class. T frames of the stretch · S side of a crop in pixels
"""

from __future__ import annotations

import cv2
import numpy as np

from visavox.media.recode import CODECS, recode_frames, recode_sound, resample
from visavox.pseudofakes.footage import Footage

CODED = 0.5
"""Share of clips whose picture, and whose sound, is encoded once more; each by itself."""
SHRUNK = (0.6, 1.0)
"""Share of its side that a picture has in between, in CODED of the clips."""
CRF = (18, 32)
"""Constant rate factors of H.264."""
RATES = (12000, 22050, 32000, 44100, 48000)
"""Samples a second that sound has in between, in CODED of the clips."""
ON_THE_ROAD = ("aac_32", "aac_64", "mp3_32", "mp3_64", "opus_24", "g722")
"""Codecs of wide-band sound: a telephone's band would hide what is to be learnt."""


def travel(footage: Footage, rng: np.random.Generator) -> Footage:
    """Send footage down the road: picture and sound are each resampled in one half of the clips, encoded in one half."""
    shrink, picture, rate, sound = rng.random(4) < CODED
    side = round(footage.frames.shape[1] * rng.uniform(*SHRUNK) / 2) * 2
    crf, between = int(rng.integers(CRF[0], CRF[1] + 1)), int(rng.choice(RATES))
    codec = str(rng.choice(ON_THE_ROAD))
    if shrink:
        footage = footage.with_frames(_shrunk(footage.frames, side))
    if picture:
        footage = footage.with_frames(recode_frames(footage.frames, crf, float(footage.bundle.fps)))
    if rate and len(footage.sound):
        there = resample(footage.sound, footage.rate, between)
        footage = footage.with_sound(_as_long(resample(there, between, footage.rate), footage.sound))
    if sound and len(footage.sound):
        footage = footage.with_sound(recode_sound(footage.sound, footage.rate, CODECS[codec]))
    return footage


def _shrunk(frames: np.ndarray, side: int) -> np.ndarray:
    """Frames (T, S, S, 3) uint8 made smaller and as large as before."""
    S = frames.shape[1]
    small = (cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames)
    return np.stack([cv2.resize(frame, (S, S), interpolation=cv2.INTER_LINEAR) for frame in small])


def _as_long(sound: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.pad(sound[: len(like)], (0, max(0, len(like) - len(sound))))
