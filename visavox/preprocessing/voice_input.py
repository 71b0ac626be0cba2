"""How sound becomes what a published network for voices was trained on, as data that code reads.

sound, notes = heard("clip.mp4", 16000, 60.0)      # (N,) int16, or None where the video has none
VoiceInput(16000, 64000)(sound)                     # (64000,) float32: the first four seconds

N samples
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visavox.media import confined

RATES = range(8000, 96001)
"""Sampling rates whose sound is read as it is and resampled as published; libav brings others to the network's."""
PASSING_RATE = 1.0
"""Frames a second of the picture that are passed over on the way to the sound, so that few are converted."""


class NoVoiceError(ValueError):
    """The video was read, but has no sound, or a silent one."""

    code = "NO_SOUND"


@dataclass(frozen=True)
class VoiceInput:
    """Cut to a length or repeated up to it, scaled to [-1, 1); neither centred nor brought to one loudness."""

    rate: int
    """Samples a second."""
    samples: int
    """Length of what the network hears at once."""

    def __call__(self, sound: np.ndarray) -> np.ndarray:
        """(N,) int16 with N > 0 -> (samples,) float32: the beginning, or where it is shorter itself again and again."""
        return np.resize(sound[: self.samples], self.samples).astype(np.float32) / 32768

    def starts(self, length: int, most: int) -> list[int]:
        """Return the first samples of at most `most` windows, in order: spread over the sound, the last ends with it.

        Neighbours overlap where the sound is no multiple of a window.
        """
        last = max(0, length - self.samples)
        wanted = min(most, -(-length // self.samples))
        return sorted({round(float(at)) for at in np.linspace(0, last, wanted)})


def heard(path: str | Path, rate: int, seconds: float, threads: int = 0) -> tuple[np.ndarray | None, list[str]]:
    """Return the sound of a video, (N,) int16 mono at `rate`, None without one, and what reading noticed.

    Sound at another rate is resampled as the published code does (deepfense 0.2.2: librosa.load, that is soxr's high quality):
    libav's filter gives a network with random weights other probabilities by some hundredths (benchmarks/resampling.py).

    Args:
        seconds: of the video that are listened to.
        threads: of the decoder; 0 leaves their number to libav.

    Raises:
        MediaError: no video, unreadable, too large; the message holds the cure.
    """
    native = confined.describe(path).info.sample_rate
    return _read(path, native if native is not None and native in RATES else rate, rate, seconds, threads)


def _read(
    path: str | Path, read_at: int, rate: int, seconds: float, threads: int = 0
) -> tuple[np.ndarray | None, list[str]]:
    """Return sound as `heard` does: as libav gives it at `read_at`, from there on resampled as published."""
    opened = confined.open_video(path, fps=PASSING_RATE, sample_rate=read_at, max_seconds=seconds, threads=threads)
    with opened as video:
        for _ in video.frames():
            pass
        sound, length = video.audio(), video.info.duration
    if sound is None:
        return None, list(video.notes)
    if length:  # it is filled up to a whole frame of the passing rate
        sound = sound[: max(1, round(min(length, seconds) * read_at))]
    return _resampled(sound, read_at, rate), list(video.notes)


def _resampled(sound: np.ndarray, read_at: int, rate: int) -> np.ndarray:
    """(N,) int16 at `read_at` -> int16 at `rate`."""
    if read_at == rate or not len(sound):
        return sound
    import librosa

    resampled = librosa.resample(sound.astype(np.float32) / 32768, orig_sr=read_at, target_sr=rate)
    return np.clip(np.round(resampled * 32768), -32768, 32767).astype(np.int16)
