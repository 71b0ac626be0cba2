"""How alike mouth and voice are at every shift, window by window.

T frames of the track · n windows · W frames of a window · V = 2 * vshift + 1 shifts · D width of an embedding

Column k pairs the window that is seen at frame i with the sound at frame i + k - vshift, as `visavox.features.sync` has it; NaN
where there is no such sound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from visavox.bundle import Bundle
from visavox.features.speech import ON, RATE, STEP, Gate, speech
from visavox.features.sync import mouth_opening, voice_envelope
from visavox.features.syncnet import WINDOW, Embedder, embed


class Curves(NamedTuple):
    """Distances and cosines of one clip."""

    starts: np.ndarray
    """(n,) int64 first frame of each window."""
    width: int
    """Frames of a window."""
    cosine: np.ndarray
    """(n, V) float64 in [-1, 1]; NaN without a partner."""
    distance: np.ndarray
    """(n, V) float64: L2 of embeddings, or 1 - cosine of the correlation; NaN without a partner."""


def of_correlation(bundle: Bundle, vshift: int, window: int = 25, stride: int = 1) -> Curves:
    """Correlate the mouth's opening with the voice's rising in windows of so many frames; empty where there are too few.

    The cosine is Pearson's r of the two within a window, 0 where either stands still.
    """
    frames = min(bundle.track_frames, int(len(bundle.sound) * float(bundle.fps) / bundle.sample_rate))
    if frames < window + 1:
        return _nothing(vshift, window)
    opening = np.diff([mouth_opening(bundle.frame(t), bundle.landmarks[t]) for t in range(frames)])  # (frames - 1,)
    rising = np.diff(voice_envelope(bundle.sound, bundle.sample_rate, frames, float(bundle.fps)))
    seen, heard = (_standardised(np.lib.stride_tricks.sliding_window_view(each, window)) for each in (opening, rising))
    cosine = _shifted(seen[::stride] @ heard.T, stride, vshift)
    return Curves(np.arange(0, len(seen), stride), window, cosine, 1 - cosine)


def of_syncnet(bundle: Bundle, embedder: Embedder, vshift: int, stride: int = 1) -> Curves:
    """Compare SyncNet's embeddings of lips and voice; empty where there are too few frames."""
    images = [bundle.frame(t) for t in range(bundle.track_frames)]
    pair = embed(embedder, images, bundle.sound, min(stride, WINDOW))
    if pair is None:
        return _nothing(vshift, WINDOW)
    lips, voice = pair  # (ceil(n / stride), D), (n, D)
    step = min(stride, WINDOW)
    distance = _shifted(torch.cdist(lips, voice).double().numpy(), step, vshift)
    lips, voice = (torch.nn.functional.normalize(each, dim=1) for each in (lips, voice))
    cosine = _shifted((lips @ voice.T).double().numpy(), step, vshift)
    return Curves(np.arange(len(lips)) * step, WINDOW, cosine, distance)


def voiced(curves: Curves, sound: np.ndarray, rate: int, fps: float, gate: Gate) -> Curves:
    """Return the windows at least half of whose 32 ms steps are speech; all of them where none is.

    Args:
        sound: (N,) int16 that begins with frame 0.
    """
    said = speech(sound, rate, gate) >= ON  # (steps,)
    step = STEP / RATE
    share = np.array(
        [
            said[int(start / fps / step) : max(1, int((start + curves.width) / fps / step))].mean()
            for start in curves.starts
        ]
    )
    kept = np.nan_to_num(share) >= 0.5
    if not kept.any():
        return curves
    return Curves(curves.starts[kept], curves.width, curves.cosine[kept], curves.distance[kept])


def _nothing(vshift: int, width: int) -> Curves:
    empty = np.zeros((0, 2 * vshift + 1))
    return Curves(np.zeros(0, np.int64), width, empty, empty)


def _standardised(windows: np.ndarray) -> np.ndarray:
    """(n, W) -> each window without its mean, of length 1; of length 0 where nothing changes."""
    centred = windows - windows.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-9)


def _shifted(pairs: np.ndarray, stride: int, vshift: int) -> np.ndarray:
    """All pairs (rows of the picture every `stride` frames, m of the sound) -> (n, V) by shift, NaN where there is no sound."""
    n, m = pairs.shape
    at = np.arange(n)[:, None] * stride + np.arange(-vshift, vshift + 1)[None]  # (n, V) frame of the sound
    there = (at >= 0) & (at < m)
    return np.where(there, np.take_along_axis(pairs, np.clip(at, 0, m - 1), 1), np.nan)
