"""Where somebody speaks: P(speech) of each 32 ms of sound, by loudness alone or by Silero's network.

    speech(sound, 16000)                      # (steps,) 0 or 1: louder than 40 dB below the loudest
    speech(sound, 16000, "silero")            # (steps,) P(speech); extra `vad`
    spans(speech(sound, 16000, "silero"))     # [(first, last), ...] steps of speech

N samples at 16 kHz · n steps of 512 samples
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Gate = Literal["energy", "silero"]
RATE = 16000
STEP = 512
"""Samples of a step: 32 ms."""
BELOW_PEAK_DB = 40.0
"""By the energy gate a step this much quieter than the loudest one is silent."""
ON, OFF = 0.5, 0.35
"""P(speech) from which speech begins, and below which it may end; as in the package."""
LEAST_SPEECH, LEAST_PAUSE = 0.25, 0.1
"""Seconds: shorter speech is none, a shorter pause does not end it; as in the package."""


class NoSpeechModel(RuntimeError):
    """Silero's weights are not installed; the message says what to type."""


def speech(sound: np.ndarray, rate: int, gate: Gate = "energy") -> np.ndarray:
    """Return P(speech) of each step of sound (N,) int16 mono: (n,) float32, the last step padded with silence.

    Args:
        gate: `energy` says 0 or 1 by loudness alone; music and noise count as speech. `silero` asks the network.

    Raises:
        ValueError: `silero` and a rate other than 16 kHz.
        NoSpeechModel: `silero` and the extra `vad` is not installed.
    """
    if gate == "energy":
        return _loud(sound, round(STEP * rate / RATE))
    if rate != RATE:
        raise ValueError(f"speech_gate=silero needs resample_rate={RATE}, found {rate}; or use speech_gate=energy")
    if not len(sound):
        return np.zeros(0, np.float32)
    from visavox.features.speech_net import probabilities

    return probabilities(sound)


def spans(probabilities: np.ndarray) -> list[tuple[int, int]]:
    """Return first step and one past the last of each stretch of speech: P(speech) (n,) -> pairs, in order."""
    pause, least = LEAST_PAUSE * RATE / STEP, LEAST_SPEECH * RATE / STEP
    found: list[tuple[int, int]] = []
    begin, quiet = None, 0
    for step, p in enumerate(probabilities):
        if begin is None:
            begin, quiet = (step, 0) if p >= ON else (None, 0)
            continue
        quiet = quiet + 1 if p < OFF else 0 if p >= ON else quiet + (quiet > 0)
        if p < OFF and quiet - 1 >= pause:
            found.append((begin, step + 1 - quiet))
            begin, quiet = None, 0
    if begin is not None:
        found.append((begin, len(probabilities) - quiet))
    return [(first, last) for first, last in found if last - first > least]


def _loud(sound: np.ndarray, step: int) -> np.ndarray:
    count = -(-len(sound) // step)
    if not count or not sound.any():
        return np.zeros(count, np.float32)
    padded = np.concatenate([sound, np.zeros(count * step - len(sound), np.int16)])
    power = np.square(padded.reshape(count, step), dtype=np.float64).mean(1)
    return (power > power.max() * 10 ** (-BELOW_PEAK_DB / 10)).astype(np.float32)
