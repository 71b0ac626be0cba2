"""Face tracks: where the detector looks, linking and smoothing, on frames whose truth is known."""

import numpy as np
import pytest
from fake_detector import FACE, follow

from visavox.faces import (
    tracking,
)
from visavox.faces.boxes import iou


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
