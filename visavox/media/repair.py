"""Write anew a video that nothing here reads as it is; called in the child that may touch nothing else (`confined`)."""

from __future__ import annotations

import io
from typing import cast

import av
from av.container import InputContainer

from visavox.media.container import FORMATS
from visavox.media.limits import LIMITS, Limits

REPAIRED_FORMATS = f"{FORMATS},ivf,nut,mxf,yuv4mpegpipe"
"""libavformat's demuxers for what is written anew: those that are read anyway, and rare ones of a single file."""
SEARCHED = 1 << 20
"""Bytes at the beginning that are searched for where the video really begins."""
CODECS_OF_MATROSKA = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg", "prores")
"""Codecs whose packets are copied; others are encoded to H.264."""


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
                anew.codec_context.thread_count = 1
                anew.width, anew.height, anew.pix_fmt = stream.width & ~1, stream.height & ~1, "yuv420p"
                for frame in old.decode(stream):
                    new.mux(anew.encode(frame.reformat(anew.width, anew.height, "yuv420p")))
                    written += 1
                new.mux(anew.encode(None))
        return written > 0
