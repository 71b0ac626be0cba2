"""Boxes, Haar, and RetinaFace on real clips."""

import csv
import itertools
import zlib

import numpy as np
import pytest
import torch
from fake_detector import FACE, H, W, as_detections

from visavox.faces import (
    HaarDetector,
    haar,
    track_faces,
)
from visavox.faces.boxes import iou
from visavox.media import open_video


def test_iou_of_known_boxes():
    a = np.array([0.0, 0, 10, 10])
    assert iou(a, a) == 1
    assert iou(a, a + 10) == 0
    assert iou(a, a + [5, 0, 5, 0]) == pytest.approx(1 / 3)
    assert iou(a, np.array([3.0, 3, 3, 3])) == 0


def test_haar_squares_become_boxes_like_retinafaces():
    (box,) = haar.as_retinaface(np.array([[100, 50, 200, 200]]))
    np.testing.assert_allclose([box[2] - box[0], box[3] - box[1]], [200 * haar.WIDTH, 200 * haar.HEIGHT], rtol=1e-5)
    np.testing.assert_allclose([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], [200, 155], rtol=1e-5)


def test_faint_faces_are_those_below_the_threshold_and_change_no_others():
    found = as_detections([FACE, FACE + 20, FACE + 40], 0)._replace(scores=np.float32([0.95, 0.9, 0.5]))
    parted = found.parted(0.9)
    assert parted.scores.tolist() == np.float32([0.95]).tolist()
    np.testing.assert_array_equal(parted.faint.boxes, found.boxes[1:])
    halved = parted.unscaled(np.float32([0.5, 0.25]))
    np.testing.assert_allclose(halved.boxes, [[200, 320, 320, 640]])
    np.testing.assert_allclose(halved.faint.boxes[0], [240, 400, 360, 720])
    np.testing.assert_allclose(halved.landmarks, parted.landmarks * [2, 4])


def test_haar_finds_no_face_on_a_wall():
    found = HaarDetector().detect([np.full((H, W, 3), 90, np.uint8)] * 2)
    assert [len(one.boxes) for one in found] == [0, 0]
    assert [one.landmarks.shape for one in found] == [(0, 5, 2)] * 2


def retinaface(weights_dir, **settings):
    from visavox.faces.retinaface import RetinaFaceDetector

    path = weights_dir / "retinaface_mobilenet0.25.pth"
    return RetinaFaceDetector("mobilenet0.25", torch.load(path, map_location="cpu", weights_only=True), **settings)


def read(path, frames=400):
    with open_video(path, max_seconds=16) as video:
        yield from itertools.islice(video.frames(), frames)


def share_on_the_face(track, detector, frames, every):
    """Share of the track's frames whose smoothed box has IoU >= 0.8 with a box detected on the frame itself."""
    overlaps = []
    for index, frame in enumerate(frames):
        if index in track.frame_index and index % every == 0:
            (found,) = detector.detect([frame])
            overlaps.append(iou(track.boxes[index - track.frame_index[0]], found.boxes).max())
    return np.mean(np.array(overlaps) >= 0.8)


def check_clip(path, detector, frames=400, every=1):
    track = track_faces(read(path, frames), detector, step=64, size=96, expected_frames=frames)
    assert len(track.crops) == track.frames_read
    assert track.frames_detected <= 0.25 * track.frames_read
    assert share_on_the_face(track, detector, read(path, frames), every) >= 0.95


@pytest.mark.data
def test_retinaface_tracks_follow_a_restless_head(clips, weights_dir):
    check_clip(clips / "real" / "pcavs_681100216.mp4", retinaface(weights_dir), frames=100, every=5)


@pytest.mark.data
@pytest.mark.parametrize("clip", ["real/grid_lrwp9a.mpg", "real/pcavs_00473.mp4", "fake/anit_aiface2.mp4"])
def test_both_detectors_draw_similar_boxes(clips, weights_dir, clip):
    frames = list(read(clips / clip, 50))[::12]
    for ours, theirs in zip(HaarDetector().detect(frames), retinaface(weights_dir).detect(frames), strict=True):
        assert len(ours.boxes) == len(theirs.boxes) == 1
        assert iou(ours.boxes[0], theirs.boxes[0]) > 0.7
        eyes = np.linalg.norm(theirs.landmarks[0, 1] - theirs.landmarks[0, 0])
        assert np.linalg.norm(ours.landmarks[0] - theirs.landmarks[0], axis=1).mean() < 0.3 * eyes


@pytest.mark.data
@pytest.mark.slow
def test_retinaface_tracks_every_real_clip(clips, weights_dir):
    for name in names_of(clips):
        check_clip(clips / name, retinaface(weights_dir))


def names_of(clips):
    with (clips / "clips.csv").open() as table:
        names = [row["file"] for row in csv.DictReader(table)]
    assert len(names) == 36
    return names


class Remembered:
    """A detector that has seen every frame of a video, and looks nowhere again."""

    name, landmark_source = "remembered", "retinaface"

    def __init__(self, detector, frames):
        self.found = {zlib.crc32(frame): detector.detect([frame])[0] for frame in frames}

    def detect(self, frames):
        return [self.found[zlib.crc32(frame)] for frame in frames]


def frames_with_a_face(detector, frames):
    return {index for index, frame in enumerate(frames) if len(detector.detect([frame])[0].boxes)}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.9, 0.9985], ids=["as set", "where the detector misses half of the faces"])
def test_tracks_cover_the_frames_that_show_a_face(clips, weights_dir, threshold):
    detector = retinaface(weights_dir, threshold=threshold)
    for name in names_of(clips):
        remembered = Remembered(detector, read(clips / name))
        shown = frames_with_a_face(remembered, read(clips / name))
        if len(shown) < 20:  # three clips at the high threshold: no face to follow
            continue
        for step in (64, 8, 1):
            track = track_faces(read(clips / name), remembered, step=step, size=16, expected_frames=400)
            assert len(shown & set(track.frame_index)) >= 0.98 * len(shown), (name, step)
