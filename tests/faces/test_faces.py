"""Faces: where the detector looks, linking, smoothing, cutting, on frames whose truth is known; and on real clips."""

import csv
import itertools
import weakref
import zlib

import cv2
import numpy as np
import pytest
import torch

from visavox.faces import (
    CropStore,
    Detections,
    HaarDetector,
    cropping,
    cut,
    follow_faces,
    haar,
    to_crop,
    track_faces,
    tracking,
)
from visavox.faces.boxes import iou
from visavox.faces.crop_store import decode_jpeg, encode_jpeg
from visavox.faces.cropping import crop_square
from visavox.media import open_video

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


def true_boxes(truth, indices):
    return np.array([truth(index)[0] for index in indices])


def test_a_face_in_linear_motion_is_exact_and_costs_few_looks():
    def truth(index):
        return [FACE + 0.25 * index * np.array([1, 0.5, 1, 0.5])]

    track, detector = follow(truth, 200, smooth=1)
    np.testing.assert_allclose(track.boxes, true_boxes(truth, range(200)), atol=1e-3)
    np.testing.assert_array_equal(track.frame_index, np.arange(200))
    assert track.frame_index.dtype == np.int64
    assert track.frames_read == 200
    assert track.frames_detected == len(detector.seen) == len(set(detector.seen)) <= 20
    detected = np.flatnonzero(~np.isnan(track.det_score))
    np.testing.assert_array_equal(detected, sorted(detector.seen))
    np.testing.assert_allclose(track.det_score[detected], 0.9)
    assert track.det_score.dtype == track.boxes.dtype == track.landmarks.dtype == np.float32
    assert len(track.crops) == 200
    assert track.crops[:].shape == (200, 32, 32, 3)


def test_smoothing_is_the_moving_average_of_the_detected_boxes_with_repeated_edges():
    from scipy.ndimage import uniform_filter1d

    def truth(index):
        return [FACE + 3 * np.sin(index)]

    track, _ = follow(truth, 90, step=1)
    expected = uniform_filter1d(true_boxes(truth, range(90)), 13, axis=0, mode="nearest")
    np.testing.assert_allclose(track.boxes, expected, atol=1e-3)


@pytest.mark.parametrize("period", [16, 25, 32])
def test_fast_motion_is_looked_at_more_often(period):
    def swinging(index):  # by half a face to either side
        return [FACE + np.array([30, 8, 30, 8]) * np.sin(2 * np.pi * index / period)]

    track, detector = follow(swinging, 193, smooth=1)
    overlap = iou(track.boxes, true_boxes(swinging, range(193)))
    assert (overlap >= 0.8).mean() >= 0.98
    assert iou(FACE, true_boxes(swinging, range(193))).mean() < 0.6
    _, still = follow(lambda index: [FACE], 193)
    assert len(detector.seen) > 3 * len(still.seen)


def test_a_face_that_leaves_and_one_that_comes_late_are_found_to_the_frame():
    track, _ = follow(lambda index: [FACE] if 37 <= index <= 90 else [], 200)
    assert (track.frame_index[0], track.frame_index[-1]) == (37, 90)
    assert not np.isnan(track.det_score[[0, -1]]).any()
    np.testing.assert_allclose(track.boxes, np.tile(FACE, (54, 1)), atol=1e-3)


@pytest.mark.parametrize("step", [1, 7])
def test_a_short_loss_is_bridged_and_a_long_one_ends_the_track(step):
    def lost_for(frames):
        return lambda index: [] if 50 <= index < 50 + frames else [FACE]

    track, _ = follow(lost_for(tracking.BRIDGE), 150, step=step)
    assert len(track.frame_index) == 150
    assert np.isnan(track.det_score[50 : 50 + tracking.BRIDGE]).all()
    track, _ = follow(lost_for(tracking.BRIDGE + 1), 150, step=step)
    assert (track.frame_index[0], track.frame_index[-1]) == (50 + tracking.BRIDGE + 1, 149)


def test_a_loss_between_key_frames_ends_the_track():
    track, _ = follow(lambda index: [] if 45 <= index < 75 else [FACE], 200)
    assert (track.frame_index[0], track.frame_index[-1]) == (75, 199)
    track, _ = follow(lambda index: [] if 125 <= index < 155 else [FACE], 200)
    assert (track.frame_index[0], track.frame_index[-1]) == (0, 124)


