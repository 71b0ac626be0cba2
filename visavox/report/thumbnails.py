"""Small pictures of clips, for the list of worst errors."""

from __future__ import annotations

from pathlib import Path

import cv2

from visavox.bundle import Bundle, BundleError
from visavox.media import MediaError, confined

SIDE = 128
"""Pixels of the longer side."""


def thumbnail(path: Path | None) -> bytes | None:
    """Return a face of a bundle, or a frame of a video, as PNG of SIDE pixels; None where neither can be read."""

    if path is None:
        return None
    try:
        if path.suffix == ".npz":
            faces = Bundle.load(path, full=False).faces
            image = faces[len(faces) // 2]
        else:
            with confined.open_video(path, fps=2.0, max_seconds=2, threads=1) as video:
                image = list(video.frames())[-1]
    except (BundleError, MediaError, OSError):
        return None
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    small = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    return cv2.imencode(".png", small[..., ::-1])[1].tobytes()
