"""Media: the grid of frames and the sound are on one clock. All files are real ones."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media.media_made import RATE, click, encode, flash, flash_time, number_frame, onset, read
from visavox import media
from visavox.media import open_video, write_video


def read_number(frame: np.ndarray) -> int:
    bars = np.array_split(frame[:, : frame.shape[1] // 8 * 8, 1].mean(0), 8)
    return sum((bar[1:-1].mean() > 128) << bit for bit, bar in enumerate(bars))


def nearest(times, count):
    times = np.array(times)
    return [int(np.argmin(np.abs(times - times[0] - n / 25))) for n in range(count)]


@pytest.mark.parametrize("fps", [22.131, 25, 30, 60, 240])
def test_frames_are_the_nearest_by_timestamp(tmp_path, fps):
    times = np.arange(int(fps)) / fps  # one second
    frames, sound, video = read(encode(tmp_path / "v.mp4", times, base=90000, rate=round(fps)))
    assert len(frames) == 25 and sound is None and video.notes == []
    assert [read_number(f) for f in frames] == nearest(times, 25)


def test_variable_frame_rate(tmp_path):
    times = [0, 0.01, 0.02, 0.5, 0.52, 0.9, 1.3, 1.31]
    for name in ("v.mp4", "v.mkv"):
        frames, _, _ = read(encode(tmp_path / name, times))
        assert [read_number(f) for f in frames][:32] == nearest(times, 32)


@pytest.mark.parametrize(
    "name, codec, pixels",
    [
        ("v.avi", "mpeg4", "yuv420p"),
        ("v.mpg", "mpeg2video", "yuv420p"),
        ("v.mov", "libx264", "yuv420p"),
        ("v.mkv", "libx265", "yuv420p10le"),
        ("v.mp4", "libx265", "yuv420p"),
        ("v.mp4", "libx264", "yuv422p10le"),
        ("v.webm", "libvpx", "yuv420p"),
        ("v.ts", "libx264", "yuv420p"),
        ("v.avi", "libx264", "yuv420p"),
    ],
)
def test_containers_and_codecs(tmp_path, name, codec, pixels):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    if codec == "mpeg2video":
        options = {"bf": "2"}
    path = encode(tmp_path / name, np.arange(50) / 25, codec=codec, pixels=pixels, options=options)
    for threads in (0, 1, 4):
        frames, _, video = read(path, threads=threads)
        assert [read_number(f) for f in frames] == list(range(50))
    assert video.info.pixel_format == pixels and video.notes == []
    assert frames[0].dtype == np.uint8 and frames[0].flags.c_contiguous


def test_odd_sizes_keep_every_pixel(tmp_path):
    path = encode(
        tmp_path / "v.mkv", [0, 0.04], codec="ffv1", pixels="yuv444p", frame=lambda i: number_frame(i, 51, 77)
    )
    frames, _, video = read(path)
    assert frames[1].shape == (51, 77, 3) and (video.info.width, video.info.height) == (77, 51)
    assert np.abs(frames[1].astype(int) - number_frame(1, 51, 77)).max() <= 3


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_display_matrix_turns_and_mirrors(tmp_path, turn, flip):
    def corner(_):
        image = np.zeros((32, 64, 3), np.uint8)
        image[:8, :16] = 255
        image[:8, 48:] = 120
        return image

    path = encode(tmp_path / "v.mp4", [0, 0.04], frame=corner, rotation=turn, flip=flip)
    frames, _, video = read(path)
    expected = corner(0)
    with av.open(str(path)) as container:  # the matrix as it is defined: stored (x, y) -> (a x + c y, b x + d y)
        side = next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    if side is not None:
        a, b, _, c, d, *_ = np.sign(np.frombuffer(bytes(side), np.int32))
        y, x = np.mgrid[:32, :64]
        across, down = a * x + c * y, b * x + d * y
        across, down = across - across.min(), down - down.min()
        turned = np.zeros((down.max() + 1, across.max() + 1, 3), np.uint8)
        turned[down, across] = expected
        expected = turned
    assert frames[0].shape == expected.shape == (video.info.height, video.info.width, 3)
    assert np.abs(frames[0].astype(int) - expected).mean() < 6
    if not flip:
        assert video.info.rotation == -turn % 360
        assert np.abs(frames[0].astype(int) - np.rot90(corner(0), turn // 90)).mean() < 6


def test_missing_timestamps_count_from_the_frame_rate(tmp_path):
    path = encode(tmp_path / "v.h264", np.arange(50) / 25, muxer="h264", options={"bf": "0"})
    frames, _, _ = read(path)
    assert [read_number(f) for f in frames] == list(range(50))


def test_another_fps_and_rate(tmp_path):
    path = encode(tmp_path / "v.mp4", np.arange(50) / 25, sound=click(2, 1))
    frames, sound, _ = read(path, fps=5, sample_rate=8000)
    assert [read_number(f) for f in frames] == list(range(0, 50, 5))
    assert len(sound) == 16000


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv"])
def test_written_video_comes_back_aligned(tmp_path, name):
    path = tmp_path / name
    images = [flash(30)(i) for i in range(75)]
    write_video(path, images, click(3, 1.2))
    frames, sound, video = read(path)
    assert (len(frames), len(sound)) == (75, 48000) and video.notes == []
    assert flash_time(frames) == 1.2
    assert abs(onset(sound) - 1.2) < 0.002


@pytest.mark.parametrize(
    "name, late",
    [("v.avi", 0.0)] + [(f"v.{suffix}", late) for suffix in ("mp4", "mov", "mkv", "mpg", "ts") for late in (0.0, 0.4)],
)
def test_offset_between_streams_survives(tmp_path, name, late):
    codec = {"v.avi": "mpeg4", "v.mpg": "mpeg2video"}.get(name, "libx264")
    kind = {"v.avi": "pcm_s16le", "v.mpg": "mp2"}.get(name, "aac")
    sound = click(2.5, 1.0)
    path = encode(
        tmp_path / name, np.arange(75) / 25, codec=codec, frame=flash(25), sound=sound, sound_at=late, sound_codec=kind
    )
    frames, heard, _ = read(path)
    assert abs(flash_time(frames) - 1.0) <= 0.041 and len(heard) == 48000
    # MPEG program and transport streams cannot signal the encoder's delay: one frame of AAC or MP2 at 16 kHz
    slack = 0.08 if name in ("v.mpg", "v.ts") else 0.005
    assert abs(onset(heard) - (1.0 + late)) < slack
    assert late == 0 or not heard[: int((late - slack) * RATE)].any()


def test_video_that_starts_late_drops_the_sound_before_it(tmp_path):
    path = encode(tmp_path / "v.mkv", 0.6 + np.arange(50) / 25, frame=flash(25), sound=click(2.6, 1.6))
    frames, sound, _ = read(path)
    assert flash_time(frames) == 1.0 and abs(onset(sound) - 1.0) < 0.005


def test_stereo_44k_is_mixed_and_resampled_in_place(tmp_path):
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=44100, layout="stereo")
        for i in range(25):
            image = av.VideoFrame.from_ndarray(number_frame(i), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        tone = np.zeros((44100, 2))
        tone[22050:, 0] = 16000 * np.sin(2 * np.pi * 440 * np.arange(22050) / 44100)
        piece = av.AudioFrame.from_ndarray(tone.astype(np.int16).reshape(1, -1), format="s16", layout="stereo")
        piece.sample_rate, piece.pts, piece.time_base = 44100, 0, Fraction(1, 44100)
        container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    _, sound, video = read(tmp_path / "v.mkv")
    assert (video.info.sample_rate, video.info.channels, len(sound)) == (44100, 2, RATE)
    spectrum = np.abs(np.fft.rfft(sound[8000:].astype(float)))
    assert np.argmax(spectrum) * 2 == 440
    assert abs(onset(sound) - 0.5) < 0.001 and 7500 < sound.max() < 8500  # the mean of both channels


def test_sound_is_cut_or_padded_to_the_frames(tmp_path):
    _, short, _ = read(encode(tmp_path / "a.mp4", np.arange(50) / 25, sound=click(1, 0.5)))
    _, long, _ = read(encode(tmp_path / "b.mp4", np.arange(50) / 25, sound=click(4, 0.5)))
    assert len(short) == len(long) == 2 * RATE


def test_reading_stops_at_max_seconds(tmp_path):
    path = encode(tmp_path / "v.mp4", np.arange(100) / 25, sound=click(4, 0.5))
    frames, sound, video = read(path, max_seconds=2)
    assert [read_number(f) for f in frames] == list(range(50))
    assert len(sound) == 2 * RATE and video.notes == ["clipped"]
    _, _, whole = read(path, max_seconds=4)
    assert whole.notes == []


def test_only_chosen_frames_are_converted_and_none_are_kept(tmp_path, monkeypatch):
    path = encode(tmp_path / "v.mp4", np.arange(480) / 240, base=240, rate=240)
    converted, alive, most = [], set(), []
    decode = media.Video._decode

    class Held:
        """A decoded frame that knows how many of its kind something still holds."""

        def __init__(self, image):
            self.image = image
            alive.add(id(self))

        def __getattr__(self, name):
            return getattr(self.image, name)

        def __del__(self):
            alive.discard(id(self))

    def held(self):
        for shown in decode(self):
            yield shown._replace(image=Held(shown.image))
            most.append(len(alive))

    monkeypatch.setattr(media.Video, "_decode", held)
    monkeypatch.setattr(media.Video, "_rgb", lambda self, image: converted.append(image.pts))
    with open_video(path) as video:
        assert sum(1 for _ in video.frames()) == 50
    assert len(most) == 480 and len(converted) == 50
    assert max(most) <= 4  # the first, the held and the next one, however long the video


def test_memory_of_frames_is_used_again_when_nobody_holds_them(tmp_path):
    path = tmp_path / "v.mp4"
    media.write_video(path, [np.full((48, 64, 3), 10 * i, np.uint8) for i in range(20)], None)
    with media.open_video(path) as video:
        kept = [frame[10:20] for frame in video.frames()]  # views hold the whole
    assert all(abs(int(view.mean()) - 10 * i) <= 3 for i, view in enumerate(kept))
    with media.open_video(path) as video:
        places = set()
        for frame in video.frames():
            places.add(frame.ctypes.data)
            del frame
    assert len(places) <= 3


def test_audio_needs_all_frames_and_frames_are_read_once(tmp_path):
    path = encode(tmp_path / "v.mp4", np.arange(10) / 25, sound=click(0.4, 0.1))
    with open_video(path) as video:
        with pytest.raises(RuntimeError, match="frames"):
            video.audio()
        list(video.frames())
        assert len(video.audio()) == 6400
        with pytest.raises(RuntimeError, match="again"):
            list(video.frames())


def test_size_that_changes_is_scaled_to_the_first(tmp_path):
    small = encode(tmp_path / "a.ts", np.arange(25) / 25, options={"bf": "0"})
    late = {"frame": lambda i: number_frame(25 + i, 96, 128), "options": {"bf": "0"}}
    large = encode(tmp_path / "b.ts", 1 + np.arange(25) / 25, **late)
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    frames, _, video = read(tmp_path / "both.ts")
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert [read_number(frame) for frame in frames] == list(range(50))
    assert any(note.startswith("resized") for note in video.notes)
    frames, _, video = read(tmp_path / "both.ts", max_pixels=64 * 48)  # the limit holds within the stream
    assert [read_number(frame) for frame in frames] == list(range(25))
    assert any("could not be decoded" in note for note in video.notes)


def test_time_that_jumps_stops_the_reading(tmp_path):
    frames, _, video = read(encode(tmp_path / "v.mkv", [0, 0.04, 0.08, 100000, 100000.04]))
    assert len(frames) < 5 and any("time jumps" in note for note in video.notes)
