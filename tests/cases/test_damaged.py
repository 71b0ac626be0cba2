"""Files that are no video, hold none, are cut or rotten: refused in words, or given as far as they go."""

from __future__ import annotations

import os
import re
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from tests.cases.cases import Case, held_by
from tests.cases.media_files import lamp, lamp_time, read, read_mutated, record, refusal, tone
from tests.cases.small_tasks import nothing
from visavox.media import MediaError, open_video
from visavox.workers import pool


def remuxed(path, target, **options):
    """The same packets in another container, such as an MP4 whose index stands in front."""
    with av.open(str(path)) as source, av.open(str(target), "w", options=options) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return target


def noise(time: float) -> np.ndarray:
    return np.random.default_rng(round(time * 1000)).integers(0, 255, (48, 64, 3), np.uint8)


ZIP = b"PK\x03\x04" + bytes(3000)
JPEG = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()


@held_by(
    Case("M1", "zero bytes", "refused as `empty`, before a decoder starts", (b"", "empty")),
    Case("M4", "text called .mp4", "refused as `not_media`", (b"this is no video\n" * 400, "not_media")),
    Case("M4", "JPEG called .mp4", "refused as `not_media`", (JPEG, "not_media")),
    Case("M4", "zip archive called .mp4", "refused as `not_media`", (ZIP, "not_media")),
    Case(
        "M4", "random bytes called .mp4", "refused as `not_media`", (np.random.default_rng(1).bytes(30000), "not_media")
    ),
    Case(
        "M6",
        "concat script",
        "refused, and no other file is opened",
        ("ffconcat version 1.0\nfile '{}'\n", "not_media"),
    ),
    Case(
        "M6",
        "HLS playlist",
        "refused, and no other file is opened",
        ("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{}\n", "not_media"),
    ),
    Case(
        "M6",
        "SDP",
        "refused, and no other file is opened",
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n", "not_media"),
    ),
    Case(
        "M6",
        "DASH manifest",
        "refused, and no other file is opened",
        ('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>', "not_media"),
    ),
)
def test_no_video_at_all(case, tmp_path, monkeypatch):
    content, word = case.given
    secret = record(tmp_path / "secret.mp4", sound=None)
    path = tmp_path / "v.mp4"
    path.write_bytes(content if isinstance(content, bytes) else content.format(secret).encode())
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda name, *given, **more: opened.append(str(name)) or real(name, *given, **more))
    monkeypatch.setattr("visavox.media.video.Video._decode", lambda self: pytest.fail("a decoder was started"))
    assert refusal(path).reason == word
    assert str(secret) not in opened


@held_by(
    Case("M6", "MOV whose samples lie in another file (dref)", "nothing of the other file is read", b"alis"),
)
def test_references(case, tmp_path):
    whole = record(tmp_path / "v.mov", sound=None).read_bytes()
    at = whole.index(b"dref") + 12
    (tmp_path / "refers.mov").write_bytes(whole[: at + 4] + case.given + bytes(4) + whole[at + 12 :])
    with open_video(tmp_path / "refers.mov") as video:
        links = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        assert str(tmp_path / "v.mov") not in links
        list(video.frames())


@held_by(
    Case("M2", "index at the end, cut off", "refused as `truncated`; the text names the moov box", 0.5),
    Case(
        "M2",
        "index at the end, itself cut in the middle",
        "refused as `truncated`; the text names the moov box",
        "moov",
    ),
    Case("M3", "index in front, cut at 70 %", "what is there is given; the note holds seconds and share", 0.7),
    Case("M3", "index in front, cut at 30 %", "refused as `truncated`: less than half is there", 0.3),
)
def test_cut_files(case, tmp_path):
    path = record(tmp_path / "v.mp4", picture=noise, options={"g": "10"}, sound=None)
    if case.number == "M3":
        path = remuxed(path, tmp_path / "fast.mp4", movflags="faststart")
    whole = path.read_bytes()
    end = int(len(whole) * case.given) if case.given != "moov" else (whole.index(b"moov") + len(whole)) // 2
    path.write_bytes(whole[:end])
    if case.given == 0.7:
        frames, _, video = read(path)
        assert 30 < len(frames) < 60
        assert re.fullmatch(r"truncated: decoded 1\.\d s of 2\.4 s \(\d\d%\)", video.notes[0])
        return
    error = refusal(path)
    assert error.reason == "truncated" and ("moov" in str(error)) == (case.number == "M2")


