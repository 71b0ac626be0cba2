"""Contact sheets: the faces of a group of clips beside their names, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from visavox.bundle import Bundle
from visavox.files import replacing, shown
from visavox.identity.faces import shown as frames_of

CELL, NAME, MOST = 96, 420, 60
"""Side of a face, width of the name beside a row of them, and clips shown at most, in pixels and number."""


def sheet(clips: Mapping[str, Path]) -> np.ndarray:
    """Return a row for each clip, the first MOST: (H, W, 3) uint8 RGB."""
    some = list(clips.items())[:MOST]
    lines = [_row(name, frames_of(Bundle.load(path))) for name, path in some]
    if len(clips) > MOST:
        lines.append(_row(f"and {len(clips) - MOST} more", []))
    return np.concatenate(lines)


def save(path: Path, clips: Mapping[str, Path]) -> None:
    """Write the sheet of a group as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(".png", sheet(clips)[..., ::-1])
    with replacing(path) as beside:
        beside.write_bytes(data.tobytes())


def _row(name: str, frames: list[np.ndarray]) -> np.ndarray:
    row = np.full((CELL, NAME + 5 * CELL, 3), 255, np.uint8)
    text = shown(name).encode("ascii", "backslashreplace").decode()
    text = text if len(text) <= 58 else f"...{text[-55:]}"
    cv2.putText(row, text, (6, CELL // 2 + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    for i, frame in enumerate(frames):
        small = cv2.resize(frame, (CELL, CELL), interpolation=cv2.INTER_AREA)
        row[:, NAME + i * CELL : NAME + (i + 1) * CELL] = small
    return row
