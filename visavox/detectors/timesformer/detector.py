"""The reference detector: TimeSformer over faces and mel images, beside a small network over the audio-visual distances.

    detector = build(config)                      # fresh weights
    detector = load("runs/v1/best.ckpt")          # config and weights from the checkpoint
    detector.start_from(safe_load(path))          # weights of mmaction2, Hugging Face or an image ViT

TimeSformer is Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (ICML 2021), with the
parameter names of mmaction2 1.2.0, so that its checkpoints load unchanged.

    B clips · T frames · P patches of a frame · D embed_dims · S side of a frame in pixels
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from visavox.bundle import Bundle
from visavox.config import Config, ConfigError, TimeSformerSyncNetConfig
from visavox.detectors.analysis import Analysis, flagged
from visavox.detectors.base import Detector
from visavox.detectors.scorer import Watch
from visavox.detectors.steps import NoCurve, Steps, as_a_whole, timeline_of
from visavox.detectors.timesformer import auxiliary
from visavox.detectors.timesformer.auxiliary import Auxiliary, TaughtClip
from visavox.detectors.timesformer.clip import Clip, clip_from_bundle, clips_of_all_frames, taught_clip
from visavox.detectors.timesformer.inference import FoldedTimeSformer
from visavox.detectors.timesformer.network import TimeSformer
from visavox.detectors.timesformer.pretrained import LoadReport, load_pretrained
from visavox.training.batch import Example
from visavox.weights import parameters

if TYPE_CHECKING:
    from visavox.pseudofakes.make import Fake

log = logging.getLogger(__name__)


class MultimodalDetector(Detector):
    """Faces and mel images through TimeSformer, audio-visual distances through LatencyNet, one linear classifier."""

    settings: TimeSformerSyncNetConfig
    needs_sync = True

    def __init__(self, config: Config, settings: TimeSformerSyncNetConfig) -> None:
        super().__init__(config, settings)
        self.timesformer: TimeSformer | FoldedTimeSformer = TimeSformer(
            num_frames=2 * config.frame_num if config.mel_frames else config.frame_num,
            img_size=config.frame_size,
            patch_size=settings.patch_size,
            embed_dims=settings.embed_dims,
            num_heads=settings.num_heads,
            num_layers=settings.num_layers,
            drop_path_rate=settings.drop_path_rate,
            attention_type=settings.attention_type,
            checkpoint_activations=settings.checkpoint_activations,
        )
        distances = 2 * config.vshift + 1
        self.latency = LatencyNet(distances + 2, settings.latency_hidden, settings.latency_features)
        self.classifier = nn.Sequential(
            nn.Dropout(settings.dropout), nn.Linear(settings.embed_dims + settings.latency_features, 1)
        )
        self.auxiliary = Auxiliary(settings.embed_dims, 1 + config.mel_frames) if settings.auxiliary else None
        self.needs_track = settings.auxiliary  # to say P(fake) of every frame

    def start_from(self, checkpoint: Any) -> LoadReport:
        """Give TimeSformer the weights of a file that `safe_load` read: published ones, or a detector's of an earlier run.

        The latency network and the classifier stay fresh.
        """
        assert isinstance(self.timesformer, TimeSformer)  # not in its form for inference, which is not trained any more
        report = load_pretrained(self.timesformer, parameters(checkpoint))
        log.info("TimeSformer: %d parameters from %s weights", len(report.loaded), report.source)
        if report.resized:
            log.info("interpolated to this model's size: %s", ", ".join(report.resized))
        if report.dropped:
            log.info("not used: %s", ", ".join(report.dropped))
        return report

    def fit_inputs(self, bundles: Iterable[Bundle]) -> None:
        """Standardise the latency network's inputs by the training split."""
        self.latency.fit(torch.from_numpy(np.stack([bundle.latency_vector for bundle in bundles])))

    def for_inference(self, dtype: torch.dtype) -> MultimodalDetector:
        """Put TimeSformer in its form for scoring alone, see `inference`; of other attention types it stays as it is."""
        if self.auxiliary is not None:  # which reads the patches of the last layer
            return self
        if isinstance(self.timesformer, TimeSformer) and self.settings.attention_type == "divided_space_time":
            self.timesformer = FoldedTimeSformer(self.timesformer, dtype)
        return self

    def with_frames(self, frames: int) -> MultimodalDetector:
        """Return this network, weights shared, on so many faces and mel images; the time embedding is resized to their number."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"frame_num": frames})
        return other

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Clip:
        """The clip of a bundle that this network sees; `rng` None is deterministic."""
        return clip_from_bundle(bundle, self.config, rng)

    def prepare_made(self, bundle: Bundle, rng: np.random.Generator | None, fake: Fake | None) -> Clip | TaughtClip:
        """The clip of a made fake, or of the real one beside it; with `auxiliary`, where and when it is forged too."""
        if self.auxiliary is None:
            return self.prepare(bundle, rng)
        return taught_clip(bundle, self.config, rng, fake, self.config.frame_size // self.settings.patch_size)

    def check_inputs(self) -> None:
        """Refuse `auxiliary` without fakes that say where they are forged."""
        if self.auxiliary is not None and not self.config.fakes:
            raise ConfigError(
                "detector.auxiliary=true learns where made fakes are forged; give fakes, such as fakes=[sbv]"
            )

    def judged(self, batch: Example) -> tuple[Tensor, Tensor]:
        """Logits (B,) and the loss, of where and when too where that is known."""
        clip = batch.clip
        if self.auxiliary is None or not isinstance(clip, TaughtClip):
            return super().judged(batch)
        assert isinstance(self.timesformer, TimeSformer)
        look, tokens = self.timesformer.with_patches(clip.frames)
        with torch.autocast(look.device.type, enabled=False):
            heat, time = self.auxiliary(tokens.float(), self.config.frame_num)
        logits = self._joined(look, clip.latency)
        return logits, auxiliary.loss(logits, batch.label, heat, time, clip)

    def steps(self, bundle: Bundle) -> Steps:
        """Return P(fake) of each frame of the track, for localisation, by the head over time.

        Raises:
            NoCurve: trained without `auxiliary`.
        """
        if self.auxiliary is None:
            raise NoCurve(as_a_whole(self.card.detector))
        assert isinstance(self.timesformer, TimeSformer)
        self.eval()
        fake = np.zeros(bundle.track_frames)
        for shown, clip in clips_of_all_frames(bundle, self.config):
            frames = clip.frames[None].to(self.device)
            with torch.inference_mode():
                _, tokens = self.timesformer.with_patches(frames)
                with torch.autocast(tokens.device.type, enabled=False):
                    _, time = self.auxiliary(tokens.float(), self.config.frame_num)
            fake[shown] = torch.sigmoid(time[0].double()).cpu().numpy()
        return Steps(bundle.times.astype(np.float64), fake)

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return the analysis of one clip, with a time line where the detector was trained with `auxiliary`."""
        whole = super().explain(bundle, watch)
        if self.auxiliary is None or not bundle.has_track:
            return whole
        timeline = timeline_of(self.steps(bundle), 1 / float(bundle.fps))
        branches = [replace(branch, timeline=timeline) for branch in whole.branches]
        note = (
            "The verdict is of the clip as a whole; the time line is another head's, which learnt of made fakes alone."
        )
        return replace(
            whole, branches=branches, timeline=timeline, flagged=flagged(timeline, whole.threshold), notes=[note]
        )

    def explain_all(self, bundles: Sequence[Bundle], watches: Sequence[Watch | None]) -> list[Analysis]:
        """Return what `explain` says of each clip, in one call where there are no time lines."""
        return self._as_a_whole(bundles, watches) if self.auxiliary is None else super().explain_all(bundles, watches)

    def forward(self, batch: Clip) -> Tensor:
        """frames (B, 3, T, S, S) in [-1, 1] and latency (B, 33), NaN = no audio -> logits (B,), higher = more fake."""
        return self._joined(self.timesformer(batch.frames), batch.latency)

    def _joined(self, look: Tensor, latency: Tensor) -> Tensor:
        """look (B, D) and latency (B, 33) -> logits (B,)."""
        sync = self.latency(latency)  # (B, 8)
        with torch.autocast(
            look.device.type, enabled=False
        ):  # the 8 bits of bfloat16 would give many clips equal logits
            joined = torch.cat([look, sync], dim=1).to(next(self.classifier.parameters()).dtype)  # (B, D + 8)
            return self.classifier(joined).squeeze(1)  # (B,)


