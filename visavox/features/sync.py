"""How well voice and mouth run together, as a distance per shift; and a way to measure it that needs no weights.

    T frames of the 25 fps track · V = 2 * vshift + 1 shifts · S crop size · N samples

`mdist[k]` compares what is seen at frame i with what is heard at frame i + k - vshift. So `latency = argmin(mdist) -
vshift` in frames, + = audio late. Published SyncNet prints its negative as "offset".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BAND_HZ = (500, 4000)
BLOCK = 512  # frames whose spectra are held at once
PATCH_WIDTH, PATCH_HEIGHT, PATCH_SCALE = 56, 40, 64  # pixels, pixels, pixels per distance between the eyes
MOUTH_ROW = 16  # where the line between the mouth's corners comes to lie: the jaw needs more room than the upper lip
DARK_BIAS = 14
DARK_WEIGHTS = np.linspace(1, 0, PATCH_WIDTH * PATCH_HEIGHT, dtype=np.float32) ** DARK_BIAS
DARK_WEIGHTS /= DARK_WEIGHTS.sum()


class TooShort(ValueError):
    """Too few frames or samples to pair sight and sound at every shift."""

    code = "TOO_SHORT"


class Sync(NamedTuple):
    """What a bundle holds about sync."""

    mdist: np.ndarray  # (V,) float32, mean distance between sight and sound per shift
    latency: np.float32  # frames, + = audio late
    conf: np.float32  # median(mdist) - min(mdist)


def summarise(mdist: np.ndarray) -> Sync:
    """Latency and confidence of a curve (V,), V odd. Of equal minima the smallest shift counts: a flat curve has 0 and 0."""
    mdist = np.asarray(mdist, np.float32)
    if not np.isfinite(mdist).all():
        raise ValueError(f"mdist has {np.sum(~np.isfinite(mdist))} values that are not finite; run SyncNet in float32")
    shifts = np.arange(len(mdist)) - len(mdist) // 2
    minima = shifts[mdist == mdist.min()]
    latency = minima[np.argmin(np.abs(minima))]
    return Sync(mdist, np.float32(latency), np.float32(np.median(mdist) - mdist.min()))


def correlation_sync(
    crops: Sequence[np.ndarray],
    landmarks: np.ndarray,
    audio: np.ndarray | None,
    rate: int = 16000,
    *,
    vshift: int = 15,
    fps: float = 25.0,
) -> Sync:
    """1 - r between the mouth's opening and the voice's rising, per shift. Needs no weights.

    crops: T indexable (S, S, 3) uint8 RGB, read one at a time; landmarks: (T, 5, 2) crop pixels, detected or a template;
    audio: (N,) int16 mono whose sample 0 belongs to frame 0. r is Pearson's, between frame-to-frame differences of
    `mouth_opening` and `voice_envelope`, over the pairs that exist at that shift, so that a clip's length moves no mdist.

    Where there is nothing to correlate (no audio, silence, a still face, fewer than 2 * vshift + 2 frames of both)
    mdist is 1.0 throughout, latency 0 and conf 0.
    """
    frames = 0 if audio is None else min(len(crops), int(len(audio) * fps / rate))
    if audio is None or frames < 2 * vshift + 2:
        return summarise(np.ones(2 * vshift + 1))
    opening = np.diff([mouth_opening(crops[i], landmarks[i]) for i in range(frames)])  # (T - 1,)
    rising = np.diff(voice_envelope(audio, rate, frames, fps))  # (T - 1,)
    pairs = frames - 1
    r = [
        _pearson(opening[max(0, -shift) : pairs - max(0, shift)], rising[max(0, shift) : pairs + min(0, shift)])
        for shift in range(-vshift, vshift + 1)
    ]
    return summarise(1 - np.array(r))


def mouth_opening(crop: np.ndarray, landmarks: np.ndarray) -> float:
    """How dark the dark inside of the mouth is: crop (S, S, 3) uint8 RGB, landmarks (5, 2) pixels -> 0 shut .. 1.

    One minus the ratio of dark to light in an upright patch about the mouth, 0.9 eye distances wide. Light is the mean
    of its lighter half, so that brightness cancels. Dark is the mean of all its pixels, weighted by (1 - u)^DARK_BIAS
    at rank u from the darkest (0) to the lightest (1): the darkest tenth has four fifths of the weight, yet a mouth
    wider than that still counts. The patch need not sit exactly, which interpolated or template landmarks do not.
    """
    import cv2

    left_eye, right_eye, _, left_corner, right_corner = landmarks.astype(np.float64)
    (dx, dy), (x, y) = right_eye - left_eye, (left_corner + right_corner) / 2
    turn = PATCH_SCALE / max(dx**2 + dy**2, 1.0) * np.array([[dx, dy], [-dy, dx]])  # eyes level, PATCH_SCALE apart
    shift = np.array([PATCH_WIDTH / 2, MOUTH_ROW]) - turn @ (x, y)
    patch = cv2.warpAffine(crop, np.column_stack([turn, shift]), (PATCH_WIDTH, PATCH_HEIGHT))
    grey = np.sort(patch.mean(axis=2, dtype=np.float32), axis=None)
    return float(1 - DARK_WEIGHTS @ grey / max(grey[len(grey) // 2 :].mean(), 1.0))


def voice_envelope(audio: np.ndarray, rate: int, frames: int, fps: float = 25.0) -> np.ndarray:
    """Square root of the amplitude between 500 and 4000 Hz in each video frame: audio (N,) int16 -> (frames,) float64.

    The band holds what an open mouth lets out (the formants), and little of the voice's pitch or of hum.
    """
    starts = np.round(np.arange(frames) * rate / fps).astype(int)
    length = int(rate / fps)
    hertz = np.fft.rfftfreq(length, 1 / rate)
    band = (hertz >= BAND_HZ[0]) & (hertz <= BAND_HZ[1])
    energies = []
    for first in range(0, frames, BLOCK):
        sound = np.stack([audio[s : s + length] for s in starts[first : first + BLOCK]]) / 32768.0  # (BLOCK, length)
        power = np.abs(np.fft.rfft(sound * np.hanning(length))) ** 2  # (BLOCK, length // 2 + 1)
        energies.append(power[:, band].sum(axis=1))
    return np.concatenate(energies) ** 0.25


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of (P,) and (P,); 0 where either does not change."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(np.mean(a**2) * np.mean(b**2))
    return float(np.mean(a * b) / scale) if scale > 1e-9 else 0.0
