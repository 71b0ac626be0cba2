"""GenD as a detector of bundles: trained by train.py, scored by eval.py.

B clips · n faces of a clip · S their side in pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from visavox.bundle import Bundle
from visavox.config import Config, GenDConfig
from visavox.detectors.analysis import Analysis, Branch, Segment
from visavox.detectors.base import Detector
from visavox.detectors.gend.augment import augment
from visavox.detectors.gend.losses import alignment, uniformity
from visavox.detectors.gend.network import GenDNetwork, picture_input, published_names
from visavox.detectors.scorer import Watch
from visavox.preprocessing.alignment import align
from visavox.progress import Stopwatch
from visavox.training.batch import Example
from visavox.training.strata import choose
from visavox.weights import WeightsError, loading

AT_ONCE = 32
"""Faces that go through the network at once in scoring."""


class Faces(NamedTuple):
    """Aligned faces of one clip, or of B once collated."""

    images: Tensor
    """(n, 3, S, S) float32, standardised as the backbone wants it."""


class GenD(Detector):
    """Aligned faces, each judged by itself; a clip's P(fake) is the mean of theirs."""

    settings: GenDConfig
    needs_track = True

    def __init__(self, config: Config, settings: GenDConfig) -> None:
        super().__init__(config, settings)
        self.net = GenDNetwork(settings.backbone, settings.head, settings.layers, settings.size)
        self.wanted = picture_input(settings.backbone, settings.size)
        if settings.train == "norms":
            self.net.feature_extractor.requires_grad_(False)
            for parameter in self.net.norms():
                parameter.requires_grad_(True)

    def start_from(self, checkpoint: Any) -> str:
        """Take over a published GenD, an earlier run's weights, or a backbone's alone."""
        state = loading.parameters(checkpoint, what="start of training")
        state = {name.removeprefix("net."): value for name, value in state.items() if not name.startswith("aucs.")}
        if not any(name.startswith("feature_extractor.") for name in state):
            inside = "vision_model." if self.settings.backbone == "clip_l14" else "backbone."
            state = {f"feature_extractor.{inside}{name.removeprefix(inside)}": value for name, value in state.items()}
        state = published_names(state)
        fresh = (
            () if "model.linear.weight" in state else ("model.linear.*", "feature_extractor.visual_projection.weight")
        )
        found = loading.fit(
            self.net, state, fresh=fresh, unread=("feature_extractor.*head.*",), what="start of training"
        )
        return f"{found.loaded} parameters, fresh: {', '.join(found.fresh) or 'none'}"

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Faces:
        """Return `frame_num` aligned faces, one of each of as many equal stretches of the track."""
        return Faces(self._shown(bundle, choose(bundle.track_frames, self.config.frame_num, rng), rng))

    def forward(self, clip: Faces) -> Tensor:
        """images (B, n, 3, S, S) -> (B,) log-odds of the mean probability, higher = more fake."""
        B = clip.images.shape[0]
        logits = self.net(clip.images.flatten(0, 1)).unflatten(0, (B, -1))  # (B, n)
        return torch.logit(torch.sigmoid(logits.double()).mean(1), eps=1e-9).float()

    def training_step(self, batch: Example, batch_idx: int) -> Tensor:
        """Cross-entropy over single faces, with uniformity and alignment of their features."""
        B, n = batch.clip.images.shape[:2]
        seen = self.net.see(batch.clip.images.flatten(0, 1))
        labels = batch.label.long().repeat_interleave(n)  # (B n,)
        features = seen.features.float()
        loss = cross_entropy(seen.logits, labels)
        loss = loss + self.settings.uniformity * uniformity(features)
        loss = loss + self.settings.alignment * alignment(features, labels)
        fake = torch.softmax(seen.logits.detach().float(), 1)[:, 1].unflatten(0, (B, n)).mean(1)  # (B,)
        auc = self.auc("train")
        auc.update(torch.logit(fake), batch.label.long())
        each: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": B, "prog_bar": True}
        self.log("train/loss", loss, **each)
        self.log("train/auc", auc, **each)
        return loss

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64: the mean over at most `max_frames` faces of each."""
        return np.array([self._faces_of(bundle)[1].mean() for bundle in bundles])

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return the analysis of one clip: a segment of the time line for each face."""
        took = Stopwatch()
        with took("score"):
            chosen, p = self._faces_of(bundle)
        seconds = took.total()
        if watch:
            watch("face", seconds)
        times = bundle.times[chosen].astype(float)
        middles = (times[1:] + times[:-1]) / 2
        edges = [float(bundle.times[0]), *middles, float(bundle.times[-1]) + 1 / float(bundle.fps)]
        timeline = [Segment(round(a, 3), round(b, 3), float(each)) for a, b, each in zip(edges, edges[1:], p)]
        probability = float(p.mean())
        return Analysis.of(
            probability,
            card=self.card_of(bundle),
            branches=[Branch("face", probability, 1.0, seconds, timeline)],
            timeline=timeline,
            notes=["Faces are judged one by one; the sound was not judged."],
            settings=self.settings.model_dump(mode="json"),
        )

    def _faces_of(self, bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
        """Positions in the track (n,) and P(fake) (n,) float64 of the faces that are scored."""
        self.eval()
        chosen = choose(bundle.track_frames, min(self.settings.max_frames, bundle.track_frames), None)
        logits = []
        with torch.inference_mode():
            for start in range(0, len(chosen), AT_ONCE):
                images = self._shown(bundle, chosen[start : start + AT_ONCE], None)
                logits.append(self.net(images.to(self.device)).double().cpu())
        return chosen, torch.sigmoid(torch.cat(logits)).numpy()

    def _shown(self, bundle: Bundle, chosen: np.ndarray, rng: np.random.Generator | None) -> Tensor:
        """Aligned faces of the track as the backbone wants them: chosen (n,) -> (n, 3, S, S)."""
        if not bundle.track_frames or bundle.track is None:
            raise WeightsError("GenD reads the face track: load bundles whole, and crop them with store_track=true")
        faces = []
        for t in chosen:
            frame = bundle.frame(int(t))
            found = align(frame, bundle.landmarks[int(t)], self.settings.size)
            faces.append(frame if found is None else found)
        if rng is not None and self.config.augment:
            faces = augment(faces, rng)
        return torch.stack([self.wanted(face) for face in faces])
