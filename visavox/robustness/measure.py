"""How much a perturbation changes: PSNR of the picture, distance of log-mel spectra and SNR of the sound, lag, frames repeated.

A perturbation that changes nothing is a fault, and each of its levels changes more than the one before; tests hold both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from visavox.features.audio import mel_3cs

RANGE_DB = 60.0
"""Log-mel below the loudest by more than this counts as silence."""
BINS = 64
PEAK = 255.0


class Effect(NamedTuple):
    """What a perturbation does to one video; NaN or None where it leaves that part alone."""

    psnr: float
    """dB over all frames; infinite where no pixel changes."""
    mel_distance: float
    """dB: root mean square over 64 mel bins, averaged over 10 ms steps."""
    snr: float
    """dB of the sound over what was added; meaningless where the sound is only moved."""
    lag: int
    """Samples by which the sound comes later."""


def effect(
    before: Sequence[np.ndarray],
    after: Iterable[np.ndarray],
    sound: np.ndarray | None,
    heard: np.ndarray | None,
    rate: int,
) -> Effect:
    """Measure frames (H, W, 3) uint8 and sound (N,) int16 against what they were."""
    error = [_error(a, b) for a, b in zip(before, after, strict=True)]
    mean = float(np.mean(error)) if error else 0.0
    psnr = 10 * np.log10(PEAK**2 / mean) if mean else float("inf")
    if sound is None or heard is None or not sound.any():
        return Effect(float(psnr), float("nan"), float("nan"), 0)
    if heard is sound:  # untouched
        return Effect(float(psnr), 0.0, float("inf"), 0)
    return Effect(float(psnr), mel_distance(sound, heard, rate), snr(sound, heard), lag(sound, heard))


def _error(before: np.ndarray, after: np.ndarray) -> float:
    """Mean squared difference of two pictures (H, W, 3) uint8."""
    if after is before:
        return 0.0
    return float(cv2.norm(before, after, cv2.NORM_L2SQR)) / before.size


def mel_distance(sound: np.ndarray, heard: np.ndarray, rate: int) -> float:
    """Return the distance of two sounds (N,) int16 in dB; 0 for equal ones."""
    one, other = (mel_3cs(each, rate, BINS)[0].astype(np.float64) for each in (sound, heard))  # (BINS, M)
    floor = one.max() - RANGE_DB
    one, other = np.maximum(one, floor), np.maximum(other, floor)
    return float(np.sqrt(((one - other) ** 2).mean(0)).mean())


def snr(sound: np.ndarray, heard: np.ndarray) -> float:
    """Return the power of a sound (N,) int16 over that of the difference, in dB; infinite for equal ones."""
    clean = sound.astype(np.float64)
    error = float(np.sum((clean - heard) ** 2))
    return float(10 * np.log10(np.sum(clean**2) / error)) if error else float("inf")


def lag(sound: np.ndarray, heard: np.ndarray) -> int:
    """Return by how many samples `heard` comes later than `sound`, by the highest correlation."""
    from scipy.signal import correlate

    correlation = correlate(heard.astype(np.float64), sound.astype(np.float64), "full", method="fft")
    return int(correlation.argmax()) - (len(sound) - 1)