@held_by(
    *[
        Case(
            "M5",
            f"bit rot, {kind}, {share} of the bytes",
            "what is left is given, or the error says what happened",
            (name, share),
        )
        for kind, name in (("MP4", "v.mp4"), ("Matroska", "v.mkv"), ("MPEG-TS", "v.ts"), ("AVI", "v.avi"))
        for share in (1e-4, 1e-3, 1e-2)
    ]
)
def test_bit_rot(case, tmp_path, capfd):
    """Twelve seeded copies each; nothing but frames or a MediaError may come."""
    name, share = case.given
    codec = "mpeg4" if name == "v.avi" else "libx264"
    whole = record(
        tmp_path / name, picture=noise, codec=codec, seconds=1.0, sound="mp2" if name == "v.avi" else "aac"
    ).read_bytes()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        data = np.frombuffer(whole, np.uint8).copy()
        hit = rng.choice(len(data), max(1, int(share * len(data))), replace=False)
        data[hit] ^= (1 << rng.integers(0, 8, len(hit))).astype(np.uint8)
        (tmp_path / name).write_bytes(data.tobytes())
        try:
            frames, sound, _ = read(tmp_path / name, max_seconds=2)
        except MediaError as error:
            assert str(tmp_path / name) in str(error)
            continue
        assert 1 <= len(frames) <= 50 and (sound is None or len(sound) == 640 * len(frames))
    assert capfd.readouterr() == ("", "")


@held_by(
    Case(
        "M5",
        "200 seeded mutations of five real clips",
        "each ends as read or with an error, none crashes or hangs",
        200,
        (pytest.mark.durability, pytest.mark.data),
    ),
)
def test_mutations_of_real_clips(case, tmp_path, clips):
    sources = sorted(clips.glob("*/*.mp4"))[::6][:5]
    tasks = [(str(sources[number % 5]), number, str(tmp_path / f"{number}.mp4")) for number in range(case.given)]
    results = dict(pool.run(tasks, nothing, read_mutated, workers=2, timeout=120))
    assert len(results) == case.given
    died = {task: result for task, result in results.items() if isinstance(result, pool.Died)}
    assert not died
    assert {result == "read" for result in results.values()} == {True, False}


def cover_and_sound(path):
    """A song with its cover: a stream of sound and a picture."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 64, 48, "yuvj420p", Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(lamp(0), format="rgb24")
        image.pts = 0
        container.mux(cover.encode(image))
        container.mux(cover.encode(None))
        piece = av.AudioFrame.from_ndarray(tone(0, 2, 16000).reshape(1, -1), format="s16", layout="mono")
        piece.sample_rate, piece.pts = 16000, 0
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


def sound_alone(path):
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        piece = av.AudioFrame.from_ndarray(tone(0, 2, 16000).reshape(1, -1), format="s16", layout="mono")
        piece.sample_rate, piece.pts = 16000, 0
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


@held_by(
    Case("M8", "sound alone", "refused as `no_video`", ("v.m4a", sound_alone)),
    Case("M8", "sound alone in a file called .mp4", "refused as `no_video`", ("v.mp4", sound_alone)),
    Case("M8", "a song with its cover", "refused as `no_video`: a cover is no video", ("v.mp3", cover_and_sound)),
)
def test_no_picture(case, tmp_path):
    name, make = case.given
    error = refusal(make(tmp_path / name))
    assert error.reason == "no_video" and "audio" in str(error)


@held_by(Case("M8", "a video with a cover, which is a second video stream", "the video is read", True))
def test_cover_beside_a_video(case, tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 640, 480, "yuvj420p", Disposition.attached_pic
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        image = av.VideoFrame.from_ndarray(np.full((480, 640, 3), 200, np.uint8), format="rgb24")
        image.pts = 0
        container.mux(cover.encode(image))
        container.mux(cover.encode(None))
        for i in range(50):
            image = av.VideoFrame.from_ndarray(lamp(i / 25), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    frames, _, _ = read(path)
    assert len(frames) == 50 and frames[0].shape == (48, 64, 3) and abs(lamp_time(frames) - 1.0) < 0.001
