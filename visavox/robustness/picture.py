"""Seven changes of the picture, as DeeperForensics-1.0 defines them (Jiang et al., CVPR 2020; `perturbation/distortions.py`).

Every function: frames (H, W, 3) uint8 RGB, a constant, randomness -> as many frames of the same size. Where the published code
truncates or lets numbers wrap round, these round and clip.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from visavox.media.recode import through_h264

BLOCK = 8
"""Pixels of a grey block's side."""
BLOCKS_PER = 256
"""Pixels of the shorter side for which the number of blocks is meant."""

Frames = Iterator[np.ndarray]


def saturation(frames: Frames, share: float, rng: np.random.Generator) -> Frames:
    """Keep `share` of the colour: both chroma components times it, as one matrix over red, green and blue."""
    luma = np.tile([0.299, 0.587, 0.114], (3, 1))  # BT.601
    matrix = share * np.eye(3) + (1 - share) * luma
    for frame in frames:
        yield cv2.transform(frame, matrix)  # rounds and clips


def contrast(frames: Frames, share: float, rng: np.random.Generator) -> Frames:
    """Darken: every value times `share`, which is what the published code calls contrast."""
    table = _uint8(np.arange(256) * share)
    for frame in frames:
        yield cv2.LUT(frame, table)


def blocks(frames: Frames, count: int, rng: np.random.Generator) -> Frames:
    """Put grey blocks of 8 x 8 pixels at random places, new ones in each frame: `count` for every 256 pixels of the shorter side.

    The published code rounds that down, so that a picture below 256 pixels gets none; here it gets `count`.
    """
    for frame in frames:
        height, width = frame.shape[:2]
        some = max(1, min(height, width) // BLOCKS_PER) * count
        changed = frame.copy()
        tops, lefts = rng.integers(0, height - BLOCK, some), rng.integers(0, width - BLOCK, some)
        for top, left in zip(tops, lefts):
            changed[top : top + BLOCK, left : left + BLOCK] = 128
        yield changed


def noise(frames: Frames, variance: float, rng: np.random.Generator) -> Frames:
    """Add white noise to luma and chroma, of this variance where their ranges are 219 / 255 and 224 / 255 (BT.601)."""
    deviation = 255 * np.sqrt(variance) * np.array([255 / 219, 255 / 224, 255 / 224])
    matrix = np.array([[1, 0, 1.403], [1, -0.344, -0.714], [1, 1.773, 0]]) * deviation  # Y, Cb, Cr -> R, G, B
    for frame in frames:
        added = cv2.transform(rng.standard_normal(frame.shape, dtype=np.float32), matrix)
        yield cv2.add(frame, added, dtype=cv2.CV_8U)  # rounds and clips


def blur(frames: Frames, kernel: int, rng: np.random.Generator) -> Frames:
    """Blur by a Gaussian kernel of so many pixels, whose deviation is a sixth of that."""
    for frame in frames:
        yield cv2.GaussianBlur(frame, (kernel, kernel), kernel / 6)


def pixelation(frames: Frames, factor: int, rng: np.random.Generator) -> Frames:
    """Shrink the picture by `factor` and enlarge it again, bilinear; the published code's name for this is JPEG compression."""
    for frame in frames:
        height, width = frame.shape[:2]
        small = cv2.resize(frame, (max(1, width // factor), max(1, height // factor)))
        yield cv2.resize(small, (width, height))


def compression(frames: Frames, crf: int, rng: np.random.Generator) -> Frames:
    """Encode as H.264 at this constant rate factor, and decode."""
    yield from through_h264(frames, crf=crf)


def _uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
