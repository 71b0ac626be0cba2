"""The voice of a clip as a vector: resemblyzer's network, read from its installed wheel.

    voices = Voices.load()
    voices(bundle)                          # (256,) float32 of length 1, or None without a voice

Network, spectrogram and partial utterances are those of Resemblyzer 0.1.4 (Apache-2.0; Wan et al., "Generalized End-to-End Loss
for Speaker Verification", 2018), and give its numbers. Two things differ: its code wants webrtcvad, which has to be compiled,
to cut long silences out, and is not used here: partial utterances below `SILENT_DB` are left out in its place. And of long
sound the first `LONGEST` seconds count.

N samples · M steps of 10 ms · P partial utterances
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from visavox.identity.installed import file_of
from visavox.weights import parameters, safe_load
from visavox.weights.loading import fit

if TYPE_CHECKING:
    from visavox.bundle import Bundle

CURE = "pip install --no-deps resemblyzer==0.1.4"
RATE, HOP, WINDOW, BANDS = 16000, 160, 400, 40
PARTIAL, STEP, COVERED = 160, 77, 0.75
"""Steps of a partial utterance, from one to the next (1.3 a second), and the share of the last that has to be there."""
WIDTH, LAYERS = 256, 3
LOUDNESS_DB = -30.0
"""Sound that is quieter is made as loud, in dB of full scale."""
SILENT_DB = -55.0
LONGEST = 60
UNREAD = ("similarity_weight", "similarity_bias")
"""Of the loss that it was trained with."""


class Network(nn.Module):
    """Three recurrent layers over mel power, the last state brought to a vector of length 1; parameters named as published."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mel: Tensor) -> Tensor:
        """Mel power (P, PARTIAL, BANDS) -> (P, WIDTH), each of length 1."""
        _, (state, _) = self.lstm(mel)
        return normalize(torch.relu(self.linear(state[-1])), dim=1)


@dataclass(frozen=True)
class Voices:
    """The trained network, and how a clip is put to it."""

    network: Network

    @classmethod
    def load(cls) -> Self:
        """Read the trained network from the installed wheel.

        Raises:
            WeightsError: it is not installed, or its file does not fit.
        """
        path = file_of("resemblyzer", "pretrained.pt", CURE)
        network = Network()
        fit(network, parameters(safe_load(path), what=str(path)), unread=UNREAD, what=str(path))
        return cls(network.eval())

    def __call__(self, bundle: Bundle) -> np.ndarray | None:
        """Return the voice of a clip, (WIDTH,) float32 of length 1; None where it has no sound, or only silence.

        Raises:
            BundleError: the bundle was loaded without its audio.
        """
        if not bundle.has_sound or not len(bundle.sound):
            return None
        return self.embed(_at_rate(bundle.sound[: LONGEST * bundle.sample_rate], bundle.sample_rate))

    @torch.inference_mode()
    def embed(self, sound: np.ndarray) -> np.ndarray | None:
        """Sound (N,) float32 in [-1, 1] at 16 kHz -> (WIDTH,) float32 of length 1; None for silence."""
        sound = louder(sound)
        starts = partials(len(sound))
        sound = np.pad(sound, (0, max(0, (starts[-1] + PARTIAL) * HOP - len(sound))))
        heard = [at for at in starts if level(sound[at * HOP : (at + PARTIAL) * HOP]) > SILENT_DB]
        if not heard:
            return None
        mel = mel_power(sound)  # (M, BANDS)
        each = self.network(torch.from_numpy(np.stack([mel[at : at + PARTIAL] for at in heard])))  # (P, WIDTH)
        return normalize(each.mean(0), dim=0).numpy()


def partials(samples: int) -> list[int]:
    """Return the first step of every partial utterance of so many samples; one at least."""
    steps = -(-(samples + 1) // HOP)
    starts = list(range(0, max(1, steps - PARTIAL + STEP + 1), STEP))
    covered = (samples - starts[-1] * HOP) / (PARTIAL * HOP)
    return starts[:-1] if covered < COVERED and len(starts) > 1 else starts


def level(sound: np.ndarray) -> float:
    """Return the level of sound (N,) in [-1, 1] in dB of full scale; -inf for nothing at all."""
    power = float(np.mean(np.square(sound, dtype=np.float64))) if len(sound) else 0.0
    return 10 * np.log10(power) if power > 0 else -np.inf


def louder(sound: np.ndarray) -> np.ndarray:
    """Raise quiet sound (N,) to LOUDNESS_DB; silence and loud sound stay as they are."""
    lack = LOUDNESS_DB - level(sound)
    return sound * np.float32(10 ** (lack / 20)) if 0 < lack < np.inf else sound


def mel_power(sound: np.ndarray) -> np.ndarray:
    """Sound (N,) float32 -> (M, BANDS) float32: power (no logarithm) in Slaney's bands, Hann windows of 25 ms every 10 ms."""
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(sound, np.float32)),
        WINDOW,
        HOP,
        window=torch.hann_window(WINDOW),
        pad_mode="constant",
        return_complex=True,
    )  # (1 + WINDOW // 2, M)
    return (_bank() @ spectrum.abs().square().numpy()).T


@lru_cache
def _bank() -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=RATE, n_fft=WINDOW, n_mels=BANDS)


def _at_rate(sound: np.ndarray, rate: int) -> np.ndarray:
    """Sound (N,) int16 -> float32 in [-1, 1] at RATE."""
    sound = sound.astype(np.float32) / 32768
    if rate == RATE:
        return sound
    from math import gcd

    from scipy.signal import resample_poly

    shared = gcd(rate, RATE)
    return resample_poly(sound, RATE // shared, rate // shared).astype(np.float32)
