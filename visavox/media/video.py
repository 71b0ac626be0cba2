"""The only code that opens a media file: frames and sound of a video on one clock, read in one pass (PyAV).

    with open_video("clip.mp4", max_seconds=16) as video:
        for frame in video.frames():          # (H, W, 3) uint8 RGB, 25 a second
            ...
        sound = video.audio()                 # (N,) int16 mono at 16 kHz, or None

The clock is the container's presentation clock after its edit lists. Time 0 is the first shown video frame; frame n is
the decoded frame nearest to n / fps, sample m of the sound is heard at m / sample_rate. So an offset between the
streams, which is evidence here, survives: late sound is preceded by zeros, sound before the first frame is dropped.

Display-matrix rotation and mirroring are applied. A sample aspect ratio is not: resampling would blur the traces that a
detector looks for, so pixels stay as stored and a note says so. Colours are converted as FFmpeg and OpenCV do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter

from visavox.media.container import MediaError, choose_video, open_container, open_regular
from visavox.media.sound import Sound
from visavox.media.write import write_video

__all__ = ["MAX_PIXELS", "MediaError", "MediaInfo", "Video", "open_video", "probe", "write_video"]

MAX_PIXELS = 4096 * 2304  # DCI and UHD 4K pass, either way up; 8K does not

LONGEST_GAP = 60  # seconds between two shown frames; beyond it the timestamps are taken for damage
LONGEST_STEP_BACK = 1  # seconds; frames that step back less have no moment of their own and are left out
READ_PAST_END = 10  # seconds of video packets read after max_seconds in search of late-stored sound
DURATION_SLACK = 0.25  # seconds; declared durations of whole files are off by up to a few frames


@dataclass(frozen=True)
class MediaInfo:
    """What a file declares. Sizes are those of the upright frames."""

    container: str
    video_codec: str
    width: int
    height: int
    pixel_format: str
    fps: float | None  # average
    duration: float | None  # declared seconds of the video stream, of the whole file where the stream has none
    rotation: int  # degrees clockwise that turned the stored frames upright: 0, 90, 180, 270
    sample_aspect_ratio: str
    audio_codec: str | None
    sample_rate: int | None
    channels: int | None


def open_video(
    path: str | os.PathLike | bytes,
    *,
    fps: float = 25.0,
    sample_rate: int = 16000,
    max_seconds: float | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int = 0,
) -> Video:
    """Open a video file and decode its first frame; every failure is a MediaError.

    max_seconds: reading stops there, and `notes` says "clipped" if there was more.
    max_pixels: larger frames (width x height) are refused from the header, before anything is decoded.
    threads: decoder threads, 0 = as many as cores. Give 1 where several processes share the machine.
    """
    name = os.fsdecode(path)
    with ExitStack() as resources:
        file = resources.enter_context(open_regular(name))
        container = resources.enter_context(open_container(name, file, max_pixels))
        stream = choose_video(name, container, max_pixels)
        stream.codec_context.options = {"max_pixels": str(max_pixels)}  # holds when the size changes within the stream
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        video = Video(name, container, stream, fps, sample_rate, max_seconds)
        video.resources = resources.pop_all()
    return video


def probe(path: str | os.PathLike | bytes, *, max_pixels: int = MAX_PIXELS) -> MediaInfo:
    """What `path` declares; raises MediaError where `open_video` would."""
    with open_video(path, max_pixels=max_pixels, threads=1) as video:
        return video.info


class Shown(NamedTuple):
    """A decoded frame and when it is shown, in seconds on the container's clock."""

    time: Fraction
    duration: Fraction
    image: av.VideoFrame


