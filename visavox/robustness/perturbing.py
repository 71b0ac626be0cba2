"""Bundles of videos as they are after perturbations, with a cache of those that were made.

perturbing = Perturbing(preprocess, root, cache)     # preprocess: of visavox.preprocessing.tools.build
perturbing("clips/a.mp4", [Recipe("blur", 1), Recipe("blur", 5)])      # -> (recipe, Bundle, seconds) each, read from the cache
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from visavox.bundle import Bundle, BundleError
from visavox.files import sha256_of
from visavox.media import confined
from visavox.preprocessing.pipeline import Followed, Preprocessor
from visavox.progress import Stopwatch
from visavox.robustness.kinds import KINDS

HELD_BYTES = 768 << 20
"""Frames of a video that are held for its next perturbation: 129 of 1080p, all 16 s of 640 x 480. Of larger ones each
perturbation decodes the file again."""


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

    def heard(self, sound: np.ndarray | None, rate: int, name: str) -> np.ndarray | None:
        """Return the sound (N,) int16 of video `name` as it is after it; None where it has none."""
        change = KINDS[self.kind].sound
        return sound if sound is None or change is None else change(sound, rate, self.constant, self.rng(name, 1))


class _Wrapped:
    """An open video in another one's place, closed with it."""

    def __init__(self, video: Any):
        self.video, self.info = video, video.info

    def __enter__(self) -> Self:
        self.video.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.video.__exit__(*exception)


class PerturbedVideo(_Wrapped):
    """An open video whose frames and sound are changed on the way; see `visavox.media.Video`."""

    def __init__(self, video: Any, recipe: Recipe, name: str, rate: int):
        super().__init__(video)
        self.recipe, self.name, self.rate = recipe, name, rate

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
        return self.recipe.heard(self.video.audio(), self.rate, self.name)


def open_perturbed(path: str | Path, recipe: Recipe, name: str, **how: Any) -> PerturbedVideo:
    """Open a video to be read as it is after a perturbation; `how` as `visavox.media.confined.open_video`.

    Raises:
        MediaError: as there.
    """
    return PerturbedVideo(confined.open_video(path, **how), recipe, name, how.get("sample_rate", 16000))


class Replayed:
    """A video that was read before, given again from memory; see `visavox.media.Video`."""

    def __init__(self, frames: list[np.ndarray], sound: np.ndarray | None, notes: list[str], info: Any):
        self._frames, self._sound, self.notes, self.info = frames, sound, notes, info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def frames(self) -> Iterator[np.ndarray]:
        return iter(self._frames)

    def audio(self) -> np.ndarray | None:
        return self._sound


class Recorded(_Wrapped):
    """An open video that remembers what it gave, where all its frames fit into HELD_BYTES."""

    def __init__(self, video: Any):
        super().__init__(video)
        self._kept: list[np.ndarray] | None = []

    @property
    def notes(self) -> list[str]:
        return list(self.video.notes)

    def frames(self) -> Iterator[np.ndarray]:
        size, last = 0, None
        for frame in self.video.frames():
            if self._kept is not None:
                size += 0 if frame is last else frame.nbytes  # a frame that is shown twice is one array
                self._kept.append(frame)
                last = frame
                if size > HELD_BYTES:
                    self._kept = None
            yield frame

    def audio(self) -> np.ndarray | None:
        return self.video.audio()

    def again(self) -> Replayed | None:
        """Return the video as it was, once it is read to its end; None where it was too large to hold."""
        return None if self._kept is None else Replayed(self._kept, self.audio(), self.notes, self.info)


class Source:
    """One video for all that is done to it: decoded once where its frames fit into memory, and its faces followed once for
    all perturbations that leave the picture as it is. Every bundle is bit for bit the one that the video by itself gives."""

    def __init__(self, preprocess: Preprocessor, path: Path, name: str, sha256: str):
        self.preprocess, self.path, self.name, self.sha256 = preprocess, path, name, sha256
        self._replayed: Replayed | None = None
        self._followed: Followed | None = None

    def bundle(self, recipe: Recipe, watch: Stopwatch) -> Bundle:
        """Return the bundle of the video under a recipe.

        Raises:
            MediaError, CropError: as `Preprocessor`.
        """
        if KINDS[recipe.kind].picture:
            opener = partial(self._open, recipe=recipe)
            return replace(self.preprocess, opener=opener)(self.path, watch=watch, source_sha256=self.sha256)
        if self._followed is None:
            self._followed = replace(self.preprocess, opener=self._open).follow(self.path, watch)
        tracks, sound, notes = self._followed
        heard = recipe.heard(sound, self.preprocess.config.resample_rate, self.name)
        return self.preprocess.bundle(Followed(tracks, heard, [*notes, recipe.note]), watch, self.sha256)

    @contextmanager
    def _open(self, path: Path, recipe: Recipe | None = None, **how: Any) -> Iterator[Any]:
        if self._replayed is not None:
            video: Any = self._replayed
        else:
            video = Recorded(confined.open_video(path, **how))
        with video:
            yield PerturbedVideo(video, recipe, self.name, how["sample_rate"]) if recipe else video
            if isinstance(video, Recorded):
                self._replayed = video.again()


@dataclass(frozen=True)
class Perturbing:
    """A `Preprocessor` of one video under several perturbations that keeps each bundle it makes."""

    preprocess: Preprocessor
    root: Path
    """Folder that the videos' names start from."""
    cache: Callable[[Recipe], Path]
    """Recipe -> folder of its bundles."""

    def __call__(
        self, path: str | Path, recipes: Sequence[Recipe]
    ) -> Iterator[tuple[Recipe, Bundle | Exception, dict[str, float]]]:
        """Yield for each recipe the bundle of the video under it, or the error that it gave, and the seconds of each stage.

        A bundle that was kept before is read if it is of this video and these settings; of an error nothing is kept.
        """
        path = Path(path)
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
        source: Source | None = None
        for recipe in recipes:
            watch = Stopwatch()
            try:
                if source is None:
                    source = Source(self.preprocess, path, name, sha256_of(path))
                yield recipe, self._bundle(source, recipe, watch), dict(watch.seconds)
            except Exception as error:  # the caller's answer: nothing a video does may stop the others
                yield recipe, error, dict(watch.seconds)

    def _bundle(self, source: Source, recipe: Recipe, watch: Stopwatch) -> Bundle:
        kept = self.cache(recipe) / f"{source.name}.npz"
        if kept.is_file():
            try:
                bundle = Bundle.load(kept)
            except BundleError:  # damaged: made again
                bundle = None
            if bundle and self._is_of(bundle, recipe, source.sha256):
                return bundle
        bundle = source.bundle(recipe, watch)
        bundle.save(kept)
        return bundle

    def _is_of(self, bundle: Bundle, recipe: Recipe, sha: str) -> bool:
        asked = self.preprocess.prep_hash, sha
        return (bundle.prep_hash, bundle.source_sha256) == asked and recipe.note in bundle.notes.split("\n")
