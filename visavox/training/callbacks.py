"""What a training run leaves behind: checkpoints that are never half-written, and a history that survives a resume."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from visavox.files import replacing
from visavox.training.checkpoint import save


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints are written beside and renamed, so that a run killed at any moment leaves whole ones."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        save(checkpoint, Path(path))


def checkpoints(run: Path, monitor: str = "val/auc", mode: str = "max") -> list[ModelCheckpoint]:
    """Return what keeps RUN/best.ckpt and RUN/checkpoints/last.ckpt, in this order.

    The best is the epoch with the highest (`max`) or lowest (`min`) `monitor`. Two callbacks, since `save_last` of Lightning
    2.6 writes only when the best has changed.
    """
    common: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(run, **common, filename="best", monitor=monitor, mode=mode)
    return [best, ModelCheckpoint(run / "checkpoints", **common, filename="last")]


class FiniteLoss(Callback):
    """Stops a training whose loss is no number, before that reaches a checkpoint; the error names the step.

    The loss is looked at without waiting for the device; every EVERY steps and at the end of an epoch the answer is fetched.
    """

    EVERY = 16

    def __init__(self) -> None:
        self.first: torch.Tensor | None = None  # () int64 on the device; the largest integer: none

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *batch: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs  # a step may be left out
        if loss is None:
            return
        never = torch.iinfo(torch.int64).max
        if self.first is None:
            self.first = torch.tensor(never, device=loss.device)
        now = torch.where(loss.detach().isfinite().all(), never, trainer.global_step)
        self.first = torch.minimum(self.first, now)
        if trainer.global_step % self.EVERY == 0:
            self._require(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._require(trainer)

    def _require(self, trainer: pl.Trainer) -> None:
        first = torch.iinfo(torch.int64).max if self.first is None else int(self.first)
        if first < torch.iinfo(torch.int64).max:
            raise RuntimeError(
                f"the loss of step {first} (epoch {trainer.current_epoch}) is no finite number; what the last "
                "finished epoch left is kept. Start anew with a smaller lr, with grad_clip, or with precision=32-true"
            )


Watch = Callable[[int, float], None]
"""Told of each epoch, from 0, and the value of what the best is chosen by; may raise to end the training."""


class Told(Callback):
    """Tells somebody what each epoch is worth. Its exceptions end the training; the epoch before is the one kept."""

    def __init__(self, watch: Watch, monitor: str):
        self.watch, self.monitor = watch, monitor

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.watch(trainer.current_epoch, float(trainer.callback_metrics[self.monitor]))


class History(Callback):
    """metrics.csv: one row per epoch. The rows travel in the checkpoint, so that a resumed run's file is whole."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})
        if trainer.is_global_zero:
            self._write()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])

    def _write(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with replacing(self.path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)


class StaysStopped(Callback):
    """A training whose patience was over when its checkpoint was written is not trained on by a resume: killed after its end,
    it would gain an epoch."""

    def __init__(self, stopping: EarlyStopping):
        self._stopping = stopping

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End before the first step."""
        trainer.should_stop = trainer.should_stop or self._stopping.wait_count >= self._stopping.patience
