"""Shot cuts: what ends a track, and what only looks like a cut."""

import cv2
import numpy as np
import pytest
from fake_detector import FACE, FakeDetector, numbered

from visavox.faces import (
    follow_faces,
    track_faces,
)
from visavox.faces.boxes import iou


def test_a_shot_cut_ends_the_track_and_a_flash_does_not():
    def run(grey_of):
        frames = (numbered(index, grey_of(index)) for index in range(150))
        return track_faces(frames, FakeDetector(lambda index: [FACE]), step=64, size=32)

    assert run(lambda index: 60).frame_index.tolist() == list(range(150))
    assert run(lambda index: 60 if index < 101 else 180).frame_index.tolist() == list(range(101))
    assert run(lambda index: 60 if index < 33 else 180).frame_index.tolist() == list(range(33, 150))
    assert run(lambda index: 255 if index == 40 else 60).frame_index.tolist() == list(range(150))


def texture(seed):
    """What a face looks like: coarse blobs, (80, 60, 3)."""
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (7, 5, 3), np.uint8), (60, 80))


def pictured(index, background, faces):
    """A numbered frame with textures (h, w, 3) pasted at the boxes given with them."""
    frame = numbered(index, background)
    for box, look in faces:
        left, top, right, bottom = np.round(box).astype(int)
        frame[top:bottom, left:right] = cv2.resize(look, (right - left, bottom - top))
    return frame


def follow_pictures(scene, length, **more):
    """Follow the boxes of scene(index) -> background, [(box, look), ...]."""
    detector = FakeDetector(lambda index: [box for box, _ in scene(index)[1]])
    frames = (pictured(index, *scene(index)) for index in range(length))
    return track_faces(frames, detector, step=64, size=32, expected_frames=100, **more), detector


CLOSE = np.array([90.0, 60, 210, 220])


def test_a_face_that_goes_on_is_no_cut_whatever_the_thumbnail_says():
    def scene(index):  # the camera jerks and opens up: the background jumps by 120 grey levels and the face by a tenth
        return (40, [(CLOSE, texture(0))]) if index < 44 else (160, [(CLOSE + 6, cv2.add(texture(0), (30, 30, 30, 0)))])

    assert 0.8 < iou(CLOSE, CLOSE + 6) < 0.95
    track, detector = follow_pictures(scene, 86)
    np.testing.assert_array_equal(track.frame_index, np.arange(86))
    assert track.cuts == ()
    assert {43, 44} <= set(detector.seen) and len(detector.seen) <= 12


@pytest.mark.parametrize(
    "after",
    [(CLOSE + [50, 15, 50, 15], texture(0)), (CLOSE, texture(1)), (CLOSE + [-30, -20, 30, 20], texture(0))],
    ids=["another place", "another look", "another size"],
)
def test_another_face_across_a_jump_of_the_thumbnail_is_a_cut(after):
    track, _ = follow_pictures(lambda index: (40, [(CLOSE, texture(0))]) if index < 70 else (160, [after]), 90)
    np.testing.assert_array_equal(track.frame_index, np.arange(70))
    assert track.cuts == (70,)


def test_a_small_picture_that_goes_on_does_not_hide_a_cut():
    corner = np.array([5.0, 5, 45, 55])

    def scene(index):
        inset = (corner, texture(3))
        return (
            (40, [(CLOSE, texture(0)), inset]) if index < 30 else (160, [(CLOSE + [40, 15, 40, 15], texture(1)), inset])
        )

    track, _ = follow_pictures(scene, 90, smooth=1)
    np.testing.assert_array_equal(track.frame_index, np.arange(30, 90))
    np.testing.assert_allclose(track.boxes, np.tile(CLOSE + [40, 15, 40, 15], (60, 1)), atol=1e-3)
    assert track.cuts == (30,)


def test_the_other_faces_are_told_and_kept_on_request():
    left, right = np.array([20.0, 40, 80, 120]), np.array([200.0, 40, 280, 150])

    def truth(index):
        return [left, *([right] if index < 60 else [])]

    tracks = follow_faces((numbered(i) for i in range(100)), FakeDetector(truth), step=64, size=32, keep=2)
    assert [(track.frame_index[0], track.frame_index[-1]) for track in tracks] == [(0, 99), (0, 59)]
    np.testing.assert_allclose(tracks[1].boxes[0], right)
    (other,) = tracks[0].others
    assert (other.first, other.last) == (0, 59) and other.weight == tracks[1].weight
    assert len(follow_faces((numbered(i) for i in range(100)), FakeDetector(truth), step=64, size=32)) == 1
