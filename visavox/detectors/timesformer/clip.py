"""What the reference detector sees of a bundle."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from visavox.bundle import Bundle, BundleError
from visavox.config import Config
from visavox.detectors.timesformer.auxiliary import TaughtClip, targets
from visavox.features import audio
from visavox.logs import say_once
from visavox.training.augment import augment_faces, augment_with_masks, resize_faces, to_signed
from visavox.training.dataset import _misfit
from visavox.training.strata import choose

if TYPE_CHECKING:
    from visavox.pseudofakes.make import Fake

log = logging.getLogger(__name__)


class Clip(NamedTuple):
    """What the reference detector sees of one video, or of B once collated."""

    frames: Tensor
    """(3, T, S, S) float32 RGB in [-1, 1]: n faces, then n mel images where config.mel_frames."""
    latency: Tensor
    """(V + 2,) float32: mdist, latency in frames (+ = audio late), conf; NaN without audio."""


def clip_from_bundle(bundle: Bundle, config: Config, rng: np.random.Generator | None = None) -> Clip:
    """The clip of a bundle. With `rng`, frames are drawn and faces augmented as in training; without, nothing is random.

    Raises:
        BundleError: the bundle holds fewer faces or other shifts than the configuration wants.
    """
    _check(bundle, config)
    faces = bundle.faces[choose(len(bundle.faces), config.frame_num, rng)]  # (n, S', S', 3)
    if rng is not None and config.augment:
        faces = augment_faces(faces, rng)
    return _clip(faces, bundle, config)


def taught_clip(
    bundle: Bundle, config: Config, rng: np.random.Generator | None, fake: Fake | None, side: int
) -> TaughtClip:
    """Return the clip of a made fake, or of the real one beside it (None), with where and when it is forged.

    Args:
        side: patches along a side of a frame.

    Raises:
        BundleError: as `clip_from_bundle`.
    """
    _check(bundle, config)
    places = choose(len(bundle.faces), config.frame_num, rng)
    faces, shown = bundle.faces[places], bundle.kept_frames[places]  # (n, S', S', 3), (n,)
    masks = None if fake is None or fake.masks is None else fake.masks[shown]  # (n, S', S')
    if rng is not None and config.augment:
        if masks is None:
            faces = augment_faces(faces, rng)
        else:
            faces, masks = augment_with_masks(faces, masks, rng)
    return TaughtClip(*_clip(faces, bundle, config), *targets(fake, shown, masks, side))


def clips_of_all_frames(bundle: Bundle, config: Config) -> Iterator[tuple[np.ndarray, Clip]]:
    """Make, one at a time, the clips that show every frame of the track: each one frame of each of `frame_num` equal stretches.

    Yields:
        Which frames (n,) a clip shows, and the clip.
    """
    _check(bundle, config)
    T, n = bundle.track_frames, config.frame_num
    bounds = np.arange(n + 1) * T // n
    shown = [
        np.minimum(np.minimum(bounds[:-1] + step, np.maximum(bounds[1:] - 1, bounds[:-1])), T - 1)
        for step in range(max(1, int(np.diff(bounds).max())))
    ]
    for at in shown:
        yield at, _clip(np.stack([bundle.frame(int(t)) for t in at]), bundle, config)


def _check(bundle: Bundle, config: Config) -> None:
    fault = _misfit(bundle.faces.shape, len(bundle.mdist), config)
    if fault:
        raise BundleError(fault)


def _clip(faces: np.ndarray, bundle: Bundle, config: Config) -> Clip:
    """Faces (n, S', S', 3) uint8 and the mel images of a bundle as the network sees them."""
    if faces.shape[1] < config.frame_size:
        say_once(log, f"faces of {faces.shape[1]} pixels are enlarged to frame_size={config.frame_size}")
    n, size = config.frame_num, config.frame_size
    frames = np.empty((3, 2 * n if config.mel_frames else n, size, size), np.float32)
    to_signed(resize_faces(faces, size), out=frames[:, :n])
    if config.mel_frames:
        audio.mel_images(bundle.mel_3cs, n, size, out=frames[:, n:])
    return Clip(torch.from_numpy(frames), torch.from_numpy(bundle.latency_vector))
