"""2D3MF as a detector: features of frozen backbones, fused by a small network that is trained.

B clips · T steps of video · U steps of sound · E, D widths of the features · S side of an image
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.config import Config, TD3MFConfig
from visavox.detectors.base import Detector
from visavox.detectors.scorer import Scored
from visavox.detectors.td3mf import backbones
from visavox.detectors.td3mf.backbones.marlin import Marlin
from visavox.detectors.td3mf.clips import Clip, frames_of, padded, without_a_modality
from visavox.detectors.td3mf.features import FeatureError, Features, Stamp, is_features
from visavox.detectors.td3mf.network import FusionNetwork, load_published
from visavox.detectors.td3mf.source import FeatureSource
from visavox.files import sha256_of
from visavox.splits.table import SPLITS
from visavox.training.batch import Example
from visavox.weights import WeightsError, parameters, safe_load
from visavox.weights.loading import fit

log = logging.getLogger(__name__)


class TD3MF(Detector):
    """The fusion network over features that come from a folder, or are made on the way."""

    settings: TD3MFConfig
    needs_track = True
    backbone_sums: Tensor
    """(2, 32) uint8: sha256 of the backbones' weights that it was trained on; zeros before."""

    def __init__(self, config: Config, settings: TD3MFConfig) -> None:
        super().__init__(config, settings)
        backbones.check_name(settings.video_backbone, "video")
        backbones.check_name(settings.audio_backbone, "audio")
        with torch.device("meta"):  # for their sizes only
            video = backbones.build(settings.video_backbone, "video")
            audio = backbones.build(settings.audio_backbone, "audio")
        self.audio = audio.input(settings.temporal_axis)
        self._seen_dim = video.dim
        encoder, self.image = None, 0
        if settings.finetune:
            built = backbones.build(settings.video_backbone, "video")
            assert isinstance(built, Marlin)
            encoder = built.encoder
            self.image = built.size.image
        self.net = FusionNetwork(
            video_dim=video.dim,
            audio=self.audio,
            hidden=settings.hidden_layers,
            heads=settings.num_heads,
            steps=settings.temporal_axis,
            fusion=settings.fusion,
            fusion_type=settings.middle_fusion_type,
            audio_positional_encoding=settings.audio_positional_encoding,
            probe="video" if settings.lp_only else "audio" if settings.audio_only else "none",
            classes=len(settings.classes) or 1,
            encoder=encoder,
        )
        self.measures = nn.ModuleDict(
            {f"{split}_classes": _measures(len(settings.classes)) for split in SPLITS if settings.classes}
        )
        self.register_buffer("backbone_sums", torch.zeros(2, 32, dtype=torch.uint8))

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, map_location: Any = None, **options: Any) -> Self:  # type: ignore[override]  # fewer arguments than Lightning takes
        """Load a checkpoint that training wrote, in eval mode, as `visavox.load` does for every detector.

        Args:
            map_location: device; the CPU without.

        Raises:
            WeightsError: no checkpoint of Visavox, or one of another detector.
            TypeError: an option that Lightning takes and this does not.
        """
        if options:
            raise TypeError(
                f"load_from_checkpoint takes a path and map_location, not {', '.join(options)}; settings are changed by "
                "`visavox.load(path, ['detector.KEY=VALUE'])`"
            )
        state = safe_load(checkpoint_path)
        about = state.get("hyper_parameters") if isinstance(state, dict) else None
        if not isinstance(about, dict) or "config" not in about:
            raise WeightsError(
                f"{checkpoint_path}: not a checkpoint of Visavox, it holds no config; a published 2D3MF checkpoint is where "
                f"training can start: `visavox train --config td3mf --pret-version {checkpoint_path}`"
            )
        config = configuration.from_dict(about["config"], source=str(checkpoint_path))
        if not isinstance(config.detector, TD3MFConfig):
            raise WeightsError(
                f"{checkpoint_path}: holds {config.detector.name}, not td3mf; `visavox.load` reads them all"
            )
        detector = cls(config, config.detector)
        detector.load_state_dict(state["state_dict"])
        detector.card = replace(detector.card, checkpoint=sha256_of(Path(checkpoint_path)))
        return detector.to(map_location or "cpu").eval()

    def prepare(self, bundle: Bundle | Features, rng: np.random.Generator | None = None) -> Clip:
        """Return the padded features of a bundle; with `rng`, one modality may be dropped as the settings say.

        Args:
            bundle: or its features, where they have been made already.

        Raises:
            FeatureError: the features were made by other backbones, weights or settings than the network's.
        """
        if isinstance(bundle, Features):
            return self._clip(self.features_of(bundle), None, rng)
        drawn = rng is not None and (self.config.temporal_jitter > 0 or bool(self.config.fakes))
        return self._clip(self.features_of(bundle, moved=drawn), bundle, rng)

    def kept(self, path: str, rng: np.random.Generator | None = None) -> Clip | None:
        """Return the clip of a bundle whose features the folder has: of the bundle itself only the stamp is read, once.

        None where frames are needed (`finetune`), the clip begins at a random moment, or the folder lacks it.
        """
        if self.settings.finetune or (rng is not None and self.config.temporal_jitter > 0):
            return None
        features = self._features.of_file(path)
        return None if features is None else self._clip(features, None, rng)

    def features_of(self, bundle: Bundle | Features, *, moved: bool = False) -> Features:
        """Return the features of a bundle, from the folder of the settings where it has them.

        Args:
            bundle: or features, which are checked and returned.
            moved: the bundle begins at a random moment or is made anew each epoch, so that its features are not kept.
        """
        source = self._features
        if isinstance(bundle, Features):
            source.require(bundle)
            return bundle
        features = source(bundle, keep=not moved, device=self._feature_device())
        self._trained_on(features.stamp)
        return features

    def check_inputs(self) -> None:
        """Look at the folder of features; where it is empty, load the backbones.

        Raises:
            FeatureError: the folder holds features of several kinds, or others than are asked for.
            WeightsError: features have to be made and the weights for that are missing; says what to put where.
        """
        self._features.stamp(self._feature_device())

    def on_fit_start(self) -> None:
        """Keep what it is trained on before processes that load data are started: what those keep is lost with them."""
        if self._trained_sums() is None:
            self._trained_on(self._features.stamp(self._feature_device()))

    def forward(self, clip: Clip) -> Tensor:
        """Return logits (B,), higher = more fake; of emotions (B, 8)."""
        video = clip.video
        if self.settings.finetune:
            video = video.permute(0, 1, 2, 5, 3, 4).float() / 255  # (B, T, 16, 3, S, S)
        with torch.autocast(video.device.type, enabled=False):  # bf16 would give many clips equal logits
            logits = self.net(video, clip.audio, clip.seen, clip.heard)
            return logits if self.classes else logits[:, 0]

    def feature_extraction(self, video: str | Path | Bundle | Features) -> dict[str, np.ndarray]:
        """Return the features of a video, of its bundle, or of a file of its features.

        Returns:
            `fused` (1, A + H) float32, sound before face, what the classifier sees; `video` (n, E); `audio` (m, D), or
            (m, 10, W) MFCC: as the backbones gave them, without padding. For the probes there is no `fused`.
        """
        bundle = self._bundle(video)
        features = self.features_of(bundle)
        found = {"video": features.video, "audio": features.audio}
        if self.net.probe == "none" and not self.settings.finetune:
            clip = Clip(*(x[None].to(self.device) for x in self._clip(features, None, None)))
            with torch.inference_mode():
                found["fused"] = self.eval().net.fused(*clip).cpu().numpy()
        return found

    def score(self, bundles: Sequence[Bundle | Features]) -> np.ndarray:
        """Return P(fake) of bundles or of their features, (N,) float64 in [0, 1].

        Raises:
            ValueError: the network tells emotions apart.
        """
        if self.classes:
            raise ValueError(
                "trained with detector.task=emotion: it gives no P(fake); `emotions` gives theirs, and eval.py"
            )
        return torch.sigmoid(self._logits([self.prepare(bundle) for bundle in bundles])).numpy()

    def emotions(self, bundles: Sequence[Bundle | Features]) -> np.ndarray:
        """Return the probability of each emotion, (N, 8) float64 whose rows sum to 1, in the order of `classes.names`.

        Raises:
            ValueError: the network tells real from fake.
        """
        if not self.classes:
            raise ValueError("trained with detector.task=deepfake: it knows no emotions; `score` gives P(fake)")
        return torch.softmax(self._logits([self.prepare(bundle) for bundle in bundles]), dim=1).numpy()

    def score_in_detail(self, bundles: Sequence[Bundle | Features]) -> list[Scored]:
        """Return the scores of `score`, or of emotions the probability of each."""
        if not self.classes:
            return [Scored(float(score)) for score in self.score(bundles)]
        return [
            Scored(float(row.max()), classes=dict(zip(self.classes.names, map(float, row))))
            for row in self.emotions(bundles)
        ]

    def monitor(self, val_labels: Collection[int]) -> tuple[str, str]:
        """val/auc, or of emotions the mean F1 of all: some of them have half as many clips."""
        return ("val/macro_f1", "max") if self.classes else super().monitor(val_labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, of real and fake or of emotions."""
        return cross_entropy(logits, labels) if self.classes else super().loss(logits, labels)

    def _step(self, split: str, batch: Example) -> Tensor:
        if not self.classes:
            return super()._step(split, batch)
        logits = self(batch.clip)  # (B, 8)
        loss = self.loss(logits, batch.label)
        each: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(batch.label)}
        self.log(f"{split}/loss", loss, sync_dist=True, **each)
        measures: Any = self.measures[f"{split}_classes"]
        for name, measure in measures.items():
            measure.update(logits.detach(), batch.label)
            self.log(f"{split}/{name}", measure, prog_bar=split != "test", **each)
        return loss

    def predict(self, video: str | Path | Bundle | Features) -> float:
        """Return P(fake) of a video, of its bundle, or of a file of its features."""
        return float(self.score([self._bundle(video)])[0])

    def start_fresh(self) -> None:
        """Say what training starts from."""
        log.info(
            "the fusion starts from random weights, on features of %s and %s (%s)",
            self.settings.video_backbone,
            self.settings.audio_backbone,
            self.settings.backbone_weights,
        )

    def start_from(self, checkpoint: Any) -> object:
        """Take over an earlier run, or a checkpoint of the published 2D3MF (its `mf` classifier may have to stay fresh)."""
        state = parameters(checkpoint, what="2D3MF weights")
        ours = {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
        report = fit(self.net, ours, what="an earlier run") if ours else load_published(self.net, state)
        if report.fresh:
            log.warning("the classifier stays fresh: the published one is sized for MFCC and fits no other sound")
        return report

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with betas 0.5 and 0.9 and a rate halved on plateaus of train/loss, as published; or the house's own."""
        if self.settings.schedule == "cosine":
            return super().configure_optimizers()
        optimizer = torch.optim.Adam(self.parameters(), lr=self.config.lr, betas=(0.5, 0.9))
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=7, min_lr=1e-8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "train/loss"}}

    def _clip(self, features: Features, bundle: Bundle | None, rng: np.random.Generator | None) -> Clip:
        """Pad what there is; the bundle is read for frames alone, with `finetune`."""
        steps = self.settings.temporal_axis
        if self.settings.finetune and bundle is None:
            raise FeatureError(
                "detector.finetune sees frames, and features hold none; give the video or its bundle", "OTHER_SETTINGS"
            )
        if self.settings.finetune and bundle is not None:
            video, seen = frames_of(bundle, steps, self.image)
        else:
            video, seen = padded(features.video, steps)
        audio, heard = padded(features.audio, self.audio.steps)
        clip = Clip(video, audio, seen, heard)
        return clip if rng is None else without_a_modality(clip, self.settings, rng)

    @cached_property
    def _features(self) -> FeatureSource:
        """Where features come from; it looks at the folder when it is first asked for."""
        return FeatureSource(self.settings, self.config, self._trained_sums, (self._seen_dim,), self.audio.shape)

    def _trained_on(self, stamp: Stamp) -> None:
        """Keep the sums of the backbones, unless they are known."""
        if self._trained_sums() is None:
            sums = (stamp.video_sha256, stamp.audio_sha256)
            self.backbone_sums.copy_(torch.tensor([list(bytes.fromhex(each)) for each in sums], dtype=torch.uint8))

    def _trained_sums(self) -> tuple[str, str] | None:
        """The sums of the backbones it was trained on; None before the first clip of a fresh network."""
        if not self.backbone_sums.any():
            return None
        video, audio = (bytes(row).hex() for row in self.backbone_sums.cpu().numpy())
        return video, audio

    def _feature_device(self) -> str:
        """The network's device, but the CPU in processes that load data."""
        return "cpu" if torch.utils.data.get_worker_info() else str(self.device)

    def _bundle(self, video: str | Path | Bundle | Features) -> Bundle | Features:
        if isinstance(video, (Bundle, Features)):
            return video
        if is_features(video):
            return Features.load(video)
        from visavox.bundle.trim import trimmed_as
        from visavox.preprocessing.tools import bundle_of

        return trimmed_as(self.config, bundle_of(video, self.config))


def _measures(classes: int) -> nn.ModuleDict:
    """Share of clips whose class is found, and the mean of the F1 of the classes that are there."""
    return nn.ModuleDict(
        {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "macro_f1": MulticlassF1Score(classes, average="macro"),
        }
    )
