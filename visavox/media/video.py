"""The only code that opens a media file: frames and sound of a video on one clock, read in one pass (PyAV).

    with open_video("clip.mp4", max_seconds=16) as video:
        for frame in video.frames():          # (H, W, 3) uint8 RGB, 25 a second
            ...
        sound = video.audio()                 # (N,) int16 mono at 16 kHz, or None

The clock is the container's presentation clock after its edit lists. Time 0 is the first shown video frame; frame n is
the decoded frame nearest to n / fps, sample m of the sound is heard at m / sample_rate. So an offset between the
streams, which is evidence here, survives: late sound is preceded by zeros, sound before the first frame is dropped.

Frames are given as people see them: display-matrix rotation and mirroring are applied, pixels that are not square are made
square while colours are converted, PQ and HLG are tone-mapped, interlaced frames are made whole from their fields; `notes`
says so.

What is read and held follows from what is wanted, whatever the file holds beside it: sound outside the wanted span is
passed over without being decoded, and where picture or sound is stored so far ahead of the other that it was not held,
the file is read a second time for the sound. `Limits` bounds the rest.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.stream import Discard

from visavox.media.clock import Clock, Shown
from visavox.media.container import (
    MediaError,
    RegularFile,
    check_size,
    choose_video,
    open_container,
    open_regular,
)
from visavox.media.convert import Converter
from visavox.media.declared import MediaInfo, declared_length, describe, no_frames, refuse_length, what_is_missing
from visavox.media.hdr import refuse_unreadable_colours
from visavox.media.interlaced import Deinterlacer
from visavox.media.limits import LIMITS, Limits
from visavox.media.pace import LONGEST_GAP, Pace
from visavox.media.soundtrack import Decoder, Soundtrack, choose_audio
from visavox.media.write import write_video

__all__ = ["MAX_PIXELS", "MediaError", "MediaInfo", "Video", "open_video", "probe", "write_video"]

MAX_PIXELS = LIMITS.pixels

LONGEST_STEP_BACK = 1  # seconds; frames that step back less have no moment of their own and are left out


def open_video(
    path: str | os.PathLike | bytes | RegularFile,
    *,
    fps: float = 25.0,
    sample_rate: int = 16000,
    max_seconds: float | None = None,
    max_pixels: int | None = None,
    threads: int = 0,
    limits: Limits = LIMITS,
) -> Video:
    """Open a video file and decode its first frame; every failure is a MediaError.

    path: its name, or the file itself, which is then closed with the video.
    max_seconds: reading stops there, and `notes` says "clipped" if there was more.
    max_pixels: replaces `limits.pixels`.
    threads: decoder threads, 0 = as many as cores. Give 1 where several processes share the machine.
    limits: what is refused, from the header where that declares it, before anything is decoded.
    """
    limits = limits if max_pixels is None else replace(limits, pixels=max_pixels)
    with ExitStack() as resources:
        file = resources.enter_context(path if isinstance(path, RegularFile) else open_regular(os.fsdecode(path)))
        name = file.name
        container = resources.enter_context(open_container(name, file, limits))
        stream = choose_video(name, container, limits)
        stream.codec_context.options = {"max_pixels": str(limits.pixels)}  # holds when the size changes on the way
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        video = Video(file, container, stream, fps, sample_rate, max_seconds, limits)
        video.resources = resources.pop_all()
    return video


def exact_rate(fps: float) -> Fraction:
    """Return the rate at which frames are given: 30000/1001 for 29.97."""
    return Fraction(fps).limit_denominator(1001)


def probe(path: str | os.PathLike | bytes, *, max_pixels: int | None = None, limits: Limits = LIMITS) -> MediaInfo:
    """Return what `path` declares; raises MediaError where `open_video` would, but for its length."""
    with open_video(path, max_seconds=limits.seconds, max_pixels=max_pixels, threads=1, limits=limits) as video:
        return video.info


class Video:
    """An open video file; see `open_video`. `notes` is complete once `frames()` is exhausted."""

    info: MediaInfo
    notes: list[str]
    resources: ExitStack

    def __init__(
        self,
        file: RegularFile,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        fps: float,
        sample_rate: int,
        max_seconds: float | None,
        limits: Limits,
    ):
        self.notes = []
        self._name, self._file, self._container, self._video, self._limits = file.name, file, container, stream, limits
        self._fps, self._sample_rate = exact_rate(fps), sample_rate
        if max_seconds is None:
            refuse_length(file.name, declared_length(container, stream), limits)
        most = limits.seconds if max_seconds is None else min(max_seconds, limits.seconds)
        self._limit = Fraction(most).limit_denominator(10**6)
        self._decoder, self._clock = Decoder(), Clock(container, stream)
        audio = choose_audio(container, stream, self._note_once)
        self._sound: Soundtrack | None = None
        if audio:
            self._sound = Soundtrack(
                file,
                audio,
                sample_rate,
                longest=float(self._limit),
                decode=self._decoder,
                limits=limits,
                note=self._note_once,
            )
        for other in container.streams:
            if other not in (stream, audio):
                other.discard = Discard.all

        self._heard: np.ndarray | None = None
        self._stopped = False  # no further picture is wanted
        file.left = limits.bytes_ahead
        self._shown = self._decode()
        first = next(self._shown, None)
        if first is None:
            raise no_frames(self._name, declared_length(container, stream).seconds)
        self._first = first
        check_size(self._name, first.image.width, first.image.height, limits)
        refuse_unreadable_colours(self._name, stream.codec_context.codec_tag, first.image)
        self._convert = Converter(first.image, stream.sample_aspect_ratio or Fraction(1), limits)
        self._begun = False
        self._samples: int | None = None  # the span of the frames given, once it is known
        self.info = describe(container, stream, audio, first.image, self._convert.size)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._shown.close()
        self._convert.close()
        self.resources.close()

    def frames(self) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) uint8 RGB at n / fps seconds, each the decoded frame nearest in time (the earlier on a tie).

        Holds two decoded frames and what the decoder's threads hold, however long the video. Only frames that are
        chosen are converted; a frame chosen twice is the same array twice. Can be read once.
        """
        if self._begun:
            raise RuntimeError(f"{self._name}: frames() was read already; open the video again to read it again")
        self._begun = True
        count, held = 0, self._first
        for shown in self._shown:
            middle = (held.time + shown.time) / 2 - self._first.time
            due = self._within_limit(int(middle * self._fps) + 1)  # grid points up to the middle
            if due > count:
                yield from [self._rgb(held.image)] * (due - count)
                count = due
            held = shown
        end = held.time + held.duration - self._first.time
        due = self._within_limit(max(round(end * self._fps), 1))
        if due > count:
            yield from [self._rgb(held.image)] * (due - count)
            count = due
        self._samples = round(count / self._fps * self._sample_rate)
        if self._sound:
            self._heard = self._sound.complete(self._first.time, self._samples)
        for note in self._convert.notes:
            self._note_once(note)
        self._compare_with_declared(held)

    def audio(self) -> np.ndarray | None:
        """Sound (N,) int16 mono; sample 0 is heard with frame 0 and N is the span of the frames. None without sound,
        or where all of it is digital silence."""
        if self._samples is None:
            raise RuntimeError(f"{self._name}: audio() needs frames() to be read to its end first")
        return self._heard

    def _within_limit(self, due: int) -> int:
        return min(due, max(round(self._limit * self._fps), 1))

    def _rgb(self, image: av.VideoFrame) -> np.ndarray:
        return self._convert(image)

    def _decode(self) -> Generator[Shown, None, None]:
        """Every shown frame in order, up to the limit, whole where its fields were woven from the first such frame on."""
        deinterlace: Deinterlacer[Shown] | None = None
        with closing(self._decode_as_stored()) as stored:
            for shown in stored:
                if deinterlace is None and cast(Any, shown.image).interlaced_frame:
                    deinterlace = Deinterlacer()
                    self._note_once("interlaced: each frame is made whole from its fields (bwdif)")
                if deinterlace is None:
                    yield shown
                    continue
                for image, stamp in deinterlace(shown.image, shown):
                    yield stamp._replace(image=image)
            if deinterlace is not None:
                for image, stamp in deinterlace.rest():
                    yield stamp._replace(image=image)

    def _decode_as_stored(self) -> Generator[Shown, None, None]:
        """Every shown frame in order, up to the limit; the wanted sound met on the way is kept."""
        end: Fraction | None = None
        last: Shown | None = None
        wanted: tuple[float | None, float | None] = None, None  # seconds of sound: floats, for packets may be many
        video, sound = self._video, self._sound
        for stream, packet in self._packets():
            if sound is not None and stream is not video:
                sound.listen(packet, *wanted)
            elif not self._stopped:
                for image in self._decoder(stream, packet):
                    shown = self._clock.timed(image, last)
                    step = shown.time - last.time if last else 1
                    if -LONGEST_STEP_BACK <= step <= 0:
                        continue
                    if last and not 0 < step <= LONGEST_GAP:
                        jump = f"{float(last.time):.1f} s to {float(shown.time):.1f} s"
                        self._note_once(f"damaged: time jumps from {jump}, reading stopped")
                        self._stopped = True
                        return
                    if last is None:
                        end, self._file.left = shown.time + self._limit, None
                        wanted = float(shown.time), float(end)
                    last = shown
                    yield shown
                    if end is not None and shown.time >= end:
                        self._note_once("clipped")
                        self._stopped, self._file.left = True, self._limits.bytes_ahead
                        break
            if self._stopped and end is not None and (sound is None or sound.has_all(end, video, packet)):
                return

    def _packets(self) -> Iterator[tuple[av.stream.Stream, av.Packet | None]]:
        """Both streams' packets as they are stored, then None for each stream, which empties its decoder."""
        streams = [self._video, *([self._sound.stream] if self._sound else [])]
        pace = Pace(self._name, self._video, self._limits)
        try:
            for packet in pace.held_by(self._container.demux(streams)):
                if packet.size:
                    yield packet.stream, packet
        except (av.FFmpegError, OSError) as error:
            self._note_once(f"damaged: reading broke off ({error.strerror})")
        except MediaError as error:  # too much was read
            if not self._stopped:
                raise
            self._note_once(f"no more sound: {error}")
        except IndexError:
            pass  # PyAV 18 trips over streams that appear while it reads (MPEG-TS), once the last packet is out
        for stream in streams:
            yield stream, None

    def _compare_with_declared(self, last: Shown) -> None:
        """Note what is missing; raise MediaError where that is too much. Where reading stopped, nothing is known of the end."""
        if self._decoder.lost:
            self._note_once(f"damaged: {self._decoder.lost} packets could not be decoded")
        declared, own = declared_length(self._container, self._video)
        if declared is None or self._stopped or (self._sound and self._sound.is_cut and not own):
            return
        start = self._first.time
        end: Fraction | float = last.time + last.duration
        if not own:  # a whole file lasts as long as its longest stream, from its earliest start, in Matroska from 0
            from_zero = "matroska" in self._container.format.name
            start = Fraction(0 if from_zero else self._container.start_time or 0, av.time_base)
            if self._sound and not self._sound.sound.is_empty():
                end = max(end, self._sound.sound.end)
        if missing := what_is_missing(self._name, declared, end - start, self._limit, self._limits):
            self._note_once(missing)

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
