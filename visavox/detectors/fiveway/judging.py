"""How one clip is judged: branch after branch, the cheap one first, then by the head of the branches that spoke.

B clips · n faces of a clip · D width of the visual branch's features
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from visavox.bundle import Bundle
from visavox.config import SYNC_FPS, Config, FiveWayConfig
from visavox.config.fiveway import STAGES
from visavox.detectors.analysis import Analysis, Branch, Calibrated, Counterfactual, LeftOut, Segment, Weighed
from visavox.detectors.base import Detector
from visavox.detectors.fiveway import fusion, sync
from visavox.detectors.fiveway.audio import CepstraNet
from visavox.detectors.fiveway.crops import Clip, SoundAlone, View, as_jpeg
from visavox.detectors.fiveway.fusion import Fusion, Head
from visavox.detectors.fiveway.state import Verdicts
from visavox.detectors.fiveway.temporal import TemporalNet, fixed_length
from visavox.detectors.fiveway.tiny import TinyLaDeDa, cut_patches
from visavox.detectors.fiveway.visual import FrameNet, normalised
from visavox.detectors.scorer import Scored, Watch

log = logging.getLogger(__name__)

BRANCHES = STAGES[:-1]
FAULTS = (RuntimeError, ValueError, OSError, ArithmeticError, MemoryError)
"""What a branch may raise without taking the verdict of the others with it."""
NO_FUSION = (
    "this detector has no fusion yet: it is the checkpoint of an early stage, or fresh. Train it with "
    "`python train.py --config configs/fiveway.json`, and score with RUN/best.ckpt"
)


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


@dataclass
class Judged:
    """What was found about one clip."""

    row: dict[str, float]
    """The twelve features, NaN where a branch said nothing."""
    logit: float
    """Calibrated log-odds of fake; NaN before the fusion is fitted."""
    head: Head | None
    exited: bool
    """Whether the gate let it through without the heavy branches."""
    seconds: dict[str, float]
    """Of each branch that ran."""
    notes: list[str]
    """Which branches said nothing, and why; which head judged."""
    silent: dict[str, str] = field(default_factory=dict)
    """Branch that said nothing -> why."""
    faces: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n,) P(fake) of each face by the visual branch; empty where it did not run."""
    windows: list[tuple[float, float, float]] = field(default_factory=list)
    """(start, end, P(out of step)) of each window of the sync branch, in seconds of the video's own clock."""

    @property
    def probability(self) -> float:
        """P(fake)."""
        return torch.sigmoid(torch.tensor(self.logit, dtype=torch.float64)).item()


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
        return self._analysis(
            judged, bundle.prep_hash, {"visual": _faces_in_time(bundle, judged), "sync": judged.windows}
        )

    def explain_sound(self, sound: np.ndarray, watch: Watch | None = None) -> Analysis:
        """Return the analysis of sound alone, (N,) int16 at `resample_rate`, as `explain`; no verdict where it is silent."""
        if not np.any(sound):
            return Analysis.of(
                0.5,
                card=self.card,
                branches=[Branch(branch, None, 0.0, 0.0) for branch in BRANCHES],
                notes=["No face and no sound: there is nothing to judge by."],
                judged=False,
            )
        return self._analysis(self.examine(sound, watch=watch), "", {})

    def _analysis(
        self, judged: Judged, prep_hash: str, timelines: Mapping[str, Sequence[tuple[float, float, float]]]
    ) -> Analysis:
        head, fitted = judged.head, self.verdicts.fusion
        if head is None or fitted is None:
            raise RuntimeError(NO_FUSION)
        parts = head.contributions(judged.row)
        weights = {
            branch: abs(sum(parts.get(name, 0.0) for name in fusion.BRANCHES[branch])) for branch in head.branches
        }
        whole = sum(weights.values()) or 1.0
        branches = [
            Branch(
                branch,
                _opinion(judged.row, branch),
                weights.get(branch, 0.0) / whole,
                judged.seconds.get(branch, 0.0),
                [Segment(round(start, 3), round(end, 3), p) for start, end, p in timelines.get(branch, ())],
            )
            for branch in BRANCHES
        ]
        notes = [
            *fusion.explain(head, judged.row),
            *judged.notes,
            *(f"head {head.name}: {warning}" for warning in head.warnings),
            "Branches are fused over the clip as a whole: it has no time line of its own, those of `visual` and `sync` have.",
        ]
        calibration = f"temperature {head.temperature:.3g} on {head.fitted_on}, at equal priors"
        return Analysis.of(
            judged.probability,
            card=replace(self.card, prep_hash=prep_hash, calibration=calibration),
            branches=branches,
            notes=notes,
            settings=self.settings.model_dump(mode="json"),
            ledger=[Weighed(name, part) for name, part in parts.items()],
            calibrated=Calibrated(head.fitted_on, head.n_real + head.n_fake, head.fitted_at[:10]),
            degraded=[LeftOut(branch, why) for branch, why in judged.silent.items()],
            counterfactuals=_without_each(fitted, head, judged.row),
        )

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
        return Judged(row, logit, head, exited, seconds, notes, silent, found.get("visual", np.zeros(0)), windows)

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


def _without_each(fitted: Fusion, head: Head, row: Mapping[str, float]) -> list[Counterfactual]:
    """P(fake) by the head of the other branches, for each branch of a head; None where there is no such head."""
    found = []
    for branch in head.branches if len(head.branches) > 1 else ():
        others = dict(row) | dict.fromkeys(fusion.BRANCHES[branch], float("nan"))
        try:
            logit, _ = fitted.logit(others)
            found.append(Counterfactual(branch, float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64)))))
        except fusion.FusionError:
            found.append(Counterfactual(branch, None))
    return found


def _faces_in_time(bundle: Bundle, judged: Judged) -> list[tuple[float, float, float]]:
    """(start, end, P(fake)) of each face that the visual branch saw: the seconds that it stands for."""
    n = len(judged.faces)
    if not n:
        return []
    begin, end = float(bundle.times[0]), float(bundle.times[-1]) + 1 / SYNC_FPS
    edges = begin + (end - begin) * np.arange(n + 1) / n
    return [(float(a), float(b), float(p)) for a, b, p in zip(edges, edges[1:], judged.faces)]


def _opinion(row: Mapping[str, float], branch: str) -> float | None:
    """P(fake) by one branch alone, for show; None where it said nothing. The calibrated heads read more than this."""
    name = {"tiny": "tiny_prob_mean", "visual": "visual_prob_mean", "sync": "sync_prob"}.get(
        branch, f"{branch}_prob_fake"
    )
    if not np.isfinite(row[name]):
        return None
    return 1 - row[name] if branch == "sync" else row[name]


def _probability(logit: Tensor) -> float:
    return float(torch.sigmoid(logit.double())[0])
