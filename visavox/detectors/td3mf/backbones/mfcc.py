"""MFCC by librosa's definition, as 2D3MF takes them: 10 coefficients of one second at 44.1 kHz, 87 steps of 512 samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from visavox.detectors.td3mf.backbones.base import State, windows
from visavox.detectors.td3mf.network import AudioInput

COEFFICIENTS = 10
RATE = 44_100
"""Bundles hold 16 kHz: nothing above 8 kHz is left, and the upper fifth of the 128 mel bands holds the floor."""


class Mfcc:
    """One image of (10, 1 + rate // 512) per window."""

    kind: ClassVar[Literal["audio"]] = "audio"
    name = "MFCC"
    dim = COEFFICIENTS

    def __init__(self, sample_rate: int = RATE) -> None:
        self.sample_rate = sample_rate
        self.parts: dict[str, nn.Module] = {}

    def named(self, part: str, state: State) -> tuple[State, tuple[str, ...]]:
        raise AssertionError("MFCC have no weights")

    def inputs(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        return self.features(audio, starts)

    def encode(self, inputs: Tensor) -> Tensor:
        raise AssertionError("MFCC are no network")

    def features(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        return mfcc(windows(audio, self.sample_rate, starts), self.sample_rate)

    def input(self, steps: int) -> AudioInput:
        return AudioInput("mfcc", COEFFICIENTS, steps, frames=1 + self.sample_rate // 512)


def mfcc(sound: np.ndarray, rate: int) -> np.ndarray:
    """Return `librosa.feature.mfcc(n_mfcc=10)` of each row: (n, N) float32 -> (n, 10, 1 + N // 512) float32.

    Row by row: of a batch, librosa cuts all at 80 dB below the loudest.
    """
    import librosa

    return np.stack([librosa.feature.mfcc(y=row, sr=rate, n_mfcc=COEFFICIENTS) for row in sound]).astype(np.float32)