class LatencyNet(nn.Module):
    """Mean distances per shift, latency and confidence -> features. Standardised by the training split's own scale.

    SyncNet's distances and those of the correlation differ in scale, so mean and std are buffers that `fit` sets once,
    from the training split; they travel in the checkpoint.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, inputs: int = 33, hidden: int = 32, features: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, features))
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Set mean and std from vectors (N, 33) float32, ignoring NaN; a column that never varies keeps std 1."""
        vectors = vectors.to(self.mean)
        heard = vectors.isfinite()  # (N, 33)
        count = heard.sum(0).clamp(min=1)
        mean = vectors.where(heard, 0).sum(0) / count
        std = (((vectors - mean) ** 2).where(heard, 0).sum(0) / count).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(std.where(std > 1e-6, 1))
        self.fitted.fill_(True)

    def forward(self, vectors: Tensor) -> Tensor:
        """vectors (B, 33) float32, NaN where there is no audio -> (B, 8). A missing value counts as the training mean."""
        if not self.training and not torch.compiler.is_compiling() and not self.fitted:
            raise RuntimeError(
                "LatencyNet has no mean and std: call fit(vectors) with the training split's (N, 33) latency vectors "
                "before evaluating (train.py does), or load a trained checkpoint with model.load"
            )
        standard = (vectors - self.mean) / self.std
        return self.layers(standard.where(~standard.isnan(), 0))
