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
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.stream import Discard

from visavox.files import utf8_name
from visavox.media.container import (
    MediaError,
    RegularFile,
    check_size,
    choose_video,
    open_container,
    open_regular,
    too_fast,
)
from visavox.media.convert import Converter
from visavox.media.hdr import refuse_unreadable_colours
from visavox.media.interlaced import Deinterlacer
from visavox.media.limits import LIMITS, Limits
from visavox.media.sound import Sound
from visavox.media.write import write_video

__all__ = ["MAX_PIXELS", "MediaError", "MediaInfo", "Video", "open_video", "probe", "write_video"]

MAX_PIXELS = LIMITS.pixels

LONGEST_GAP = 60  # seconds between two shown frames; beyond it the timestamps are taken for damage
LONGEST_STEP_BACK = 1  # seconds; frames that step back less have no moment of their own and are left out
READ_PAST_END = 10  # seconds of video packets read after max_seconds in search of the rest of a sound that broke off
PREROLL = 1  # seconds of sound decoded before and after the wanted span: decoders need a start, stamps may be off
QUIET = 500  # root mean square of int16 below which two channels may have cancelled each other in the mix
LONGEST_BURST = 0.5  # seconds' worth of frames at the highest rate that may come at once
LONGEST_BELIEVED = 100 * 3600  # seconds; a header that declares more is damaged or lies
DURATION_SLACK = 0.25  # seconds; declared durations of whole files are off by up to a few frames


@dataclass(frozen=True)
class MediaInfo:
    """What a file declares. Sizes are those of the frames given: upright, of square pixels."""

    container: str
    video_codec: str
    width: int
    height: int
    pixel_format: str
    fps: float | None  # average
    duration: float | None  # declared seconds of the video stream, of the whole file where the stream has none
    rotation: int  # degrees clockwise that turned the stored frames upright: 0, 90, 180, 270
    sample_aspect_ratio: str  # of the pixels as stored
    audio_codec: str | None
    sample_rate: int | None
    channels: int | None


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


