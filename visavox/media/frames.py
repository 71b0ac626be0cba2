"""Frames of a video that is held in memory, as tensors: what a notebook or a small service of its own wants.

extract_frames(data)                 # (8, 3, 224, 224) float32 in [0, 1]
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from visavox.media import confined
from visavox.media.container import MediaError
from visavox.media.limits import LIMITS, Limits

if TYPE_CHECKING:
    import torch


def extract_frames(data: bytes, max_frames: int = 8, size: int | None = 224, limits: Limits = LIMITS) -> torch.Tensor:
    """Return frames spread evenly over a video, the first and the last among them.

    Taken are the indices `linspace(0, n - 1, min(max_frames, n))`, rounded down, of n frames at 25 a second, scaled by area.

    Args:
        data: content of a video file. Where it cannot be read as it is, it is written anew (`visavox.media.repair`) and read
            again, both in the confined child.
        max_frames: frames at most.
        size: side of the square that each frame is scaled to, pixels; None keeps the video's own height and width.

    Returns:
        (N, 3, H, W) float32 RGB in [0, 1].

    Raises:
        MediaError: it is no video, is damaged beyond repair, or exceeds the limits.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video")
        path.write_bytes(data)
        written = None
        try:
            frames = _read(path, max_frames, size, limits)
        except MediaError as error:
            if error.reason not in ("not_media", "no_frames", "no_video", "truncated"):
                raise
            with suppress(MediaError):  # what is wrong with the repair tells less than what was wrong before
                written = confined.repaired(path, limits=limits)
            if written is None:
                raise
            path.write_bytes(written)
            frames = _read(path, max_frames, size, limits)
    stacked = np.stack(frames).transpose(0, 3, 1, 2)  # (N, 3, H, W)
    return torch.from_numpy(np.ascontiguousarray(stacked)).float() / 255


def _read(path: Path, max_frames: int, size: int | None, limits: Limits) -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB each. Two passes: how many there are is known when all are read."""
    with confined.open_video(path, max_seconds=limits.seconds, limits=limits) as video:
        count = sum(1 for _ in video.frames())
    wanted = set(np.linspace(0, count - 1, min(max_frames, count)).astype(int).tolist())
    frames = []
    with confined.open_video(path, max_seconds=limits.seconds, limits=limits) as video:
        for n, frame in enumerate(video.frames()):
            if n in wanted:
                small = frame if size is None else cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
                frames.append(small.copy())
    return frames
