"""A contact sheet of a fake: what was forged where, to look at.

T frames · S side of a crop in pixels
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from visavox.bundle import Bundle
from visavox.files import replacing
from visavox.pseudofakes.forgery import Segment
from visavox.pseudofakes.make import Fake

CELL, COLUMNS, LABEL = 112, 8, 16
AMPLIFIED = 6
"""Times that differences are shown larger than they are."""
SILENT_DB, LOUD_DB, APART_DB = -70.0, 30.0, 20.0
"""Least and highest level of a spectrogram, and the highest difference of two."""


def sheet(real: Bundle, fake: Fake, columns: int = COLUMNS) -> np.ndarray:
    """Return frames of the real clip, of the fake, their difference, the mask; both spectrograms and theirs: (H, W, 3) uint8 RGB.

    The two are of equal length, as `untouched` and `forge` give them for one seed. Forged frames are marked red above them, and
    forged stretches above the spectrograms. Half of the frames are drawn from what is forged, so that a forgery of one frame
    is seen too.
    """
    T = fake.bundle.track_frames
    shown = _shown(fake, T, columns)
    forged = [any(a <= t < b for a, b, where in fake.segments if where == "picture") for t in shown]
    pairs = [(real.frame(int(t)), fake.bundle.frame(int(t))) for t in shown]
    rows = [
        _strip(
            [Segment(i, i + 1, "picture") for i, red in enumerate(forged) if red], columns, columns * CELL, "picture"
        ),
        _row(a for a, _ in pairs),
        _row(b for _, b in pairs),
        _row(np.minimum(cv2.absdiff(a, b).astype(np.uint16) * AMPLIFIED, 255).astype(np.uint8) for a, b in pairs),
    ]
    if fake.masks is not None:
        rows.append(_row(cv2.cvtColor(fake.masks[t], cv2.COLOR_GRAY2RGB) for t in shown))
    rows.append(_strip(fake.segments, T, columns * CELL, "sound"))
    spectra = [bundle.mel_3cs[0, ::-1].astype(np.float32) for bundle in (real, fake.bundle)]  # low frequencies last
    rows += [_spectrogram((each - SILENT_DB) / (LOUD_DB - SILENT_DB), columns * CELL) for each in spectra]
    rows.append(_spectrogram(np.abs(spectra[1] - spectra[0]) / APART_DB, columns * CELL))
    title = np.full((LABEL, columns * CELL, 3), 255, np.uint8)
    cv2.putText(title, fake.kind, (4, LABEL - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([title, *rows])


def _shown(fake: Fake, length: int, columns: int) -> np.ndarray:
    """Frames to show (columns,) int, rising: half of them forged, where the picture is, and others as far from them as can be."""
    inside = [t for a, b, where in fake.segments if where == "picture" for t in range(a, b)]
    if not inside:
        return ((np.arange(columns) + 0.5) * length / columns).astype(int)
    half = min(columns // 2, len(inside))
    chosen = [inside[int((i + 0.5) * len(inside) / half)] for i in range(half)]
    while len(chosen) < min(columns, length):
        chosen.append(int(np.abs(np.arange(length)[:, None] - chosen).min(1).argmax()))
    return np.resize(np.sort(chosen), columns)


def save_sheet(path: Path, sheets: Iterable[np.ndarray]) -> None:
    """Write sheets of equal width, one below the other, as PNG."""
    picture = np.concatenate(list(sheets))
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    with replacing(path) as beside:
        beside.write_bytes(data.tobytes())


def _row(frames: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([cv2.resize(frame, (CELL, CELL), interpolation=cv2.INTER_AREA) for frame in frames], axis=1)


def _strip(segments: Iterable[Segment], length: int, width: int, where: str) -> np.ndarray:
    """A bar (6, width, 3), red where something is forged."""
    bar = np.full((6, width, 3), 225, np.uint8)
    for first, last, what in segments:
        if what == where:
            bar[:, first * width // length : max(first * width // length + 1, last * width // length)] = (200, 30, 30)
    return bar


def _spectrogram(level: np.ndarray, width: int) -> np.ndarray:
    """A spectrogram (F, M), shown from 0 to 1: (CELL, width, 3) uint8."""
    grey = np.round(255 * np.clip(level, 0, 1)).astype(np.uint8)
    wide = cv2.resize(grey, (width, CELL), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(cv2.applyColorMap(wide, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
