"""The face of a clip as a vector: dlib's network, read from the package face-recognition-models.

    faces = Faces.load()
    faces(bundle)                           # (128,) float32, or None where no frame shows a face that can be aligned

Detector, five landmarks, alignment and network are dlib's (King, "High quality face recognition with deep metric learning",
2017; the network's makers give 99.38 % on LFW at a distance of 0.6). Of a clip the mean over `FRAMES` frames counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np

from visavox.identity.installed import file_of
from visavox.weights import WeightsError

if TYPE_CHECKING:
    from visavox.bundle import Bundle

CURE = "pip install 'visavox[identity]'"
PACKAGE = "face_recognition_models"
FRAMES = 5
SIDE, AROUND = 150, 0.25
"""Side in pixels of what the network sees, and how much of it lies around the face, as dlib's own example has it."""
SEEN = 320
"""Side of a crop as the detector looks at it; it finds faces from 80 pixels on."""
BORDER = 0.25
"""What is put around a crop, as a share of its side: bundles are cut close above the forehead."""
THRESHOLD = 0.6
"""Distance up to which two faces are one person's, as published."""


@dataclass(frozen=True)
class Faces:
    """dlib's detector, landmarks and network, and dlib itself."""

    dlib: Any
    detector: Any
    landmarks: Any
    network: Any

    @classmethod
    def load(cls) -> Self:
        """Read what the packages hold.

        Raises:
            WeightsError: one of them is not installed.
        """
        try:
            import dlib
        except ImportError:
            raise WeightsError(f"dlib-bin is not installed: {CURE}") from None
        points = file_of(PACKAGE, "models/shape_predictor_5_face_landmarks.dat", CURE)
        network = file_of(PACKAGE, "models/dlib_face_recognition_resnet_model_v1.dat", CURE)
        return cls(
            dlib,
            dlib.get_frontal_face_detector(),
            dlib.shape_predictor(str(points)),
            dlib.face_recognition_model_v1(str(network)),
        )

    def __call__(self, bundle: Bundle) -> np.ndarray | None:
        """Return the face of a clip, (128,) float32; None where none of the frames shows one.

        Raises:
            BundleError: the bundle was loaded without its track.
        """
        found = [vector for frame in shown(bundle) if (vector := self.embed(frame)) is not None]
        return np.mean(found, axis=0).astype(np.float32) if found else None

    def embed(self, crop: np.ndarray) -> np.ndarray | None:
        """Return the face in a crop (S, S, 3) uint8 RGB, (128,) float64; None where the detector finds none."""
        chip = self.aligned(crop)
        return None if chip is None else np.array(self.network.compute_face_descriptor(chip))

    def aligned(self, crop: np.ndarray) -> np.ndarray | None:
        """Return the upright face of a crop, (SIDE, SIDE, 3) uint8 RGB; of several the largest."""
        border = round(BORDER * len(crop))
        wide = cv2.copyMakeBorder(crop, border, border, border, border, cv2.BORDER_REPLICATE)
        large = np.ascontiguousarray(cv2.resize(wide, (SEEN, SEEN), interpolation=cv2.INTER_AREA))
        boxes = list(self.detector(large, 0))
        if not boxes:
            return None
        scale = len(wide) / SEEN
        box = max(boxes, key=lambda one: one.area())
        edges = (round(edge * scale) for edge in (box.left(), box.top(), box.right(), box.bottom()))
        shape = self.landmarks(wide, self.dlib.rectangle(*edges))
        return self.dlib.get_face_chip(wide, shape, size=SIDE, padding=AROUND)


def shown(bundle: Bundle) -> list[np.ndarray]:
    """Return up to FRAMES crops of a clip, (S, S, 3) uint8 RGB each: of its track, else of its faces."""
    if bundle.has_track:
        count = min(FRAMES, bundle.track_frames)
        return [bundle.frame((2 * i + 1) * bundle.track_frames // (2 * count)) for i in range(count)]
    count = min(FRAMES, len(bundle.faces))
    return [bundle.faces[(2 * i + 1) * len(bundle.faces) // (2 * count)] for i in range(count)]
