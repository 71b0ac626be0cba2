"""Find, follow and cut out the main face."""

from __future__ import annotations

from visavox.faces.crop_store import CropStore
from visavox.faces.cropping import cut, to_crop
from visavox.faces.detection import Detections, FaceDetector
from visavox.faces.haar import HaarDetector
from visavox.faces.tracking import FaceTrack, Sighting, follow_faces, track_faces

__all__ = [
    "CropStore",
    "Detections",
    "FaceDetector",
    "FaceTrack",
    "HaarDetector",
    "Sighting",
    "cut",
    "follow_faces",
    "to_crop",
    "track_faces",
]
