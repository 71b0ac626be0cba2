"""Small files that ask for much, long ones, and decoders that die: bounded in time and memory."""

from __future__ import annotations

import signal
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.cases.cases import Case, held_by
from tests.cases.media_files import descend, lamp, measured, read_numbered, record, tone
from tests.cases.small_tasks import nothing
from visavox.workers import pool


def monster(path):
    """One flat grey frame of 128 million pixels in a few kilobytes."""
    lean = "keyint=1:rc-lookahead=0:sync-lookahead=0:threads=1:ref=1:bframes=0"
    frame = av.VideoFrame(16384, 8192, "yuv420p")
    for plane in frame.planes:
        plane.update(np.full(plane.buffer_size, 128, np.uint8))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "x264-params": lean})
        video.width, video.height, video.pix_fmt = 16384, 8192, "yuv420p"
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def declare(path, width: int, height: int):
    """Let the sample description name another size than the stream has."""
    data = bytearray(path.read_bytes())
    struct.pack_into(">HH", data, data.index(b"avc1", data.index(b"stsd")) + 28, width, height)
    path.write_bytes(data)
    return path


def small_in_the_header(path):
    return declare(monster(path), 64, 48)


def large_in_the_header(path):
    return declare(record(path, sound=None), 65535, 65535)


def lying_length(path):
    """Every header says 0xFFFFFFFE ticks."""
    data = bytearray(record(path, sound=None).read_bytes())
    track = (b"moov", b"trak")
    for kinds, offset in (((b"moov", b"mvhd"), 16), ((*track, b"tkhd"), 20), ((*track, b"mdia", b"mdhd"), 16)):
        for start, _ in descend(data, *kinds):
            struct.pack_into(">I", data, start + offset, 0xFFFFFFFE)
    path.write_bytes(data)
    return path


def many_tracks(path):
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(119)]
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        image = av.VideoFrame.from_ndarray(lamp(0), format="rgb24")
        image.pts, image.time_base = 0, Fraction(1, 25)
        container.mux(video.encode(image))
        container.mux(video.encode(None))
        for stream in streams:
            piece = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), format="s16", layout="mono")
            piece.sample_rate, piece.pts = 8000, 0
            container.mux(stream.encode(piece))
    return path


def million_fps(path, codec="libx264", pixels="yuv420p", rate=10**6):
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = 64, 48, pixels
        video.codec_context.time_base = Fraction(1, rate)
        for i in range(2000):
            image = av.VideoFrame.from_ndarray(lamp(i / 1000), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, rate)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


def thousand_fps(path):
    return million_fps(path, "mpeg4", rate=1000)


def huge_extradata(path):
    """The decoder's configuration says that it is two gigabytes long."""
    data = bytearray(record(path, sound=None).read_bytes())
    struct.pack_into(">I", data, data.index(b"avcC") - 4, 0x7FFFFF00)
    path.write_bytes(data)
    return path


def nested(path):
    """A movie box within a movie box, fifty thousand deep."""
    depth = 50_000
    body = b"".join(struct.pack(">I4s", 8 * (depth - i), b"moov") for i in range(depth))
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + body)
    return path


