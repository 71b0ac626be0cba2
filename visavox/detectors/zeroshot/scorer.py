"""The scores as a `Scorer`: no weights of its own, no training, calibrated on real clips alone or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from visavox import weights
from visavox.bundle import Bundle
from visavox.config import Config, ZeroShotConfig
from visavox.detectors.analysis import NOTHING, UNCALIBRATED, Analysis, Branch, ModelCard, Segment
from visavox.detectors.scorer import Scorer, Watch
from visavox.detectors.steps import Steps
from visavox.detectors.zeroshot.curves import Curves, of_correlation, of_syncnet, voiced
from visavox.detectors.zeroshot.scores import score
from visavox.features import syncnet
from visavox.progress import Stopwatch


class ZeroShot:
    """Mouth against voice, without training. A `Scorer`.

    P(fake) is the sigmoid of the distance from the threshold in deviations of real clips: 0.5 is what `false_positive_rate` of
    those exceed. Not calibrated, it is the sigmoid of the score and only ranks.
    """

    needs_track = True

    def __init__(self, config: Config, settings: ZeroShotConfig) -> None:
        self.config, self.settings = config, settings
        self.device = torch.device("cpu")
        calibration = "uncalibrated: ranks clips, says nothing of one"
        if settings.threshold is not None:
            rate = f"{settings.false_positive_rate:.0%}"
            calibration = f"real clips alone ({settings.calibrated_on or 'not named'}): {rate} of them exceed P = 0.5"
        self.card = ModelCard(
            detector=settings.name,
            checkpoint=self._identity(),
            calibration=calibration,
            trained_on="nothing" if settings.encoder == "correlation" else "nothing here; SyncNet on real videos",
        )

    def to(self, device: torch.device) -> Self:
        """Move SyncNet to a device; the correlation is computed where it is."""
        self.device = torch.device(device)
        self.__dict__.pop("_embedder", None)
        return self

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64; 0.5 for those without sound or with too few frames."""
        return np.array([self.probability(self.raw(bundle)) for bundle in bundles], np.float64)

    def raw(self, bundle: Bundle) -> float:
        """Return the score itself, higher = more fake; NaN without sound."""
        return score(self.curves(bundle), self.settings.score, self.settings.temperature).clip

    def probability(self, value: float | np.ndarray) -> Any:
        """Return P(fake) of scores, as many; 0.5 for NaN."""
        middle = self.settings.threshold if self.settings.threshold is not None else 0.0
        logit = np.clip((np.asarray(value, np.float64) - middle) / self.settings.spread, -700, 700)
        return np.where(np.isnan(logit), 0.5, 1 / (1 + np.exp(-logit)))[()]

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return the analysis of one clip: a segment of the time line for each window."""
        took = Stopwatch()
        with took("curves"):
            curves = self.curves(bundle)
            found = score(curves, self.settings.score, self.settings.temperature)
        seconds = took.total()
        if watch:
            watch(self.settings.name, seconds)
        heard, p = len(curves.starts) > 0, float(self.probability(found.clip))
        times, fps = bundle.times.astype(np.float64), float(bundle.fps)
        timeline = [
            Segment(
                round(float(times[start]), 3),
                round(float(times[min(start + curves.width, len(times)) - 1]) + 1 / fps, 3),
                float(each),
            )
            for start, each in zip(curves.starts, self.probability(found.windows))
        ]
        notes = [f"{self.settings.score} of {self.settings.encoder}: {self.card.calibration}."]
        return Analysis.of(
            p,
            card=replace(self.card, prep_hash=bundle.prep_hash),
            branches=[Branch(self.settings.name, p if heard else None, float(heard), seconds, timeline)],
            timeline=timeline,
            notes=notes if heard else ["No sound, or too few frames: there is nothing to judge by."],
            undecided=NOTHING if not heard else UNCALIBRATED if self.settings.threshold is None else "",
            settings=self.settings.model_dump(mode="json"),
        )

    def steps(self, bundle: Bundle) -> Steps:
        """Return P(fake) of each frame: the mean of the windows that hold it."""
        curves = self.curves(bundle)
        times = bundle.times.astype(np.float64)
        if not len(curves.starts):
            return Steps(times, np.full(len(times), 0.5))
        each = self.probability(score(curves, self.settings.score, self.settings.temperature).windows)
        total, count = np.zeros((2, len(times)))
        for start, p in zip(curves.starts, each):
            total[start : start + curves.width] += p
            count[start : start + curves.width] += 1
        known = count > 0
        return Steps(times, np.interp(times, times[known], total[known] / count[known]))

    def curves(self, bundle: Bundle) -> Curves:
        """Return distances and cosines of all windows and shifts; empty without sound.

        Raises:
            BundleError: the bundle holds no track.
        """
        settings, vshift = self.settings, self.config.vshift
        if not bundle.has_sound:
            return of_correlation(replace(bundle, audio=np.zeros(0, np.int16)), vshift, settings.window)
        if settings.encoder == "correlation":
            curves = of_correlation(bundle, vshift, settings.window, settings.stride)
        else:
            curves = of_syncnet(bundle, self._embedder, vshift, settings.stride)
        if settings.speech == "off" or not len(curves.starts):
            return curves
        return voiced(curves, bundle.sound, bundle.sample_rate, float(bundle.fps), settings.speech)

    def with_frames(self, frames: int) -> Scorer | None:
        """Return None: the whole track is compared."""
        return None

    def for_inference(self, dtype: torch.dtype) -> Self:
        """Return this scorer."""
        return self

    @cached_property
    def _embedder(self) -> syncnet.LocalEmbedder:
        network = syncnet.FoldedSyncNet(syncnet.load(weights.state_dict("syncnet_v2")))
        return syncnet.LocalEmbedder(network.to(self.device))

    def _identity(self) -> str:
        """64 hex digits over what scores follow from: settings, and SyncNet's weights where they are used."""
        facts: dict[str, Any] = {"prep": self.config.prep(), "detector": self.settings.model_dump(mode="json")}
        if self.settings.encoder == "syncnet":
            facts["weights"] = weights.fingerprint("syncnet_v2")
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
