"""A detector that knows the truth, and frames that carry their number."""

import numpy as np

from visavox.faces import (
    Detections,
    track_faces,
)

H, W = 240, 320

FACE = np.array([100.0, 80, 160, 160])

LANDMARKS = np.array([[0.26, 0.39], [0.72, 0.38], [0.5, 0.57], [0.31, 0.75], [0.69, 0.75]])


class FakeDetector:
    """Knows the boxes of every frame; reads the frame's number from its first pixel row."""

    name, landmark_source = "fake", "template"

    def __init__(self, truth, faint=None):
        self.truth = truth  # frame number -> list of boxes
        self.faint = faint  # the same of uncertain ones
        self.seen = []

    def detect(self, frames):
        self.seen += map(number_of, frames)
        return [self.of(number_of(frame)) for frame in frames]

    def of(self, index):
        found = as_detections(self.truth(index), 0.9)
        return found if self.faint is None else found._replace(faint=as_detections(self.faint(index), 0.6))


def as_detections(boxes, score):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    corner, extent = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    landmarks = (corner + extent * LANDMARKS).astype(np.float32)
    return Detections(boxes, np.full(len(boxes), score, np.float32), landmarks)


def numbered(index, grey=60):
    """A grey frame (H, W, 3) that carries its number in its first pixel."""
    frame = np.full((H, W, 3), grey, np.uint8)
    frame[0, 0] = index // 256, index % 256, 0
    return frame


def number_of(frame):
    return int(frame[0, 0, 0]) * 256 + int(frame[0, 0, 1])


def follow(truth, length, *, step=64, size=32, expected_frames=100, faint=None, **more):
    detector = FakeDetector(truth, faint)
    frames = (numbered(index) for index in range(length))
    return track_faces(frames, detector, step=step, size=size, expected_frames=expected_frames, **more), detector
