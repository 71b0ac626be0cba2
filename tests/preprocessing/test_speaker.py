"""Which of several tracks is the speaker's, on tracks whose sync is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from visavox.preprocessing.speaker import choose_speaker, span

SOUND = np.arange(100 * 4, dtype=np.int16)


def track(conf: float, first: int = 0, frames: int = 100):
    return SimpleNamespace(conf=conf, frame_index=np.arange(first, first + frames), boxes=np.zeros((frames, 4)))


class Sync:
    """Measures what a track is said to have; remembers the sound it was given."""

    def __init__(self):
        self.heard = []

    def __call__(self, track, sound):
        self.heard.append(sound)
        return track


def choose(tracks, sound=SOUND):
    return choose_speaker(tracks, sound, Sync(), 4.0, 42)


def test_the_track_with_the_largest_confidence_speaks():
    tracks = [track(0.1), track(0.6), track(0.3)]
    assert choose(tracks) == (tracks[1], "the one that speaks (sync confidence 0.60, of others 0.10, 0.30)")


@pytest.mark.parametrize(
    ("tracks", "sound", "why"),
    [
        ([track(0.0), track(0.0)], SOUND, "as nobody's lips run with the sound"),
        ([track(0.1), track(0.9)], None, "as there is no sound"),
        ([track(0.1), track(0.9, frames=20)], SOUND, "as no two are seen long enough"),
        ([track(0.1)], SOUND, "the larger"),
    ],
)
def test_where_nothing_tells_the_speaker_the_larger_is_taken_and_that_is_said(tracks, sound, why):
    taken, words = choose(tracks, sound)
    assert taken is tracks[0] and words.startswith(why) and words.endswith("the larger")


def test_each_track_is_compared_with_the_sound_of_its_own_frames():
    sync = Sync()
    choose_speaker([track(0.1), track(0.2, 50, 60)], SOUND, sync, 4.0, 42)
    np.testing.assert_array_equal(sync.heard[0], SOUND)
    np.testing.assert_array_equal(sync.heard[1], [*SOUND[200:], *[0] * 40])
    np.testing.assert_array_equal(span(SOUND, np.arange(2, 5), 4.0), np.arange(8, 20))
