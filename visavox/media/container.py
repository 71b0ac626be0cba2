"""Opening a file that may be anything: only regular files, known containers and frames within the limit pass."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

import av
from av.stream import Disposition

# libavformat's demuxer names. Files of sound alone are listed so that they end as "no_video"; playlists, which make
# libav open other files or addresses (hls, concat, sdp, dash, image2), are absent.
FORMATS = "mov,matroska,avi,mpeg,mpegts,flv,asf,ogg,mp3,wav,flac,aac,h264,hevc,m4v,mpegvideo"
SIZE_IN_HEADER = ("mov", "matroska", "avi", "asf")


class MediaError(ValueError):
    """A file that gives no video. `reason` is one of: not_found, not_a_file, empty, unreadable, not_media, truncated,
    no_video, unsupported_codec, too_large, no_frames."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def open_regular(name: str) -> BinaryIO:
    """The file, open for reading. libav gets this object, never a name: any name works and no other file is read."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(name, flags)
    except FileNotFoundError:
        raise MediaError("not_found", f"{name}: no such file; check the path") from None
    except OSError as error:
        raise MediaError("unreadable", f"{name}: cannot be opened ({error.strerror}); check its permissions") from error
    file = os.fdopen(descriptor, "rb", buffering=0) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    if file is None:
        os.close(descriptor)
        raise MediaError("not_a_file", f"{name}: is a folder, pipe or device; a regular video file is expected")
    return file


def open_container(name: str, file: BinaryIO, max_pixels: int) -> av.container.InputContainer:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise MediaError("empty", f"{name}: is empty (0 bytes); copy the file again from its source")
    try:
        return av.open(
            file,
            options={"max_pixels": str(max_pixels)},  # holds while libav looks for stream parameters, too
            container_options={"format_whitelist": FORMATS},
            metadata_errors="replace",
            buffer_size=1 << 16,
            io_open=_refuse,
        )
    except (av.FFmpegError, OSError) as error:
        if _index_is_missing(file, size):
            raise MediaError(
                "truncated",
                f"{name}: its index (the moov box) is missing or cut off ({size} bytes are there): recording or "
                "copying was not finished; copy the file again from its source",
            ) from error
        raise MediaError(
            "not_media", f"{name}: is no video file of a known kind ({error.strerror}); expected one of {FORMATS}"
        ) from error


def _refuse(url: str, flags: int, options: dict) -> BinaryIO:
    raise PermissionError(f"{url}: a video file may not open other files")


def _index_is_missing(file: BinaryIO, size: int) -> bool:
    """Whether an MP4 or MOV file (ISO 14496-12: boxes of 32-bit length, type, body) ends before its whole moov box."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if kind == b"moov":
            return at + length > size
        if kind not in (b"ftyp", b"styp", b"mdat", b"wide", b"free", b"skip", b"uuid", b"moof", b"sidx"):
            break
        if length < 8:  # 0: the box goes on to the end of the file
            return True
        at += length
    return at > 0


def choose_video(name: str, container: av.container.InputContainer, max_pixels: int) -> av.VideoStream:
    """The main video stream, of a size within the limit. Cover art is a picture, not a video."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        held = {"cover art" if s.type == "video" else s.type for s in container.streams} or {"nothing"}
        raise MediaError("no_video", f"{name}: has no video stream, it holds {' and '.join(sorted(held))}")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError("unsupported_codec", f"{name}: no decoder for its video codec; convert it to H.264")
    width, height = stream.width, stream.height
    # libav blanks a size beyond max_pixels that a decoder refused to open with.
    refused = not width * height and any(kind in container.format.name for kind in SIZE_IN_HEADER)
    if refused or width * height > max_pixels:
        found = "larger" if refused else f"{width}x{height}"
        raise MediaError(
            "too_large",
            f"{name}: frames are {found}, the limit is {max_pixels} pixels; scale the video down or raise max_pixels",
        )
    return stream
