"""A planted stretch is exact to the frame, and the rest of the clip stays bit for bit."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from visavox.bundle import Bundle, BundleError
from visavox.pseudofakes.planted import planted


def filmed(make_bundle: Callable[..., Bundle], seed: int) -> Bundle:
    """A bundle whose track is as large as its faces."""
    images = np.random.default_rng(seed).integers(0, 256, (25, 64, 64, 3), np.uint8)
    jpegs = [cv2.imencode(".jpg", image)[1] for image in images]
    return make_bundle(seed, track=np.concatenate(jpegs), track_offsets=np.cumsum([0, *map(len, jpegs)]))


def test_sound_is_replaced_and_the_picture_is_not(make_bundle: Callable[..., Bundle]):
    clip, other = make_bundle(1), make_bundle(2)
    fake, (start, end) = planted(clip, other, np.random.default_rng(0), 0.2, "sound")
    assert round((end - start) * 25) == 5
    a, b = round(start * 16000), round(end * 16000)
    assert np.array_equal(fake.track, clip.track) and np.array_equal(fake.faces, clip.faces)
    assert np.array_equal(fake.audio[:a], clip.audio[:a]) and np.array_equal(fake.audio[b:], clip.audio[b:])
    taken = fake.audio[a:b]
    places = np.lib.stride_tricks.sliding_window_view(other.audio, b - a)[::640]
    assert (places == taken).all(1).any()
    assert not np.array_equal(fake.mel_3cs, clip.mel_3cs)


def test_pictures_are_replaced_and_the_sound_is_not(make_bundle: Callable[..., Bundle]):
    clip, other = filmed(make_bundle, 1), filmed(make_bundle, 2)
    fake, (start, end) = planted(clip, other, np.random.default_rng(0), 0.2, "picture")
    first, last = round(start * 25), round(end * 25)
    assert last - first == 5 and np.array_equal(fake.audio, clip.audio)
    for t in range(clip.track_frames):
        assert np.array_equal(fake.frame(t), clip.frame(t)) == (not first <= t < last), t
    theirs = [other.frame(t).tobytes() for t in range(other.track_frames)]
    shown = [k for k, t in enumerate(clip.kept_frames) if first <= t < last]
    assert shown and all(np.array_equal(fake.faces[k], fake.frame(int(clip.kept_frames[k]))) for k in shown)
    assert all(np.array_equal(fake.faces[k], clip.faces[k]) for k in range(len(clip.faces)) if k not in shown)
    at = theirs.index(fake.frame(first).tobytes())
    assert [fake.frame(first + i).tobytes() for i in range(5)] == theirs[at : at + 5]


def test_it_is_drawn_by_the_generator_alone(make_bundle: Callable[..., Bundle]):
    clip, other = make_bundle(1), make_bundle(2)
    same = [planted(clip, other, np.random.default_rng(7), 0.12, "sound") for _ in range(2)]
    assert same[0].segment == same[1].segment and np.array_equal(same[0].bundle.audio, same[1].bundle.audio)
    assert len({planted(clip, other, np.random.default_rng(i), 0.04, "sound").segment for i in range(20)}) > 2


def test_what_has_no_room_or_no_sound_is_refused(make_bundle: Callable[..., Bundle]):
    clip = make_bundle(1)
    with pytest.raises(BundleError, match="no room"):
        planted(clip, make_bundle(2), np.random.default_rng(0), 0.8, "sound")
    silent = make_bundle(3, status="no_audio", audio=np.zeros(0, np.int16))
    with pytest.raises(BundleError, match="without sound"):
        planted(clip, silent, np.random.default_rng(0), 0.2, "sound")
