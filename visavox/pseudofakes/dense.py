"""68 landmarks of a face, by the shape predictor of dlib that the extra `landmarks` brings; asked for by `fake_landmarks=68`.

The weights are read from the installed package face-recognition-models, which is not imported: its module needs pkg_resources,
which setuptools has given up. They were trained on iBUG 300-W, whose images are for research alone: never a default.

T frames · S side of a crop in pixels
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from visavox.bundle import BundleError
from visavox.files import sha256_of

FILE = "models/shape_predictor_68_face_landmarks.dat"
SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"
WIDTH, CENTRE = 1.13, 0.525
"""Side of the square that the predictor expects, in widths of RetinaFace's box, and where its middle is, in heights from the top:
medians of dlib's own detections on 48 frames of 24 real clips. Tests hold how far 68 landmarks then lie off RetinaFace's five."""
JAW, MOUTH, LIPS, NOSE = slice(2, 15), slice(48, 68), slice(48, 60), slice(31, 36)
"""Of the 68 points of iBUG's mark-up."""


def landmarks(frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return 68 landmarks of frames (T, S, S, 3) uint8 RGB with face boxes (T, 4) xyxy crop pixels: (T, 68, 2) float32.

    Raises:
        BundleError: the extra is not installed, or holds other weights; the message says what to type.
    """
    dlib, predictor = _predictor()
    found = np.empty((len(frames), 68, 2), np.float32)
    for t, (frame, (x0, y0, x1, y1)) in enumerate(zip(frames, boxes, strict=True)):
        half, middle = WIDTH * (x1 - x0) / 2, ((x0 + x1) / 2, y0 + CENTRE * (y1 - y0))
        corners = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
        shape = predictor(np.ascontiguousarray(frame), dlib.rectangle(*(round(float(each)) for each in corners)))
        found[t] = [(point.x + 0.5, point.y + 0.5) for point in shape.parts()]
    return found


def part_of(points: np.ndarray, part: str) -> np.ndarray:
    """Return the points (T, P, 2) whose hull is a part of the face, of 68 landmarks (T, 68, 2).

    Args:
        part: `face` all of them, `lower` jaw, nose's foot and mouth, `lips`; `whole` has no forehead here and is `face`.
    """
    match part:
        case "lower":
            return np.concatenate([points[:, JAW], points[:, NOSE], points[:, MOUTH]], axis=1)
        case "lips":
            return points[:, LIPS]
        case _:
            return points


def is_installed() -> bool:
    """Return whether the extra `landmarks` is there."""
    return find_spec("dlib") is not None and _file() is not None


def _file() -> Path | None:
    spec = find_spec("face_recognition_models")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / FILE if folders else None
    return path if path and path.is_file() else None


@cache
def _predictor() -> tuple[Any, Any]:
    path = _file()
    if not is_installed() or path is None:
        raise BundleError("fake_landmarks=68 needs the extra `landmarks`: pip install 'visavox[landmarks]'")
    if sha256_of(path) != SHA256:
        raise BundleError(
            f"{path}: sha256 is {sha256_of(path)}, expected {SHA256}; install face-recognition-models 0.3"
        )
    dlib: Any = importlib.import_module("dlib")  # without types

    return dlib, dlib.shape_predictor(str(path))
