"""The audio branch: a convolutional network over constant-Q cepstra.

B clips · C cepstral coefficients with their deltas: 90 · M steps of time
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor, nn


class CepstraNet(nn.Module):
    """Four blocks of 3 x 3 convolution, batch norm, ReLU and 2 x 2 pooling; mean over both axes; one logit.

    Args:
        width: channels of the first block, doubled in each; 32 as published, fewer for tests.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = [1, *(width * 2**i for i in range(4))]
        for i, (inside, outside) in enumerate(zip(channels, channels[1:]), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(inside, outside, 3, padding=1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(outside))
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(channels[-1], 1)

    def embed(self, cepstra: Tensor) -> Tensor:
        """(B, 1, C, M) -> (B, 8 * width): 256."""
        x = cepstra
        for i in range(1, 5):
            x = self.pool(self.relu(self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x))))
        return x.mean((2, 3))

    def forward(self, cepstra: Tensor) -> Tensor:
        """(B, 1, C, M) -> (B,) logits, higher = the sound is rather fake."""
        return self.fc(self.embed(cepstra))[:, 0]


def fit_length(
    cepstra: np.ndarray, steps: int, pad: Literal["zero", "repeat"], rng: np.random.Generator | None = None
) -> np.ndarray:
    """Cepstra of a fixed number of steps: (C, M) -> (C, steps).

    Args:
        pad: short ones end in zeros as the seed's do, from which a network can read how long the clip is; or begin again.
        rng: takes a random stretch of long ones; the centre without it.
    """
    have = cepstra.shape[1]
    if have >= steps:
        start = (have - steps) // 2 if rng is None else int(rng.integers(have - steps + 1))
        return cepstra[:, start : start + steps]
    if pad == "zero":
        return np.pad(cepstra, ((0, 0), (0, steps - have)))
    return np.tile(cepstra, -(-steps // have))[:, :steps]


def standardised(cepstra: np.ndarray) -> np.ndarray:
    """Each coefficient with mean 0 and deviation 1 over the utterance: (C, M) -> (C, M); constant ones become 0."""
    return (cepstra - cepstra.mean(1, keepdims=True)) / (cepstra.std(1, keepdims=True) + 1e-6)
