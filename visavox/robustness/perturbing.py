"""A preprocessor for videos as they are after a perturbation, with a cache of the bundles it has made.

preprocess = build(recipe, cache, root, config)      # stands where visavox.preprocessing.tools.build does
preprocess("clips/a.mp4")                            # -> Bundle; the second time it is read from the cache
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from visavox.bundle import Bundle, BundleError
from visavox.files import sha256_of
from visavox.media import confined
from visavox.preprocessing.pipeline import Preprocessor
from visavox.progress import Stopwatch
from visavox.robustness.kinds import KINDS

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Recipe:
    """What is done to every video."""

    kind: str
    """One of `kinds.KINDS`."""
    level: int
    """1 to 5."""
    seed: int = 0

    @property
    def constant(self) -> float:
        return KINDS[self.kind].levels[self.level - 1]

    @property
    def note(self) -> str:
        """What a bundle says of it."""
        return (
            f"perturbed: {self.kind}, level {self.level} ({self.constant:g} {KINDS[self.kind].unit}), seed {self.seed}"
        )

    def rng(self, name: str, stream: int) -> np.random.Generator:
        """Return the randomness of one video's picture (0) or sound (1): the same in every run, and at every level, so that
        what a mild level loses a strong one loses too."""
        return np.random.default_rng([self.seed, stream, *(zlib.crc32(s.encode()) for s in (self.kind, name))])


class PerturbedVideo:
    """An open video whose frames and sound are changed on the way; see `visavox.media.Video`."""

    def __init__(self, video: Any, recipe: Recipe, name: str, rate: int):
        self.video, self.recipe, self.name, self.rate = video, recipe, name, rate
        self.info = video.info

    def __enter__(self) -> Self:
        self.video.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.video.__exit__(*exception)

    @property
    def notes(self) -> list[str]:
        """Of the video, and what was done to it."""
        return [*self.video.notes, self.recipe.note]

    def frames(self) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) uint8 RGB, as many as the video has."""
        change = KINDS[self.recipe.kind].picture
        frames = self.video.frames()
        return change(frames, self.recipe.constant, self.recipe.rng(self.name, 0)) if change else frames

    def audio(self) -> np.ndarray | None:
        """Sound (N,) int16, as long as the video's; None where it has none."""
        sound, change = self.video.audio(), KINDS[self.recipe.kind].sound
        if sound is None or change is None:
            return sound
        return change(sound, self.rate, self.recipe.constant, self.recipe.rng(self.name, 1))


def open_perturbed(path: str | Path, recipe: Recipe, name: str, **how: Any) -> PerturbedVideo:
    """Open a video to be read as it is after a perturbation; `how` as `visavox.media.confined.open_video`.

    Raises:
        MediaError: as there.
    """
    return PerturbedVideo(confined.open_video(path, **how), recipe, name, how.get("sample_rate", 16000))


@dataclass(frozen=True)
class Perturbing:
    """A `Preprocessor` of perturbed videos that keeps each bundle it makes."""

    preprocess: Preprocessor
    recipe: Recipe
    cache: Path
    """Folder of this recipe's bundles."""
    root: Path
    """Folder that the videos' names start from."""

    def __call__(self, path: str | Path, *, watch: Stopwatch | None = None) -> Bundle:
        """Return the bundle of a video under the perturbation: the one kept from before if it is of this video and settings.

        Raises:
            MediaError, CropError: as `Preprocessor`; nothing is kept then.
        """
        path = Path(path)
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
        kept, sha = self.cache / f"{name}.npz", sha256_of(path)
        if kept.is_file():
            try:
                bundle = Bundle.load(kept)
            except BundleError:  # damaged: made again
                bundle = None
            if bundle and self._is_of(bundle, sha):
                return bundle
        opener = partial(open_perturbed, recipe=self.recipe, name=name)
        bundle = replace(self.preprocess, opener=opener)(path, watch=watch, source_sha256=sha)
        bundle.save(kept)
        return bundle

    def _is_of(self, bundle: Bundle, sha: str) -> bool:
        asked = self.preprocess.prep_hash, sha
        return (bundle.prep_hash, bundle.source_sha256) == asked and self.recipe.note in bundle.notes.split("\n")
