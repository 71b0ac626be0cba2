"""Frames of a video that is held in memory, as tensors: what a notebook or a small service of its own wants.

extract_frames(data)                 # (8, 3, 224, 224) float32 in [0, 1]
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import cv2
import numpy as np
from av.container import InputContainer

from visavox.media import confined
from visavox.media.container import FORMATS, MediaError
from visavox.media.limits import LIMITS, Limits

if TYPE_CHECKING:
    import torch

REPAIRED_FORMATS = f"{FORMATS},ivf,nut,mxf,yuv4mpegpipe"
"""libavformat's demuxers for what is written anew: those that are read anyway, and rare ones of a single file."""
SEARCHED = 1 << 20
"""Bytes at the beginning that are searched for where the video really begins."""
CODECS_OF_MATROSKA = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg", "prores")
"""Codecs whose packets are copied; others are encoded to H.264."""


def extract_frames(data: bytes, max_frames: int = 8, size: int | None = 224, limits: Limits = LIMITS) -> torch.Tensor:
    """Return frames spread evenly over a video, the first and the last among them.

    Taken are the indices `linspace(0, n - 1, min(max_frames, n))`, rounded down, of n frames at 25 a second, scaled by area.

    Args:
        data: content of a video file. Where it cannot be read as it is, it is written anew (`repaired`) and read again.
        max_frames: frames at most.
        size: side of the square that each frame is scaled to, pixels; None keeps the video's own height and width.

    Returns:
        (N, 3, H, W) float32 RGB in [0, 1].

    Raises:
        MediaError: it is no video, is damaged beyond repair, or exceeds the limits.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video")
        path.write_bytes(data)
        try:
            frames = _read(path, max_frames, size, limits)
        except MediaError as error:
            if error.reason not in ("not_media", "no_frames", "no_video", "truncated"):
                raise
            written = repaired(data, limits)
            if written is None:
                raise
            path.write_bytes(written)
            frames = _read(path, max_frames, size, limits)
    stacked = np.stack(frames).transpose(0, 3, 1, 2)  # (N, 3, H, W)
    return torch.from_numpy(np.ascontiguousarray(stacked)).float() / 255


def _read(path: Path, max_frames: int, size: int | None, limits: Limits) -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB each. Two passes: how many there are is known when all are read."""
    with confined.open_video(path, max_seconds=limits.seconds, limits=limits) as video:
        count = sum(1 for _ in video.frames())
    wanted = set(np.linspace(0, count - 1, min(max_frames, count)).astype(int).tolist())
    frames = []
    with confined.open_video(path, max_seconds=limits.seconds, limits=limits) as video:
        for n, frame in enumerate(video.frames()):
            if n in wanted:
                small = frame if size is None else cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
                frames.append(small.copy())
    return frames


def repaired(data: bytes, limits: Limits = LIMITS) -> bytes | None:
    """Return a video written anew as Matroska, without what stands before its beginning; None where nothing of it can be read.

    Packets are copied where Matroska holds their codec, else the picture is decoded and encoded to H.264. Sound is left out.
    """
    for start in _beginnings(data[:SEARCHED]):
        target = io.BytesIO()
        try:
            if _write_anew(io.BytesIO(data[start:]), target, limits):
                return target.getvalue()
        except (av.FFmpegError, OSError, ValueError):
            continue
    return None


def _beginnings(head: bytes) -> list[int]:
    """Where a video may begin: at the first byte, or behind what was saved in front of it, such as the head of a response."""
    found = [0]
    for mark, before in ((b"ftyp", 4), (b"\x1a\x45\xdf\xa3", 0), (b"RIFF", 0)):
        at = head.find(mark)
        if at - before > 0:
            found.append(at - before)
    return found


def _write_anew(source: io.BytesIO, target: io.BytesIO, limits: Limits) -> bool:
    """Copy or transcode the main picture; False where there is none."""
    options = {"format_whitelist": REPAIRED_FORMATS, "protocol_whitelist": "file"}
    checked = {"max_pixels": str(limits.pixels)}
    opened = av.open(source, options=checked, container_options=options, metadata_errors="replace")
    with cast(InputContainer, opened) as old:
        stream = old.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.width * stream.height > limits.pixels:
            return False
        stream.codec_context.options = checked
        written = 0
        with av.open(target, "w", format="matroska") as new:
            if stream.codec_context.name.removeprefix("lib") in CODECS_OF_MATROSKA:
                copy = new.add_stream_from_template(stream)
                for packet in old.demux(stream):
                    if packet.dts is not None:
                        packet.stream = copy
                        new.mux(packet)
                        written += 1
            else:
                anew = new.add_stream("libx264", rate=stream.average_rate or 25, options={"crf": "12"})
                anew.width, anew.height, anew.pix_fmt = stream.width & ~1, stream.height & ~1, "yuv420p"
                for frame in old.decode(stream):
                    new.mux(anew.encode(frame.reformat(anew.width, anew.height, "yuv420p")))
                    written += 1
                new.mux(anew.encode(None))
        return written > 0
