"""The detector: streams trained on whether sound and mouth belong together, then how likely what they say is, step by step.

B clips · L frames of a stretch or clip · n windows of it · T frames of a window · D width · N = B * n
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import CatMetric, MeanMetric

from visavox.bundle import Bundle
from visavox.config import SYNC_FPS, AnomalyConfig, Config
from visavox.detectors.analysis import NOTHING, Analysis, Branch, Segment
from visavox.detectors.anomaly.decoder import NextStep
from visavox.detectors.anomaly.guard import Guard, spread
from visavox.detectors.anomaly.losses import sync_loss
from visavox.detectors.anomaly.mouth import Clip, augment, stretch
from visavox.detectors.anomaly.outputs import StepScores, write_outputs
from visavox.detectors.anomaly.streams import Streams, load_imagenet, windows_of
from visavox.detectors.base import Detector
from visavox.detectors.scorer import Watch
from visavox.detectors.steps import Steps
from visavox.evaluation.metrics import auc
from visavox.progress import Stopwatch
from visavox.training import checkpoint as checkpoints
from visavox.training.batch import Example
from visavox.weights import WeightsError, fit, parameters

log = logging.getLogger(__name__)


class AnomalyDetector(Detector):
    """Two stages on real clips alone, after AVAD (Feng, Chen, Owens, CVPR 2023).

    `sync` trains the streams and their fusion: own sound against moved and foreign sound. `density` leaves them as they
    are and trains a decoder to predict the next fused feature. Trained together on likelihood, as `joint` does, features
    become constant.

    A clip's score is the mean negative log-likelihood of its frames. Its logit is the distance from the threshold in
    deviations of real validation clips: P(fake) >= 0.5 is what `false_positive_rate` of those exceed. It ranks clips; it is
    no calibrated probability, for which fakes would be needed.
    """

    settings: AnomalyConfig
    needs_track = True
    real_mean: Tensor
    real_std: Tensor
    threshold: Tensor
    fitted: Tensor

    def __init__(self, config: Config, settings: AnomalyConfig) -> None:
        super().__init__(config, settings)
        self.stages = ("joint",) if settings.joint else ("sync", "density")
        self.stage = self.stages[-1]
        self.streams = Streams(settings)
        self.decoder = NextStep(settings)
        self.guard = Guard(settings.collapse_bound, settings.collapse_grace)
        self.val_scores, self.val_labels = CatMetric(), CatMetric()
        self.val_loss, self.val_accuracy = MeanMetric(), MeanMetric()
        for name, value in {"real_mean": 0.0, "real_std": 1.0, "threshold": 0.0, "fitted": False}.items():
            self.register_buffer(name, torch.tensor(value))

    # Stages

    @property
    def epochs(self) -> int:
        return self.settings.sync_epochs if self.stage == "sync" else self.config.epoch

    def begin(self, stage: str) -> None:
        """Make ready to train one stage: the other part is frozen."""
        self.stage = stage
        self.guard = Guard(self.settings.collapse_bound, self.settings.collapse_grace)
        self.streams.requires_grad_(stage != "density")
        self.decoder.requires_grad_(stage != "sync")

    def monitor(self, val_labels: Collection[int]) -> tuple[str, str]:
        """AUC where the validation split has fakes; else, and in the stage `sync`, what can be had without."""
        if self.stage == "sync":
            return "val/loss", "min"
        return ("val/auc", "max") if len(set(val_labels)) == 2 else ("val/nll", "min")

    def train(self, mode: bool = True) -> AnomalyDetector:
        """Frozen streams stay in evaluation: neither dropout nor batch statistics."""
        super().train(mode)
        if self.stage == "density":
            self.streams.eval()
        return self

    def start_fresh(self) -> None:
        """ImageNet weights for the image networks, as vis_weights and aud_weights say; `none` is said."""
        for part, name in (("visual", self.settings.vis_weights), ("audio", self.settings.aud_weights)):
            load_imagenet(getattr(self.streams, part), part, name)

    def start_from(self, checkpoint: Any) -> str:
        """Streams and decoder of an earlier run of equal sizes.

        Raises:
            WeightsError: names what does not fit.
        """
        given = parameters(checkpoint, what="weights of an anomaly detector")
        state = {name: value for name, value in given.items() if name.startswith(("streams.", "decoder."))}
        own = [name for name in self.state_dict() if not name.startswith(("streams.", "decoder."))]
        try:
            fit(self, state, fresh=own, what="an earlier run")
        except WeightsError as error:
            raise WeightsError(
                f"{error}; --pret-version takes a run of configs/anomaly.json with equal sizes. ImageNet weights are named "
                "by detector.vis_weights and aud_weights"
            ) from None
        return "an earlier run"

    # Inputs

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Clip:
        """With `rng` a random stretch of a window and `max_offset` frames, augmented; else the whole clip, padded."""
        T, room = self.settings.vis_num_frames, self.settings.max_offset
        if rng is None:
            return self._whole(bundle, padded=max(bundle.track_frames, T, round(self.config.max_clip_len * SYNC_FPS)))
        count = min(bundle.track_frames, T + room)
        first = int(rng.integers(bundle.track_frames - count + 1))
        clip = self._stretch(bundle, first, count, T + room)
        return augment(clip, rng) if self.config.augment else clip

    def _whole(self, bundle: Bundle, padded: int | None = None) -> Clip:
        frames = bundle.track_frames
        return self._stretch(bundle, 0, frames, padded or max(frames, self.settings.vis_num_frames))

    def _stretch(self, bundle: Bundle, first: int, count: int, padded: int) -> Clip:
        settings, rate = self.settings, self.config.resample_rate
        return stretch(bundle, first, count, padded, size=settings.vis_size, n_mels=settings.aud_n_mels, rate=rate)

    # Training

    def on_train_start(self) -> None:
        self.train()  # a Trainer takes modules in the mode they are in

    def training_step(self, batch: Example, batch_idx: int) -> Tensor:
        """Clips shorter than a window, or without sound, teach nothing, and fakes are not looked at."""
        clip = _only(batch.clip, self._teaching(batch))
        if not len(clip.length):
            sums = (p.sum() for p in self.parameters() if p.requires_grad)
            return sum(sums, torch.zeros((), device=self.device)) * 0.0
        starts = self._draw_starts(clip.length)
        if self.stage == "sync":
            loss, each = self._sync(clip, starts)
        else:
            fused = self._fused(clip, starts).flatten(0, 1)  # (N, T, D)
            loss = self.decoder(fused, torch.ones_like(fused[..., 0], dtype=torch.bool)).mean()
            each = {"nll": loss.detach(), "spread": torch.tensor(self._watch(fused))}
        how: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(clip.length)}
        self.log("train/loss", loss, prog_bar=True, **how)
        self.log_dict({f"train/{name}": value for name, value in each.items()}, **how)
        return loss

    def _sync(self, clip: Clip, starts: Tensor, *, watch: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        seen, heard = self._both(clip, starts)
        settings = self.settings
        one = sync_loss(
            *(seen, heard, starts, self.streams.fusion),
            temperature=settings.temperature,
            least_offset=settings.least_offset,
        )
        each = {"contrastive": one.contrastive, "match": one.match, "accuracy": one.accuracy}
        if watch:
            each["spread"] = torch.tensor(self._watch(one.fused, seen.flatten(0, 1), heard.flatten(0, 1)))
        return one.contrastive + settings.match_weight * one.match, {k: v.detach() for k, v in each.items()}

    def _watch(self, *features: Tensor) -> float:
        """The least spread of several features (N, T, D), shown to the guard while features are being trained."""
        least = min(features, key=spread)
        return spread(least) if self.stage == "density" or not self.settings.collapse_bound else self.guard.look(least)

    def _teaching(self, batch: Example) -> Tensor:
        clip = batch.clip
        return (batch.label == 0) & clip.heard & (clip.length >= self.settings.vis_num_frames)  # (B,)

    def _draw_starts(self, lengths: Tensor) -> Tensor:
        """Return (B, n) first frames of windows, one at random in each of n equal strata of where a window can begin."""
        return self._starts(lengths, torch.rand(len(lengths), self.settings.windows, device=lengths.device))

    def _starts(self, lengths: Tensor, within: Tensor | float) -> Tensor:
        """lengths (B,), place in the stratum (B, n) or one number, in [0, 1) -> first frames of windows (B, n) int64."""
        n = self.settings.windows
        share = (torch.arange(n, device=lengths.device) + within) / n
        return (share * (lengths[:, None] - self.settings.vis_num_frames + 1)).long()

    def _both(self, clip: Clip, starts: Tensor) -> tuple[Tensor, Tensor]:
        """What whole windows show and let hear: (B, n, T, D) each."""
        valid = torch.ones(*starts.shape, self.settings.vis_num_frames, dtype=torch.bool, device=starts.device)
        return self.streams.see(clip.frames, starts, valid), self.streams.hear(clip.mel, starts, valid)

    def _fused(self, clip: Clip, starts: Tensor) -> Tensor:
        """(B, n, T, D) float32; without gradients where the streams are frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stage != "density"):
            return self.streams.fuse(*self._both(clip, starts))

    # Validation

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        if self.stage == "sync":
            clip = _only(batch.clip, self._teaching(batch))
            if not len(clip.length):
                return
            starts = self._starts(clip.length, 0.5)
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(self.config.seed)  # which negatives are drawn is the same in every epoch
                loss, each = self._sync(clip, starts, watch=False)
            self.val_loss.update(loss, len(starts))
            self.val_accuracy.update(each["accuracy"], len(starts))
            return
        heard = batch.clip.heard
        self.val_scores.update(self.clip_scores(_only(batch.clip, heard)))
        self.val_labels.update(batch.label[heard])

    def on_validation_epoch_end(self) -> None:
        if self.stage == "sync":
            if not self.val_loss.update_called:
                raise ValueError(
                    f"no clip of the validation split is real, has sound and {self.settings.vis_num_frames} frames or more"
                )
            self.log("val/loss", self.val_loss.compute(), prog_bar=True)
            self.log("val/accuracy", self.val_accuracy.compute(), prog_bar=True)
            self.val_loss.reset()
            self.val_accuracy.reset()
            return
        scores, labels = torch.as_tensor(self.val_scores.compute()), torch.as_tensor(self.val_labels.compute())
        self.val_scores.reset()
        self.val_labels.reset()
        real = scores[labels == 0]
        self.standardise(real)
        self.log("val/nll", real.mean(), prog_bar=True)
        self.log("val/spread", real.std(correction=0))
        if len(labels.unique()) == 2:
            self.log("val/auc", auc(labels.cpu().numpy(), scores.cpu().double().numpy()), prog_bar=True)

    def test_step(self, batch: Example, batch_idx: int) -> None:
        logits = self(batch.clip)
        self.auc("test").update(logits.float(), batch.label.long())
        self.log("test/auc", self.auc("test"), on_step=False, on_epoch=True, batch_size=len(logits))
        self.log("test/loss", self.loss(logits, batch.label), on_step=False, on_epoch=True, batch_size=len(logits))

    @torch.no_grad()
    def standardise(self, real: Tensor) -> None:
        """Mean, deviation and threshold from the scores (R,) of held-out real clips.

        The threshold is the score that `false_positive_rate` of them exceed, interpolated linearly between two clips.
        """
        real = real.float()
        if len(real) < 2:
            raise ValueError(
                f"the validation split has {len(real)} real clips with sound; the threshold needs two at least, and at "
                f"a false_positive_rate of {self.settings.false_positive_rate:g} better "
                f"{round(2 / self.settings.false_positive_rate)}"
            )
        self.real_mean.copy_(real.mean())
        self.real_std.copy_(real.std().clamp(min=1e-6))
        self.threshold.copy_(torch.quantile(real, 1 - self.settings.false_positive_rate))
        self.fitted.fill_(True)

    # Scores

    def forward(self, clip: Clip) -> Tensor:
        """A collated clip -> (B,) logits, higher = more fake; 0 where nothing is heard."""
        if not self.fitted:
            raise RuntimeError(
                "this detector has no threshold yet: it is the checkpoint of a first stage, or fresh. Train it with "
                "`python train.py --config configs/anomaly.json`, and score with RUN/best.ckpt"
            )
        return ((self.clip_scores(clip) - self.threshold) / self.real_std).where(clip.heard, 0.0)

    def clip_scores(self, clip: Clip) -> Tensor:
        """Mean over a clip's frames of their negative log-likelihood, (B,) float32 in nats per step."""
        scores = [self._steps(*one).mean() for one in zip(clip.frames, clip.mel, clip.length.tolist())]
        return torch.stack(scores) if scores else torch.zeros(0, device=self.device)

    def probability(self, score: float) -> float:
        """P(fake) of a clip with this score; NaN, a clip without sound, gives 0.5."""
        logit = (score - float(self.threshold)) / float(self.real_std)
        return 0.5 if math.isnan(logit) else float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64)))

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64, each whole by sliding its window; 0.5 for those without sound."""
        self.eval()
        with torch.inference_mode():
            logits = [self(_batch_of(self._whole(bundle), self.device))[0] for bundle in bundles]
            return torch.sigmoid(torch.stack(logits).double()).cpu().numpy()

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return the analysis of one clip; a segment of the time line is as long as a window, its P(fake) that of its frames."""
        took = Stopwatch()
        with took("steps"):
            steps = self.step_scores(bundle)
        seconds = took.total()
        if watch:
            watch(self.card.detector, seconds)
        heard, T = len(steps.scores) > 0, self.settings.vis_num_frames
        score = float(steps.scores.mean()) if heard else math.nan
        p = self.probability(score)
        timeline = [
            Segment(
                round(float(steps.times[first]), 3),
                round(float(steps.times[min(first + T, len(steps.times)) - 1]) + 1 / SYNC_FPS, 3),
                self.probability(float(steps.scores[first : first + T].mean())),
            )
            for first in range(0, len(steps.times), T)
        ]
        rate = f"{self.settings.false_positive_rate:.0%}"
        notes = [
            f"P = 0.5 is what {rate} of real validation clips exceed; this ranks clips, no fakes were seen in training."
        ]
        return Analysis.of(
            p,
            card=replace(
                self.card_of(bundle), calibration=f"real validation clips alone: {rate} of them exceed P = 0.5"
            ),
            branches=[Branch(self.card.detector, p if heard else None, float(heard), seconds, timeline)],
            timeline=timeline,
            notes=notes if heard else ["No sound: there is nothing to judge by."],
            undecided="" if heard else NOTHING,
            settings=self.settings.model_dump(mode="json"),
        )

    def steps(self, bundle: Bundle) -> Steps:
        """Return P(fake) of each frame, for localisation.

        The first step of a window is predicted from nothing, so scores repeat every `window_stride` frames; they are averaged
        over so many. Single frames scatter more than clips: their scale is the larger of that of real clips and the clip's own
        (1.48 times the median distance from its median).
        """
        found = self.step_scores(bundle)
        if not len(found.scores):
            return Steps(bundle.times.astype(np.float64), np.full(bundle.track_frames, 0.5))
        stride = self.settings.window_stride
        padded = np.pad(found.scores, (stride // 2, stride - 1 - stride // 2), mode="edge")
        smooth = np.convolve(padded, np.full(stride, 1 / stride), "valid")  # (T,)
        own = 1.4826 * float(np.median(np.abs(smooth - np.median(smooth))))
        logits = (smooth - float(self.threshold)) / max(float(self.real_std), own)
        return Steps(found.times, 1 / (1 + np.exp(-np.clip(logits, -30, 30))))

    def step_scores(self, bundle: Bundle) -> StepScores:
        """Return how unlikely each frame of a bundle is: where in the clip to look. Empty without sound."""
        self.eval()
        clip = self._whole(bundle)
        if not clip.heard:
            return StepScores(np.zeros(0), np.zeros(0))
        with torch.inference_mode():
            steps = self._steps(clip.frames.to(self.device), clip.mel.to(self.device), int(clip.length))
        return StepScores(bundle.times.astype(np.float64), steps.double().cpu().numpy())

    def _steps(self, frames: Tensor, mel: Tensor, length: int) -> Tensor:
        """frames (L, S, S, 3), mel (F, M) of one clip -> (length,) negative log-likelihood per frame.

        Each frame goes through its image network once; a frame's value is the mean over the windows that hold it.
        """
        settings, device = self.settings, frames.device
        T = settings.vis_num_frames
        starts = torch.from_numpy(window_starts(length, T, settings.window_stride)).to(device)  # (n,)
        steps = starts[:, None] + torch.arange(T, device=device)  # (n, T)
        valid = steps < length
        images = self.streams.visual.in_chunks(frames[:length], settings.chunk)  # (length, D)
        nll = torch.cat(
            [
                self._window_nll(images, mel, starts[i : i + settings.chunk], valid[i : i + settings.chunk])
                for i in range(0, len(starts), settings.chunk)
            ]
        )  # (n, T)
        total, count = torch.zeros(2, length, device=device)
        total.index_add_(0, steps[valid], nll[valid])
        count.index_add_(0, steps[valid], torch.ones_like(nll[valid]))
        return total / count

    def _window_nll(self, images: Tensor, mel: Tensor, starts: Tensor, valid: Tensor) -> Tensor:
        """images (L, D) and mel (F, M) of one clip, starts (n,), valid (n, T) -> (n, T)."""
        windows = windows_of(images[None], starts[None], valid.shape[1])
        seen = self.streams.see_windows(windows, valid[None])[0]
        heard = self.streams.hear(mel[None], starts[None], valid[None])[0]
        return self.decoder(self.streams.fuse(seen, heard), valid)

    # What a run leaves

    def leave_outputs(self, run: Path, data: Any) -> None:
        """training_curves.png, evaluation_results.png, detailed_results.csv and logs/ in the run's folder."""
        write_outputs(load(run / "best.ckpt").to(self.device), run, data.rows)


def load(path: str | Path) -> AnomalyDetector:
    """A trained detector in eval mode on the CPU.

    Raises:
        WeightsError: no checkpoint of this detector.
    """
    found = checkpoints.read(path)
    if not isinstance(found.config.detector, AnomalyConfig):
        raise WeightsError(
            f"{path}: no anomaly detector; train one with `python train.py --config configs/anomaly.json`"
        )
    detector = AnomalyDetector(found.config, found.config.detector)
    detector.load_state_dict(found.state)
    return detector.eval()


def window_starts(length: int, T: int, stride: int) -> np.ndarray:
    """First frames of windows that cover `length` frames, (n,) int64: every `stride`-th, and the last that fits."""
    last = max(0, length - T)
    return np.unique(np.append(np.arange(0, last + 1, stride), last))


def _only(clip: Clip, chosen: Tensor) -> Clip:
    """Some clips of a batch: chosen (B,) bool."""
    return Clip(*(part[chosen] for part in clip))


def _batch_of(clip: Clip, device: torch.device) -> Clip:
    return Clip(*(part[None].to(device) for part in clip))
