"""What the reference detector sees of a bundle."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visavox.bundle import Bundle, BundleError
from visavox.config import Config
from visavox.features import audio
from visavox.training.augment import augment_faces, resize_faces, to_signed
from visavox.training.dataset import _misfit, _say_once
from visavox.training.strata import choose

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
    fault = _misfit(bundle.faces.shape, len(bundle.mdist), config)
    if fault:
        raise BundleError(fault)
    faces = bundle.faces[choose(len(bundle.faces), config.frame_num, rng)]  # (n, S', S', 3)
    if rng is not None and config.augment:
        faces = augment_faces(faces, rng)
    if faces.shape[1] < config.frame_size:
        _say_once(f"faces of {faces.shape[1]} pixels are enlarged to frame_size={config.frame_size}")
    n, size = config.frame_num, config.frame_size
    frames = np.empty((3, 2 * n if config.mel_frames else n, size, size), np.float32)
    to_signed(resize_faces(faces, size), out=frames[:, :n])
    if config.mel_frames:
        audio.mel_images(bundle.mel_3cs, n, size, out=frames[:, n:])
    return Clip(torch.from_numpy(frames), torch.from_numpy(bundle.latency_vector))
