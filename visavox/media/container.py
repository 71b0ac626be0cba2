"""Opening a file that may be anything: only regular files, known containers and frames within the limit pass."""

from __future__ import annotations

import os
import stat
from fractions import Fraction
from typing import BinaryIO, cast

import av
from av.stream import Disposition

from visavox.errors import OF_MEDIA
from visavox.media.limits import Limits

# libavformat's demuxer names. Files of sound alone are listed so that they end as "no_video"; playlists, which make
# libav open other files or addresses (hls, concat, sdp, dash, image2), are absent.
FORMATS = "mov,matroska,avi,mpeg,mpegts,flv,asf,ogg,mp3,wav,flac,aac,h264,hevc,m4v,mpegvideo,gif"
SIZE_IN_HEADER = ("mov", "matroska", "avi", "asf")


class MediaError(ValueError):
    """A file that gives no video. `reason` is one of: not_found, not_a_file, empty, unreadable, not_media, truncated,
    no_video, unsupported_codec, too_large, too_small, too_fast, too_long, too_many_streams, no_frames, decoder."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason
        self.code = OF_MEDIA[reason]


class RegularFile:
    """A regular file, open for reading, and how much of it may be read."""

    def __init__(self, name: str, file: BinaryIO):
        self.name, self._file = name, file
        self.size = os.fstat(file.fileno()).st_size
        self.left: int | None = None
        """Bytes that may still be read; None: any number."""

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes; raises MediaError where more is asked than may be read."""
        data = self._file.read(count)
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                raise MediaError(
                    "too_large",
                    f"{self.name}: too much lies in front of what is looked for (index, first picture); "
                    "write the file anew, with sound and picture side by side (ffmpeg -i FILE -c copy NEW.mp4)",
                )
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()

    def again(self) -> RegularFile:
        """Return the file anew, at its start."""
        return open_regular(self.name)

    def __enter__(self) -> RegularFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


class HandedFile(RegularFile):
    """A regular file that somebody else opened, and of which there is nothing but the descriptor."""

    def again(self) -> RegularFile:
        """Return the file at its start; what was read of it before is not read on."""
        os.lseek(self.fileno(), 0, os.SEEK_SET)
        return HandedFile(self.name, os.fdopen(os.dup(self.fileno()), "rb", buffering=0))


def open_regular(name: str) -> RegularFile:
    """Open a file for reading. libav gets this object, never a name: any name works and no other file is read."""
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
    return RegularFile(name, file)


def open_container(name: str, file: RegularFile, limits: Limits) -> av.container.InputContainer:
    """Open a file as one of FORMATS, within `limits`, and nothing beside it."""
    if file.size == 0:
        raise MediaError("empty", f"{name}: is empty (0 bytes); copy the file again from its source")
    file.left = limits.header_bytes
    try:
        container = av.open(
            file,
            options={"max_pixels": str(limits.pixels)},  # holds while libav looks for stream parameters, too
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
            metadata_errors="replace",
            buffer_size=1 << 16,
            io_open=_refuse,
        )
    except (av.FFmpegError, OSError) as error:
        if _index_is_missing(file):
            raise MediaError(
                "truncated",
                f"{name}: its index (the moov box) is missing or cut off ({file.size} bytes are there): recording or "
                "copying was not finished; copy the file again from its source",
            ) from error
        raise MediaError(
            "not_media", f"{name}: is no video file of a known kind ({error.strerror}); expected one of {FORMATS}"
        ) from error
    file.left = None
    if len(container.streams) > limits.streams:
        count = len(container.streams)
        container.close()
        raise MediaError(
            "too_many_streams",
            f"{name}: holds {count} streams, the limit is {limits.streams}; keep one picture and one sound "
            "(ffmpeg -i FILE -map 0:v:0 -map 0:a:0 -c copy NEW.mp4)",
        )
    return cast(av.container.InputContainer, container)


def _refuse(url: str, flags: int, options: dict) -> BinaryIO:
    raise PermissionError(f"{url}: a video file may not open other files")


def _index_is_missing(file: RegularFile) -> bool:
    """Whether an MP4 or MOV file (ISO 14496-12: boxes of 32-bit length, type, body) ends before its whole moov box."""
    at, size, file.left = 0, file.size, None
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


def choose_video(name: str, container: av.container.InputContainer, limits: Limits) -> av.VideoStream:
    """Return the main video stream, refused where it declares more than `limits`. Cover art is a picture, not a video."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        held = {"cover art" if s.type == "video" else s.type for s in container.streams} or {"nothing"}
        raise MediaError(
            "no_video", f"{name}: has no video stream, it holds {' and '.join(sorted(held))}; give the video itself"
        )
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError("unsupported_codec", f"{name}: no decoder for its video codec; convert it to H.264")
    # libav blanks a size beyond max_pixels that a decoder refused to open with.
    if not stream.width * stream.height:
        if any(kind in container.format.name for kind in SIZE_IN_HEADER):
            raise MediaError("too_large", _size_in_words(name, "larger", limits))
    else:
        check_size(name, stream.width, stream.height, limits)
    if rate := _declared_rate(stream, limits):
        raise too_fast(name, rate, limits)
    return stream


def check_size(name: str, width: int, height: int, limits: Limits) -> None:
    """Raise MediaError where frames are larger or smaller than `limits`."""
    if width * height > limits.pixels or max(width, height) > limits.side:
        raise MediaError("too_large", _size_in_words(name, f"{width}x{height}", limits))
    if min(width, height) < limits.least_side:
        raise MediaError(
            "too_small",
            f"{name}: frames are {width}x{height}, each side needs {limits.least_side} pixels or more; "
            "give the video at its full size",
        )


def too_fast(name: str, rate: float, limits: Limits) -> MediaError:
    return MediaError(
        "too_fast",
        f"{name}: has {rate:.0f} frames a second, the limit is {limits.fps:g}; lower its frame rate "
        "(ffmpeg -i FILE -r 50 NEW.mp4)",
    )


def _size_in_words(name: str, found: str, limits: Limits) -> str:
    return (
        f"{name}: frames are {found}, the limit is {limits.pixels} pixels and {limits.side} in a side; "
        "scale the video down or raise max_pixels"
    )


def _declared_rate(stream: av.VideoStream, limits: Limits) -> float:
    """Return a declared frame rate beyond the limit, else 0. Only a rate that counted frames stand behind is believed: WebM
    files of browsers declare 1000 a second for whatever they hold."""
    if not stream.frames or not stream.duration or stream.time_base is None:
        return 0
    rate = Fraction(stream.frames) / (stream.duration * stream.time_base)
    return float(rate) if rate > limits.fps * 1.01 and stream.frames > limits.fps / 2 else 0
