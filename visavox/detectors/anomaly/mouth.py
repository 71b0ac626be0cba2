"""What the two streams are given of a bundle: mouths of contiguous frames, and the log-mel of the sound around them.

    L frames of a stretch or of a whole clip · S detector.vis_size in pixels · F mel bins · M mel steps of 10 ms

One frame lasts STEPS mel steps. Step PAD + STEPS * t is centred on the moment of frame t: PAD steps more at either end let
a chunk of sound reach beyond the frames it belongs to.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visavox.bundle import Bundle, BundleError
from visavox.features.audio import log_mel
from visavox.features.mouth import mouth

STEPS = 4
"""Mel steps of 10 ms in a frame of 40 ms."""
PAD = 20
"""Mel steps kept on either side of the frames: 0.2 s."""


class Clip(NamedTuple):
    """A stretch of one clip, or of B once collated; padded at its end to a common length."""

    frames: Tensor
    """(L, S, S, 3) uint8 RGB mouths, 25 a second."""
    mel: Tensor
    """(F, PAD + STEPS * L + PAD) float32 log-mel, mean 0 and deviation 1 over the clip; 0 where there is no sound."""
    length: Tensor
    """() int64: frames that are the clip's own, the rest is padding."""
    heard: Tensor
    """() bool: whether the clip has sound."""


def stretch(bundle: Bundle, first: int, count: int, padded: int, *, size: int, n_mels: int, rate: int) -> Clip:
    """Frames first to first + count - 1 of a bundle's track with their sound, padded to `padded` frames.

    Raises:
        BundleError: the bundle holds no track, or was loaded without it.
    """
    if bundle.audio is None:
        raise BundleError("this bundle was loaded without its audio; use Bundle.load(path, full=True)")
    frames = np.zeros((padded, size, size, 3), np.uint8)
    for i in range(count):
        frames[i] = mouth(bundle.frame(first + i), bundle.landmarks[first + i], size)
    heard = bundle.status == "ok" and bool(np.any(bundle.audio))
    mel = np.zeros((n_mels, 2 * PAD + STEPS * padded), np.float32)
    if heard:
        whole = log_mel(bundle.audio, rate, n_mels)  # (F, all steps)
        whole = (whole - whole.mean()) / (whole.std() + 1e-6)
        begin, end = STEPS * first - PAD, STEPS * (first + count) + PAD
        low, high = max(0, begin), min(whole.shape[1], end)
        mel[:] = whole.min()
        mel[:, low - begin : high - begin] = whole[:, low:high]
    return Clip(torch.from_numpy(frames), torch.from_numpy(mel), torch.tensor(count), torch.tensor(heard))


def augment(clip: Clip, rng: np.random.Generator) -> Clip:
    """Mirrored and re-lit alike in all frames; the sound louder or softer, with noise. Nothing is moved in time."""
    frames = clip.frames.flip(2) if rng.random() < 0.5 else clip.frames
    gain, offset = rng.uniform(0.85, 1.15), rng.uniform(-15, 15)
    frames = (frames * gain + offset).clamp(0, 255).to(torch.uint8)
    noise = torch.from_numpy(rng.standard_normal(clip.mel.shape, np.float32))
    mel = clip.mel + 0.1 * (float(rng.standard_normal()) + noise)
    return clip._replace(frames=frames, mel=mel.where(clip.heard, 0.0))
