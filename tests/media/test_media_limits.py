"""Media: what is read, decoded and held follows from what is wanted, and what a file asks for is bounded."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media.media_made import RATE, click, encode, flash, flash_time, onset, read, reason
from visavox.media import LIMITS, Limits, MediaError, open_video, probe
from visavox.media.container import RegularFile
from visavox.media.sound import Sound
from visavox.media.soundtrack import Decoder


def sound_in_front(path, seconds: float, picture_at: float = 0.0, click_at: float = 1.0, codec: str = "flac"):
    """A Matroska file that stores `seconds` of sound before two seconds of picture, which flash after one."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream(codec, rate=RATE, layout="mono")
        for second, samples in enumerate(click(seconds, click_at).reshape(-1, RATE)):
            piece = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, second * RATE, Fraction(1, RATE)
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
        for i in range(50):
            image = av.VideoFrame.from_ndarray(flash(25)(i), format="rgb24")
            image.pts, image.time_base = round(1000 * picture_at) + 40 * i, Fraction(1, 1000)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("picture_at", [0.0, 150.0, 290.0])
def test_sound_stored_in_front_is_bounded_and_in_place(tmp_path, picture_at):
    path = sound_in_front(tmp_path / "v.mkv", 300, picture_at, picture_at + 1.0)
    limits = Limits(sound_ahead=5)
    with open_video(path, max_seconds=2, limits=limits) as video:
        assert video._sound.sound.seconds_held < 2 + 5 + 1
        frames = list(video.frames())
        assert video._sound.sound.seconds_held < 2 + 5 + 1
        heard = video.audio()
    assert flash_time(frames) == 1.0 and len(heard) == 2 * RATE
    assert abs(onset(heard) - 1.0) < 0.005
    assert video.notes == []


def test_sound_that_fills_what_may_be_held_ahead_goes_on_beside_the_picture(tmp_path):
    """Six and a half of seven seconds are held when the picture comes; the two that are wanted reach beyond the seven."""
    path = encode(
        tmp_path / "v.mkv", 6.5 + np.arange(50) / 25, frame=flash(25), sound=click(9, 8.0), sound_codec="flac"
    )
    frames, heard, _ = read(path, max_seconds=2, limits=Limits(sound_ahead=5))
    assert len(frames) == 50 and abs(onset(heard) - 1.5) < 0.005


def test_sound_stored_behind_the_picture_is_found(tmp_path):
    """Ten minutes of picture (one frame a second), then its sound: what is wanted is two seconds."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w", options={"max_interleave_delta": "1"}) as container:
        video = container.add_stream("libx264", rate=1)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("flac", rate=RATE, layout="mono")
        for i in range(600):
            image = av.VideoFrame.from_ndarray(flash(1)(i), format="rgb24")
            image.pts, image.time_base = i, Fraction(1)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        piece = av.AudioFrame.from_ndarray(click(30, 1.0)[None], format="s16", layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    frames, sound, _ = read(path, max_seconds=2)
    assert len(frames) == 50 and abs(onset(sound) - 1.0) < 0.005


def test_stamps_that_all_say_the_same_do_not_fill_the_memory():
    stream = type("Stream", (), {"start_time": 0, "time_base": Fraction(1, RATE)})
    sound = Sound(stream, RATE)
    frame = av.AudioFrame.from_ndarray(np.ones((1, RATE), np.int16), format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    for _ in range(3):
        sound.add(frame)
    assert 2 <= sound.seconds_held <= 3


def test_what_lies_in_front_of_the_picture_is_bounded(tmp_path):
    path = sound_in_front(tmp_path / "v.mkv", 300, codec="pcm_s16le")
    assert path.stat().st_size > 9e6
    with pytest.raises(MediaError, match="side by side") as caught:
        open_video(path, max_seconds=2, limits=Limits(bytes_ahead=2 << 20))
    assert caught.value.reason == "too_large" and str(path) in str(caught.value)
    with pytest.raises(MediaError, match="too much"):
        open_video(path, max_seconds=2, limits=Limits(header_bytes=1 << 10))


def fast(path, fps: int, frames: int, declared: int | None = None):
    """Frames at `fps`, declared or not."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=declared or fps)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 10**6)
        for i in range(frames):
            image = av.VideoFrame.from_ndarray(flash(5)(i), format="rgb24")
            image.pts, image.time_base = round(i * 10**6 / fps), Fraction(1, 10**6)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_a_frame_rate_beyond_the_limit_is_refused_at_once(tmp_path, name, monkeypatch):
    path = fast(tmp_path / name, 1000, 500)
    decoded = []
    kept = Decoder.__call__
    monkeypatch.setattr(Decoder, "__call__", lambda *given: decoded.append(1) or kept(*given))
    with pytest.raises(MediaError, match="frames a second, the limit is 240") as caught:
        read(path)
    assert caught.value.reason == "too_fast" and len(decoded) < 200
    if name != "v.ts":  # a transport stream declares nothing that could be believed
        assert not decoded


def test_a_frame_rate_that_the_header_hides_is_met_on_the_way(tmp_path):
    path = fast(tmp_path / "v.mkv", 1000, 500, declared=25)
    with pytest.raises(MediaError, match="frames a second"):
        read(path)


