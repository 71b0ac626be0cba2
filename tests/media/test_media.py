"""Media: the grid of frames and the sound are on one clock; whatever is no video says so. All files are real ones."""

import os
import socket
import struct
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from visavox import media
from visavox.media import MediaError, open_video, probe, write_video
from visavox.media.sound import Sound

RATE = 16000


def number_frame(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A grey frame (H, W, 3) whose eight vertical bars are the bits of `number`."""
    bars = np.repeat([(number >> bit & 1) * 200 + 28 for bit in range(8)], width // 8)
    row = np.pad(bars, (0, width - len(bars)), mode="edge")
    return np.broadcast_to(row[None, :, None], (height, width, 3)).astype(np.uint8)


def read_number(frame: np.ndarray) -> int:
    bars = np.array_split(frame[:, : frame.shape[1] // 8 * 8, 1].mean(0), 8)
    return sum((bar[1:-1].mean() > 128) << bit for bit, bar in enumerate(bars))


def encode(
    path,
    times,
    *,
    codec="libx264",
    pixels="yuv420p",
    frame=number_frame,
    base=1000,
    rate=25,
    muxer=None,
    options=None,
    rotation=None,
    flip=False,
    sound=None,
    sound_at=0.0,
    sound_codec="aac",
):
    """Write frame(i) at times[i] seconds; `sound` (N,) int16 at 16 kHz begins at `sound_at` seconds."""
    with av.open(str(path), "w", format=muxer) as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        height, width = frame(0).shape[:2]
        video.width, video.height, video.pix_fmt = width, height, pixels
        if codec not in ("mpeg2video", "mpeg4") and path.suffix != ".avi":
            video.codec_context.time_base = Fraction(1, base)
        else:
            base = rate
        if rotation is not None:
            video.set_display_rotation(rotation, hflip=flip)
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=RATE, layout="mono")
        for index, time in enumerate(times):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame(index)), format="rgb24")
            image.pts, image.time_base = round(time * base), Fraction(1, base)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        if sound is not None:
            piece = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, round(sound_at * RATE), Fraction(1, RATE)
            container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def read(path, **options):
    with open_video(path, **options) as video:
        frames = list(video.frames())
        return frames, video.audio(), video


def nearest(times, count):
    times = np.array(times)
    return [int(np.argmin(np.abs(times - times[0] - n / 25))) for n in range(count)]


def click(seconds: float, at: float) -> np.ndarray:
    sound = np.zeros(round(seconds * RATE), np.int16)
    sound[round(at * RATE) :][:32] = 25000
    return sound


def onset(sound: np.ndarray) -> float:
    """Seconds at which the loudest stretch begins."""
    loud = np.abs(sound.astype(np.int32))
    return int(np.argmax(loud > loud.max() / 2)) / RATE


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


def flash(at: int):
    return lambda i: np.full((48, 64, 3), 230 if i == at else 20, np.uint8)


def flash_time(frames) -> float:
    return int(np.argmax([f.mean() for f in frames])) / 25


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


def reason(path, **options) -> str:
    with pytest.raises(MediaError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert os.fsdecode(path) in message and len(message) > len(os.fsdecode(path)) + 15
    return caught.value.reason


def test_files_that_are_no_media(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a film\n" * 500)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20000))
    assert reason(tmp_path / "gone.mp4") == "not_found"
    assert reason(tmp_path / "empty.mp4") == "empty"
    assert reason(tmp_path / "text.mp4") == "not_media"
    assert reason(tmp_path / "noise.mp4") == "not_media"
    assert reason(tmp_path) == "not_a_file"
    assert reason("/dev/null") == reason("/dev/zero") == "not_a_file"


def test_a_fifo_and_a_socket_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    found = []
    thread = threading.Thread(target=lambda: found.append(reason(tmp_path / "pipe.mp4")), daemon=True)
    thread.start()
    thread.join(5)
    assert found == ["not_a_file"]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.mp4"))
        assert reason(tmp_path / "s.mp4") == "unreadable"


def test_playlists_open_nothing(tmp_path):
    target = encode(tmp_path / "v.mp4", [0, 0.04])
    playlists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{target}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>',
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        assert reason(tmp_path / name) == "not_media"


def test_external_references_of_a_movie_are_not_followed(tmp_path):
    """A MOV whose data reference names another file (dref 'alis') gives no frame of that file."""
    whole = encode(tmp_path / "v.mov", np.arange(10) / 25).read_bytes()
    at = whole.index(b"dref") + 12  # the only entry: size, 'url ' or 'alis', flags
    assert whole[at + 4 : at + 8] in (b"url ", b"alis")
    foreign = whole[: at + 4] + b"alis" + b"\0\0\0\0" + whole[at + 12 :]  # flag 0: the samples lie elsewhere
    (tmp_path / "refers.mov").write_bytes(foreign)
    with open_video(tmp_path / "refers.mov") as video:
        links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        assert str(tmp_path / "v.mov") not in links
        list(video.frames())


def test_sound_alone_and_cover_art_are_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        piece = av.AudioFrame.from_ndarray(click(1, 0.5)[None], format="s16", layout="mono")
        piece.sample_rate, piece.pts = RATE, 0
        container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    assert reason(tmp_path / "sound.m4a") == "no_video"

    with av.open(str(tmp_path / "cover.mp3"), "w") as container:
        audio = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(number_frame(3), format="rgb24")
        image.pts = 0
        container.mux(cover.encode(image))
        container.mux(cover.encode(None))
        container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    assert reason(tmp_path / "cover.mp3") == "no_video"


LEAN = "keyint=1:rc-lookahead=0:sync-lookahead=0:threads=1:ref=1:bframes=0"


def huge(path, width=16384, height=8192):
    """One flat grey frame: 128 million pixels in a few kilobytes."""
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane in frame.planes:
        plane.update(np.full(plane.buffer_size, 128, np.uint8))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "x264-params": LEAN})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def test_a_resolution_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(media.Video, "_decode", lambda self: pytest.fail("decoded"))
    path = huge(tmp_path / "huge.mp4")
    assert path.stat().st_size < 500_000
    assert reason(path) == "too_large"
    with av.open(str(path)) as source, av.open(str(tmp_path / "huge.ts"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    assert reason(tmp_path / "huge.ts") == "too_large"


def test_the_pixel_limit_is_the_callers(tmp_path):
    path = encode(tmp_path / "v.mp4", [0, 0.04])
    assert reason(path, max_pixels=64 * 48 - 1) == "too_large"
    assert len(read(path, max_pixels=64 * 48)[0]) == 2
    web = encode(tmp_path / "v.webm", [0, 0.04], codec="libvpx-vp9")  # libav reports no size at all for this one
    assert reason(web, max_pixels=64 * 48 - 1) == "too_large"


def noisy(i):
    return np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)


def test_a_cut_file_with_its_index_in_front_keeps_what_is_there(tmp_path):
    path = encode(tmp_path / "v.mp4", np.arange(100) / 25, frame=noisy, options={"g": "10"}, muxer=None)
    with (
        av.open(str(path)) as source,
        av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    whole = (tmp_path / "fast.mp4").read_bytes()
    assert read(tmp_path / "fast.mp4")[2].notes == []
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 3 // 5])
    frames, _, video = read(tmp_path / "cut.mp4")
    assert 50 <= len(frames) <= 70
    assert any(note.startswith("truncated: decoded ") and " of 4.0 s (" in note for note in video.notes)
    (tmp_path / "stump.mp4").write_bytes(whole[: len(whole) * 2 // 5])
    assert reason(tmp_path / "stump.mp4") == "truncated"  # less than half is there
    assert len(read(tmp_path / "stump.mp4", max_seconds=2)[0]) > 25  # more than half of what is wanted
    (tmp_path / "head.mp4").write_bytes(whole[: whole.index(b"mdat") + 8])
    assert reason(tmp_path / "head.mp4") == "truncated"
    (tmp_path / "half_index.mp4").write_bytes(whole[: whole.index(b"mdat") // 2])
    assert reason(tmp_path / "half_index.mp4") == "truncated"


def test_a_cut_file_with_its_index_at_the_end_says_so(tmp_path):
    path = encode(tmp_path / "v.mp4", np.arange(100) / 25, frame=noisy)
    path.write_bytes(path.read_bytes()[:20000])
    assert reason(path) == "truncated"
    with pytest.raises(MediaError, match="moov"):
        open_video(path)


@pytest.mark.parametrize("name, codec", [("v.mkv", "libx264"), ("v.avi", "mpeg4"), ("v.webm", "libvpx")])
def test_other_cut_containers_are_noted(tmp_path, name, codec):
    path = encode(tmp_path / name, np.arange(100) / 25, frame=noisy, codec=codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    frames, _, video = read(path)
    assert 50 <= len(frames) <= 75
    assert any(note.startswith("truncated") for note in video.notes)


def test_damage_in_the_middle_keeps_the_rest(tmp_path):
    path = encode(tmp_path / "v.mp4", np.arange(100) / 25, frame=noisy, options={"g": "10"}, sound=click(4, 3.5))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    frames, sound, video = read(path)
    assert len(frames) == 100 and len(sound) == 4 * RATE


def test_a_stream_that_appears_on_the_way_is_no_trouble(tmp_path):
    silent = encode(tmp_path / "a.ts", np.arange(25) / 25)
    spoken = encode(tmp_path / "b.ts", 1 + np.arange(25) / 25, sound=click(1, 0.5), sound_at=1.0)
    (tmp_path / "both.ts").write_bytes(silent.read_bytes() * 40 + spoken.read_bytes())
    assert len(read(tmp_path / "both.ts")[0]) >= 25


def test_sound_that_has_no_mono_mix_is_no_sound():
    layout = "ambisonic 1"
    frame = av.AudioFrame.from_ndarray(np.ones((1, 4 * 4800), np.int16), format="s16", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    stream = type("Stream", (), {"start_time": 0, "time_base": Fraction(1, 48000)})
    sound = Sound(stream, RATE)
    with pytest.raises(av.FFmpegError):
        sound.add(frame)
    assert sound.is_empty() and not sound.cut(Fraction(0), 100).any()


def test_any_file_name(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9 \xff %d: x.mp4"
    write_video(path, [number_frame(i) for i in range(5)], click(0.2, 0.1))
    assert len(read(os.fsdecode(path))[0]) == 5  # surrogate escapes
    assert probe(path).width == 64


def test_probe(tmp_path):
    info = probe(encode(tmp_path / "v.mp4", np.arange(50) / 25, sound=click(2, 1), rotation=90))
    assert (info.width, info.height, info.rotation) == (48, 64, 270)
    assert (info.video_codec, info.audio_codec, info.sample_rate, info.channels) == ("h264", "aac", RATE, 1)
    assert info.fps == 25 and abs(info.duration - 2) < 0.01 and "mp4" in info.container


def test_equal_input_gives_equal_bytes(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 47, 63, 3), np.uint8)
    sound = rng.integers(-9000, 9000, 12800).astype(np.int16)
    written = set()
    for _ in range(10):
        write_video(tmp_path / "a.mp4", images, sound)
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1
    assert (probe(tmp_path / "a.mp4").width, probe(tmp_path / "a.mp4").height) == (64, 48)
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def broken():
        yield number_frame(0)
        raise OSError("camera gone")

    with pytest.raises(OSError, match="camera gone"):
        write_video(tmp_path / "v.mp4", broken())
    assert os.listdir(tmp_path) == []
    for frames, sound, name in (([], None, "v.mp4"), ([number_frame(0)], np.zeros(5), "v.mp4"), ([], None, "v.txt")):
        with pytest.raises(ValueError, match=str(tmp_path)):
            write_video(tmp_path / name, frames, sound)


def test_libav_stays_silent(tmp_path, capfd):
    (tmp_path / "text.mp4").write_bytes(struct.pack(">I", 24) + b"ftypisom" + b"x" * 400)
    with pytest.raises(MediaError):
        open_video(tmp_path / "text.mp4")
    assert capfd.readouterr() == ("", "")
