"""A voice made of formants, and the mouth movement that belongs to it.

An utterance is planned once, as syllables on a 100 Hz grid (`Articulation`): how far the mouth is open, how wide it
is, how loud the voice is, how much of it is breath, where the formants lie. The sound is filtered through those
formants and the face is drawn from that openness, so that lips and voice agree to within a frame by construction.
Source and filter follow the parallel formant synthesiser of Klatt (1980), the vowels Peterson and Barney (1952).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RATE = 16_000  # Hz, audio
TRACK_RATE = 100  # Hz, articulation
HOP = RATE // TRACK_RATE


class Voice(NamedTuple):
    """What stays the same whenever one identity speaks."""

    f0: float  # Hz
    tract: float  # formant scale, 1 = an adult man's vocal tract
    jitter: float  # relative deviation of one glottal period
    breath: float  # noise against pulses, 0..1
    tempo: float  # syllable length against the average


class Articulation(NamedTuple):
    """An utterance, M steps of 10 ms: every field (M,) float32 but formants (M, 4) Hz."""

    opening: np.ndarray  # 0 closed .. 1 wide open
    width: np.ndarray  # -1 rounded .. 1 spread
    loudness: np.ndarray  # 0 silent .. 1, voiced sound
    hiss: np.ndarray  # 0 .. 1, frication
    f0: np.ndarray  # Hz
    formants: np.ndarray  # Hz


# opening, width, F1..F3 in Hz
VOWELS = np.array(
    [
        (1.00, 0.10, 730, 1090, 2440),  # father
        (0.85, 0.55, 660, 1720, 2410),  # bat
        (0.60, 0.60, 530, 1840, 2480),  # bet
        (0.30, 1.00, 270, 2290, 3010),  # beat
        (0.65, -0.60, 570, 840, 2410),  # bought
        (0.28, -1.00, 300, 870, 2240),  # boot
        (0.55, 0.00, 640, 1190, 2390),  # but
    ],
    np.float32,
)
F4 = 3500.0
BANDWIDTHS = np.array([70.0, 100.0, 140.0, 220.0])  # Hz
FORMANT_GAINS = np.array([1.0, 0.63, 0.35, 0.2])


def voice_of(identity: int) -> Voice:
    rng = np.random.default_rng([identity, 2])
    tract = rng.uniform(0.95, 1.25)
    f0 = np.clip(120 * (tract / 1.05) ** 3.2 * rng.uniform(0.8, 1.25), 80, 260)
    return Voice(float(f0), float(tract), rng.uniform(0.004, 0.015), rng.uniform(0.02, 0.08), rng.uniform(0.85, 1.15))


def articulate(voice: Voice, seconds: float, rng: np.random.Generator) -> Articulation:
    """Phrases of syllables and pauses filling `seconds`; an utterance is under way at both of its ends."""
    steps = round(seconds * TRACK_RATE)
    skip = int(rng.integers(0, 80))
    parts: list[np.ndarray] = []  # each (n, 9): opening, width, loudness, hiss, F1..F4, pitch
    while sum(map(len, parts)) < skip + steps:
        parts += _phrase(voice, rng)
    track = np.concatenate(parts)[skip : skip + steps]
    track = np.stack([_smooth(column, 2.2) for column in track.T])  # (9, steps); 22 ms: lips and tongue have mass
    opening, width, loudness, hiss = track[:4].astype(np.float32)
    f0 = (voice.f0 * track[8]).astype(np.float32)
    return Articulation(opening, width, loudness, hiss, f0, (track[4:8].T * voice.tract).astype(np.float32))


def speak(voice: Voice, track: Articulation, rng: np.random.Generator) -> np.ndarray:
    """The sound of an articulation: (M * 160,) float32 at 16 kHz, peak about 1; sample 0 is step 0."""
    samples = len(track.opening) * HOP
    at = np.arange(samples) / HOP
    loudness = np.interp(at, np.arange(len(track.opening)), track.loudness)
    hiss = np.interp(at, np.arange(len(track.opening)), track.hiss)
    pulses = _glottis(np.interp(at, np.arange(len(track.f0)), track.f0), voice.jitter, rng)
    noise = rng.standard_normal(samples)
    voiced = _through_formants((pulses + voice.breath * noise) * loudness, track.formants)
    fricative = np.diff(noise, prepend=0.0) * hiss * 0.12
    sound = voiced / (np.abs(voiced).max() + 1e-9) + fricative
    return (sound / np.abs(sound).max()).astype(np.float32)


def _phrase(voice: Voice, rng: np.random.Generator) -> list[np.ndarray]:
    """Two to six syllables, falling in pitch, and the pause after them."""
    count = int(rng.integers(2, 7))
    parts = []
    for i in range(count):
        pitch = 1.12 - 0.2 * i / count + rng.normal(0, 0.05)
        parts += [_onset(rng, pitch), _vowel(voice, rng, pitch)]
    rest = _hold(int(rng.integers(12, 45)), 0.02, 0.0, 0.0, 0.0, VOWELS[6, 2:], 1.0)
    return [*parts, rest]


def _onset(rng: np.random.Generator, pitch: float) -> np.ndarray:
    """The consonant before a vowel: a closure of the lips (p, m) or a narrow passage (s)."""
    length = int(rng.integers(5, 12))
    match rng.choice(["stop", "nasal", "fricative"], p=[0.45, 0.3, 0.25]):
        case "stop":
            return _hold(length, 0.0, 0.0, 0.0, 0.0, VOWELS[6, 2:], pitch)
        case "nasal":
            return _hold(length, 0.02, 0.0, 0.10, 0.0, np.array([250, 1100, 2200]), pitch)
        case _:
            return _hold(length, 0.10, 0.3, 0.0, 0.12, np.array([300, 1700, 2600]), pitch)


def _vowel(voice: Voice, rng: np.random.Generator, pitch: float) -> np.ndarray:
    stress = rng.uniform(0.45, 1.0)
    opening, width, *formants = VOWELS[rng.integers(len(VOWELS))]
    opening *= stress
    length = round(voice.tempo * (7 + 18 * rng.random() * stress))
    return _hold(length, opening, width, 0.15 + 0.85 * opening, 0.0, np.array(formants), pitch)


def _hold(length, opening, width, loudness, hiss, formants, pitch) -> np.ndarray:
    return np.tile(np.array([opening, width, loudness, hiss, *formants, F4, pitch]), (length, 1))  # (length, 9)


def _smooth(track: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing in steps, edges held."""
    reach = round(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(track, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _glottis(f0: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Pulses once per jittered period of f0 (N,) Hz, placed between samples, with a fall of 12 dB per octave."""
    cycles = np.cumsum(f0) / RATE
    count = int(cycles[-1])
    at = np.interp(np.arange(1, count + 1) + rng.normal(0, jitter, count), cycles, np.arange(len(f0)))
    whole = np.clip(at.astype(int), 0, len(f0) - 2)
    pulses = np.zeros(len(f0))
    np.add.at(pulses, whole, 1 - (at - whole))
    np.add.at(pulses, whole + 1, at - whole)
    shape = np.exp(-np.arange(48) / 5.0) - np.exp(-np.arange(48) / 2.5)  # two real poles
    return np.convolve(pulses, shape)[: len(f0)]


def _through_formants(source: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Time-varying parallel resonators by overlap-add: source (N,), formants (M, 4) Hz per 160 samples -> (N,).

    Each 20 ms Hann frame is multiplied by the resonators' sampled response; 1024 points leave room for their ringing.
    """
    window = np.hanning(2 * HOP + 1)[:-1]
    padded = np.pad(source, HOP)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP][: len(formants)]  # (M, 320)
    points = 1024
    z = np.exp(-2j * np.pi * np.arange(points // 2 + 1) / points)  # (513,) z^-1
    radius = np.exp(-np.pi * BANDWIDTHS / RATE)
    cosine = 2 * radius * np.cos(2 * np.pi * formants / RATE)  # (M, 4)
    response = np.zeros((len(formants), len(z)), np.complex64)
    for k, gain in enumerate(FORMANT_GAINS):
        sign = (-1) ** k  # neighbours in opposite phase, or there would be a zero between them
        peak = 1 - radius[k]
        response += sign * gain * peak / (1 - cosine[:, k, None] * z + (radius[k] * z) ** 2)
    response /= np.sqrt(np.mean(np.abs(response) ** 2, axis=1, keepdims=True))  # loudness is the articulation's alone
    shaped = np.fft.irfft(np.fft.rfft(frames * window, points) * response, points)  # (M, 1024)
    out = np.zeros(len(padded) + points)
    for i in range(-(-points // HOP)):  # frames that start points apart never overlap: add them slice by slice
        piece = shaped[:, i * HOP : (i + 1) * HOP]
        start = i * HOP
        span = np.zeros((len(piece), HOP))
        span[:, : piece.shape[1]] = piece
        out[start : start + span.size] += span.ravel()
    return out[HOP : HOP + len(source)]
