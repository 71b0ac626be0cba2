"""The two files that AV-Deepfake1M's challenge asks for: a score per clip, and scored segments in seconds per clip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from visavox.files import replacing

DETECTION, SEGMENTS = "detection.txt", "segments.json"


def write_detection(scores: Mapping[str, float], path: Path) -> None:
    """Write task 1: a line `000001.mp4;0.9128` for each clip, P(fake), sorted."""
    lines = [f"{name};{score:.9g}\n" for name, score in sorted(scores.items())]
    with replacing(path) as beside:
        beside.write_text("".join(lines), encoding="utf-8")


def write_segments(found: Mapping[str, np.ndarray], path: Path) -> None:
    """Write task 2: `{"000001.mp4": [[score, start, end], ...]}`, seconds, the highest score first.

    Args:
        found: clip -> proposals (P, 3): score, start, end.
    """
    rows = {
        name: [[round(float(value), 6) for value in row] for row in proposals]
        for name, proposals in sorted(found.items())
    }
    with replacing(path) as beside:
        beside.write_text(json.dumps(rows) + "\n", encoding="utf-8")
