"""The features of a clip: made of a bundle by two frozen backbones, kept in one `.npz` per clip.

    extractor = Extractor.build("marlin_vit_small_ytf", "eat", config, steps=10)
    features = extractor(Bundle.load("clip.npz"))
    features.save("features/clip.npz")
    Features.load("features/clip.npz", expected=extractor.stamp)

n steps of video, at most T · m steps of sound · E, D widths · W frames of an MFCC image
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from visavox.bundle import Bundle, BundleError
from visavox.bundle.schema import check_directory, read_array
from visavox.bundle.trim import trimming
from visavox.detectors.td3mf import backbones
from visavox.files import parse_json, replacing
from visavox.preprocessing.provenance import prep_hash
from visavox.status import Status

if TYPE_CHECKING:
    from visavox.config import Config
    from visavox.detectors.td3mf.backbones.base import AudioBackbone, VideoBackbone

SCHEMA_VERSION = 1
"""Raised when a member of the file changes its meaning."""
MEMBERS = ("video", "audio", "stamp", "source_sha256")
ZIP_NAME = 30
"""Bytes of a zip's first header before the name of its first member (PKWARE APPNOTE, 4.3.7)."""
LEAST_HEARD = 0.5
"""Seconds of a window that have to be sound; the first window of a clip is heard whatever its length."""


class FeatureError(ValueError):
    """A feature file is damaged, or was made by other backbones, weights or settings; the message holds the cure."""

    def __init__(self, message: str, code: str = "BAD_FEATURES"):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Stamp:
    """What features were made with. Features of different stamps are never mixed."""

    video_backbone: str
    video_sha256: str
    """Of the weights."""
    audio_backbone: str
    audio_sha256: str
    steps: int
    """T, the most steps of video that were computed."""
    prep_hash: str
    """Of the bundles."""
    trim_silence: str
    """What was cut off the bundles."""
    schema_version: int = SCHEMA_VERSION

    def differences(self, other: Stamp) -> str:
        """Return in words how another stamp differs, '' where it does not."""
        mine, theirs = asdict(self), asdict(other)
        return "; ".join(
            f"{key} {_short(theirs[key])}, not {_short(mine[key])}" for key in mine if mine[key] != theirs[key]
        )


@dataclass(frozen=True, eq=False)
class Features:
    """Features of one clip, without padding."""

    video: np.ndarray
    """(n, E) float32, 1 <= n <= T."""
    audio: np.ndarray
    """(m, D) float32, or (m, D, W) for MFCC; m = 0 for a clip without sound."""
    stamp: Stamp
    source_sha256: str
    """Of the video file."""
    notes: str = ""
    """What happened on the way, as a bundle has it; feature files keep none."""

    @property
    def status(self) -> Status:
        """The status of the bundle they were made of: no_audio where there is no step of sound."""
        return "ok" if len(self.audio) else "no_audio"

    @property
    def prep_hash(self) -> str:
        """Hash of the settings and weights that the bundle was made with."""
        return self.stamp.prep_hash

    def save(self, path: str | Path) -> None:
        """Write the file as a whole or not at all.

        Raises:
            FeatureError: the features are not finite or of wrong shape.
        """
        if fault := self._fault():
            raise FeatureError(f"{path}: {fault}")
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez(
                file,
                video=self.video,
                audio=self.audio,
                stamp=np.array(json.dumps(asdict(self.stamp))),
                source_sha256=np.array(self.source_sha256),
            )

    @classmethod
    def load(cls, path: str | Path, expected: Stamp | None = None) -> Features:
        """Read and check features; pickled objects are never loaded.

        Raises:
            FeatureError: damaged, not finite, of wrong shape, or with another stamp than `expected`.
        """
        with _opened(path) as members:
            features = cls(members("video"), members("audio"), _stamp(members("stamp")), str(members("source_sha256")))
        if fault := features._fault():
            raise FeatureError(f"{path}: {fault}; remove the file and extract it again")
        if expected is not None and (differences := expected.differences(features.stamp)):
            raise FeatureError(
                f"{path}: these features are others than are asked for: {differences}; give a folder of their own to each",
                "OTHER_SETTINGS",
            )
        return features

    def _fault(self) -> str | None:
        for name, value, dims in (("video", self.video, (2,)), ("audio", self.audio, (2, 3))):
            if value.dtype != np.float32 or value.ndim not in dims:
                return f"{name} is {value.dtype} {value.shape}, expected float32 of {' or '.join(map(str, dims))} dimensions"
            if not np.isfinite(value).all():
                return f"{name} is not finite"
        if not 1 <= len(self.video) <= self.stamp.steps:
            return f"video has {len(self.video)} steps, expected 1 to {self.stamp.steps}"
        return None


