"""What the fusion network is given of one clip: features padded to a common number of steps, or frames for its encoder.

T steps of video · U steps of sound · E, D widths of the features · S side of an image
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visavox.bundle import Bundle
from visavox.config import TD3MFConfig
from visavox.detectors.td3mf.backbones.base import resized
from visavox.detectors.td3mf.backbones.marlin import FRAMES, clip_frames
from visavox.detectors.td3mf.features import FeatureError
from visavox.detectors.td3mf.network import drop_modality


class Clip(NamedTuple):
    """One clip, or B once collated."""

    video: Tensor
    """(T, E) float32 features; or (T, 16, S, S, 3) uint8 frames with detector.finetune."""
    audio: Tensor
    """(U, D) float32, or (T, 10, W) for MFCC."""
    seen: Tensor
    """(T,) bool: which steps of video there are."""
    heard: Tensor
    """(U,) bool: which steps of sound."""


def padded(features: np.ndarray, steps: int) -> tuple[Tensor, Tensor]:
    """Return features with zeros after them, and which steps there are: (n, ...) -> (steps, ...) float32, (steps,) bool.

    Raises:
        FeatureError: there are more than `steps`.
    """
    if len(features) > steps:
        raise FeatureError(f"{len(features)} steps of features, at most {steps} were expected; extract them again")
    full = torch.zeros(steps, *features.shape[1:])
    full[: len(features)] = torch.from_numpy(features)
    return full, torch.arange(steps) < len(features)


def frames_of(bundle: Bundle, steps: int, size: int) -> tuple[Tensor, Tensor]:
    """Return frames for an encoder that is trained along, (T, 16, S, S, 3) uint8, and which steps there are, (T,) bool.

    Args:
        steps: T.
        size: S, to which the frames are resized.
    """
    clips = clip_frames(bundle.track_frames, steps)
    frames = torch.zeros(steps, FRAMES, size, size, 3, dtype=torch.uint8)
    for step, moments in enumerate(clips):
        frames[step] = torch.from_numpy(np.stack([resized(bundle.frame(t), size) for t in moments]))
    return frames, torch.arange(steps) < len(clips)


def without_a_modality(clip: Clip, settings: TD3MFConfig, rng: np.random.Generator) -> Clip:
    """Return a training clip of which, as often as the settings say, one modality is lost."""
    if not settings.modality_dropout:
        return clip
    dropped = drop_modality(
        *(part[None] for part in clip),
        probability=settings.modality_dropout,
        how=settings.modality_dropout_by,
        generator=torch.Generator().manual_seed(int(rng.integers(2**63))),
    )
    return Clip(*(part[0] for part in dropped))
