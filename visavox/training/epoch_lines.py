"""How a training goes, in lines of a log: for runs that nobody watches on a terminal."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

log = logging.getLogger(__name__)

QUIET = 60.0
"""Seconds after which a long epoch says how far it is."""
SHOWN = ("train/loss", "val/loss", "val/auc")
"""Metrics of an epoch's line, where they are there; the monitored one stands beside them."""


class EpochLines(Callback):
    """Log a line per epoch (losses, AUC of validation, seconds, time left), and one a minute within long epochs.

    Args:
        monitor: the metric that the best epoch is chosen by.
    """

    def __init__(self, monitor: str):
        self.monitor = monitor
        self.first = 0
        self.began = self.epoch_began = self.said = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.first, self.began = trainer.current_epoch, time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.epoch_began = self.said = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self.said < QUIET or not trainer.is_global_zero:
            return
        self.said = now
        epoch, steps = trainer.current_epoch + 1, trainer.num_training_batches
        spent = now - self.epoch_began
        left = spent / (batch_idx + 1) * (steps - batch_idx - 1)
        log.info(
            "epoch %d: step %d of %s, %s, about %s left of it", epoch, batch_idx + 1, steps, clock(spent), clock(left)
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        now, epoch, epochs = time.monotonic(), trainer.current_epoch + 1, trainer.max_epochs or 0
        metrics = trainer.callback_metrics
        shown = [
            f"{name} {float(metrics[name]):.4f}" for name in dict.fromkeys((*SHOWN, self.monitor)) if name in metrics
        ]
        left = (now - self.began) / (epoch - self.first) * (epochs - epoch)
        told = [f"{clock(now - self.epoch_began)}", *([f"at most {clock(left)} left"] if epoch < epochs else [])]
        log.info("epoch %d of %d: %s", epoch, epochs, ", ".join(shown + told))


def clock(seconds: float) -> str:
    """Return a length of time in the unit that fits: `4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