def is_features(path: str | Path) -> bool:
    """Return whether a file begins as feature files do, and bundles do not; it may still be damaged further on."""
    try:
        with open(path, "rb") as file:
            return file.read(64)[ZIP_NAME:].startswith(f"{MEMBERS[0]}.npy".encode())
    except OSError:
        return False


def read_stamp(path: str | Path) -> tuple[Stamp, str]:
    """Return the stamp of a feature file and the sha256 of its video, without reading the features.

    Raises:
        FeatureError: not a feature file, or damaged.
    """
    with _opened(path) as members:
        return _stamp(members("stamp")), str(members("source_sha256"))


class Extractor:
    """Turns bundles into features; nothing random in it, so that equal bundles have equal features."""

    def __init__(self, video: backbones.Loaded, audio: backbones.Loaded, config: Config, steps: int) -> None:
        self.video = cast("VideoBackbone", video.backbone)
        self.audio = cast("AudioBackbone", audio.backbone)
        self.stamp = Stamp(
            video_backbone=video.backbone.name,
            video_sha256=video.sha256,
            audio_backbone=audio.backbone.name,
            audio_sha256=audio.sha256,
            steps=steps,
            prep_hash=prep_hash(config),
            trim_silence=trimming(config),
        )

    @classmethod
    def build(
        cls,
        video: str,
        audio: str,
        config: Config,
        *,
        steps: int = 10,
        weights: str = backbones.PUBLISHED,
        seed: int = 0,
        device: str = "cpu",
    ) -> Extractor:
        """Load both backbones.

        Raises:
            ValueError: there is no backbone of that name; the nearest is named.
            WeightsError: its weights are not to be had or do not fit; the message says what to put where.
        """
        backbones.check_name(video, "video")
        backbones.check_name(audio, "audio")
        seen = backbones.load(video, "video", weights=weights, seed=seed, device=device)
        heard = backbones.load(audio, "audio", weights=weights, seed=seed, device=device)
        return cls(seen, heard, config, steps)

    def __call__(self, bundle: Bundle) -> Features:
        """Return the features of a bundle, trimmed as the configuration says.

        A window of sound begins where a step of the video does: 1.28 s apart for MARLIN. (2D3MF takes a second of sound each
        second beside them, so that the tenth pair is 2.5 s apart.)

        Raises:
            BundleError: the bundle holds no track, or was made with other settings.
        """
        if bundle.prep_hash != self.stamp.prep_hash:
            raise BundleError(
                "made with other settings than the configuration's; crop again, or give its configuration"
            )
        video = self.video.features(bundle.frame, bundle.track_frames, self.stamp.steps)
        return Features(video, self._hear(bundle, len(video)), self.stamp, bundle.source_sha256)

    def _hear(self, bundle: Bundle, steps: int) -> np.ndarray:
        if bundle.audio is None:
            raise BundleError("this bundle was loaded without its audio; use Bundle.load(path, full=True)")
        if bundle.status == "no_audio" or not len(bundle.audio):
            return np.zeros((0, *self.audio.input(steps).shape), np.float32)
        audio = resampled(bundle.audio, bundle.sample_rate, self.audio.sample_rate)
        seconds = len(audio) / self.audio.sample_rate
        return self.audio.features(audio, window_starts(seconds, steps, self.video.step))