class Video:
    """An open video file; see `open_video`. `notes` is complete once `frames()` is exhausted."""

    info: MediaInfo
    notes: list[str]
    resources: ExitStack

    def __init__(
        self,
        name: str,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        fps: float,
        sample_rate: int,
        max_seconds: float | None,
    ):
        self.notes = []
        self._name, self._container, self._video = name, container, stream
        self._fps, self._sample_rate = Fraction(fps).limit_denominator(1001), sample_rate
        self._limit = None if max_seconds is None else Fraction(max_seconds).limit_denominator(10**6)
        self._audio = self._choose_audio()
        self._sound = Sound(self._audio, sample_rate) if self._audio else None
        self._reformatter, self._arrays = VideoReformatter(), _Arrays()

        self._undecodable = self._delay = 0
        self._shown = self._decode()
        self._first = next(self._shown, None)
        if self._first is None:
            raise self._no_frames()
        self._matrix = _display_matrix(self._first.image)
        self._begun, self._samples = False, None  # samples: the span of the frames given, once it is known
        self.info = self._describe()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._shown.close()
        self._arrays = _Arrays()
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
        self._compare_with_declared(held)

    def audio(self) -> np.ndarray | None:
        """Sound (N,) int16 mono; sample 0 is heard with frame 0 and N is the span of the frames. None without sound."""
        if self._samples is None:
            raise RuntimeError(f"{self._name}: audio() needs frames() to be read to its end first")
        if self._sound is None or self._sound.is_empty():
            return None
        return self._sound.cut(self._first.time, self._samples)

    def _within_limit(self, due: int) -> int:
        return due if self._limit is None else min(due, max(round(self._limit * self._fps), 1))

    def _rgb(self, image: av.VideoFrame) -> np.ndarray:
        """Upright (H, W, 3) uint8 RGB, scaled to the first frame's size where a stream changes it: users want one."""
        first = self._first.image
        if (image.width, image.height) != (first.width, first.height):
            self._note_once(f"resized: frames change from {first.width}x{first.height} within the stream")
        plain = self._reformatter.reformat(image, first.width, first.height, "rgb24", threads=1)
        (plane,) = plain.planes
        shape, strides = (plain.height, plain.width, 3), (plane.line_size, 3, 1)
        upright = _upright(np.ndarray(shape, np.uint8, plane, strides=strides), self._matrix)
        array = self._arrays.take(upright.shape)
        np.copyto(array, upright)
        return array

    def _decode(self) -> Iterator[Shown]:
        """Every shown frame in order, up to the limit; the sound met on the way is kept."""
        end = last = None
        clipped = False
        for stream, packet in self._packets():
            if stream is self._audio:
                if not self._sound.covers(end):
                    self._hear(self._decoded(stream, packet))
                continue
            if clipped:
                if self._has_all_sound(end, packet):
                    return
                continue
            for image in self._decoded(stream, packet):
                shown = self._timed(image, last)
                step = shown.time - last.time if last else 1
                if -LONGEST_STEP_BACK <= step <= 0:
                    continue
                if not 0 < step <= LONGEST_GAP:
                    jump = f"{float(last.time):.1f} s to {float(shown.time):.1f} s"
                    self._note_once(f"damaged: time jumps from {jump}, reading stopped")
                    return
                if last is None and self._limit is not None:
                    end = shown.time + self._limit
                last = shown
                yield shown
                if end is not None and shown.time >= end:
                    self._note_once("clipped")
                    clipped = True
                    break

    def _packets(self) -> Iterator[tuple[av.stream.Stream, av.Packet | None]]:
        """Both streams' packets as they are stored, then None for each stream, which empties its decoder."""
        streams = [stream for stream in (self._video, self._audio) if stream]
        try:
            for packet in self._container.demux(streams):
                if packet.size:
                    yield packet.stream, packet
        except (av.FFmpegError, OSError) as error:
            self._note_once(f"damaged: reading broke off ({error.strerror})")
        except IndexError:
            pass  # PyAV 18 trips over streams that appear while it reads (MPEG-TS), once the last packet is out
        for stream in streams:
            yield stream, None

    def _decoded(self, stream: av.stream.Stream, packet: av.Packet | None) -> list[av.frame.Frame]:
        """The packet's frames. A damaged packet gives none and is counted: what lies before and after it is kept."""
        try:
            return stream.codec_context.decode(packet)
        except av.FFmpegError:
            self._undecodable += 1
            return []

    def _hear(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            try:
                self._sound.add(frame)
            except av.FFmpegError:  # a channel layout that has no mono mix, such as ambisonics
                self._undecodable += 1

    def _has_all_sound(self, end: Fraction, packet: av.Packet | None) -> bool:
        """After the last wanted frame: whether nothing further in the file is of use."""
        if self._sound is None or self._sound.covers(end):
            return True
        return bool(packet and packet.dts is not None and packet.dts * packet.time_base > end + READ_PAST_END)

    def _timed(self, image: av.VideoFrame, last: Shown | None) -> Shown:
        """The frame with its time; without a timestamp it follows the last one at the average rate."""
        base = self._video.time_base
        interval = 1 / (self._video.average_rate or self._video.guessed_rate or Fraction(25))
        stamp = self._avi_stamp(image, last) if self._container.format.name == "avi" else image.pts
        if stamp is not None:
            time = stamp * base
        else:
            time = last.time + interval if last else Fraction(0)
        duration = image.duration * base if image.duration else interval
        return Shown(time, min(duration, Fraction(LONGEST_GAP)), image)

    def _avi_stamp(self, image: av.VideoFrame, last: Shown | None) -> int | None:
        """AVI stores no presentation times, and libav's guesses are scrambled around B-frames. Frames come in order, so
        each is timed by the packet that released it, and the first is shown when the stream starts."""
        if image.dts is None:
            return None
        if last is None:
            self._delay = image.dts - (self._video.start_time or 0)
        stamp = image.dts - self._delay
        return stamp if last is None or stamp * self._video.time_base > last.time else None

    def _choose_audio(self) -> av.AudioStream | None:
        audio = self._container.streams.best("audio", related=self._video)
        if audio is not None and audio.codec_context is None:
            self.notes.append("no audio: no decoder for its codec")
            return None
        return audio

    def _describe(self) -> MediaInfo:
        image, audio = self._first.image, self._audio
        turned = _upright(np.empty((image.height, image.width, 0)), self._matrix)
        pixel_shape = self._video.sample_aspect_ratio or Fraction(1)
        if pixel_shape != 1:
            self._note_once(f"anamorphic: pixels of {pixel_shape.numerator}:{pixel_shape.denominator} kept as stored")
        declared, _ = self._declared()
        return MediaInfo(
            container=self._container.format.name,
            video_codec=self._video.codec_context.name,
            width=turned.shape[1],
            height=turned.shape[0],
            pixel_format=image.format.name,
            fps=float(self._video.average_rate) if self._video.average_rate else None,
            duration=None if declared is None else float(declared),
            rotation=-image.rotation % 360,
            sample_aspect_ratio=f"{pixel_shape.numerator}:{pixel_shape.denominator}",
            audio_codec=audio.codec_context.name if audio else None,
            sample_rate=audio.codec_context.sample_rate if audio else None,
            channels=audio.codec_context.channels if audio else None,
        )

    def _declared(self) -> tuple[Fraction | None, bool]:
        """Declared seconds, and whether they are the video stream's own rather than the whole file's."""
        if self._video.duration:
            return self._video.duration * self._video.time_base, True
        if self._container.duration:
            return Fraction(self._container.duration, av.time_base), False
        return None, False

    def _compare_with_declared(self, last: Shown) -> None:
        """Note what is missing. A clipped video was not read to its end and says nothing about it."""
        if self._undecodable:
            self._note_once(f"damaged: {self._undecodable} packets could not be decoded")
        if self._sound is not None and self._sound.is_empty():
            self._note_once("no audio: the stream holds no sound that can be decoded")
        declared, own = self._declared()
        if declared is None or "clipped" in self.notes:
            return
        start, end = self._first.time, last.time + last.duration
        if not own:  # a whole file lasts as long as its longest stream, from its earliest start
            start = Fraction(self._container.start_time or 0, av.time_base)
            end = end if self._sound is None or self._sound.is_empty() else max(end, self._sound.end)
        if declared - (end - start) > DURATION_SLACK:
            self._note_once(f"truncated: decoded {float(end - start):.1f} s of {float(declared):.1f} s")

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _no_frames(self) -> MediaError:
        declared, _ = self._declared()
        if declared:
            return MediaError(
                "truncated",
                f"{self._name}: declares {float(declared):.1f} s of video and holds no frame that can be decoded; "
                "copy the file again from its source",
            )
        return MediaError("no_frames", f"{self._name}: its video stream holds no frame that can be decoded")


class _Arrays:
    """Arrays for frames, given out again once nobody holds them or a view of them.

    Fresh memory for each frame would be carved up by what the networks allocate in between: a worker that held 64 frames
    of 1080p grew to 2.4 GB.
    """

    MOST = 256  # that are kept in mind; who holds more frames wants to keep them

    def __init__(self) -> None:
        self.arrays = [np.empty(0, np.uint8)]
        self.free = self._references(0)  # of an array that only the list holds; how many that is, Python decides

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """(H, W, 3) uint8, of any content."""
        for which in range(len(self.arrays)):
            if self._references(which) == self.free and self.arrays[which].shape == shape:
                return self.arrays[which]
        array = np.empty(shape, np.uint8)
        if len(self.arrays) < self.MOST:
            self.arrays.append(array)
        return array

    def _references(self, which: int) -> int:
        return sys.getrefcount(self.arrays[which])


def _display_matrix(image: av.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix (ISO 14496-12, 8.3.2): stored (x, y) is shown at (a x + c y, b x + d y)."""
    data = image.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    return a, b, c, d


def _upright(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A view of (H, W, 3), turned and mirrored by quarter turns as the display matrix says."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