def tiny_packets(path):
    """A hundred thousand packets of one sample each before the picture."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        container.start_encoding()
        for i in range(100_000):
            packet = av.Packet(b"\0\1")
            packet.stream, packet.pts, packet.dts, packet.time_base = sound, i, i, Fraction(1, 16000)
            container.mux(packet)
        for i in range(50):
            image = av.VideoFrame.from_ndarray(lamp(i / 25), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


def bomb(title: str, name: str, make, outcome: str, seconds: float = 1) -> Case:
    end = "read" if outcome == "read" else f"refused as `{outcome}`"
    return Case("M18", title, f"{end}, within {seconds} s and 150 MB", (name, make, outcome, seconds))


@held_by(
    bomb("16384 x 8192 pixels in a few kilobytes", "v.mp4", monster, "too_large"),
    bomb("64 x 48 in the header, 16384 x 8192 in the stream", "v.mp4", small_in_the_header, "too_large"),
    bomb("65535 x 65535 in the header, 64 x 48 in the stream", "v.mp4", large_in_the_header, "read"),
    bomb("0xFFFFFFFE as length", "v.mp4", lying_length, "read"),
    bomb("120 tracks", "v.mkv", many_tracks, "too_many_streams"),
    bomb("a million frames a second in MP4", "v.mp4", million_fps, "too_fast"),
    bomb("a thousand frames a second in AVI", "v.avi", thousand_fps, "too_fast"),
    bomb("extra data of two gigabytes, declared", "v.mp4", huge_extradata, "read"),
    bomb("boxes nested fifty thousand deep", "v.mp4", nested, "not_media"),
    bomb("a hundred thousand tiny packets", "v.mkv", tiny_packets, "read", 3),
)
def test_bombs(case, tmp_path):
    name, make, outcome, seconds = case.given
    (found,) = measured(make(tmp_path / name))
    assert found.outcome == outcome
    assert found.seconds < seconds and found.grown < 150


def long_sound(path, hours: float):
    """Sound of `hours` stored before two seconds of picture; the tone begins with the lamp."""
    rate = 16000
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("flac", rate=rate, layout="mono")
        first = tone(0, 60, rate)[:, 0]
        silent = np.zeros(60 * rate, np.int16)
        for minute in range(round(hours * 60)):
            piece = av.AudioFrame.from_ndarray((silent if minute else first)[None], format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = rate, minute * 60 * rate, Fraction(1, rate)
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
        for i in range(50):
            image = av.VideoFrame.from_ndarray(lamp(i / 25), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


def two_hours(path):
    """A picture every four seconds for two hours, and sound."""
    samples = np.zeros((7200 * 8000, 1), np.int16)
    samples[: 3 * 8000] = tone(0, 3, 8000)
    times = [*np.arange(0, 4, 0.2), *range(4, 7200, 4)]
    return record(path, times=times, samples=samples, rate=8000, sound="flac", options={"preset": "ultrafast"})


def four_k(path):
    still = np.full((2160, 3840, 3), 90, np.uint8)
    return record(path, picture=lambda time: still, seconds=0.6, options={"preset": "ultrafast"}, sound=None)


def an_hour_of_sound(path):
    return long_sound(path, 1)


def a_day_of_sound(path):
    return long_sound(path, 24)


FLAT = "memory does not grow with the length"
DURABILITY = (pytest.mark.durability,)
CLIP = {"max_seconds": 16}


@held_by(
    Case("M17", "an hour of sound stored before the picture", FLAT, (an_hour_of_sound, CLIP, 50, 40)),
    Case("M17", "24 hours of sound stored before the picture", FLAT, (a_day_of_sound, CLIP, 50, 60), DURABILITY),
    Case("M17", "two hours, of which 16 s are wanted", FLAT, (two_hours, CLIP, 400, 40)),
    Case("M17", "two hours, all wanted", "memory grows by the sound alone", (two_hours, {}, 180_000, 700), DURABILITY),
    Case("M17", "3840 x 2160 pixels", "read, within 400 MB", (four_k, {}, 15, 400)),
)
def test_long_and_large(case, tmp_path):
    make, options, frames, megabytes = case.given
    (found,) = measured(make(tmp_path / "v.mkv"), **options)
    assert found.outcome == "read" and abs(found.frames - frames) <= 100
    assert found.grown < megabytes and found.peak < 1200
    if make is not four_k:
        assert abs(found.loud - 1.0) < 0.02
    assert not [note for note in found.notes if note != "clipped"]


@held_by(
    Case(
        "M19", "a decoder that crashes (SIGSEGV)", "that file fails, the others are read", (signal.SIGSEGV, "sigsegv")
    ),
    Case(
        "M19",
        "a decoder that hangs (SIGSTOP)",
        "that file is given up in time, the others are read",
        (signal.SIGSTOP, ""),
    ),
)
def test_decoder_that_dies(case, tmp_path):
    hit, words = case.given
    path = record(tmp_path / "v.mp4", sound=None)
    tasks = [(str(path), 0), (str(path), int(hit)), (str(path), 0)]
    results = dict(zip(range(3), [None] * 3))
    for task, result in pool.run(list(enumerate(tasks)), nothing, read_numbered, workers=1, timeout=8):
        results[task[0]] = result
    assert results[0] == results[2] == 60
    assert isinstance(results[1], pool.Died) and words in results[1].reason.lower()
