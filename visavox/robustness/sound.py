"""Changes of the sound: sound (N,) int16 mono, rate in Hz, a constant, randomness -> (N,) int16."""

from __future__ import annotations

import numpy as np

from visavox.robustness.codec import resampled, through_audio

FULL = 32767.0


def aac(sound: np.ndarray, rate: int, kbps: float, rng: np.random.Generator) -> np.ndarray:
    """Encode as AAC at so many kbit/s, and decode."""
    return through_audio(sound, rate, "aac", round(kbps * 1000))


def mp3(sound: np.ndarray, rate: int, kbps: float, rng: np.random.Generator) -> np.ndarray:
    """Encode as MP3 at so many kbit/s, and decode."""
    return through_audio(sound, rate, "libmp3lame", round(kbps * 1000))


def opus(sound: np.ndarray, rate: int, kbps: float, rng: np.random.Generator) -> np.ndarray:
    """Encode as Opus at so many kbit/s, and decode."""
    return through_audio(sound, rate, "libopus", round(kbps * 1000), at=48000)


def telephone(sound: np.ndarray, rate: int, kbps: float, rng: np.random.Generator) -> np.ndarray:
    """Send through a mobile phone: AMR-NB at 8 kHz and so many kbit/s."""
    return through_audio(sound, rate, "libopencore_amrnb", round(kbps * 1000), at=8000)


def band(sound: np.ndarray, rate: int, kilohertz: float, rng: np.random.Generator) -> np.ndarray:
    """Sample at so many kHz and back, so that nothing above half of it is left."""
    back = resampled(resampled(sound, rate, round(kilohertz * 1000)), round(kilohertz * 1000), rate)
    return np.concatenate([back, np.zeros(max(0, len(sound) - len(back)), np.int16)])[: len(sound)]


def white_noise(sound: np.ndarray, rate: int, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise at so many dB below the sound."""
    return _mixed(sound, rng.standard_normal(len(sound)), snr)


def music(sound: np.ndarray, rate: int, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Add music at so many dB below the sound: chords of a minor key with their overtones, two a second."""
    return _mixed(sound, chords(len(sound), rate, rng), snr)


def clipping(sound: np.ndarray, rate: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Overdrive until this share of the samples lies at the limits, then bring it back to its peak."""
    if not sound.any():
        return sound
    size = np.abs(sound.astype(np.float64))
    limit = max(float(np.quantile(size, 1 - share)), 1.0)
    return _int16(np.clip(sound, -limit, limit) * (size.max() / limit))


def reverberation(sound: np.ndarray, rate: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Let it sound in a room whose echo falls by 60 dB in so many seconds; half of the power is the echo's."""
    from scipy.signal import fftconvolve

    if not sound.any():
        return sound
    time = np.arange(round(seconds * rate)) / rate
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail[: round(0.002 * rate)] = 0
    wet = fftconvolve(sound.astype(np.float64), tail)[: len(sound)]
    dry = sound.astype(np.float64)
    wet *= np.sqrt(np.mean(dry**2) / max(np.mean(wet**2), 1e-9))
    return _int16((dry + wet) / np.sqrt(2))


def gain(sound: np.ndarray, rate: int, decibel: float, rng: np.random.Generator) -> np.ndarray:
    """Make it so many dB louder; below 0, quieter."""
    return _int16(sound * 10 ** (decibel / 20))


def mute(sound: np.ndarray, rate: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Silence one stretch of this share of the clip, about a moment that is drawn."""
    length = max(1, round(share * len(sound)))
    first = min(max(0, round(rng.random() * len(sound)) - length // 2), max(0, len(sound) - length))
    changed = sound.copy()
    changed[first : first + length] = 0
    return changed


def chords(count: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return (count,) float64 of chords of a minor key, two a second, with overtones that fade."""
    time = np.arange(round(0.5 * rate)) / rate
    scale = 220 * 2 ** (np.array([0, 3, 7, 10, 12, 15]) / 12)
    pieces = []
    for _ in range(-(-count // len(time))):
        tones = rng.choice(scale, 3, replace=False)
        waves = [np.sin(2 * np.pi * tone * k * time) / k for tone in tones for k in (1, 2, 3, 4) if tone * k < rate / 2]
        pieces.append(np.sum(waves, axis=0) * np.exp(-3 * time))
    return np.concatenate(pieces)[:count] if pieces else np.zeros(0)


def _mixed(sound: np.ndarray, other: np.ndarray, snr: float) -> np.ndarray:
    dry = sound.astype(np.float64)
    power, added = np.mean(dry**2) if len(dry) else 0.0, np.mean(other**2) if len(other) else 0.0
    if not power or not added:
        return sound
    return _int16(dry + other * np.sqrt(power / added / 10 ** (snr / 10)))


def _int16(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), -FULL - 1, FULL).astype(np.int16)
