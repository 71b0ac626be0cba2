"""What the branches are given of a bundle.

n faces · S their side in pixels · C cepstra with deltas · M their steps · L frames, 25 a second · s side of a mouth in pixels
F mel bins · STEPS mel steps in a frame
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
from torch import Tensor

from visavox.bundle import Bundle, BundleError
from visavox.config import SYNC_FPS, Config, FiveWayConfig
from visavox.detectors.fiveway.audio import fit_length, standardised
from visavox.detectors.fiveway.sync import STEPS
from visavox.features.audio import log_mel
from visavox.features.cqcc import RECIPES, cqcc
from visavox.features.mouth import mouth

JPEG_QUALITY = 95
"""Of the files in which the seed kept its crops: OpenCV's default."""


class Clip(NamedTuple):
    """One clip, or B of them once collated. Parts that a stage does not read are empty."""

    faces: Tensor
    """(n, S, S, 3) uint8 RGB, in the order of time."""
    cepstra: Tensor
    """(C, M) float32."""
    mouths: Tensor
    """(L, s, s, 3) uint8 RGB, padded at the end to a common length."""
    mel: Tensor
    """(F, STEPS * L) float32, mean 0 and deviation 1 over the clip."""
    length: Tensor
    """() int64: frames that are the clip's own."""
    heard: Tensor
    """() bool: whether it has sound."""


class View:
    """What one bundle shows and lets hear; each part is made when it is first asked for.

    Args:
        rng: randomness of training; None is deterministic.
    """

    def __init__(
        self, bundle: Bundle, config: Config, settings: FiveWayConfig, rng: np.random.Generator | None = None
    ) -> None:
        if bundle.audio is None:
            raise BundleError("this bundle was loaded without its audio; use Bundle.load(path, full=True)")
        self.bundle, self.config, self.settings, self.rng = bundle, config, settings, rng
        self.audio: np.ndarray = bundle.audio

    seen = True

    @property
    def heard(self) -> bool:
        return self.bundle.status == "ok" and bool(np.any(self.audio))

    @property
    def length(self) -> int:
        return self.bundle.track_frames

    @property
    def begin(self) -> float:
        """Seconds of the video's own clock at which it begins."""
        return float(self.bundle.times[0])

    @cached_property
    def faces(self) -> np.ndarray:
        """frame_num of the bundle's faces: (n, S, S, 3) uint8."""
        K, n = len(self.bundle.faces), self.config.frame_num
        within = np.full(n, 0.5) if self.rng is None else self.rng.random(n)
        faces = self.bundle.faces[((np.arange(n) + within) * K / n).astype(int)]
        if self.rng is not None and self.config.augment:
            faces = augment(faces, self.rng)
        return wrapped(faces) if self.settings.preprocessing == "wrapped" else faces

    @cached_property
    def cepstra(self) -> np.ndarray:
        """(C, audio_steps) float32."""
        return cepstra_of(self.audio, self.bundle.sample_rate, self.settings, self.rng)

    def stretch(self, first: int, count: int, padded: int) -> tuple[np.ndarray, np.ndarray]:
        """Mouths and log-mel of some frames, zero behind them: (padded, s, s, 3) uint8, (F, STEPS * padded) float32."""
        settings, bundle = self.settings, self.bundle
        mouths = np.zeros((padded, settings.sync_size, settings.sync_size, 3), np.uint8)
        for i in range(count):
            mouths[i] = mouth(bundle.frame(first + i), bundle.landmarks[first + i], settings.sync_size)
        mel = np.zeros((settings.sync_mels, STEPS * padded), np.float32)
        if self.heard:
            whole = self._mel[:, STEPS * first : STEPS * (first + count)]
            mel[:, : STEPS * count] = self._mel.min()
            mel[:, : whole.shape[1]] = whole
        return mouths, mel

    @cached_property
    def _mel(self) -> np.ndarray:
        mel = log_mel(self.audio, self.bundle.sample_rate, self.settings.sync_mels)
        return (mel - mel.mean()) / (mel.std() + 1e-6)


