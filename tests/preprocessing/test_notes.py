"""What the notes say of the faces of a video, and that nothing is said where nothing happened."""

import numpy as np

from visavox.faces import FaceTrack, Sighting
from visavox.preprocessing.notes import most_at_once, track_notes


def track(first: int, last: int, read: int, others=(), cuts=()) -> FaceTrack:
    T = last - first + 1
    return FaceTrack(
        crops=[],
        boxes=np.zeros((T, 4), np.float32),
        landmarks=np.zeros((T, 5, 2), np.float32),
        det_score=np.ones(T, np.float32),
        frame_index=np.arange(first, last + 1),
        weight=1.0,
        frames_read=read,
        frames_detected=read,
        others=others,
        cuts=cuts,
    )


def test_a_face_seen_throughout_is_no_note():
    assert track_notes(track(0, 99, 100), 25) == []
    assert track_notes(track(0, 99, 100, [Sighting(40, 45, 0.1)]), 25) == []  # six frames: a false detection


def test_frames_left_out_other_faces_and_cuts_are_said():
    left_out = track(25, 99, 120, [Sighting(0, 20, 0.5), Sighting(40, 99, 0.2), Sighting(110, 119, 0.1)], (25, 105))
    assert track_notes(left_out, 25, "the one that speaks") == [
        "track: 75 of 120 frames show the main face",
        "2 faces; the one that speaks was followed",
        "a face is also seen at 0.00 to 0.84 s; the track is 1.00 to 4.00 s",
        "shot cuts at 1.00, 4.20 s; one shot was followed",
    ]


def test_faces_are_counted_where_they_are_seen_together():
    one_after_the_other = [Sighting(0, 40, 1), Sighting(41, 80, 1), Sighting(60, 90, 1)]
    assert most_at_once(one_after_the_other, 0, 99) == 2
    assert most_at_once(one_after_the_other, 0, 50) == 1
    assert most_at_once([], 0, 99) == 0
    assert track_notes(track(0, 99, 100, one_after_the_other), 25) == ["3 faces; the larger was followed"]
