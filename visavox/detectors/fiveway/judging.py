"""How one clip is judged: branch after branch, the cheap one first, then by the head of the branches that spoke.

B clips · n faces of a clip · D width of the visual branch's features
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from visavox.bundle import Bundle
from visavox.config import SYNC_FPS, Config, FiveWayConfig
from visavox.detectors.analysis import NOTHING, Analysis, Branch
from visavox.detectors.base import Detector
from visavox.detectors.fiveway import fusion, sync
from visavox.detectors.fiveway.audio import CepstraNet
from visavox.detectors.fiveway.crops import Clip, SoundAlone, View, as_jpeg
from visavox.detectors.fiveway.judged import BRANCHES, NO_FUSION, Judged, Timeline, analysis_of, faces_in_time
from visavox.detectors.fiveway.state import Verdicts
from visavox.detectors.fiveway.temporal import TemporalNet, fixed_length
from visavox.detectors.fiveway.tiny import TinyLaDeDa, cut_patches
from visavox.detectors.fiveway.visual import FrameNet, normalised
from visavox.detectors.scorer import Scored, Watch

log = logging.getLogger(__name__)

FAULTS = (RuntimeError, ValueError, OSError, ArithmeticError, MemoryError)
"""What a branch may raise without taking the verdict of the others with it."""


class Shown(Protocol):
    """What is judged: a `View` of a bundle, one clip of a batch, or sound alone."""

    @property
    def seen(self) -> bool: ...

    @property
    def faces(self) -> np.ndarray: ...

    @property
    def cepstra(self) -> np.ndarray: ...

    @property
    def heard(self) -> bool: ...

    @property
    def length(self) -> int: ...

    @property
    def begin(self) -> float: ...

    def stretch(self, first: int, count: int, padded: int) -> tuple[np.ndarray, np.ndarray]: ...


class Judging(Detector):
    """The five networks with their fusion and gate, as a scorer; how they are trained is the subclass's."""

    needs_track = True
    settings: FiveWayConfig

    def __init__(self, config: Config, settings: FiveWayConfig) -> None:
        super().__init__(config, settings)
        self.tiny = TinyLaDeDa(settings.tiny_preprocess)
        self.visual = FrameNet(settings.visual_width, settings.visual_blocks)
        self.temporal = TemporalNet(8 * settings.visual_width, settings.temporal_hidden, settings.temporal_mode)
        self.audio = CepstraNet(settings.audio_width)
        if settings.sync_head == "windows":
            self.sync: nn.Module = sync.WindowSync(settings.sync_mels, settings.sync_width, settings.sync_dim)
        else:
            self.sync = sync.ClipHead(8 * (settings.visual_width + settings.audio_width))
        self.verdicts = Verdicts()

    def load_state_dict(self, *words: Any, **more: Any) -> Any:
        """As `torch.nn.Module`; the card then tells of the calibration of the head that reads the most."""
        loaded = super().load_state_dict(*words, **more)
        if self.verdicts.fusion is not None:
            head = max(self.verdicts.fusion.heads, key=lambda head: len(head.features))
            self.card = replace(self.card, calibration=head.calibration)
        return loaded

    def forward(self, clip: Clip) -> Tensor:
        """A collated clip -> (B,) calibrated log-odds, higher = more fake; each clip is judged by itself."""
        return torch.tensor([one.logit for one in self.judge_batch(clip)], device=self.device)

    def judge_batch(self, clip: Clip, *, early_exit: bool | None = None) -> list[Judged]:
        """Judge each clip of a collated batch by itself."""
        return [self.judge_shown(_OfBatch(clip, i), early_exit=early_exit) for i in range(len(clip.heard))]

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64, each judged by itself."""
        return np.array([one.probability for one in self.score_in_detail(bundles)], np.float64)

    def score_in_detail(self, bundles: Sequence[Bundle]) -> list[Scored]:
        """Return the scores with each branch's seconds, the head, whether the gate ended it, and what failed or is missing."""
        return [_scored(self.examine(bundle)) for bundle in bundles]

    def score_sound(self, sound: np.ndarray) -> Scored:
        """Return the score of sound alone, (N,) int16 at `resample_rate`, by the head of the audio branch."""
        return _scored(self.examine(sound))

    def examine(
        self, clip: Bundle | np.ndarray, *, early_exit: bool | None = None, watch: Watch | None = None
    ) -> Judged:
        """Judge one clip and keep what was found on the way.

        Args:
            clip: a bundle; or the sound (N,) int16 at `resample_rate` of a video in which no face was found.
            early_exit: let the gate end it; None as the settings say.
            watch: told of each branch that has ended.
        """
        self.eval()
        config, settings = self.config, self.settings
        shown: Shown = (
            SoundAlone(clip, config, settings) if isinstance(clip, np.ndarray) else View(clip, config, settings)
        )
        return self.judge_shown(shown, early_exit=early_exit, watch=watch)

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return the analysis of one clip: what each branch found, what it counted for, and why, in words."""
        judged = self.examine(bundle, watch=watch)
        timelines: dict[str, Timeline] = {"visual": faces_in_time(bundle, judged), "sync": judged.windows}
        card = replace(self.card, prep_hash=bundle.prep_hash)
        return analysis_of(judged, self.verdicts.fusion, card, self.settings, timelines)

    def explain_sound(self, sound: np.ndarray, watch: Watch | None = None) -> Analysis:
        """Return the analysis of sound alone, (N,) int16 at `resample_rate`, as `explain`; no verdict where it is silent."""
        if not np.any(sound):
            return Analysis.of(
                0.5,
                card=self.card,
                branches=[Branch(branch, None, 0.0, 0.0) for branch in BRANCHES],
                notes=["No face and no sound: there is nothing to judge by."],
                undecided=NOTHING,
            )
        card = replace(self.card, prep_hash="")
        return analysis_of(self.examine(sound, watch=watch), self.verdicts.fusion, card, self.settings, {})

    @torch.inference_mode()
    def judge_shown(self, shown: Shown, *, early_exit: bool | None = None, watch: Watch | None = None) -> Judged:
        """Run the branches, the cheap one first; what fails is noted and leaves the others' verdict standing.

        Raises:
            RuntimeError: no branch gave anything that a head could judge.
        """
        found: dict[str, Any] = {}
        seconds: dict[str, float] = {}
        notes: list[str] = []
        silent: dict[str, str] = {}

        def skip(why: str, *branches: str) -> None:
            silent.update(dict.fromkeys(branches, why))

        def run(branch: str, work: Callable[[], Any]) -> Any:
            begun = time.perf_counter()
            try:
                value = work()
                if not np.isfinite(np.asarray(value, np.float64)).all():
                    raise ValueError("its network gave numbers that are not finite")
                found[branch] = value
            except FAULTS as error:
                log.warning("branch %s failed: %s", branch, error)
                notes.append(f"branch {branch} failed and was left out: {error}")
                skip(f"it failed: {error}", branch)
            seconds[branch] = time.perf_counter() - begun
            if watch:
                watch(branch, seconds[branch])
            return found.get(branch)

        fitted, gate = self.verdicts.fusion, self.verdicts.gate
        wants = self.settings.early_exit if early_exit is None else early_exit
        features: list[Tensor] = []
        windows: list[tuple[float, float, float]] = []
        tiny = run("tiny", lambda: self._tiny_probabilities(shown.faces)) if shown.seen else None
        exited = bool(wants and gate and tiny is not None and gate.lets_out(float(tiny.max())))
        if exited:
            notes.append("the gate let it through: all patches are surely real, the other branches did not run")
            skip("the gate let the clip through before", *BRANCHES[1:])
        elif shown.seen:
            run("visual", lambda: self._visual_probabilities(shown.faces, features))
            run("temporal", lambda: self._temporal_probability(features))
        else:
            notes.append("no face: only the branch audio speaks")
            skip("no face was found", "tiny", "visual", "temporal", "sync")
        if not exited and shown.heard:
            run("audio", lambda: self._audio_probability(shown.cepstra))
            if shown.seen:
                run("sync", lambda: self._sync_probability(shown, features, windows))
        elif not exited:
            notes.append("no sound: branches audio and sync say nothing")
            skip("the clip has no sound", "audio", "sync")
        row = fusion.clip_features(patches=9 * len(tiny) if tiny is not None else 0, **found)
        head, logit = None, float("nan")
        if fitted is not None:
            try:
                logit, head = fitted.logit(row)
            except fusion.FusionError as error:
                raise RuntimeError(f"no verdict{' after the gate' if exited else ''}: {error}") from None
            notes.append(f"judged by the head {head.name}")
        faces = found.get("visual", np.zeros(0))
        return Judged(row, logit, head, exited, seconds, notes, silent, faces, windows, seen=shown.seen)

    def _tiny_probabilities(self, faces: np.ndarray) -> np.ndarray:
        """(n,) mean probability of each face's patches."""
        patches = torch.from_numpy(cut_patches(faces)).flatten(0, 1)  # (n * 9, 32, 32, 3)
        logits = self.tiny(self._tiny_input(patches.to(self.device)))
        return torch.sigmoid(logits.double()).view(len(faces), -1).mean(1).cpu().numpy()

    def _tiny_input(self, images: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 -> (N, 3, S, S) float32."""
        if self.settings.tiny_input == "imagenet":
            return normalised(images)
        return images.movedim(3, 1).float() / 255

    def _visual_probabilities(self, faces: np.ndarray, features: list[Tensor]) -> np.ndarray:
        """(n,) probability of each face; what the network saw in them goes to `features`, (n, D)."""
        seen = as_jpeg(faces) if self.settings.preprocessing == "wrapped" else faces
        images = torch.from_numpy(np.ascontiguousarray(seen)).to(self.device)
        parts = [self.visual.features(normalised(part)) for part in images.split(self.settings.chunk)]
        features.append(torch.cat(parts))
        return torch.sigmoid(self.visual.fc(features[0])[:, 0].double()).cpu().numpy()

    def _temporal_probability(self, features: list[Tensor]) -> float:
        if not features:
            raise ValueError("it reads the visual branch's features, and there are none")
        return _probability(self.temporal(features[0][None]))

    def _audio_probability(self, cepstra: np.ndarray) -> float:
        return _probability(self.audio(torch.from_numpy(cepstra)[None, None].to(self.device)))

    def _sync_probability(
        self, shown: Shown, features: list[Tensor], windows: list[tuple[float, float, float]]
    ) -> float:
        """P(sound and picture belong together)."""
        settings = self.settings
        if settings.sync_head == "clip":
            if not features:
                raise ValueError("it reads the visual branch's features, and there are none")
            heard = self.audio.embed(torch.from_numpy(shown.cepstra)[None, None].to(self.device))
            return _probability(self.sync(self._clip_mean(features[0])[None], heard))
        mouths, mel = shown.stretch(0, shown.length, shown.length)
        starts, logits = cast(sync.WindowSync, self.sync).windows(
            torch.from_numpy(mouths).to(self.device),
            torch.from_numpy(mel).to(self.device),
            settings.sync_window,
            settings.sync_stride,
        )
        p = torch.sigmoid(logits.double()).cpu().numpy()
        span = min(settings.sync_window, shown.length)
        begin = shown.begin
        windows += [
            (begin + s / SYNC_FPS, begin + (s + span) / SYNC_FPS, float(1 - q)) for s, q in zip(starts.tolist(), p)
        ]
        return float(p.mean())

    @staticmethod
    def _clip_mean(features: Tensor) -> Tensor:
        """The seed's mean over 32 rows, zeros among them: (n, D) -> (D,)."""
        return fixed_length(features).mean(0)


class _OfBatch:
    """One clip of a collated batch, without its padding."""

    seen = True

    def __init__(self, clip: Clip, i: int) -> None:
        self.faces, self.cepstra = clip.faces[i].cpu().numpy(), clip.cepstra[i].cpu().numpy()
        self.heard, self.length, self.begin = bool(clip.heard[i]), int(clip.length[i]), 0.0
        self._mouths, self._mel = clip.mouths[i], clip.mel[i]

    def stretch(self, first: int, count: int, padded: int) -> tuple[np.ndarray, np.ndarray]:
        mouths, mel = self._mouths[first : first + padded], self._mel[:, sync.STEPS * first :]
        return mouths.cpu().numpy(), mel[:, : sync.STEPS * padded].contiguous().cpu().numpy()


def _scored(judged: Judged) -> Scored:
    if judged.head is None:
        raise RuntimeError(NO_FUSION)
    return Scored(judged.probability, tuple(judged.notes), judged.seconds, judged.head.name, judged.exited)


def _probability(logit: Tensor) -> float:
    return float(torch.sigmoid(logit.double())[0])
