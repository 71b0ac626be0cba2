"""Xception over single faces: each frame has a probability of its own, a clip's is pooled from them.

n frames of a clip · S detector.size in pixels · T frames of the track
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from visavox.bundle import Bundle
from visavox.config import Config, XceptionVideoConfig
from visavox.detectors.analysis import Analysis, Branch
from visavox.detectors.base import Detector
from visavox.detectors.scorer import Watch
from visavox.detectors.steps import Steps
from visavox.detectors.xception import fusion
from visavox.detectors.xception.analysis import frame_segments
from visavox.detectors.xception.network import at_once, fake_logit, image_network, load_published, pool
from visavox.logs import say_once
from visavox.progress import Stopwatch
from visavox.training.strata import choose

log = logging.getLogger(__name__)


class Faces(NamedTuple):
    """Frames of one clip, or of B once collated."""

    faces: Tensor
    """(n, S, S, 3) uint8 RGB."""


class XceptionVideo(Detector):
    """timm's Xception with two outputs on 299-pixel faces, normalised by mean and deviation 0.5 (Chollet, 2017).

    In training and validation a clip shows `frame_num` of its frames, and the loss is that of their pooled probability.
    In scoring it shows every `frame_skip`-th frame of its track, at most `max_frames`.
    """

    settings: XceptionVideoConfig
    needs_track = True

    def __init__(self, config: Config, settings: XceptionVideoConfig) -> None:
        super().__init__(config, settings)
        self.net = image_network(settings.backbone, classes=2)

    def start_from(self, checkpoint: Any) -> str:
        """ImageNet weights, `epoch_007.pt` of Mbulss/Deepfake-Detecetor, or an earlier run's; see `network.published`."""
        last = self.net.get_classifier()
        head = next(name for name, layer in self.net.named_modules() if layer is last)
        source = load_published(self, checkpoint, backbone="net.", head=f"net.{head}")
        if source == "ImageNet" and isinstance(last, nn.Linear):
            last.reset_parameters()  # timm draws an EfficientNet's by its outputs: of two, logits begin at about ten
        return source

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Faces:
        """`frame_num` frames, one from each of as many equal stretches of the track: its middle, or drawn and augmented."""
        faces = _faces(bundle, choose(_available(bundle), self.config.frame_num, rng))
        if rng is not None and self.config.augment:
            faces = augment(faces, rng)
        return Faces(torch.from_numpy(fit_size(faces, self.settings.size)))

    def forward(self, clip: Faces) -> Tensor:
        """faces (B, n, S, S, 3) uint8 -> (B,) logits, higher = more fake."""
        B = clip.faces.shape[0]
        logits = self.frame_logits(clip.faces.flatten(0, 1)).unflatten(0, (B, -1))  # (B, n)
        return pool(logits, self.settings.pooling, self.settings.top_k)

    def frame_logits(self, faces: Tensor) -> Tensor:
        """faces (n, S, S, 3) uint8 RGB -> (n,) logits, each of its frame alone."""
        return self.image_logits(faces.permute(0, 3, 1, 2).to(self.net_dtype).sub(127.5).div(127.5))

    def image_logits(self, images: Tensor) -> Tensor:
        """images (n, 3, S, S) float in [-1, 1] -> (n,) logits, each of its image alone; gradients flow."""
        features = self.net.forward_head(self.net.forward_features(images), pre_logits=True)  # (n, 2048)
        with torch.autocast(features.device.type, enabled=False):  # bf16 would give many frames equal logits
            return fake_logit(self.net.get_classifier()(features.float()))

    @property
    def net_dtype(self) -> torch.dtype:
        return next(self.net.parameters()).dtype

    def look(self, bundle: Bundle, chosen: np.ndarray) -> np.ndarray:
        """Logits of frames of the track, chosen (n,) int -> (n,) float64. Network in chunks: memory does not grow with n."""
        self.eval()
        logits = []
        step = at_once(self.settings.chunk, self.settings.size, self.device)
        with torch.inference_mode():
            for start in range(0, len(chosen), step):
                faces = fit_size(_faces(bundle, chosen[start : start + step]), self.settings.size)
                logits.append(self.frame_logits(torch.from_numpy(faces).to(self.device)).double().cpu())
        return torch.cat(logits).numpy() if logits else np.zeros(0)

    def shown(self, bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
        """Return seconds (n,) and faces (n, S, S, 3) uint8 RGB of the frames that are scored, as the network sees them."""
        chosen = self._scored(bundle)
        return frame_times(bundle)[chosen], fit_size(_faces(bundle, chosen), self.settings.size)

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64, pooled from every `frame_skip`-th frame of each."""
        return np.array([self._pooled(self.look(bundle, self._scored(bundle))) for bundle in bundles])

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return the analysis of one clip: a segment of the time line for each frame that is scored."""
        chosen, took = self._scored(bundle), Stopwatch()
        with took("frames"):
            logits = self.look(bundle, chosen)
        seconds = took.total()
        if watch:
            watch("video", seconds)
        end = float(bundle.times[-1]) + 1 / float(bundle.fps)
        timeline = frame_segments(frame_times(bundle)[chosen], logits, end)
        p = self._pooled(logits)
        return Analysis.of(
            p,
            card=self.card_of(bundle),
            branches=[Branch("video", p, 1.0, seconds, timeline)],
            timeline=timeline,
            notes=["The sound was not judged."],
            settings=self.settings.model_dump(mode="json"),
        )

    def steps(self, bundle: Bundle) -> Steps:
        """Return P(fake) of every frame of the track, for localisation, whatever `frame_skip` says."""
        if not _has_track(bundle):
            raise ValueError("this bundle was loaded without its track; use Bundle.load(path, full=True)")
        logits = self.look(bundle, np.arange(bundle.track_frames))
        return Steps(bundle.times.astype(np.float64), fusion.sigmoid(logits))

    def _scored(self, bundle: Bundle) -> np.ndarray:
        return scored_frames(_available(bundle), self.settings.frame_skip, self.settings.max_frames)

    def _pooled(self, logits: np.ndarray) -> float:
        """Logits (n,) float64 of a clip's frames -> its P(fake)."""
        pooled = pool(torch.from_numpy(logits), self.settings.pooling, self.settings.top_k)
        return torch.sigmoid(pooled).item()


def scored_frames(count: int, skip: int, most: int) -> np.ndarray:
    """Every `skip`-th of `count` frames, thinned evenly to at most `most`: (n,) int64, rising."""
    chosen = np.arange(0, count, skip)
    if len(chosen) > most:
        chosen = chosen[np.arange(most) * len(chosen) // most]
    return chosen


def frame_times(bundle: Bundle) -> np.ndarray:
    """Seconds of the frames that `look` chooses from: the track's, or those of the faces kept where it was left out."""
    if _has_track(bundle):
        return bundle.times.astype(np.float64)
    kept = ((np.arange(len(bundle.faces)) + 0.5) * bundle.track_frames / len(bundle.faces)).astype(int)
    return bundle.times[kept].astype(np.float64)


def fit_size(faces: np.ndarray, size: int) -> np.ndarray:
    """faces (n, S', S', 3) uint8 -> (n, size, size, 3); area mean when shrinking, bilinear when enlarging, which is said."""
    if faces.shape[1] == size:
        return faces
    if faces.shape[1] < size:
        say_once(
            log, f"faces of {faces.shape[1]} pixels are enlarged to {size}; crop with frame_size={size} for full detail"
        )
    how = cv2.INTER_AREA if faces.shape[1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(face, (size, size), interpolation=how) for face in faces])


def augment(faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrored, re-lit and compressed as a clip is on its way to a viewer, alike for all frames: (n, S, S, 3) uint8."""
    if rng.random() < 0.5:
        faces = faces[:, :, ::-1]
    gain, offset = rng.uniform(0.85, 1.15), rng.uniform(-15, 15)
    faces = np.clip(faces * np.float32(gain) + np.float32(offset), 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 101))]
        jpegs = [cv2.imencode(".jpg", face[:, :, ::-1], quality)[1] for face in faces]
        decoded = [cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB) for jpeg in jpegs]
        faces = np.stack(cast(list[np.ndarray], decoded))  # None is what cannot be read: not what was just written
    return np.ascontiguousarray(faces)


def _has_track(bundle: Bundle) -> bool:
    return bundle.track is not None and len(bundle.track) > 0


def _available(bundle: Bundle) -> int:
    return bundle.track_frames if _has_track(bundle) else len(bundle.faces)


def _faces(bundle: Bundle, chosen: np.ndarray) -> np.ndarray:
    """(n, S', S', 3) uint8 RGB: of the track, or of the faces kept where it was left out."""
    if not _has_track(bundle):
        return bundle.faces[chosen]
    return np.stack([bundle.frame(int(t)) for t in chosen])