class FeatureFolder:
    """The feature files of a folder, found by the video they were made of."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.paths: dict[str, Path] = {}
        self.stamps: dict[Stamp, Path] = {}
        """Each stamp that occurs, with a file that has it."""
        for path in sorted(self.folder.rglob("*.npz")) if self.folder.is_dir() else ():
            stamp, source = read_stamp(path)
            self.stamps.setdefault(stamp, path)
            self.paths[source] = path
        require_one_kind(self.folder, self.stamps)

    @property
    def stamp(self) -> Stamp | None:
        """The stamp of all its files; None while there are none."""
        return next(iter(self.stamps), None)

    def require(self, expected: Stamp) -> None:
        """Raise FeatureError if the folder holds features with another stamp."""
        if self.stamp is not None and (differences := expected.differences(self.stamp)):
            raise FeatureError(
                f"{self.folder} holds other features than are asked for: {differences}; give another folder, or ask for those"
            )

    def get(self, source_sha256: str, expected: Stamp) -> Features | None:
        """Return the features of a video, or None if the folder lacks them; another process may have added them."""
        path = self.paths.get(source_sha256)
        if path is None:
            path = self.folder / f"{source_sha256}.npz"
            if not path.is_file():
                return None
            self.paths[source_sha256] = path
        return Features.load(path, expected)

    def add(self, features: Features, name: str | None = None) -> Path:
        """Keep features, under a name or the sum of their video."""
        self.require(features.stamp)
        path = self.folder / (name or f"{features.source_sha256}.npz")
        features.save(path)
        self.paths[features.source_sha256] = path
        self.stamps.setdefault(features.stamp, path)
        return path


def require_one_kind(folder: object, stamps: Mapping[Stamp, object]) -> None:
    """Raise FeatureError where a folder holds features of several stamps, each given with a file that has it."""
    if len(stamps) > 1:
        (first, one), (second, other), *_ = stamps.items()
        raise FeatureError(
            f"{folder} mixes features of {len(stamps)} kinds, e.g. {one} and {other}: {first.differences(second)}; give a "
            "folder of its own to each"
        )


def window_starts(seconds: float, steps: int, step: float) -> list[float]:
    """Return where the windows of a second begin in sound of so many seconds: at most `steps`, `step` seconds apart."""
    return [i * step for i in range(steps) if i == 0 or i * step + LEAST_HEARD <= seconds]


def resampled(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return sound at another rate: (N,) int16 -> float32 in [-1, 1] at `wanted` Hz, by a polyphase filter."""
    from scipy.signal import resample_poly

    sound = audio.astype(np.float32) / 32768
    if rate == wanted:
        return sound
    common = gcd(rate, wanted)
    return resample_poly(sound, wanted // common, rate // common).astype(np.float32)


@contextmanager
def _opened(path: str | Path) -> Iterator[Callable[[str], np.ndarray]]:
    """Give a function that reads a member of a feature file; whatever is wrong with the file becomes a FeatureError."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_directory(archive, MEMBERS)
            yield lambda name: read_array(archive, name)
    except FileNotFoundError:
        raise FeatureError(f"{path}: no such file; `visavox features` makes it") from None
    except FeatureError:
        raise
    except (zipfile.BadZipFile, ValueError, EOFError, TypeError, NotImplementedError) as error:
        raise FeatureError(f"{path}: no whole file of features ({error}); remove it and extract it again") from None


def _stamp(text: np.ndarray) -> Stamp:
    stamp = Stamp(**parse_json(str(text)))
    numbers = ("steps", "schema_version")
    if not all(type(value) is (int if name in numbers else str) for name, value in asdict(stamp).items()):
        raise ValueError("its stamp holds values of other kinds than a stamp's")
    if stamp.schema_version != SCHEMA_VERSION:
        raise ValueError(f"schema version {stamp.schema_version}, this code reads {SCHEMA_VERSION}")
    return stamp


def _short(value: Any) -> str:
    """A sum's first digits, anything else as it is."""
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 32 else str(value)
