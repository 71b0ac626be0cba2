"""2D3MF as a detector: features of frozen backbones, fused by a small network that is trained.

B clips · T steps of video · U steps of sound · E, D widths of the features · S side of an image
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.bundle.trim import trimming
from visavox.config import Config, TD3MFConfig
from visavox.detectors.base import Detector
from visavox.detectors.td3mf import backbones
from visavox.detectors.td3mf.backbones.base import resized
from visavox.detectors.td3mf.backbones.marlin import FRAMES, Marlin, clip_frames
from visavox.detectors.td3mf.features import Extractor, FeatureError, FeatureFolder, Features, Stamp
from visavox.detectors.td3mf.network import FusionNetwork, drop_modality, load_published
from visavox.files import sha256_of
from visavox.preprocessing.provenance import prep_hash
from visavox.weights import WeightsError, parameters, safe_load
from visavox.weights.loading import fit

log = logging.getLogger(__name__)


class Clip(NamedTuple):
    """One clip, or B once collated."""

    video: Tensor
    """(T, E) float32 features; or (T, 16, S, S, 3) uint8 frames with detector.finetune."""
    audio: Tensor
    """(U, D) float32, or (T, 10, W) for MFCC."""
    seen: Tensor
    """(T,) bool: which steps of video there are."""
    heard: Tensor
    """(U,) bool: which steps of sound."""


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
            encoder=encoder,
        )
        self.register_buffer("backbone_sums", torch.zeros(2, 32, dtype=torch.uint8))
        self._source: _Source | None = None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **_: Any) -> Self:  # type: ignore[override]  # fewer arguments than Lightning takes
        """Load a checkpoint that training wrote, in eval mode on the CPU, as `visavox.load` does for every detector.

        Raises:
            WeightsError: no checkpoint of Visavox, or one of another detector.
        """
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
        return detector.eval()

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Clip:
        """Return the padded features of a bundle; with `rng`, one modality may be dropped as the settings say."""
        drawn = rng is not None and (self.config.temporal_jitter > 0 or bool(self.config.fakes))
        return self._clip(self.features_of(bundle, moved=drawn), bundle, rng)

    def features_of(self, bundle: Bundle, *, moved: bool = False) -> Features:
        """Return the features of a bundle, from the folder of the settings where it has them.

        Args:
            moved: the bundle begins at a random moment or is made anew each epoch, so that its features are not kept.
        """
        if self._source is None:
            self._source = _Source(self.settings, self.config, self._trained_sums())
        features = self._source(bundle, keep=not moved, device=self._feature_device())
        if self._trained_sums() is None:
            sums = (features.stamp.video_sha256, features.stamp.audio_sha256)
            self.backbone_sums.copy_(torch.tensor([list(bytes.fromhex(each)) for each in sums], dtype=torch.uint8))
        return features

    def forward(self, clip: Clip) -> Tensor:
        """Return logits (B,), higher = more fake."""
        video = clip.video
        if self.settings.finetune:
            video = video.permute(0, 1, 2, 5, 3, 4).float() / 255  # (B, T, 16, 3, S, S)
        with torch.autocast(video.device.type, enabled=False):  # bf16 would give many clips equal logits
            return self.net(video, clip.audio, clip.seen, clip.heard)[:, 0]

    def feature_extraction(self, video: str | Path | Bundle) -> dict[str, np.ndarray]:
        """Return the features of a video, or of its bundle.

        Returns:
            `fused` (1, A + H) float32, sound before face, what the classifier sees; `video` (n, E); `audio` (m, D), or
            (m, 10, W) MFCC: as the backbones gave them, without padding. For the probes there is no `fused`.
        """
        bundle = self._bundle(video)
        features = self.features_of(bundle)
        found = {"video": features.video, "audio": features.audio}
        if self.net.probe == "none" and not self.settings.finetune:
            clip = Clip(*(x[None].to(self.device) for x in self._clip(features, bundle, None)))
            with torch.inference_mode():
                found["fused"] = self.eval().net.fused(*clip).cpu().numpy()
        return found

    def predict(self, video: str | Path | Bundle) -> float:
        """Return P(fake) of a video, or of its bundle."""
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

    def _clip(self, features: Features, bundle: Bundle, rng: np.random.Generator | None) -> Clip:
        steps = self.settings.temporal_axis
        if self.settings.finetune:
            video, seen = self._frames(bundle, steps)
        else:
            video, seen = padded(features.video, steps)
        audio, heard = padded(features.audio, self.audio.steps)
        clip = Clip(video, audio, seen, heard)
        if rng is None or not self.settings.modality_dropout:
            return clip
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        dropped = drop_modality(
            *(x[None] for x in clip),
            probability=self.settings.modality_dropout,
            how=self.settings.modality_dropout_by,
            generator=generator,
        )
        return Clip(*(x[0] for x in dropped))

    def _frames(self, bundle: Bundle, steps: int) -> tuple[Tensor, Tensor]:
        """Frames for the encoder that is trained along: (T, 16, S, S, 3) uint8 and which steps there are (T,)."""
        clips = clip_frames(bundle.track_frames, steps)
        frames = torch.zeros(steps, FRAMES, self.image, self.image, 3, dtype=torch.uint8)
        for step, moments in enumerate(clips):
            frames[step] = torch.from_numpy(np.stack([resized(bundle.frame(t), self.image) for t in moments]))
        return frames, torch.arange(steps) < len(clips)

    def _trained_sums(self) -> tuple[str, str] | None:
        """The sums of the backbones it was trained on; None before the first clip of a fresh network."""
        if not self.backbone_sums.any():
            return None
        video, audio = (bytes(row).hex() for row in self.backbone_sums.cpu().numpy())
        return video, audio

    def _feature_device(self) -> str:
        """The network's device, but the CPU in processes that load data."""
        return "cpu" if torch.utils.data.get_worker_info() else str(self.device)

    def _bundle(self, video: str | Path | Bundle) -> Bundle:
        if isinstance(video, Bundle):
            return video
        from visavox.bundle.trim import trimmed_as
        from visavox.preprocessing.tools import bundle_of

        return trimmed_as(self.config, bundle_of(video, self.config))