@pytest.mark.parametrize("step", [64, 8, 1])
def test_a_face_that_is_missed_again_and_again_is_looked_for_on_the_frames_between(step):
    missed = {*range(184, 191), *range(194, 201), *range(204, 211)}  # seven frames each: no loss, but for who sees few
    track, detector = follow(lambda index: [] if index in missed else [FACE], 251, step=step)
    np.testing.assert_array_equal(track.frame_index, np.arange(251))
    assert track.frames_detected == len(detector.seen) == len(set(detector.seen))


@pytest.mark.parametrize("step", [64, 8, 1])
def test_a_long_loss_is_no_loss_where_faint_detections_are_near_the_last_box(step):
    def drifting(index):
        return [FACE + 0.3 * index]

    def follow_with(faint):
        return follow(lambda i: [] if 70 <= i < 110 else drifting(i), 200, step=step, faint=faint, smooth=1)[0]

    track = follow_with(drifting)
    np.testing.assert_array_equal(track.frame_index, np.arange(200))
    np.testing.assert_allclose(track.boxes, true_boxes(drifting, range(200)), atol=1e-3)
    assert len(follow_with(lambda index: [FACE + [100, 0, 100, 0]]).boxes) == 90  # faint ones elsewhere are nobody


@pytest.mark.parametrize("step", [64, 8, 1])
def test_a_face_is_looked_for_before_it_was_first_found_and_after_it_was_last_found(step):
    track, _ = follow(
        lambda i: [FACE] if 40 <= i < 160 else [], 200, step=step, faint=lambda i: [FACE] if 20 <= i < 185 else []
    )
    assert (track.frame_index[0], track.frame_index[-1]) == (20, 184)
    track, _ = follow(lambda i: [FACE] if i < 190 else [], 200, step=step, faint=lambda index: [FACE])
    assert track.frame_index[-1] == 199


def test_faint_detections_begin_no_track_and_take_no_other_face():
    assert follow(lambda index: [], 100, faint=lambda index: [FACE])[0] is None
    near = FACE + [12, 0, 12, 0]
    track, _ = follow(lambda i: [near] if i >= 50 else [FACE, near + [60, 0, 60, 0]], 100, faint=lambda i: [], smooth=1)
    assert len(track.boxes) == 100


def test_a_face_that_moves_while_it_is_missed_is_followed_by_its_faint_detections():
    def leaning(index):
        return [FACE + np.array([1, 0, 1, 0]) * np.clip(index - 60, 0, 8) * 8]

    def truth(index):
        return [] if 61 <= index < 68 else leaning(index)

    assert iou(FACE, leaning(68)[0]) < tracking.SAME_FACE
    track, _ = follow(truth, 130, faint=leaning, smooth=1)
    np.testing.assert_array_equal(track.frame_index, np.arange(130))
    np.testing.assert_allclose(track.boxes, true_boxes(leaning, range(130)), atol=1e-3)


def test_no_face_is_none_and_no_frame_is_none():
    track, detector = follow(lambda index: [], 100)
    assert track is None
    assert detector.seen
    assert follow(lambda index: [FACE], 0)[0] is None
    assert len(follow(lambda index: [FACE], 1)[0].crops) == 1


def test_the_main_face_is_the_longest_and_largest():
    small, large = np.array([10.0, 10, 40, 50]), np.array([200.0, 60, 280, 180])

    def both(until):
        return lambda index: [small, large] if index < until else [small]

    track, _ = follow(both(150), 200)
    np.testing.assert_allclose(track.boxes[0], large)
    track, _ = follow(both(20), 200)
    np.testing.assert_allclose(track.boxes[0], small)
    assert len(track.crops) == 200


def test_two_faces_that_pass_keep_their_identity():
    def truth(index):
        return [np.array([20.0, 20, 80, 100]) + np.array([1, 0, 1, 0]) * index,
                np.array([200.0, 130, 250, 190]) - np.array([1, 0, 1, 0]) * index]  # fmt: skip

    track, _ = follow(truth, 150, smooth=1)
    np.testing.assert_allclose(track.boxes, true_boxes(truth, range(150)), atol=1e-3)


