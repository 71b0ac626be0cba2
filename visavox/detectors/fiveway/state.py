"""The fusion and the gate as a part of the network's state."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

from visavox.detectors.fiveway.fusion import Fusion
from visavox.detectors.fiveway.gate import Gate


class Verdicts(nn.Module):
    """Holds the fitted fusion and gate; in a checkpoint they are JSON in bytes, so that weights_only=True reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.fusion: Fusion | None = None
        self.gate: Gate | None = None

    def hold(self, fusion: Fusion, gate: Gate | None) -> None:
        self.fusion, self.gate = fusion, gate

    def get_extra_state(self) -> Tensor:
        """(n,) uint8."""
        value = {
            "fusion": json.loads(self.fusion.to_json()) if self.fusion else None,
            "gate": list(self.gate) if self.gate else None,
        }
        return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        value = json.loads(bytes(state.tolist()).decode())
        self.fusion = Fusion.from_json(json.dumps(value["fusion"]), "checkpoint") if value["fusion"] else None
        self.gate = Gate(*value["gate"]) if value["gate"] else None
