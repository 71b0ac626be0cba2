"""The temporal branch: a BiLSTM over what the visual branch sees in each frame.

B clips · T frames · D width of a frame's feature
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

PADDED_LENGTH = 32
"""Frames to which the seed pads and cuts."""


class TemporalNet(nn.Module):
    """One bidirectional layer, mean over time, one logit.

    Args:
        inside: D, width of the visual branch's features.
        hidden: cells of each direction.
        mode: `masked` averages over the frames that are there; `padded` appends zero rows to 32 and averages over those too,
            as the seed does.
    """

    def __init__(self, inside: int = 512, hidden: int = 128, mode: Literal["masked", "padded"] = "masked") -> None:
        super().__init__()
        self.mode = mode
        self.lstm = nn.LSTM(inside, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, 1)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """features (B, T, D), lengths (B,) frames that are there, all by default -> (B,) logits.

        Raises:
            ValueError: a clip has no frame.
        """
        if lengths is None:
            lengths = torch.full((len(features),), features.shape[1], device=features.device)
        if features.shape[1] == 0 or bool((lengths < 1).any()):
            raise ValueError("a clip without frames has no temporal feature")
        if self.mode == "padded":
            return self._padded(features, lengths)
        packed = nn.utils.rnn.pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=features.shape[1]
        )  # (B, T, 2 * hidden), zero behind the end
        return self.fc(outputs.sum(1) / lengths[:, None])[:, 0]

    def _padded(self, features: Tensor, lengths: Tensor) -> Tensor:
        rows = torch.stack(
            [fixed_length(one[:length]) for one, length in zip(features, lengths.tolist())]
        )  # (B, 32, D)
        return self.fc(self.lstm(rows)[0].mean(1))[:, 0]


def fixed_length(features: Tensor, length: int = PADDED_LENGTH) -> Tensor:
    """Zero rows behind the end, or the centre: (T, D) -> (length, D)."""
    if len(features) < length:
        return torch.cat([features, features.new_zeros(length - len(features), features.shape[1])])
    start = (len(features) - length) // 2
    return features[start : start + length]