def test_declared_rates_that_nothing_stands_behind_are_not_believed(tmp_path):
    """As browsers record: 1000 frames a second are declared, 30 come."""
    frames, _, video = read(fast(tmp_path / "v.webm.mkv", 30, 60, declared=1000))
    assert len(frames) in (49, 50) and video.notes == []
    frames, _, _ = read(fast(tmp_path / "short.mp4", 1000, 40))  # few frames are no work
    assert len(frames) == 1


def test_length_and_size_and_number_of_streams(tmp_path):
    path = encode(tmp_path / "v.mp4", np.arange(50) / 25)
    for limits, word in (
        (Limits(seconds=1), "too_long"),
        (Limits(side=63), "too_large"),
        (Limits(pixels=64 * 48 - 1), "too_large"),
        (Limits(least_side=49), "too_small"),
        (Limits(streams=0), "too_many_streams"),
        (Limits(fps=12), "too_fast"),
    ):
        assert reason(path, limits=limits) == word
    assert len(read(path, limits=Limits(seconds=1), max_seconds=1)[0]) == 25
    assert probe(path, limits=Limits(seconds=1)).duration == 2


def test_limits_are_shown_with_their_units():
    words = LIMITS.in_words()
    assert words["fps"] == "240 frames a second" and words["least_side"] == "32 pixels"
    assert set(words) == set(vars(LIMITS))


def anamorphic(path, width: int, height: int, shape: Fraction, picture, **options):
    """One second of `picture` (H, W, 3) stored at width x height with pixels of `shape`."""
    stored = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(width, height, interpolation="AREA")
    with av.open(str(path), "w") as container:
        video = container.add_stream(options.get("codec", "libx264"), rate=25, options={"crf": "12"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.sample_aspect_ratio = shape
        if "rotation" in options:
            video.set_display_rotation(options["rotation"])
        for i in range(25):
            image = stored.reformat(format="yuv420p")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


def disc(width: int, height: int) -> np.ndarray:
    """A bright disc that touches nothing, on grey."""
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (0.4 * min(width, height)) ** 2
    return np.where(inside[..., None], np.uint8([220, 180, 150]), np.uint8([60, 70, 80]))


def extent(frame) -> tuple[int, int]:
    inside = frame[..., 0] > 140
    return int(inside.any(0).sum()), int(inside.any(1).sum())


@pytest.mark.parametrize(
    "name, stored, shape, shown",
    [
        ("v.mp4", (720, 576), Fraction(16, 15), (768, 576)),
        ("v.mkv", (720, 576), Fraction(16, 15), (768, 576)),
        ("v.mp4", (720, 576), Fraction(64, 45), (1024, 576)),
        ("v.mp4", (720, 480), Fraction(8, 9), (720, 540)),  # the short side grows: no stored line is lost
        ("v.mpg", (352, 576), Fraction(24, 11), (768, 576)),
    ],
)
def test_pixels_are_made_square(tmp_path, name, stored, shape, shown):
    picture = disc(*shown)
    codec = "mpeg2video" if name == "v.mpg" else "libx264"
    path = anamorphic(tmp_path / name, *stored, shape, picture, codec=codec)
    frames, _, video = read(path)
    assert abs(frames[0].shape[1] - shown[0]) <= 1 and frames[0].shape[0] == shown[1]
    assert (video.info.width, video.info.height) == frames[0].shape[1::-1]
    across, down = extent(frames[5])
    assert abs(across - down) <= 2
    if frames[0].shape == picture.shape:
        assert np.abs(frames[5].astype(int) - picture).mean() < 3
    assert [note for note in video.notes if note.startswith("anamorphic: pixels of ") and "made square" in note]


def test_pixels_are_made_square_before_the_picture_is_turned(tmp_path):
    path = anamorphic(tmp_path / "v.mp4", 720, 576, Fraction(16, 15), disc(768, 576), rotation=90)
    frames, _, video = read(path)
    assert frames[0].shape == (768, 576, 3) and (video.info.width, video.info.height) == (576, 768)
    assert abs(np.subtract(*extent(frames[0]))) <= 2


def test_pixel_shapes_that_would_break_the_limits(tmp_path):
    odd = anamorphic(tmp_path / "odd.mp4", 64, 48, Fraction(5, 1), disc(64, 48))
    frames, _, video = read(odd)
    assert frames[0].shape == (48, 64, 3) and any("taken for damage" in note for note in video.notes)
    wide = anamorphic(tmp_path / "wide.mp4", 64, 48, Fraction(2, 1), disc(64, 48))
    frames, _, _ = read(wide, max_pixels=64 * 48)
    assert frames[0].shape == (24, 64, 3)


def test_a_file_may_be_read_as_far_as_it_was_allowed(tmp_path):
    (tmp_path / "f").write_bytes(bytes(100))
    with open(tmp_path / "f", "rb") as opened:
        file = RegularFile("f", opened)
        file.left = 60
        assert len(file.read(60)) == 60
        with pytest.raises(MediaError, match="f: too much"):
            file.read(1)