class _Source:
    """Where the features of bundles come from: a folder, or an extractor that is loaded when it is needed."""

    def __init__(self, settings: TD3MFConfig, config: Config, sums: tuple[str, str] | None) -> None:
        self.settings, self.config = settings, config
        self.folder = FeatureFolder(settings.features) if settings.features else None
        self.extractor: Extractor | None = None
        self.sums = sums
        self.said = False
        if self.folder is not None and self.folder.stamp is not None:
            self.folder.require(self._expected(self.folder.stamp))

    def __call__(self, bundle: Bundle, *, keep: bool, device: str) -> Features:
        kept = self.folder if keep else None
        if kept is not None and kept.stamp is not None:
            found = kept.get(bundle.source_sha256, kept.stamp)
            if found is not None:
                return found
        extractor = self._loaded(device)
        features = extractor(bundle)
        if not self.said:
            where = f"the folder {kept.folder} lacks" if kept is not None else "no folder is given for"
            log.info("making features: %s them (detector.features)", where)
            self.said = True
        if kept is not None:
            kept.add(features)
        return features

    def _loaded(self, device: str) -> Extractor:
        if self.extractor is None:
            settings = self.settings
            extractor = Extractor.build(
                settings.video_backbone,
                settings.audio_backbone,
                self.config,
                steps=settings.temporal_axis,
                weights=settings.backbone_weights,
                seed=settings.backbone_seed,
                device=device,
            )
            if differences := self._expected(extractor.stamp).differences(extractor.stamp):
                raise FeatureError(
                    f"the network was trained on features of other weights: {differences}; put those in place"
                )
            if self.folder is not None:
                self.folder.require(extractor.stamp)
            self.extractor = extractor
        return self.extractor

    def _expected(self, stamp: Stamp) -> Stamp:
        """What features have to be stamped with; of weights that nobody has asked for yet, as `stamp` says."""
        settings = self.settings
        video, audio = self.sums or (stamp.video_sha256, stamp.audio_sha256)
        return Stamp(
            video_backbone=settings.video_backbone,
            video_sha256=video,
            audio_backbone=settings.audio_backbone,
            audio_sha256=audio,
            steps=settings.temporal_axis,
            prep_hash=prep_hash(self.config),
            trim_silence=trimming(self.config),
        )


def padded(features: np.ndarray, steps: int) -> tuple[Tensor, Tensor]:
    """Return features with zeros after them, and which steps there are: (n, ...) -> (steps, ...) float32, (steps,) bool.

    Raises:
        FeatureError: there are more than `steps`.
    """
    if len(features) > steps:
        raise FeatureError(f"{len(features)} steps of features, at most {steps} were expected; extract them again")
    full = torch.zeros(steps, *features.shape[1:])
    full[: len(features)] = torch.from_numpy(features)
    return full, torch.arange(steps) < len(features)
