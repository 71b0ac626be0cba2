"""Whatever is no video, or too large for one, says so and opens nothing else."""

import os
import socket
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media.media_made import RATE, click, encode, number_frame, read, reason
from visavox import media
from visavox.media import open_video


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