def test_more_faces_than_can_be_followed_leave_the_largest():
    crowd = [np.array([x, y, x + 20.0, y + 25]) for x in range(0, 320, 40) for y in (0, 60)]
    track, _ = follow(lambda index: [*crowd, FACE + [0, 20, 0, 20]], 80)
    np.testing.assert_allclose(track.boxes[0], FACE + [0, 20, 0, 20])


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


def test_landmarks_are_given_in_crop_pixels():
    track, _ = follow(lambda index: [FACE + 0.2 * index], 100, size=64)
    square = crop_square(track.boxes.astype(float), 0.4)
    source = track.boxes[:, None, :2] + (track.boxes[:, None, 2:] - track.boxes[:, None, :2]) * LANDMARKS
    back = track.landmarks * square[:, None, 2:] / 64 + square[:, None, :2]
    np.testing.assert_allclose(back, source, atol=1e-2)
    eyes, mouth = track.landmarks[:, :2], track.landmarks[:, 3:]
    assert (track.landmarks > 0).all() and (track.landmarks < 64).all()
    assert eyes[..., 1].max() < mouth[..., 1].min()


def test_landmarks_lie_on_what_they_marked():
    frame = np.zeros((H, W, 3), np.uint8)
    frame[120:124, 130:134] = 255  # centred on (132, 122)
    box = np.array([[100.0, 80, 160, 160]])
    for size in (32, 64, 224):
        crop = cut(frame[None], box, size)[0, ..., 0].astype(float)
        y, x = (np.arange(size) + 0.5 for _ in range(2))
        centre = np.array([(crop.sum(0) * x).sum(), (crop.sum(1) * y).sum()]) / crop.sum()
        np.testing.assert_allclose(centre, to_crop(np.array([[[132.0, 122]]]), box, size, 0.4)[0, 0], atol=0.1)


def test_the_square_is_syncnets():
    # run_pipeline: rows cy - bs to cy + bs (1 + 2 cs), columns cx - bs (1 + cs) to cx + bs (1 + cs), bs = max(w, h) / 2
    left, top, side = crop_square(FACE, 0.4)
    assert (left, top, side) == pytest.approx((130 - 40 * 1.4, 120 - 40, 40 * 2.8))
    assert top + side == pytest.approx(120 + 40 * 1.8)


@pytest.mark.parametrize("size", [28, 56, 112, 224, 100])
def test_crops_of_a_gradient_hold_the_expected_values(size):
    x, y = np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5)  # pixel centres
    frame = np.stack([x * 0.75, y, np.full_like(x, 7)], -1).astype(np.uint8)
    crop = cut(frame[None], FACE[None], size)[0].astype(float)
    left, top, side = crop_square(FACE, 0.4)
    centres = (np.arange(size) + 0.5) * side / size
    np.testing.assert_allclose(crop[..., 0], np.tile((left + centres) * 0.75 - 0.5, (size, 1)), atol=1.1)
    np.testing.assert_allclose(crop[..., 1], np.tile(top + centres[:, None] - 0.5, (1, size)), atol=1.1)
    assert (crop[..., 2] == 7).all()


def test_a_whole_pixel_square_of_the_asked_size_is_the_source_itself():
    frame = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    crop = cut(frame[None], np.array([[100.0, 80, 160, 180]]), 140)[0]  # side 1.4 * 100
    np.testing.assert_array_equal(crop, frame[80:220, 60:200])


def test_outside_the_picture_is_grey_110():
    frame = np.full((1, H, W, 3), 200, np.uint8)
    crop = cut(frame, np.array([[-40.0, -50, 40, 50]]), 140)[0]
    assert (crop[:50] == cropping.PAD_VALUE).all() and (crop[:, :70] == cropping.PAD_VALUE).all()
    assert (crop[51:, 71:] == 200).all()
    assert cropping.PAD_VALUE == 110


def test_the_crops_of_a_track_are_the_cuts_of_its_boxes():
    rng = np.random.default_rng(1)
    still = cv2.GaussianBlur(rng.integers(0, 256, (H, W, 3), dtype=np.uint8), (0, 0), 3)
    frames = np.stack([np.roll(still, index, axis=1) for index in range(80)])
    for index, frame in enumerate(frames):
        frame[0, 0] = 0, index, 0
    detector = FakeDetector(lambda index: [FACE + np.array([1, 0, 1, 0]) * index])
    track = track_faces(frames, detector, step=16, size=48, expected_frames=80)
    np.testing.assert_array_equal(track.crops[:], cut(frames, track.boxes, 48))


