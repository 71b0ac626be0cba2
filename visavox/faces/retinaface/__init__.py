"""RetinaFace face detection: the network under its published parameter names, its anchors, and a batched detector."""

from __future__ import annotations

from visavox.faces.detection import Detections
from visavox.faces.retinaface.detector import (
    BGR_MEAN,
    IMAGENET_RGB_SQUARE,
    Preprocessing,
    RetinaFaceDetector,
)
from visavox.faces.retinaface.network import RetinaFace, load_published

__all__ = [
    "BGR_MEAN",
    "IMAGENET_RGB_SQUARE",
    "Detections",
    "Preprocessing",
    "RetinaFace",
    "RetinaFaceDetector",
    "load_published",
]
