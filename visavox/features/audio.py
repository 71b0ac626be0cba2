"""What the networks hear: log-mel with its deltas, mel images, and the MFCC that SyncNet was trained on.

Everything is numpy, equal to librosa (mel) and python_speech_features (MFCC) in the tests; librosa's first mel call
costs each worker over a second, this costs milliseconds.

    N samples · F mel bins · M steps of 10 ms at 16 kHz · n images · S image size
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

N_FFT = 2048
HOP = 160
TOP_HZ = 8000.0
FLOOR_DB = -80.0
DELTA_WIDTH = 9
BLOCK = 512  # steps whose spectra are held at once: those of ten minutes would take half a gigabyte
SHORT_WINDOW = 0.025
"""Seconds of sound a step of `log_mel` looks at; the 128 ms of `mel_3cs` would blur three frames of video into each other."""
SHORT_N_FFT = 1024
SHORT_FLOOR = 1e-8
"""Power below which `log_mel` hears nothing, full scale = 1."""
# What maps to [-1, 1] in a mel image, per channel. A full-scale tone reaches about +40 dB, so -80..40 holds every log-mel;
# 8 dB per step and 3 dB per step² hold all but about 1 in 1000 of the deltas of real speech, and the rest is clipped.
IMAGE_CENTRE = np.array([-20.0, 0.0, 0.0], np.float32)
IMAGE_RADIUS = np.array([60.0, 8.0, 3.0], np.float32)


def mel_3cs(audio: np.ndarray, rate: int, n_mels: int) -> np.ndarray:
    """Log-mel in dB, its first and its second derivative per step: audio (N,) int16 mono -> (3, n_mels, M) float16.

    M = 1 + N // 160. The channels are those of librosa's `melspectrogram`, `power_to_db` (reference 1, floor -80 dB)
    and `delta` (width 9, orders 1 and 2) of audio / 32768. Where there are fewer than 9 steps, which librosa refuses,
    the deltas continue the first and last step outwards.
    """
    power = _mel_power(_checked(audio) / np.float32(32768), _mel_bank(rate, n_mels))  # (F, M)
    log_mel = np.log10(np.maximum(power, 1e-10, out=power), out=power)  # in place: ten minutes are 30 MB
    np.maximum(np.multiply(log_mel, 10, out=log_mel), FLOOR_DB, out=log_mel)
    k = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    slope = k / 60  # least squares over 9 points: a line's slope,
    curvature = (3 * k**2 - 20) / 462  # and a parabola's second derivative (Savitzky and Golay)
    mel = np.empty((3, *log_mel.shape), np.float16)
    mel[0] = log_mel
    log_mel -= np.float32(FLOOR_DB)  # 0 at the floor, so that silence has deltas of exactly 0
    mel[1], mel[2] = _delta(log_mel, slope), _delta(log_mel, curvature)
    return mel


def mel_floor(n_mels: int, seconds: float, rate: int = 16000) -> np.ndarray:
    """The `mel_3cs` of silence, for a clip without sound: (3, n_mels, M) float16."""
    mel = np.zeros((3, n_mels, 1 + round(seconds * rate) // HOP), np.float16)
    mel[0] = FLOOR_DB
    return mel


def mel_images(mel: np.ndarray, n: int, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """n equal stretches of time as pictures: mel (3, F, M) from `mel_3cs` -> (3, n, size, size) float32 in [-1, 1].

    They are written into `out` where it is given.

    Low frequencies lie at the bottom and time runs to the right; each stretch is bilinearly resized. Stretches share a
    step where M is no multiple of n, so that none is empty. Log-mel -80..40 dB, slope ±8 dB per step and curvature
    ±3 dB per step² map to [-1, 1]; what lies outside is clipped.
    """
    import cv2

    steps = mel.shape[2]
    picture = np.ascontiguousarray(mel[:, ::-1].transpose(1, 2, 0), np.float32)  # (F, M, 3)
    picture = np.clip((picture - IMAGE_CENTRE) / IMAGE_RADIUS, -1, 1)
    bounds = [(i * steps // n, -(-(i + 1) * steps // n)) for i in range(n)]
    out = np.empty((3, n, size, size), np.float32) if out is None else out
    for i, (a, b) in enumerate(bounds):
        image = cv2.resize(picture[:, a:b], (size, size), interpolation=cv2.INTER_LINEAR)  # (S, S, 3)
        out[:, i] = image.transpose(2, 0, 1)
    return out


def mfcc(audio: np.ndarray, rate: int) -> np.ndarray:
    """13 cepstral coefficients every 10 ms: audio (N,) int16 mono -> (13, M) float32.

    The defaults of python_speech_features, on int16 amplitudes as published SyncNet reads them: pre-emphasis 0.97,
    25 ms rectangular frames, 512-point spectrum, 26 filters, ortho DCT, lifter 22, coefficient 0 replaced by the log
    energy. Audio in [-1, 1] would lower coefficient 0 by 2 ln 32768 = 20.8. The last frame is zero-padded; fewer
    samples than a frame, or none, make one frame.
    """
    signal = _checked(audio).astype(np.float64)
    signal = np.append(signal[:1], signal[1:] - 0.97 * signal[:-1])
    length, step, n_fft = int(0.025 * rate + 0.5), int(0.01 * rate + 0.5), 512
    count = 1 + max(0, -(-(len(signal) - length) // step))
    signal = np.pad(signal, (0, (count - 1) * step + length - len(signal)))
    frames = np.lib.stride_tricks.sliding_window_view(signal, length)[::step]  # (M, length); upstream cuts it at n_fft
    blocks = []
    for first in range(0, count, BLOCK):
        power = np.abs(np.fft.rfft(frames[first : first + BLOCK], n_fft)) ** 2 / n_fft  # (BLOCK, 257)
        bands = power @ _mfcc_bank(rate, n_fft).T  # (BLOCK, 26)
        cepstra = np.log(_nonzero(bands)) @ _lifted_dct().T  # (BLOCK, 13)
        cepstra[:, 0] = np.log(_nonzero(power.sum(axis=1)))
        blocks.append(cepstra.astype(np.float32))
    return np.concatenate(blocks).T  # (13, M)


def log_mel(audio: np.ndarray, rate: int, n_mels: int) -> np.ndarray:
    """Logarithm of the mel power, one column every 10 ms: audio (N,) int16 -> (F, 1 + N // (rate / 100)) float32.

    Hann windows of 25 ms in a spectrum of 1024 points, Slaney's filters from 0 to 8000 Hz; column m is centred on m / 100 s.
    """
    import torch

    hop, width = rate // 100, round(SHORT_WINDOW * rate)
    n_fft = max(SHORT_N_FFT, 1 << (width - 1).bit_length())
    spectrum = torch.stft(
        torch.from_numpy(audio.astype(np.float32) / 32768),
        n_fft,
        hop,
        win_length=width,
        window=torch.hann_window(width),
        pad_mode="constant",
        return_complex=True,
    )
    power = _short_bank(rate, n_fft, n_mels) @ spectrum.abs().square().numpy()  # numpy's: autocast leaves it alone
    return np.log(power + SHORT_FLOOR)


def _checked(audio: np.ndarray) -> np.ndarray:
    """The audio itself, if it is what this module's scales are made for."""
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise ValueError(
            f"audio is {audio.dtype} {audio.shape}, int16 (N,) mono was expected; "
            "for floats in [-1, 1] pass (audio * 32767).astype(np.int16)"
        )
    return audio


def _mel_power(signal: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Power in mel bands of centred Hann frames, zero-padded at both ends: (N,) float32, (F, 1 + N_FFT // 2) -> (F, M)."""
    window = np.hanning(N_FFT + 1)[:-1].astype(np.float32)  # periodic
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal, N_FFT // 2), N_FFT)[::HOP]  # (M, N_FFT), a view
    blocks = (np.abs(np.fft.rfft(frames[i : i + BLOCK] * window)) ** 2 for i in range(0, len(frames), BLOCK))
    return np.concatenate([bank @ block.T.astype(np.float32) for block in blocks], axis=1)


def _delta(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Derivative over the last axis: (F, M) -> (F, M).

    A window that would overhang takes the value of the nearest whole one: the fitted polynomial's top derivative is
    constant, so this is what extrapolating it means.
    """
    half = DELTA_WIDTH // 2
    short = features.shape[1] < DELTA_WIDTH
    if short:
        features = np.pad(features, ((0, 0), (half, half)), mode="edge")
    count = features.shape[1] - 2 * half
    whole = np.zeros((len(features), count), np.float32)
    for k, weight in enumerate(weights.astype(np.float32)):
        whole += weight * features[:, k : k + count]
    return whole if short else np.pad(whole, ((0, 0), (half, half)), mode="edge")


@lru_cache
def _mel_bank(rate: int, n_mels: int) -> np.ndarray:
    """Slaney's mel filters of unit area, 0 to 8000 Hz or half the rate: (n_mels, 1 + N_FFT // 2) float32."""
    linear_hz, linear_mel, per_log = 1000.0, 15.0, 27 / np.log(6.4)  # 200/3 Hz per mel up to 1 kHz, logarithmic above
    top = min(TOP_HZ, rate / 2)
    top_mel = top * 3 / 200 if top < linear_hz else linear_mel + per_log * np.log(top / linear_hz)
    mels = np.linspace(0, top_mel, n_mels + 2)
    edges = np.where(mels < linear_mel, mels * 200 / 3, linear_hz * np.exp((mels - linear_mel) / per_log))  # (F + 2,)
    bins = np.arange(1 + N_FFT // 2) * rate / N_FFT
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    bank = np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return bank.astype(np.float32)


@lru_cache
def _mfcc_bank(rate: int, n_fft: int, n_filters: int = 26) -> np.ndarray:
    """Triangles between whole spectrum bins, equal steps of 2595 log10(1 + f / 700): (26, 1 + n_fft // 2) float64."""
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), n_filters + 2)
    edges = np.floor((n_fft + 1) * 700 * (10 ** (mels / 2595) - 1) / rate)  # (28,)
    bins = np.arange(1 + n_fft // 2)
    bank = np.zeros((n_filters, len(bins)))
    for row, low, mid, high in zip(bank, edges, edges[1:], edges[2:]):
        rising, falling = (low <= bins) & (bins < mid), (mid <= bins) & (bins < high)
        row[rising] = (bins[rising] - low) / (mid - low)
        row[falling] = (high - bins[falling]) / (high - mid)
    return bank


@lru_cache
def _lifted_dct(n_ceps: int = 13, n_filters: int = 26, lifter: int = 22) -> np.ndarray:
    """Orthonormal DCT-II, each row times its sine lifter: (13, 26) float64."""
    k = np.arange(n_ceps)[:, None]
    dct = np.sqrt(2 / n_filters) * np.cos(np.pi * k * (np.arange(n_filters) + 0.5) / n_filters)
    dct[0] /= np.sqrt(2)
    return dct * (1 + lifter / 2 * np.sin(np.pi * k / lifter))


def _nonzero(energy: np.ndarray) -> np.ndarray:
    """Exact zeros raised to the float epsilon, so that their logarithm exists."""
    return np.where(energy == 0, np.finfo(np.float64).eps, energy)


@lru_cache
def _short_bank(rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """(F, 1 + n_fft // 2) float32."""
    import librosa

    return librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=0.0, fmax=min(8000.0, rate / 2))