def test_result_does_not_depend_on_the_source_or_the_batch(monkeypatch):
    def truth(index):
        return [FACE + 20 * np.sin(index / 5), FACE - 60] if index % 50 > 3 else []

    one, _ = follow(truth, 180)
    monkeypatch.setattr(tracking, "BATCH", 3)
    frames = [numbered(index) for index in range(180)]
    two = track_faces(frames, FakeDetector(truth), step=64, size=32, expected_frames=100)
    for name in ("boxes", "landmarks", "det_score", "frame_index"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.crops[:], two.crops[:])


@pytest.mark.parametrize("strobe", [1, 9, 400], ids=["a jump on each frame", "now and then", "never"])
@pytest.mark.parametrize("step", [1, 10, 64, 1000])
def test_few_frames_are_alive_at_once(step, strobe):
    class Frame(np.ndarray):
        """An array that can be watched."""

    alive, most = weakref.WeakSet(), 0

    def watched():
        nonlocal most
        for index in range(400):
            frame = numbered(index, 60 + 40 * (index // strobe % 4)).view(Frame)
            frame.__class__.__hash__ = object.__hash__
            frame.__class__.__eq__ = object.__eq__
            alive.add(frame)
            yield frame
            del frame
            most = max(most, len(alive))

    track_faces(watched(), FakeDetector(lambda index: [FACE] if index % 70 > 9 else []), step=step, size=16)
    assert 1 < most <= tracking.CHUNK + tracking.BRIDGE + tracking.SMOOTH // 2 + 2


def test_large_frames_wait_in_smaller_chunks(monkeypatch):
    monkeypatch.setattr(tracking, "CHUNK_BYTES", 10 * H * W * 3)
    _, detector = follow(lambda index: [FACE], 101)
    assert sorted(detector.seen) == list(range(0, 101, 10))


def test_the_store_keeps_raw_crops_or_jpeg_by_what_the_caller_expects():
    assert not follow(lambda index: [FACE], 20, expected_frames=20)[0].crops.compressed
    limit = tracking.RAW_CROP_BYTES // (32 * 32 * 3)
    assert not follow(lambda index: [FACE], 20, expected_frames=limit)[0].crops.compressed
    assert follow(lambda index: [FACE], 20, expected_frames=limit + 1)[0].crops.compressed
    assert follow(lambda index: [FACE], 20, expected_frames=None)[0].crops.compressed


@pytest.mark.parametrize("compressed", [False, True])
def test_the_store_is_a_sequence_of_crops(compressed):
    rng = np.random.default_rng(2)
    crops = [cv2.GaussianBlur(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), (0, 0), 2) for _ in range(5)]
    store = CropStore(40, compressed)
    for crop in crops:
        store.append(crop)
    close = 10 if compressed else 0
    assert len(store) == 5
    np.testing.assert_allclose(store[2].astype(int), crops[2], atol=close)
    np.testing.assert_allclose(store[-1].astype(int), crops[-1], atol=close)
    np.testing.assert_allclose(store[1:4].astype(int), crops[1:4], atol=close)
    np.testing.assert_allclose(store[np.array([4, 0, 0])].astype(int), [crops[4], crops[0], crops[0]], atol=close)
    assert store[5:].shape == (0, 40, 40, 3)
    assert len(list(store)) == 5
    images, offsets = store.jpegs()
    assert images.dtype == np.uint8 and offsets.dtype == np.int64 and len(offsets) == 6 and offsets[-1] == len(images)
    third = images[offsets[3] : offsets[4]]
    assert third.tobytes() == store.jpeg(3) == encode_jpeg(crops[3])
    np.testing.assert_allclose(decode_jpeg(third).astype(int), crops[3], atol=10)
    assert isinstance(images, np.memmap) == compressed
    with pytest.raises(IndexError):
        store[5]


def test_an_empty_store_has_no_images():
    for compressed in (False, True):
        images, offsets = CropStore(40, compressed).jpegs()
        assert len(images) == 0 and offsets.tolist() == [0]


def test_settings_that_make_no_sense_are_refused():
    for setting in ({"step": 0}, {"size": 0}, {"smooth": 12}):
        with pytest.raises(ValueError, match="positive"):
            follow(lambda index: [FACE], 3, **setting)


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
