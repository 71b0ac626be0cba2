"""What every detector is: one network, one way in, one way out.

    video -> crop.crop_video -> Bundle -> Detector.prepare -> batch -> Detector.forward -> (B,) logits -> Scorer.score

Higher always means more fake; label 1 = fake. Networks give logits; the one sigmoid is in `score`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import default_collate
from torchmetrics.classification import BinaryAUROC

from visavox.bundle import Bundle
from visavox.config import Config


class Example(NamedTuple):
    """One labelled clip, or a batch of them once collated."""

    clip: Any
    """What `prepare` gave: a NamedTuple of tensors."""
    label: Tensor
    """() or (B,) float32: 1 = fake."""
    index: Tensor
    """() or (B,) int64: row of the split."""


class Scorer(Protocol):
    """Anything that turns bundles into P(fake): a detector, or a fusion of several."""

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """(N,) float64 in [0, 1], higher = more fake."""


class Detector(pl.LightningModule):
    """One network. Subclasses give `prepare` and `forward`, and `loss` where it is not binary cross-entropy."""

    needs_track: bool = False
    """Whether `prepare` reads the bundle's track or audio, which are left out of what is loaded otherwise."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.needs_track = self.needs_track or config.trim_silence != "none" or config.temporal_jitter > 0
        self.save_hyperparameters(
            {"config": config.model_dump(mode="json")}
        )  # plain values: loads with weights_only=True
        self.aucs = nn.ModuleDict({f"{split}_auc": BinaryAUROC() for split in ("train", "val", "test")})

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None) -> Any:
        """A bundle as the network wants it: a NamedTuple of tensors without batch dimension.

        Args:
            rng: randomness of training (which frames, augmentation); None is deterministic, for scoring.
        """
        raise NotImplementedError

    def forward(self, clip: Any) -> Tensor:
        """A collated clip -> (B,) logits, higher = more fake."""
        raise NotImplementedError

    def fit_inputs(self, bundles: Iterable[Bundle]) -> None:
        """Fit what standardises the inputs on the training split, once, before the first step."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits, labels)

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """P(fake) of bundles, (N,) float64. Deterministic; the order and the batch do not matter."""
        self.eval()
        clip = default_collate([self.prepare(bundle, None) for bundle in bundles])
        clip = self.transfer_batch_to_device(clip, self.device, 0)
        with torch.inference_mode():
            return torch.sigmoid(self(clip).double()).cpu().numpy()

    def on_train_batch_start(self, batch: Example, batch_idx: int) -> None:
        """Dropout and stochastic depth depend on the step alone, so that a resumed run repeats an undisturbed one."""
        step = self.current_epoch * 1_000_003 + batch_idx
        torch.manual_seed(hash((self.config.seed, step, self.global_rank)) % 2**63)

    def training_step(self, batch: Example, batch_idx: int) -> Tensor:
        return self._step("train", batch)

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        self._step("val", batch)

    def test_step(self, batch: Example, batch_idx: int) -> None:
        self._step("test", batch)

    def predict_step(self, batch: Example, batch_idx: int) -> Tensor:
        return torch.sigmoid(self(batch.clip).double())

    def configure_optimizers(self) -> dict[str, Any]:
        """SGD with Nesterov momentum as published for TimeSformer, or AdamW; linear warm-up, then cosine, stepped per batch."""
        decayed, exempt = [], []
        for name, parameter in self.named_parameters():
            plain = parameter.ndim < 2 or name.endswith(("pos_embed", "time_embed", "cls_token"))
            (exempt if plain else decayed).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": exempt, "weight_decay": 0.0},
        ]
        if self.config.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=self.config.lr, momentum=0.9, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(groups, lr=self.config.lr)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(total, round(total * self.config.warmup_epochs / self.config.epoch))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _step(self, split: str, batch: Example) -> Tensor:
        logits = self(batch.clip)  # (B,)
        loss = self.loss(logits, batch.label)
        auc = self.aucs[f"{split}_auc"]
        auc.update(logits.detach().float(), batch.label.long())
        each = {"on_step": False, "on_epoch": True, "batch_size": len(batch.label), "prog_bar": split != "test"}
        self.log(f"{split}/loss", loss, sync_dist=split != "train", **each)
        self.log(f"{split}/auc", auc, **each)
        return loss


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate at a step: linear to 1 over `warmup` steps, then half a cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
