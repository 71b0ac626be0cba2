"""Constant-Q cepstral coefficients (Todisco, Delgado and Evans, 2017), in two recipes.

    cqcc(audio, 16000, SEED)          librosa's transform, cepstra over the logarithmic frequencies
    cqcc(audio, 16000, ASVSPOOF2019)  the non-stationary Gabor transform, log power resampled to uniform frequencies first

Deltas are taken over time. (The Python port of the 2021 baseline takes its cosine transform over time as well, and divides
slopes by 2 (1 + 2 + 3)² = 72 where HTK's formula has 2 (1² + 2² + 3²) = 28; neither is followed.)

    N audio samples · B bins of frequency · M steps of time · C cepstra
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

LEAST_SAMPLES = 2048
"""Shorter sound is padded with zeros to this."""
EPS = 2.2204e-16
"""Added to the power by the ASVspoof recipe."""
SEED_EPS = 1e-12


@dataclass(frozen=True)
class Recipe:
    """How cepstra are made."""

    transform: Literal["librosa", "gabor"]
    """`librosa`: recursive, a step every `hop`. `gabor`: one transform of the whole, steps as the widest filter needs them."""
    bins_per_octave: int
    lowest: float
    """Hz of the first bin."""
    highest: float
    """Hz below which the bins end, with the width of the last."""
    cepstra: int
    """C, the 0th included."""
    hop: int = 256
    """Samples between steps; `librosa` only."""
    uniform: int = 0
    """Uniform samples of frequency in the first octave (d); 0 leaves the bins as they are."""
    delta: Literal["savgol9", "htk3"] = "savgol9"
    """Derivatives: Savitzky and Golay over 9 steps as librosa's, or regression over 3 steps either way as HTK's."""


SEED = Recipe("librosa", 12, 20.0, 20.0 * 2**8, 30)
"""96 bins from 20 Hz, 16 ms steps at 16 kHz, 3 x 30 rows."""
ASVSPOOF2019 = Recipe("gabor", 96, 8000 / 2**9, 8000.0, 30, uniform=16, delta="htk3")
"""The CQCC baseline of ASVspoof 2019: 3 x 30 rows, about 119 steps a second."""
ASVSPOOF2021 = Recipe("gabor", 12, 62.5, 4000.0, 20, uniform=16, delta="htk3")
"""The CQCC baseline of ASVspoof 2021 LA: 3 x 20 rows."""
RECIPES = {"seed": SEED, "asvspoof2019": ASVSPOOF2019, "asvspoof2021": ASVSPOOF2021}


def cqcc(audio: np.ndarray, rate: int, recipe: Recipe = SEED) -> np.ndarray:
    """Return cepstra, their first and their second derivative: audio (N,) int16 mono -> (3 * C, M) float32.

    Raises:
        ValueError: the audio is not int16 mono, or sampled too slowly for the recipe's bins.
    """
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise ValueError(f"audio is {audio.dtype} {audio.shape}; int16 (N,) mono was expected")
    if recipe.highest > rate / 2:
        raise ValueError(f"bins up to {recipe.highest:g} Hz need a rate of {2 * recipe.highest:g}, found {rate}")
    signal = audio.astype(np.float64) / 32768
    signal = np.pad(signal, (0, max(0, LEAST_SAMPLES - len(signal))))
    eps = SEED_EPS if recipe.transform == "librosa" else EPS
    log_power = np.log(constant_q(signal, rate, recipe) ** 2 + eps)  # (B, M)
    cepstra = _cepstral_matrix(recipe, len(log_power)) @ log_power  # (C, M)
    first = derivative(cepstra, recipe.delta, 1)
    return np.concatenate([cepstra, first, derivative(cepstra, recipe.delta, 2)]).astype(np.float32)


def constant_q(signal: np.ndarray, rate: int, recipe: Recipe) -> np.ndarray:
    """Return magnitudes: signal (N,) float in [-1, 1] -> (B, M) float64."""
    if recipe.transform == "gabor":
        return _gabor(signal, rate, recipe.lowest, recipe.highest, recipe.bins_per_octave)
    import librosa

    bins = round(recipe.bins_per_octave * math.log2(recipe.highest / recipe.lowest))
    with (
        warnings.catch_warnings()
    ):  # of clips below a second: the lowest octaves see fewer samples than their filters have
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")
        found = librosa.cqt(
            signal.astype(np.float32),
            sr=rate,
            hop_length=recipe.hop,
            fmin=recipe.lowest,
            n_bins=bins,
            bins_per_octave=recipe.bins_per_octave,
        )
    return np.abs(found).astype(np.float64)


def derivative(cepstra: np.ndarray, how: Literal["savgol9", "htk3"], order: int) -> np.ndarray:
    """First or second derivative over time: (C, M) -> (C, M). Ends are extrapolated (savgol9) or held (htk3)."""
    if how == "htk3":
        for _ in range(order):
            held = np.pad(cepstra, ((0, 0), (3, 3)), mode="edge")
            steps = np.lib.stride_tricks.sliding_window_view(held, 7, axis=1)  # (C, M, 7)
            cepstra = steps @ (np.arange(-3, 4) / 28)  # 28 = 2 (1 + 4 + 9)
        return cepstra
    from scipy.signal import savgol_filter

    short = max(0, 9 - cepstra.shape[1])
    wide = np.pad(cepstra, ((0, 0), (0, short)), mode="edge")
    return savgol_filter(wide, 9, polyorder=order, deriv=order, axis=1, mode="interp")[:, : cepstra.shape[1]]


def _gabor(signal: np.ndarray, rate: int, lowest: float, highest: float, per_octave: int) -> np.ndarray:
    """Magnitudes of the non-stationary Gabor constant-Q transform, all bins at the rate of the widest (Holighaus et al., 2013).

    Filters are Hann windows of the spectrum, Q f + gamma Hz wide with gamma = 228.7 Q (Schörkhuber et al., 2014); a sine of
    amplitude 1 has magnitude 1.
    """
    N = len(signal)
    Q = 2 ** (1 / per_octave) - 2 ** (-1 / per_octave)
    centres = lowest * 2 ** (np.arange(math.floor(per_octave * math.log2(highest / lowest)) + 1) / per_octave)  # Hz
    widths = Q * centres + 228.7 * Q
    centres, widths = (some[centres + widths / 2 <= rate / 2] for some in (centres, widths))
    places = np.floor(centres * N / rate).astype(int)
    lengths = np.maximum(4, np.round(widths * N / rate)).astype(int)
    steps = int(lengths[-1])
    spectrum = np.fft.fft(signal)
    bands = np.zeros((len(centres), steps), np.complex128)
    for row, place, length in zip(bands, places, lengths):
        around = np.arange(-(length // 2), length - length // 2)
        window = 0.5 + 0.5 * np.cos(2 * np.pi * around / length)
        row[around % steps] = spectrum[(place + around) % N] * window
    return np.abs(np.fft.ifft(bands, axis=1)) * (2 * steps / N)


@lru_cache
def _cepstral_matrix(recipe: Recipe, bins: int) -> np.ndarray:
    """Log power -> cepstra as one matrix, (C, B): a cubic spline over uniform frequencies if asked for, then DCT-II.

    The spline ends not-a-knot and starts at the first bin; its step is the first bin's frequency / `uniform`.
    """
    from scipy.fft import dct
    from scipy.interpolate import CubicSpline

    if not recipe.uniform:
        return dct(np.eye(bins), type=2, axis=0, norm="ortho")[: recipe.cepstra]
    frequencies = recipe.lowest * 2 ** (np.arange(bins) / recipe.bins_per_octave)
    step = recipe.lowest / recipe.uniform
    uniform = frequencies[0] + step * np.arange(int((frequencies[-1] - frequencies[0]) / step) + 1)
    resampled = CubicSpline(frequencies, np.eye(bins))(uniform)  # (U, B)
    return dct(resampled, type=2, axis=0, norm="ortho")[: recipe.cepstra]
