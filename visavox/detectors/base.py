"""What every detector is: one network, one way in, one way out.

    video -> Preprocessor -> Bundle -> Detector.prepare -> batch -> Detector.forward -> (B,) logits -> score

Higher always means more fake; label 1 = fake. Networks give logits; the one sigmoid is in `score`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import default_collate
from torchmetrics.classification import BinaryAUROC

from visavox.bundle import Bundle
from visavox.bundle.trim import load_trimmed
from visavox.config import Config, Settings
from visavox.detectors.analysis import Analysis, Branch, ModelCard
from visavox.detectors.novelty import Known
from visavox.detectors.scorer import Scorer, Watch
from visavox.progress import Stopwatch
from visavox.splits.classes import Classes
from visavox.training.batch import Example
from visavox.training.schedule import warmup_cosine
from visavox.weights import WeightsError

if TYPE_CHECKING:
    from visavox.pseudofakes.make import Fake

log = logging.getLogger(__name__)


class LogitAUROC(BinaryAUROC):
    """AUC of logits, gathered batch after batch.

    torchmetrics takes a batch for logits only where one of them lies outside [0, 1]; else it keeps them as they are, beside the
    probabilities that it made of other batches. So it is given probabilities.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Logits (B,) float and labels (B,) int64."""
        super().update(torch.sigmoid(preds), target)


class Detector(pl.LightningModule):
    """One trainable network, a `Scorer`. Subclasses give `prepare`, `forward`, and `loss` where it is not cross-entropy.

    A subclass that scores or explains otherwise overrides `score` and `explain`. Bundles come in trimmed: `trim_silence` and
    `temporal_jitter` are the business of whoever loads them.
    """

    stages: tuple[str, ...] = ("",)
    """What is trained one after the other, each from the best of the one before."""
    config: Config
    settings: Settings
    """`config.detector`, narrowed by `build` to this detector's own class."""
    target: str = "label"
    """What the stage that was begun learns: the clip's `label`, or `audio_label` or `video_label` where the split has them."""
    known: Known | None = None
    """Features of clips that it was trained on, where its checkpoint has them beside it."""
    needs_track: bool = False
    """Whether `prepare` reads the bundle's track or audio, which are left out of what is loaded otherwise."""
    needs_sync: bool = False
    """Whether `prepare` reads mdist, latency or conf, which are measured anew for made fakes where it does."""
    classes: Classes | None = None
    """What it tells apart where that is not real and fake."""
    card: ModelCard
    """What it is; `build.load` completes it."""

    def __init__(self, config: Config, settings: Settings):
        super().__init__()
        self.config = config
        self.settings = settings
        self.classes = Classes("emotion", settings.classes) if settings.classes else None
        self.card = ModelCard(detector=config.detector.name)
        self.save_hyperparameters(
            {"config": config.model_dump(mode="json")}
        )  # plain values: loads with weights_only=True
        self.aucs = nn.ModuleDict({f"{split}_auc": LogitAUROC() for split in ("train", "val", "test")})

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Any:
        """Return a bundle as the network wants it: a NamedTuple of tensors without batch dimension.

        Args:
            rng: randomness of training (which frames, augmentation); None is deterministic, for scoring.
        """
        raise NotImplementedError

    def prepare_made(self, bundle: Bundle, rng: np.random.Generator | None, fake: Fake | None) -> Any:
        """Return what `prepare` does of a made fake, or of the real clip beside it (None); more, where more is learnt of it."""
        return self.prepare(bundle, rng)

    def kept(self, path: str, rng: np.random.Generator | None = None) -> Any | None:
        """Return what `prepare` would make of the bundle at `path` without opening all of it; None, as here, to have it opened.

        Nothing is drawn from `rng` where None is returned.
        """
        return None

    def forward(self, clip: Any) -> Tensor:
        """A collated clip -> (B,) logits, higher = more fake."""
        raise NotImplementedError

    @property
    def epochs(self) -> int:
        """Epochs at most of the stage that was begun."""
        return self.config.epoch

    def begin(self, stage: str) -> None:
        """Make ready to train one of `stages`."""

    def monitor(self, val_labels: Collection[int]) -> tuple[str, str]:
        """What the best epoch is chosen by, and whether `max` or `min` of it, for a validation split with these labels."""
        return "val/auc", "max"

    def check_inputs(self) -> None:
        """Raise if what it needs to train beside the bundles is not there or does not fit; nothing has been written yet."""

    def start_fresh(self) -> None:
        """Prepare for training without --pret-version; said, never assumed in silence."""
        log.info("training from random weights; `visavox weights list` names what --pret-version can start from")

    def start_from(self, checkpoint: Any) -> object:
        """Take over weights that `training.checkpoint.starting` read, for --pret-version; return what was taken over.

        Raises:
            WeightsError: the weights do not fit, or this detector starts from none.
        """
        raise WeightsError(f"{self.config.detector.name} starts from fresh weights only; leave --pret-version out")

    def leave_outputs(self, run: Path, data: Any) -> None:
        """Write what this detector leaves in the run's folder beside what all leave; `data` is its BundleDataModule."""

    def fit_inputs(self, bundles: Iterable[Bundle]) -> None:
        """Fit what standardises the inputs on the training split, once, before the first step."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits, labels)

    def for_inference(self, dtype: torch.dtype) -> Scorer:
        """Return this detector ready to score and nothing else, in `dtype` where that is faster. Here: as it is."""
        return self

    def with_frames(self, frames: int) -> Scorer | None:
        """Return the same network, weights shared, on so many faces of each bundle. Here None: it cannot see fewer."""
        return None

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64 in [0, 1]. Deterministic; the order and the batch do not matter."""
        return torch.sigmoid(self._logits([self.prepare(bundle, None) for bundle in bundles])).numpy()

    def score_files(self, paths: Sequence[str]) -> np.ndarray:
        """Return P(fake) of bundles on the disk, (N,) float64, trimmed as the configuration says.

        `submit_batch_size` of them are in memory at a time; one that `kept` knows is not opened.
        """
        size, found = self.config.submit_batch_size, []
        for first in range(0, len(paths), size):
            some = paths[first : first + size]
            clips = [self.kept(path) for path in some]
            if all(clip is not None for clip in clips):
                found.append(torch.sigmoid(self._logits(clips)).numpy())
            else:
                found.append(self.score([load_trimmed(path, self.config, full=self.needs_track) for path in some]))
        return np.concatenate(found)

    def _logits(self, clips: Sequence[Any]) -> Tensor:
        """Prepared clips -> what `forward` says of them, float64 on the CPU; deterministic, without gradients."""
        self.eval()
        batch = self.transfer_batch_to_device(default_collate(list(clips)), self.device, 0)
        with torch.inference_mode():
            return self(batch).double().cpu()

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return the score of one clip as an `Analysis`. Here: of the clip as a whole, without a time line, which a note says.

        Args:
            watch: told of each branch that has ended.
        """
        return self._as_a_whole([bundle], [watch])[0]

    def explain_all(self, bundles: Sequence[Bundle], watches: Sequence[Watch | None]) -> list[Analysis]:
        """Return what `explain` says of each clip: in one call of `score`, unless the detector explains them by its own means."""
        if type(self).explain is Detector.explain:
            return self._as_a_whole(bundles, watches)
        return [self.explain(bundle, watch) for bundle, watch in zip(bundles, watches, strict=True)]

    def _as_a_whole(self, bundles: Sequence[Bundle], watches: Sequence[Watch | None]) -> list[Analysis]:
        took = Stopwatch()
        scores = self.score(bundles).tolist()
        seconds = took.total() / len(bundles)
        note = f"{self.card.detector} judges a clip as a whole: there is no time line, and no second is flagged."
        found = []
        for bundle, watch, probability in zip(bundles, watches, scores, strict=True):
            if watch:
                watch(self.card.detector, seconds)
            found.append(
                Analysis.of(
                    probability,
                    card=self.card_of(bundle),
                    branches=[Branch(self.card.detector, probability, 1.0, seconds)],
                    notes=[note],
                    settings=self.settings.model_dump(mode="json"),
                )
            )
        return found

    def card_of(self, bundle: Bundle) -> ModelCard:
        """Return the model card as it holds for a clip: with the hash of what the clip was preprocessed with."""
        return replace(self.card, prep_hash=bundle.prep_hash)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what the detector was trained on."""
        if self.card.trained_on:
            synthetic = "yes" if self.card.synthetic else "no"
            checkpoint["hyper_parameters"]["about"] = {"trained_on": self.card.trained_on, "synthetic": synthetic}

    def on_train_batch_start(self, batch: Example, batch_idx: int) -> None:
        """Dropout and stochastic depth depend on the step alone, so that a resumed run repeats an undisturbed one."""
        step = self.current_epoch * 1_000_003 + batch_idx
        torch.manual_seed(hash((self.config.seed, step, self.global_rank)) % 2**63)

    def training_step(self, batch: Example, batch_idx: int) -> Tensor | None:
        return self._step("train", batch)

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        self._step("val", batch)

    def test_step(self, batch: Example, batch_idx: int) -> None:
        self._step("test", batch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD with Nesterov momentum as published for TimeSformer, or AdamW; linear warm-up, then cosine, stepped per batch."""
        decayed: list[nn.Parameter] = []
        exempt: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            plain = parameter.ndim < 2 or name.endswith(("pos_embed", "time_embed", "cls_token"))
            (exempt if plain else decayed).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": exempt, "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        if self.config.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=self.config.lr, momentum=0.9, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(groups, lr=self.config.lr)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(total, round(total * self.config.warmup_epochs / self.epochs))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def auc(self, split: str) -> BinaryAUROC:
        """Return the AUC of train, val or test as it is gathered over an epoch."""
        return cast(BinaryAUROC, self.aucs[f"{split}_auc"])

    def judged(self, batch: Example) -> tuple[Tensor, Tensor]:
        """Return logits (B,) of a batch and its loss."""
        logits = self(batch.clip)
        return logits, self.loss(logits, batch.label)

    def _step(self, split: str, batch: Example) -> Tensor:
        logits, loss = self.judged(batch)
        auc = self.auc(split)
        auc.update(logits.detach().float(), batch.label.long())
        each: dict[str, Any] = {
            "on_step": False,
            "on_epoch": True,
            "batch_size": len(batch.label),
            "prog_bar": split != "test",
        }
        self.log(f"{split}/loss", loss, sync_dist=True, **each)
        self.log(f"{split}/auc", auc, **each)
        return loss
