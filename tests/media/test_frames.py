"""extract_frames: which frames, in what form, and what a repair makes readable."""

import io

import av
import numpy as np
import pytest
import torch

from visavox.media import MediaError, confined, write_video
from visavox.media.frames import extract_frames


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    """40 grey frames of 96 x 128, each 6 levels lighter than the last."""
    path = tmp_path_factory.mktemp("frames") / "video.mp4"
    write_video(path, [np.full((96, 128, 3), 6 * n, np.uint8) for n in range(40)], fps=25)
    return path.read_bytes()


def test_frames_are_spread_from_the_first_to_the_last(video: bytes):
    frames = extract_frames(video)
    assert frames.shape == (8, 3, 224, 224) and frames.dtype == torch.float32
    assert frames.min() >= 0 and frames.max() <= 1
    wanted = 6 * np.linspace(0, 39, 8).astype(int) / 255
    np.testing.assert_allclose(frames.mean((1, 2, 3)).numpy(), wanted, atol=0.02)
    assert extract_frames(video, 3, None).shape == (3, 3, 96, 128)
    assert len(extract_frames(video, 100, 32)) == 40


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is no video\n" * 99, "not_media"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(900), "truncated"),
    ],
)
def test_what_is_no_video_is_refused(data: bytes, reason: str):
    with pytest.raises(MediaError) as refused:
        extract_frames(data)
    assert refused.value.reason == reason


def test_a_truncated_video_gives_what_is_there_or_says_so(video: bytes):
    with pytest.raises(MediaError, match="index"):
        extract_frames(video[: video.index(b"moov") - 4])


def in_container(video: bytes, form: str, codec: str) -> bytes:
    """The same frames in another container."""
    target = io.BytesIO()
    with av.open(io.BytesIO(video)) as old, av.open(target, "w", format=form) as new:
        stream = new.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for frame in old.decode(video=0):
            new.mux(stream.encode(frame.reformat(format="yuv420p")))
        new.mux(stream.encode(None))
    return target.getvalue()


@pytest.mark.parametrize("kind", ["a head in front", "IVF, packets copied", "YUV4MPEG, encoded anew"])
def test_the_repair_reads_what_nothing_else_here_does(kind: str, video: bytes, monkeypatch: pytest.MonkeyPatch):
    data = {
        "a head in front": lambda: b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + video,
        "IVF, packets copied": lambda: in_container(video, "ivf", "libvpx"),
        "YUV4MPEG, encoded anew": lambda: in_container(video, "yuv4mpegpipe", "wrapped_avframe"),
    }[kind]()
    monkeypatch.setattr("visavox.media.repair.repaired", None)  # in this process nothing is repaired
    frames = extract_frames(data)
    np.testing.assert_allclose(frames.mean((1, 2, 3)), extract_frames(video).mean((1, 2, 3)), atol=0.03)
    monkeypatch.setattr(confined, "repaired", lambda *_, **__: None)
    with pytest.raises(MediaError):
        extract_frames(data)
