"""Tools that take a sound apart and put it together again: as it was, and changed.

Every tool gives both, so that real clips can pass the tool unchanged: what it leaves behind then says nothing about the class.

N samples · M frames of a spectrum · F mel bins
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from visavox.bundle import BundleError
from visavox.features.audio import _mel_bank
from visavox.media.recode import CODECS, recode_sound


class Passed(NamedTuple):
    """A sound after a tool."""

    plain: np.ndarray
    """(N,) int16: taken apart and put together."""
    changed: np.ndarray
    """(N,) int16: the same with a change in between."""


Tool = Callable[[np.ndarray, int, np.random.Generator, np.ndarray], Passed]
"""(sound (N,) int16, rate, randomness, somebody else's sound (M,) int16 or empty) -> Passed; neither is louder than the sound."""

GL_MELS, GL_FFT, GL_HOP, GL_ROUNDS = 128, 2048, 512, 32
"""Of AVPF's ASB (2026), at 16 kHz."""
MEL_SHIFT = (0.02, 0.05)
"""Seconds by which the mel spectrum is moved in time, either way (AVPF)."""
PITCH, FORMANT = (0.8, 1.25), (0.85, 1.18)
"""Factors; a change of less than NEAR either way of 1 is not drawn."""
NEAR = 0.06
TELEPHONE = ("opus_12", "amr_nb", "g726", "mulaw")
"""Codecs that are heard: two of the others one after the other can differ from the sound by less than a hundredth."""
LPC_ORDER, LPC_WINDOW = 18, 0.032
"""Coefficients at 16 kHz, seconds."""


def griffin_lim(sound: np.ndarray, rate: int, rng: np.random.Generator, other: np.ndarray) -> Passed:
    """Mel spectrum, 32 rounds of Griffin and Lim (1984) from random phase; changed: the spectrum moved by 20 to 50 ms."""
    window = np.hanning(GL_FFT + 1)[:-1]
    power = np.abs(_stft(sound / 32768, window, GL_HOP)) ** 2  # (M, 1 + GL_FFT / 2)
    bank = _mel_bank(rate, GL_MELS).astype(np.float64)  # (F, 1 + GL_FFT / 2)
    share = bank / np.maximum(bank.sum(0, keepdims=True), 1e-12)
    mel = power @ (bank / np.maximum(bank.sum(1, keepdims=True), 1e-12)).T  # (M, F) mean power in each band
    size = np.sqrt(mel @ share)  # (M, 1 + GL_FFT / 2)
    late = rng.uniform(*MEL_SHIFT) * rng.choice([-1, 1]) * rate / GL_HOP  # frames
    at = np.clip(np.arange(len(size)) - late, 0, len(size) - 1)
    low, part = at.astype(int), (at % 1)[:, None]
    moved = size[low] * (1 - part) + size[np.minimum(low + 1, len(size) - 1)] * part
    phase = np.exp(2j * np.pi * rng.random(size.shape))
    return Passed(*(_as_loud(_phased(s, phase, window, len(sound)), sound) for s in (size, moved)))


def world(sound: np.ndarray, rate: int, rng: np.random.Generator, other: np.ndarray) -> Passed:
    """WORLD's analysis and synthesis (Morise et al., 2016); changed: pitch and formants moved."""
    voice = _world(sound, rate)
    pitch, formant = _away_from_one(rng, PITCH), _away_from_one(rng, FORMANT)
    changed = voice._replace(f0=voice.f0 * pitch, envelope=_stretched(voice.envelope, formant))
    return Passed(_spoken(voice, rate, sound), _spoken(changed, rate, sound))


def voice_swap(sound: np.ndarray, rate: int, rng: np.random.Generator, other: np.ndarray) -> Passed:
    """WORLD's analysis and synthesis; changed: the words stay, the other's mean envelope and pitch take the place of the own.

    Raises:
        BundleError: there is no other voice.
    """
    if not other.any():
        raise BundleError("voice_swap needs a clip of somebody else with sound")
    voice = _world(sound, rate)
    start = int(rng.integers(max(1, len(other) - 3 * rate)))
    theirs = _world(other[start : start + 3 * rate], rate)
    ours, heard = _pitch(voice), _pitch(theirs)
    pitch = heard / ours if heard and ours else 1.0  # a part of theirs without pitch would leave a whisper
    mean = np.exp(_mean_envelope(theirs) - _mean_envelope(voice))  # (bins,)
    changed = voice._replace(f0=voice.f0 * pitch, envelope=np.ascontiguousarray(voice.envelope * mean))
    return Passed(_spoken(voice, rate, sound), _spoken(changed, rate, sound))


def lpc(sound: np.ndarray, rate: int, rng: np.random.Generator, other: np.ndarray) -> Passed:
    """Linear prediction in windows of 32 ms; changed: what excites it is a train of pulses, or noise where there is no pitch."""
    from scipy.linalg import solve_toeplitz
    from scipy.signal import lfilter

    length = round(LPC_WINDOW * rate) // 2 * 2
    hop, window = length // 2, np.sqrt(np.hanning(length + 1)[:-1])
    x = np.pad(sound / 32768, (length, 2 * length))
    plain, changed = np.zeros((2, len(x)))
    pulse = 0.0  # samples to the next one
    for start in range(0, len(x) - length, hop):
        frame = x[start : start + length] * window
        r = np.correlate(frame, frame, "full")[length - 1 :]
        if r[0] < 1e-9:
            continue
        r[0] *= 1 + 1e-5
        a = np.concatenate([[1.0], -solve_toeplitz(r[:LPC_ORDER], r[1 : LPC_ORDER + 1])])
        residual = lfilter(a, [1.0], frame)
        lags = slice(rate // 400, rate // 70)
        period = rate // 400 + int(r[lags].argmax())
        excitation = np.zeros(length)
        if r[period] > 0.35 * r[0]:
            at = np.arange(pulse, length, period)
            excitation[at.astype(int)] = 1.0
            pulse = (at[-1] + period - hop) % period if len(at) else max(0.0, pulse - hop)
        else:
            excitation, pulse = rng.standard_normal(length), 0.0
        excitation *= np.sqrt(np.mean(residual**2) / (np.mean(excitation**2) + 1e-12))
        plain[start : start + length] += lfilter([1.0], a, residual) * window
        changed[start : start + length] += lfilter([1.0], a, excitation) * window
    span = slice(length, length + len(sound))
    return Passed(_as_loud(plain[span], sound), _as_loud(changed[span], sound))


def codec(sound: np.ndarray, rate: int, rng: np.random.Generator, other: np.ndarray) -> Passed:
    """A codec; changed: another and a telephone's after it, or before it, as where a part came from elsewhere."""
    first, second = rng.permutation([name for name in CODECS if name not in TELEPHONE])[:2]
    changed = sound
    for name in rng.permutation([second, rng.choice(TELEPHONE)]):
        changed = recode_sound(changed, rate, CODECS[name])
    return Passed(_as_loud(recode_sound(sound, rate, CODECS[first]), sound), _as_loud(changed, sound))


TOOLS: dict[str, Tool] = {
    "griffin_lim": griffin_lim,
    "world": world,
    "lpc": lpc,
    "codec": codec,
    "voice_swap": voice_swap,
}


class _Voice(NamedTuple):
    """WORLD's parameters every 5 ms."""

    f0: np.ndarray
    """(M,) float64 Hz, 0 where there is no pitch."""
    envelope: np.ndarray
    """(M, bins) float64, power."""
    aperiodicity: np.ndarray
    """(M, bins) float64."""


def _world(sound: np.ndarray, rate: int) -> _Voice:
    try:
        import pyworld
    except ImportError:
        raise ImportError(
            "the fakes world and voice_swap need the extra `fakes`: pip install 'visavox[fakes]'"
        ) from None
    return _Voice(*pyworld.wav2world(sound.astype(np.float64) / 32768, rate))


def _spoken(voice: _Voice, rate: int, like: np.ndarray) -> np.ndarray:
    import pyworld

    return _as_loud(pyworld.synthesize(voice.f0, voice.envelope, voice.aperiodicity, rate)[: len(like)], like)


def _pitch(voice: _Voice) -> float:
    """Median of the pitch in Hz; 0 where there is none."""
    return float(np.median(voice.f0[voice.f0 > 0])) if (voice.f0 > 0).any() else 0.0


def _mean_envelope(voice: _Voice) -> np.ndarray:
    """Mean log power of the frames with pitch, or of all: (bins,), its own mean taken away."""
    spoken = voice.f0 > 0
    mean = np.log(voice.envelope[spoken if spoken.any() else slice(None)] + 1e-16).mean(0)
    return mean - mean.mean()


def _stretched(envelope: np.ndarray, factor: float) -> np.ndarray:
    """Formants moved by a factor: envelope (M, bins) -> the same shape."""
    bins = envelope.shape[1]
    at = np.clip(np.arange(bins) / factor, 0, bins - 1)
    low, part = at.astype(int), at % 1
    high = np.minimum(low + 1, bins - 1)
    return np.ascontiguousarray(envelope[:, low] * (1 - part) + envelope[:, high] * part)


def _away_from_one(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return float(rng.uniform(low, 1 - NEAR) if rng.random() < 0.5 else rng.uniform(1 + NEAR, high))


def _as_loud(sound: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Sound (n,) of any scale -> as long and, in RMS, as loud as `like` (N,) int16: (N,) int16."""
    sound = np.pad(sound[: len(like)].astype(np.float64), (0, max(0, len(like) - len(sound))))
    level, wanted = np.sqrt(np.mean(sound**2)), np.sqrt(np.mean(like.astype(np.float64) ** 2))
    scaled = sound * (wanted / level if level > 0 else 0.0)
    return np.clip(np.round(scaled), -32768, 32767).astype(np.int16)


def _phased(size: np.ndarray, phase: np.ndarray, window: np.ndarray, samples: int) -> np.ndarray:
    """Magnitudes (M, bins) -> a sound (samples,) that has nearly these, by Griffin and Lim from this phase."""
    guess = size * phase
    for _ in range(GL_ROUNDS):
        again = _stft(_istft(guess, window, GL_HOP, samples), window, GL_HOP)
        guess = size * again / (np.abs(again) + 1e-9)
    return _istft(guess, window, GL_HOP, samples)


def _stft(sound: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    """(N,) -> (1 + N // hop, 1 + W / 2) complex128; windows are centred, zeros beyond the ends."""
    padded = np.pad(sound, len(window) // 2)
    return np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop] * window)


def _istft(spectrum: np.ndarray, window: np.ndarray, hop: int, samples: int) -> np.ndarray:
    """The inverse of `_stft` by weighted overlap-add: (samples,)."""
    frames = np.fft.irfft(spectrum, len(window)) * window
    out, weight = np.zeros((2, (len(frames) - 1) * hop + len(window)))
    for i, frame in enumerate(frames):
        out[i * hop : i * hop + len(window)] += frame
        weight[i * hop : i * hop + len(window)] += window**2
    start = len(window) // 2
    made = (out / np.maximum(weight, 1e-3))[start : start + samples]
    return np.pad(made, (0, samples - len(made)))
