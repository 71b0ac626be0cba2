"""RetinaFace. What lies behind this door: `visavox/faces/retinaface/`.

detector = retinaface.RetinaFaceDetector("mobilenet0.25", state_dict)
detections = detector.detect(frames)                # frames (H, W, 3) uint8 RGB
"""

from visavox.faces.retinaface import (
    BGR_MEAN,
    IMAGENET_RGB_SQUARE,
    Detections,
    Preprocessing,
    RetinaFace,
    RetinaFaceDetector,
    load_published,
)

__all__ = [
    "BGR_MEAN",
    "IMAGENET_RGB_SQUARE",
    "Detections",
    "Preprocessing",
    "RetinaFace",
    "RetinaFaceDetector",
    "load_published",
]
