"""One video that somebody waits for, to its analysis: the one way from a file to a verdict, below pages, service and commands.

judge = HouseJudge.of(visavox.load("runs/v1/best.ckpt"))
analysis = judge("clip.mp4")
clip = judge.see("clip.mp4")          # its first half, for who explains the same clip several times
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from visavox.bundle.trim import trimmed_as
from visavox.compute import scoring_context, scoring_dtype
from visavox.config import FiveWayConfig, GenDConfig, XceptionAudioConfig, XceptionFusedConfig, XceptionVideoConfig
from visavox.detectors.analysis import NOTHING, Analysis, Branch, ModelCard
from visavox.detectors.base import Detector
from visavox.detectors.judging import Judge, ModelError
from visavox.detectors.novelty import Features
from visavox.detectors.scorer import Hearing, Scorer, Together, Watch
from visavox.preprocessing import tools
from visavox.preprocessing.pipeline import CropError, Preprocessor
from visavox.preprocessing.single import bundle_or_sound, single_config
from visavox.preprocessing.stills import is_picture
from visavox.progress import Stopwatch

if TYPE_CHECKING:
    from visavox.bundle import Bundle


@dataclass(frozen=True)
class HouseJudge:
    """A detector trained here with what makes its bundles: judges videos and bundles. A `Judge`."""

    scorer: Scorer
    """Detector or fusion, on its device, in its form for inference."""
    preprocess: Preprocessor
    """Makes the bundles that the scorer was trained with; further into the clip where its networks take any length."""
    dtype: torch.dtype = torch.float32
    """What the scorer computes in, as `score_precision` asks for."""

    @classmethod
    def of(cls, scorer: Scorer, threads: int | None = None) -> HouseJudge:
        """Build what turns a video into what the scorer reads; weights are fetched and verified.

        Args:
            scorer: must not be trained or saved after.
            threads: of decoder and networks; None leaves their number to the libraries.

        Raises:
            WeightsError: weights of the face detector or of SyncNet are missing; the message says what to do.
        """
        any_length = isinstance(scorer.config.detector, XceptionFusedConfig)
        config = single_config(scorer.config) if any_length else scorer.config
        tools.check_weights(config)
        dtype = scoring_dtype(config.score_precision, scorer.device)
        return cls(scorer.for_inference(dtype), tools.build(config, threads), dtype)

    @property
    def name(self) -> str:
        return self.card.detector

    @property
    def card(self) -> ModelCard:
        return replace(self.scorer.card, prep_hash=self.preprocess.prep_hash)

    def __call__(self, path: str | Path, *, watch: Stopwatch | None = None, ended: Watch | None = None) -> Analysis:
        """Judge one video or bundle; see `Judge`."""
        return self.explain(self.see(path, watch=watch), watch=watch, ended=ended)

    def see(self, path: str | Path, *, watch: Stopwatch | None = None) -> Bundle | np.ndarray:
        """Return the trimmed bundle of a video, or of a bundle's file, or the sound (N,) int16 where that alone can be judged.

        Raises:
            MediaError: not a video, unreadable, beyond the limits.
            CropError: no face, or too few frames that show one, and the scorer needs one.
            ModelError: a picture.
            BundleError: a bundle that was made with other settings, or is damaged.
        """
        path = Path(path)
        if is_picture(path):
            from visavox.detectors.published.catalogue import MODELS  # its package imports this module

            others = [model.name for model in MODELS.values() if "picture" in model.reads]
            raise ModelError(
                f"{path}: {self.name} judges videos, a picture has neither course nor sound; give --model {others[0]}"
            )
        if isinstance(self.scorer, Hearing) and path.suffix.lower() != ".npz":
            return bundle_or_sound(self.preprocess, path, watch=watch)
        # A bundle's file is measured against the checkpoint's own settings: it was made for eval, not for this video.
        bundle = tools.bundle_of(path, self.scorer.config, lambda video: self.preprocess(video, watch=watch))
        return trimmed_as(self.scorer.config, bundle)

    def explain(
        self, clip: Bundle | np.ndarray, *, watch: Stopwatch | None = None, ended: Watch | None = None
    ) -> Analysis:
        """Return the analysis of what `see` gave."""
        watch = watch or Stopwatch()
        with watch("models"), scoring_context(self.dtype, self.scorer.device):
            if not isinstance(clip, np.ndarray):
                return self._with_novelty(clip, ended)
            assert isinstance(self.scorer, Hearing)  # `see` gives sound to no other
            return self.scorer.explain_sound(clip, ended)

    def _with_novelty(self, clip: Bundle, ended: Watch | None) -> Analysis:
        """Explain a clip, and say how unlike those it is that the detector was trained on, where that is known."""
        if not isinstance(self.scorer, Detector) or self.scorer.known is None:
            return self.scorer.explain(clip, ended)
        with Features(self.scorer) as seen:
            found = self.scorer.explain(clip, ended)
        return replace(found, novelty=self.scorer.known.novelty(seen.vector))

    def explain_all(self, clips: Sequence[Bundle], ended: Sequence[Watch | None]) -> list[Analysis]:
        """Return the analyses of several bundles that `see` gave, in one call where the scorer takes several."""
        knows = isinstance(self.scorer, Detector) and self.scorer.known is not None  # a clip's features are its own
        if not isinstance(self.scorer, Together) or knows:
            return [self.explain(clip, ended=watch) for clip, watch in zip(clips, ended, strict=True)]
        with scoring_context(self.dtype, self.scorer.device):
            return self.scorer.explain_all(clips, ended)


def nothing_to_judge(judge: Judge, error: CropError) -> Analysis:
    """Return the analysis of a video that shows nothing to judge by: undetermined, never authentic."""
    return Analysis.of(
        0.5,
        card=judge.card,
        branches=[Branch(judge.name, None, 0.0, 0.0)],
        notes=[f"There is nothing to judge by: {error}."],
        undecided=NOTHING,
    )


def branches_of(judge: Judge) -> list[str]:
    """Return the names that the branches of its analyses have, in their order."""
    inside = getattr(judge, "judge", judge)  # of a calibrated one
    fused = [*getattr(inside, "judges", ()), *getattr(inside, "missing", ())]
    if fused:
        return fused
    match inside.scorer.config.detector if isinstance(inside, HouseJudge) else None:
        case FiveWayConfig():
            from visavox.detectors.fiveway.judged import BRANCHES

            return list(BRANCHES)
        case XceptionFusedConfig():
            return ["video", "audio"]
        case XceptionVideoConfig():
            return ["video"]
        case XceptionAudioConfig():
            return ["audio"]
        case GenDConfig():
            return ["face"]
        case _:
            return [judge.name]
