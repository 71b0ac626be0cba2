"""Media files that are cut or damaged, of odd names, probed, and written."""

import os
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media.media_made import RATE, click, encode, number_frame, read, reason
from visavox.media import MediaError, open_video, probe, write_video
from visavox.media.sound import Sound


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
