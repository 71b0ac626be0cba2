"""Lightning's trainer as every run uses it: what it writes, when it stops, and what it says without a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.config import Config, ConfigError

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from visavox.compute import TrainerPrecision
    from visavox.detectors.base import Detector
    from visavox.training.callbacks import Watch


def build_trainer(
    config: Config,
    run: Path,
    accelerator: str,
    precision: TrainerPrecision,
    detector: Detector,
    val_labels: Sequence[int],
    watch: Watch | None = None,
) -> pl.Trainer:
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, TQDMProgressBar

    from visavox.training.callbacks import AtomicCheckpoints, FiniteLoss, History, StaysStopped, Told, checkpoints
    from visavox.training.epoch_lines import EpochLines

    interactive = sys.stderr.isatty()
    monitor, mode = detector.monitor(val_labels)
    stopping = EarlyStopping(monitor, mode=mode, patience=config.patience, check_on_train_epoch_end=True)
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(accelerator, accelerator),
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        precision=precision,
        max_epochs=detector.epochs,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.grad_clip or None,
        deterministic="warn" if accelerator == "cuda" else True,
        use_distributed_sampler=False,  # data_loader shards its own samplers
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=_loggers(config, run),
        plugins=[AtomicCheckpoints()],
        callbacks=[
            FiniteLoss(),  # before what writes checkpoints
            LearningRateMonitor("epoch"),
            stopping,
            StaysStopped(stopping),
            History(run / "metrics.csv"),
            *([Told(watch, monitor)] if watch else []),
            *checkpoints(run, monitor, mode),
            TQDMProgressBar() if interactive else EpochLines(monitor),
        ],
        enable_progress_bar=interactive,
        enable_model_summary=False,
    )


def _loggers(config: Config, run: Path) -> list[Any]:
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    loggers: list[Any] = [TensorBoardLogger(run, name="", version="tensorboard")]
    if config.wandb != "off":
        if config.wandb == "online" and not (os.environ.get("WANDB_API_KEY") or _wandb_login()):
            raise ConfigError(
                "wandb=online, but nobody is logged in; run `wandb login`, set WANDB_API_KEY, or use wandb=offline"
            )
        loggers.append(
            WandbLogger(
                project=config.wandb_project,
                name=run.name,
                id=run.name,
                resume="allow",
                save_dir=run,
                mode=config.wandb,
                config=config.model_dump(mode="json"),
            )
        )
    return loggers


def _wandb_login() -> bool:
    """Whether a key for Weights & Biases lies in the user's .netrc; never asks for one."""
    import netrc

    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