def clip_for(
    stage: str, bundle: Bundle, config: Config, settings: FiveWayConfig, rng: np.random.Generator | None
) -> Clip:
    """Return what a stage of training reads of a bundle, of the fusion everything, the other parts empty.

    Args:
        rng: randomness of training; None is deterministic. Training clips teach the fusion nothing.
    """
    if stage == "fusion" and rng is not None:
        return empty()
    view = View(bundle, config, settings, rng)
    windows = settings.sync_head == "windows"
    made = empty()._replace(length=torch.tensor(view.length), heard=torch.tensor(view.heard))
    if stage in ("tiny", "visual", "temporal", "fusion") or (stage == "sync" and not windows):
        faces = view.faces
        if rng is not None and stage in ("tiny", "visual") and len(faces) > settings.train_faces:
            faces = faces[np.sort(rng.permutation(len(faces))[: settings.train_faces])]
        made = made._replace(faces=torch.from_numpy(np.ascontiguousarray(faces)))
    if stage in ("audio", "fusion") or (stage == "sync" and not windows):
        made = made._replace(cepstra=torch.from_numpy(view.cepstra))
    if windows and stage in ("sync", "fusion"):
        most = max(view.length, round(config.max_clip_len * SYNC_FPS))
        first, count = 0, view.length
        if rng is not None:
            most = settings.sync_window + 2 * settings.sync_max_shift
            count = min(view.length, most)
            first = int(rng.integers(view.length - count + 1))
        mouths, mel = view.stretch(first, count, most)
        made = made._replace(mouths=torch.from_numpy(mouths), mel=torch.from_numpy(mel), length=torch.tensor(count))
    return made


class SoundAlone:
    """The sound of a video in which no face was found: what the audio branch needs of a `View`.

    Args:
        sound: (N,) int16 at `resample_rate`.
    """

    seen, length, begin = False, 0, 0.0

    def __init__(self, sound: np.ndarray, config: Config, settings: FiveWayConfig) -> None:
        self.heard = bool(np.any(sound))
        self.cepstra = cepstra_of(sound, config.resample_rate, settings) if self.heard else np.zeros((0, 0), np.float32)
        self.faces = np.zeros((0, 0, 0, 3), np.uint8)

    def stretch(self, first: int, count: int, padded: int) -> tuple[np.ndarray, np.ndarray]:
        raise ValueError("no face was found: there are no mouths")


def cepstra_of(
    sound: np.ndarray, rate: int, settings: FiveWayConfig, rng: np.random.Generator | None = None
) -> np.ndarray:
    """What the audio branch reads of sound (N,) int16: (C, audio_steps) float32."""
    found = _cepstra(np.ascontiguousarray(sound).tobytes(), rate, settings.audio_recipe)
    found = standardised(found) if settings.audio_standardise else found
    return np.ascontiguousarray(fit_length(found, settings.audio_steps, settings.audio_pad, rng))


def empty() -> Clip:
    """Return a clip of which nothing is read."""
    nothing = torch.zeros(0)
    return Clip(nothing.byte(), nothing, nothing.byte(), nothing, torch.tensor(0), torch.tensor(False))


def augment(faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror, re-light and crop all faces of a clip alike, by a tenth at most: (n, S, S, 3) uint8 -> the same shape."""
    S = faces.shape[1]
    side = round(S * rng.uniform(0.9, 1.0))
    y, x = rng.integers(0, S - side + 1, 2)
    faces = faces[:, y : y + side, x : x + side]
    if rng.random() < 0.5:
        faces = faces[:, :, ::-1]
    if side != S:
        faces = np.stack([cv2.resize(np.ascontiguousarray(face), (S, S)) for face in faces])
    gain, offset, colour = rng.uniform(0.85, 1.15), rng.uniform(-15, 15), rng.uniform(0.95, 1.05, 3)
    return np.clip(faces * (gain * colour) + offset, 0, 255).astype(np.uint8)


def wrapped(faces: np.ndarray) -> np.ndarray:
    """Tear faces as the seed's preprocessing did: (n, S, S, 3) uint8 RGB -> the same shape.

    It scaled pixels to [-1, 1], multiplied by 255 and cast to uint8, which wraps negative numbers around: roughly 2 p mod 256.
    All three of its face networks were trained on such images.
    """
    return _overflow()[faces]


def as_jpeg(faces: np.ndarray) -> np.ndarray:
    """Faces once written as JPEG and read again, as the seed's visual and temporal branches saw them."""
    pairs = (cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1] for face in faces)
    decoded = [cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB) for jpeg in pairs]
    return np.stack(cast(list[np.ndarray], decoded))  # None is what cannot be read: not what was just written


@lru_cache(maxsize=512)
def _cepstra(audio: bytes, rate: int, recipe: str) -> np.ndarray:
    """Cepstra of int16 samples; kept, since a small training set is gone through again and again (some 80 MB at most)."""
    found = cqcc(np.frombuffer(audio, np.int16), rate, RECIPES[recipe])
    found.flags.writeable = False
    return found


@lru_cache
def _overflow() -> np.ndarray:
    """(256,) uint8: pixel -> trunc((p - 127.5) / 128 * 255) mod 256."""
    p = np.arange(256, dtype=np.float32)
    return (np.trunc((p - np.float32(127.5)) / np.float32(128) * np.float32(255)).astype(np.int64) % 256).astype(
        np.uint8
    )