def probe(path: str | os.PathLike | bytes, *, max_pixels: int | None = None, limits: Limits = LIMITS) -> MediaInfo:
    """Return what `path` declares; raises MediaError where `open_video` would, but for its length."""
    with open_video(path, max_seconds=limits.seconds, max_pixels=max_pixels, threads=1, limits=limits) as video:
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
        self._fps, self._sample_rate = Fraction(fps).limit_denominator(1001), sample_rate
        assert stream.time_base is not None  # every stream that was opened has one
        self._tick: Fraction = stream.time_base
        self._refuse_length(max_seconds)
        most = limits.seconds if max_seconds is None else min(max_seconds, limits.seconds)
        self._limit = Fraction(most).limit_denominator(10**6)
        self._audio = self._choose_audio()
        self._sound = Sound(self._audio, sample_rate) if self._audio else None
        self._most_sound = float(self._limit + limits.sound_ahead)
        self._sound_is_cut = False  # whether the sound goes on where reading stopped
        for other in container.streams:
            if other not in (self._video, self._audio):
                other.discard = Discard.all

        self._heard: np.ndarray | None = None
        self._stopped = False  # no further picture is wanted
        self._undecodable = self._delay = 0
        file.left = limits.bytes_ahead
        self._shown = self._decode()
        first = next(self._shown, None)
        if first is None:
            raise self._no_frames()
        self._first = first
        check_size(self._name, self._first.image.width, self._first.image.height, limits)
        refuse_unreadable_colours(self._name, stream.codec_context.codec_tag, self._first.image)
        self._convert = Converter(self._first.image, stream.sample_aspect_ratio or Fraction(1), limits)
        self._begun = False
        self._samples: int | None = None  # the span of the frames given, once it is known
        self.info = self._describe()

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
        self._complete_sound(self._samples)
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
        for stream, packet in self._packets():
            if self._sound is not None and stream is self._audio:
                self._listen(self._sound, stream, packet, *wanted)
            elif not self._stopped:
                for image in self._decoded(stream, packet):
                    shown = self._timed(image, last)
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
            if self._stopped and end is not None and self._has_all_sound(end, stream, packet):
                return

    def _packets(self) -> Iterator[tuple[av.stream.Stream, av.Packet | None]]:
        """Both streams' packets as they are stored, then None for each stream, which empties its decoder."""
        streams = [stream for stream in (self._video, self._audio) if stream]
        try:
            yield from self._at_a_bearable_rate(
                (packet.stream, packet) for packet in self._container.demux(streams) if packet.size
            )
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

    def _at_a_bearable_rate(
        self, packets: Iterator[tuple[av.stream.Stream, av.Packet]]
    ) -> Iterator[tuple[av.stream.Stream, av.Packet]]:
        """Pass the packets on; raise MediaError as soon as pictures come faster than the limit.

        Where the header declares such a rate, the first packets are looked at before one is decoded.
        """
        fastest = self._limits.fps * 1.01
        burst = self._limits.fps * LONGEST_BURST
        look_ahead, ahead = (self._video.average_rate or 0) > fastest, []
        count, latest, span = 0, None, 0.0
        for stream, packet in packets:
            stamp = packet.pts if packet.dts is None else packet.dts
            if stream is self._video and stamp is not None:
                time, count = float(stamp * self._tick), count + 1
                if latest is None or time < latest - LONGEST_BURST:  # one file put behind the other: time begins anew
                    latest = time
                elif time > latest:
                    span, latest = span + min(time - latest, LONGEST_GAP), time
                if count > burst + fastest * span:
                    raise too_fast(self._name, count / max(span, 1 / count), self._limits)
                look_ahead = look_ahead and span < 2 * LONGEST_BURST
            ahead.append((stream, packet))
            if not look_ahead or len(ahead) > 10 * burst:
                yield from ahead
                ahead.clear()
                look_ahead = False
        yield from ahead

    def _decoded(self, stream: av.stream.Stream, packet: av.Packet | None) -> list[Any]:
        """The packet's frames. A damaged packet gives none and is counted: what lies before and after it is kept."""
        try:
            return cast(Any, stream.codec_context).decode(packet)
        except av.FFmpegError:
            self._undecodable += 1
            return []

    def _listen(
        self,
        sound: Sound,
        stream: av.stream.Stream,
        packet: av.Packet | None,
        start: float | None,
        end: float | None,
    ) -> None:
        """Decode a packet of sound (None: what the decoder still holds) that may be heard between `start` and `end`, which
        are not known before the first picture."""
        time = sound.end if packet is None or packet.pts is None else packet.pts * sound.tick
        most = self._most_sound if start is None else 2 * self._most_sound  # what was held before may be of no use
        if sound.seconds_held > most or (end is not None and time > end + PREROLL):
            sound.finished, sound.lost_from = end is not None, time if end is None else sound.lost_from
        if sound.covers(end) or sound.lost_from is not None:
            self._sound_is_cut, stream.discard = True, Discard.all
            return
        if start is not None and time < start - PREROLL:
            return
        for frame in self._decoded(stream, packet):
            try:
                sound.add(frame)
            except av.FFmpegError:  # a channel layout that has no mono mix, such as ambisonics
                self._undecodable += 1

    def _has_all_sound(self, end: Fraction, stream: av.stream.Stream, packet: av.Packet | None) -> bool:
        """After the last wanted frame: whether nothing further in the file is of use."""
        if self._sound is None or self._sound.covers(end) or self._sound.lost_from is not None:
            return True
        if stream is self._video and packet and packet.dts is not None:
            past_end = packet.dts * packet.time_base - end
            if past_end > READ_PAST_END:
                self._video.discard = Discard.all  # where no sound was met yet, it lies behind the picture
                return bool(self._sound.runs)
        return False

    def _complete_sound(self, samples: int) -> None:
        """Cut the sound to the frames' span of so many samples, once that is known."""
        if self._sound is None or self._audio is None:
            return
        start = self._first.time
        end = start + Fraction(samples, self._sample_rate)
        if self._sound.lost_from is not None and self._sound.lost_from < end:
            self._sound = self._read_sound(start, end)
        if self._sound.is_empty():
            self._note_once("no audio: the stream holds no sound that can be decoded beside the picture")
            return
        heard = self._sound.cut(start, samples)
        self._sound.forget()
        if self._audio.codec_context.channels == 2 and (level := _level(heard)) < QUIET:
            first = self._read_sound(start, end, first_channel=True).cut(start, samples)
            if _level(first) > 10 * level:
                heard = first
                self._note_once("sound: its two channels cancel each other, the first one is taken")
        if heard.any():
            self._heard = heard
        else:
            self._note_once("no audio: the sound is silent throughout")

    def _read_sound(self, start: Fraction, end: Fraction, first_channel: bool = False) -> Sound:
        """Read the file once more for the sound between `start` and `end`."""
        assert self._audio is not None  # what is read again has been met
        sound, undecodable = Sound(self._audio, self._sample_rate, first_channel), self._undecodable
        with self._file.again() as file, open_container(self._name, file, self._limits) as container:
            file.left = self._limits.bytes_ahead
            stream = container.streams[self._audio.index]
            for other in container.streams:
                if other is not stream:
                    other.discard = Discard.all
            try:
                for packet in container.demux(stream):
                    self._listen(sound, stream, packet if packet.size else None, float(start), float(end))
                    if sound.covers(end):
                        break
            except MediaError as error:  # too much was read
                self._note_once(f"no more sound: {error}")
            except (av.FFmpegError, OSError, IndexError):
                pass  # the first reading met it too, and noted it
        if first_channel:
            self._undecodable = undecodable
        return sound

    def _timed(self, image: av.VideoFrame, last: Shown | None) -> Shown:
        """The frame with its time; without a timestamp it follows the last one at the average rate."""
        base = self._tick
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
        return stamp if last is None or stamp * self._tick > last.time else None

    def _choose_audio(self) -> av.AudioStream | None:
        audio = cast("av.AudioStream | None", self._container.streams.best("audio", related=self._video))
        if audio is not None and audio.codec_context is None:
            self.notes.append("no audio: no decoder for its codec")
            return None
        streams = self._container.streams.audio
        if audio is not None and len(streams) > 1:
            language = f", {utf8_name(audio.language)}" if audio.language else ""
            which = f"number {streams.index(audio) + 1} ({audio.codec_context.name}{language})"
            self.notes.append(f"sound: {len(streams)} streams, {which} is taken")
        return audio

    def _describe(self) -> MediaInfo:
        image, audio = self._first.image, self._audio
        width, height = self._convert.size
        pixel_shape = self._video.sample_aspect_ratio or Fraction(1)
        declared, _ = self._declared()
        return MediaInfo(
            container=self._container.format.name,
            video_codec=self._video.codec_context.name,
            width=width,
            height=height,
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
        kind, ticks = self._container.format.name, self._video.duration or 0
        if kind == "avi":  # libav shortens the duration of a file that was cut; its time base is a frame
            ticks = max(ticks, self._video.frames)
        elif "matroska" in kind:  # libav fills in the whole file's
            ticks = 0
        own = ticks * self._tick
        if 0 < own < LONGEST_BELIEVED:
            return own, True
        whole = Fraction(self._container.duration or 0, av.time_base)
        return (whole, False) if 0 < whole < LONGEST_BELIEVED else (None, False)

    def _refuse_length(self, max_seconds: float | None) -> None:
        declared, own = self._declared()
        if max_seconds is None and own and declared is not None and declared > self._limits.seconds:
            raise MediaError(
                "too_long",
                f"{self._name}: lasts {float(declared):.0f} s, the limit is {self._limits.seconds:g} s; "
                "cut it, or read its beginning with max_seconds",
            )

    def _compare_with_declared(self, last: Shown) -> None:
        """Note what is missing; raise MediaError where that is too much. Where reading stopped, nothing is known of the end."""
        if self._undecodable:
            self._note_once(f"damaged: {self._undecodable} packets could not be decoded")
        declared, own = self._declared()
        if declared is None or self._stopped or (self._sound_is_cut and not own):
            return
        start = self._first.time
        end: Fraction | float = last.time + last.duration
        if not own:  # a whole file lasts as long as its longest stream, from its earliest start, in Matroska from 0
            from_zero = "matroska" in self._container.format.name
            start = Fraction(0 if from_zero else self._container.start_time or 0, av.time_base)
            if self._sound is not None and not self._sound.is_empty() and self._sound.end > end:
                end = self._sound.end
        if declared - (end - start) > DURATION_SLACK:
            share = (end - start) / min(declared, self._limit)
            missing = f"decoded {float(end - start):.1f} s of {float(declared):.1f} s"
            if share < self._limits.coverage:
                raise MediaError(
                    "truncated",
                    f"{self._name}: {missing}, less than {self._limits.coverage:.0%} of what is wanted is there; "
                    "copy the file again from its source",
                )
            self._note_once(f"truncated: {missing} ({float(share):.0%})")

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
        return MediaError(
            "no_frames",
            f"{self._name}: its video stream holds no frame that can be decoded; play it to see whether it is whole",
        )


def _level(sound: np.ndarray) -> float:
    """Root mean square of (N,) int16."""
    power = np.einsum("n,n->", sound, sound, dtype=np.float64, casting="unsafe")  # without a copy of all in float64
    return float(np.sqrt(power / max(len(sound), 1)))
