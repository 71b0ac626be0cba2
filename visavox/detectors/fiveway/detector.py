"""The detector: five branches trained one after the other, then fused on validation clips that none of them was trained on.

B clips · n faces of a clip · D width of the visual branch's features
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import MeanMetric

from visavox.bundle import Bundle
from visavox.config import Config, FiveWayConfig
from visavox.config.fiveway import STAGES
from visavox.detectors.fiveway import fusion, sync, weights
from visavox.detectors.fiveway.crops import Clip, clip_for
from visavox.detectors.fiveway.fusion import FEATURES
from visavox.detectors.fiveway.gate import fit_gate
from visavox.detectors.fiveway.judged import BRANCHES
from visavox.detectors.fiveway.judging import Judging
from visavox.detectors.fiveway.tiny import LaDeDa9, cut_patches, distillation_loss
from visavox.detectors.fiveway.visual import normalised
from visavox.training import checkpoint as checkpoints
from visavox.training.batch import Example
from visavox.weights import WeightsError, fit, parameters

log = logging.getLogger(__name__)

CLASSIFIER = ("fc.weight", "fc.bias")
TARGETS = {"tiny": "video_label", "visual": "video_label", "temporal": "video_label", "audio": "audio_label"}
"""The label that a stage learns, so that the voice of a face swap is not taught as a fake one; others learn `label`."""


class FiveWayDetector(Judging):
    """Stages tiny, visual, temporal, audio, sync, fusion; each branch is frozen once its stage is over.

    A branch learns of what it reads: faces by `video_label`, the voice by `audio_label`, where the split has them.
    The fusion is fitted on the validation split, whose people the branches have not seen, in folds by person.
    """

    def __init__(self, config: Config, settings: FiveWayConfig) -> None:
        super().__init__(config, settings)
        self.stages = tuple(s for s in STAGES if s == "fusion" or self._epochs_of(s) > 0)
        self.stage = "fusion"
        self.validated: Mapping[str, fusion.Validated] = {}
        self._teacher: list[LaDeDa9] = []  # in a list, so that it is no part of the checkpoint
        self._rows: list[tuple[int, int, dict[str, float]]] = []
        self.val_loss, self.val_accuracy = MeanMetric(), MeanMetric()

    # Stages

    def _epochs_of(self, stage: str) -> int:
        if stage == "fusion":
            return 1
        own = getattr(self.settings, f"{stage}_epochs")
        return self.config.epoch if own is None else own

    @property
    def epochs(self) -> int:
        return self._epochs_of(self.stage)

    def begin(self, stage: str) -> None:
        """Make ready to train one branch: the others are frozen."""
        self.stage, self.target = stage, TARGETS.get(stage, "label")
        for branch in BRANCHES:
            self.get_submodule(branch).requires_grad_(branch == stage)
        if stage == "tiny" and self.settings.teacher_weights != "none" and not self._teacher:
            teacher = LaDeDa9(width=self.settings.teacher_width)
            weights.start(teacher, "teacher", self.settings.teacher_weights)
            self._teacher.append(teacher.eval().requires_grad_(False))

    def monitor(self, val_labels: Collection[int]) -> tuple[str, str]:
        """The loss of a branch: its AUC is mostly chance, for it sees only some kinds of fake. AUC of the fusion."""
        return ("val/auc", "max") if self.stage == "fusion" else ("val/loss", "min")

    def train(self, mode: bool = True) -> FiveWayDetector:
        """Frozen branches stay in evaluation: neither dropout nor batch statistics."""
        super().train(mode)
        for branch in BRANCHES:
            if branch != self.stage:
                self.get_submodule(branch).eval()
        return self

    def start_fresh(self) -> None:
        """Give each branch the weights that its setting names; `none` is said."""
        for branch in BRANCHES:
            leave_out = CLASSIFIER if branch == "visual" else ()
            source = getattr(self.settings, f"{branch}_weights")
            weights.start(self.get_submodule(branch), branch, source, leave_out=leave_out)

    def start_from(self, checkpoint: Any) -> str:
        """Start from the branches of an earlier run of equal sizes.

        Raises:
            WeightsError: names what does not fit.
        """
        given = parameters(checkpoint, what="weights of the five branches")
        for branch in BRANCHES:
            part = {name.removeprefix(f"{branch}."): v for name, v in given.items() if name.startswith(f"{branch}.")}
            if not part:
                raise WeightsError(f"no branch {branch} in it; --pret-version takes a run of configs/fiveway.json")
            fit(self.get_submodule(branch), part, what=f"branch {branch}")
        return "an earlier run"

    def configure_optimizers(self) -> Any:
        """The house's optimiser with the stage's own learning rate; none for the fusion, which is not trained by steps."""
        if self.stage == "fusion":
            return None
        made = super().configure_optimizers()
        rate = getattr(self.settings, f"{self.stage}_lr") or self.config.lr
        for group in made["optimizer"].param_groups:
            group["lr"] *= rate / self.config.lr
            group["initial_lr"] *= rate / self.config.lr
        scheduler = cast(Any, made["lr_scheduler"])["scheduler"]
        scheduler.base_lrs = [base * rate / self.config.lr for base in scheduler.base_lrs]
        return made

    # Inputs

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Clip:
        """Return what the stage reads of a bundle; everything in the last one, whose training clips teach nothing."""
        return clip_for(self.stage, bundle, self.config, self.settings, rng)

    # Training

    def on_train_start(self) -> None:
        self.train()  # a Trainer takes modules in the mode they are in

    def training_step(self, batch: Example, batch_idx: int) -> Tensor | None:
        if self.stage == "fusion":
            return None
        if self.stage == "sync":
            return self._sync_step("train", batch)
        if self.stage == "tiny" and self._teacher:
            images = self._tiny_input(batch.clip.faces.flatten(0, 1))
            teacher = self._teacher[0].to(self.device)
            loss = distillation_loss(self.tiny, teacher, images)
            self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.label), prog_bar=True)
            return loss
        each = self._each(batch.clip)  # (B, k) logits of patches, faces or clips
        known = batch.clip.heard if self.stage == "audio" else torch.ones_like(batch.clip.heard)
        labels = batch.label[:, None].expand_as(each)
        loss = binary_cross_entropy_with_logits(each[known], labels[known]) if known.any() else each.sum() * 0
        auc = self.auc("train")
        auc.update(each.detach().float().mean(1), batch.label.long())
        how: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(batch.label), "prog_bar": True}
        self.log("train/loss", loss, **how)
        self.log("train/auc", auc, **how)
        return loss

    def _each(self, clip: Clip) -> Tensor:
        """Logits of whatever the stage's branch judges one by one: (B, k)."""
        B = len(clip.heard)
        if self.stage == "tiny":
            patches = np.stack([cut_patches(faces) for faces in clip.faces.cpu().numpy()])  # (B, n, 9, 32, 32, 3)
            images = self._tiny_input(torch.from_numpy(patches).flatten(0, 2).to(self.device))
            return self.tiny(images).view(B, -1)
        if self.stage == "visual":
            return self.visual(normalised(clip.faces.flatten(0, 1))).view(B, -1)
        if self.stage == "temporal":
            with torch.no_grad():
                features = self.visual.features(normalised(clip.faces.flatten(0, 1)))
            return self.temporal(features.view(B, -1, features.shape[1]))[:, None]
        return self.audio(clip.cepstra[:, None])[:, None]

    def _sync_step(self, split: str, batch: Example) -> Tensor:
        """Real clips with sound, long enough to move it; others teach nothing."""
        settings, clip = self.settings, batch.clip
        room = clip.length - settings.sync_window  # (B,) last possible start
        if settings.sync_head == "clip":
            room = torch.full_like(room, settings.sync_max_shift)
        teaching = (batch.label == 0) & clip.heard & (room >= 2 * settings.sync_least_shift)
        clip, room = Clip(*(part[teaching] for part in clip)), room[teaching]
        if len(room) < 2:
            return torch.stack([p.sum() for p in self.sync.parameters()]).sum() * 0.0
        if settings.sync_head == "clip":
            loss, accuracy = self._clip_loss(clip)
        else:
            found = self._window_loss(clip, room, random=split == "train")
            loss, accuracy = found.contrastive + found.match, found.accuracy
        if split == "train":
            how: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(room)}
            self.log("train/loss", loss, prog_bar=True, **how)
            self.log("train/accuracy", accuracy, **how)
        else:
            self.val_loss.update(loss.detach(), len(room))
            self.val_accuracy.update(accuracy.detach(), len(room))
        return loss

    def _window_loss(self, clip: Clip, room: Tensor, *, random: bool) -> sync.SyncLoss:
        settings, n = self.settings, self.settings.sync_windows
        within = torch.rand(len(room), n, device=room.device) if random else 0.5
        share = (torch.arange(n, device=room.device) + within) / n
        starts = (share * (room[:, None] + 1)).long()
        moved = sync.moved_starts(starts, room, settings.sync_least_shift, settings.sync_max_shift)
        head = cast(sync.WindowSync, self.sync)
        seen, heard = head.see(clip.mouths), head.hear(clip.mel)
        least, heat = settings.sync_least_shift, settings.sync_heat
        return sync.window_loss(head, seen, heard, starts, moved, settings.sync_window, least_shift=least, heat=heat)

    def _clip_loss(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Own sound against that of two other clips, as the seed trains its head."""
        with torch.no_grad():
            features = self.visual.features(normalised(clip.faces.flatten(0, 1)))
            features = features.view(len(clip.heard), -1, features.shape[1])
            seen = torch.stack([self._clip_mean(one) for one in features])
            heard = self.audio.embed(clip.cepstra[:, None])
        pairs = [heard, *(heard.roll(k, 0) for k in range(1, min(3, len(heard))))]
        logits = torch.stack([self.sync(seen, sound) for sound in pairs])  # (1 + negatives, B)
        truth = torch.zeros_like(logits)
        truth[0] = 1
        return binary_cross_entropy_with_logits(logits, truth), (logits.argmax(0) == 0).float().mean()

    # Validation

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        if self.stage == "sync":
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(self.config.seed)  # which negatives are drawn is the same in every epoch
                self._sync_step("val", batch)
        elif self.stage == "fusion":
            for i, (label, judged) in enumerate(
                zip(batch.label.tolist(), self.judge_batch(batch.clip, early_exit=False))
            ):
                turn = batch_idx * self.config.submit_batch_size + i  # devices take turns in the order of the rows
                self._rows.append((turn * self.trainer.world_size + self.global_rank, int(label), judged.row))
        else:
            each = self._each(batch.clip)
            logits = each.mean(1)
            if self.stage == "audio":
                logits = logits.where(batch.clip.heard, 0.0)
            self.auc("val").update(logits.float(), batch.label.long())
            how: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(logits), "prog_bar": True}
            self.log("val/loss", self.loss(logits, batch.label), sync_dist=True, **how)
            self.log("val/auc", self.auc("val"), **how)

    def on_validation_epoch_end(self) -> None:
        if self.stage == "sync":
            if not self.val_loss.update_called:
                raise ValueError(
                    "the validation split has no two real clips with sound of "
                    f"{self.settings.sync_window + 2 * self.settings.sync_least_shift} frames or more in one batch; raise "
                    "submit_batch_size, or leave the stage out with detector.sync_epochs=0"
                )
            self.log("val/loss", self.val_loss.compute(), prog_bar=True)
            self.log("val/accuracy", self.val_accuracy.compute(), prog_bar=True)
            self.val_loss.reset()
            self.val_accuracy.reset()
        elif self.stage == "fusion":
            rows, self._rows = sorted(_gathered(self._rows), key=lambda row: row[0]), []
            self._fuse(rows)

    def _fuse(self, rows: Sequence[tuple[int, int, dict[str, float]]]) -> None:
        """Fit heads and gate on the features of validation clips: (row of the split, label, features)."""
        from visavox.evaluation.metrics import auc
        from visavox.splits.groups import group_of

        split = cast(Any, self.trainer).datamodule.judged("val")
        labels = np.array([label for _, label, _ in rows])
        table = {name: np.array([row[name] for *_, row in rows]) for name in FEATURES}
        self.fit_fusion(table, labels, np.array(group_of(split))[[index for index, *_ in rows]], "the validation split")
        fitted = self.verdicts.fusion
        assert fitted is not None  # `fit_fusion` has just put it there
        best = max(self.validated, key=lambda name: len(fitted[name].branches))
        for name, out in self.validated.items():
            held = np.isfinite(out.logits)
            if len(np.unique(labels[held])) == 2:
                value = auc(labels[held], out.logits[held])
                self.log(f"val/auc_{name.replace('+', '_')}", value)
                if name == best:
                    self.log("val/auc", value, prog_bar=True)
            elif name == best:
                raise ValueError(
                    "the validation split has too few people of each class to hold any out; two are needed"
                )

    def fit_fusion(self, table: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, on: str) -> None:
        """Fit heads and gate: table feature -> (N,), labels (N,), groups (N,), and on what, in words."""
        fitted = fusion.fit(
            table,
            labels,
            groups,
            fitted_on=f"{on}: {len(labels)} clips",
            folds=self.settings.folds,
            seed=self.config.seed,
        )
        known = np.isfinite(table["tiny_prob_max"])
        gate = fit_gate(labels[known], table["tiny_prob_max"][known], self.settings.gate_recall)
        self.verdicts.hold(fitted, gate)
        self.validated = fitted.validated
        log.log(logging.INFO if gate.open else logging.WARNING, "%s", gate)
        for head in fitted.heads:
            for warning in head.warnings:
                log.warning("head %s: %s", head.name, warning)

    def test_step(self, batch: Example, batch_idx: int) -> None:
        judged = self.judge_batch(batch.clip)
        logits = torch.tensor([one.logit for one in judged], device=self.device)  # (B,)
        self.auc("test").update(logits.float(), batch.label.long())
        how: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(logits)}
        self.log("test/auc", self.auc("test"), **how)
        self.log("test/loss", self.loss(logits, batch.label), **how)
        self.log("test/exited", float(np.mean([one.exited for one in judged])), **how)

    # What a run leaves

    def leave_outputs(self, run: Path, data: Any) -> None:
        """Write fusion.json, features.csv and ablation.csv into the run's folder."""
        from visavox.detectors.fiveway.outputs import write_outputs

        write_outputs(load(run / "best.ckpt").to(self.device), run, data.rows)


def load(path: str | Path) -> FiveWayDetector:
    """Return a trained detector in eval mode on the CPU.

    Raises:
        WeightsError: no checkpoint of this detector.
    """
    found = checkpoints.read(path)
    if not isinstance(found.config.detector, FiveWayConfig):
        raise WeightsError(
            f"{path}: no detector of five branches; train one with `python train.py --config configs/fiveway.json`"
        )
    detector = FiveWayDetector(found.config, found.config.detector)
    detector.load_state_dict(found.state)
    return detector.eval()


def _gathered(rows: list[Any]) -> list[Any]:
    """The rows of all devices."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    every: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(every, rows)
    return [row for part in every for row in part]
