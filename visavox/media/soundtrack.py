"""The sound of a video that is being read: which stream is taken, which of its packets are decoded, where it is cut."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.stream import Discard

from visavox.files import utf8_name
from visavox.media.container import MediaError, RegularFile, open_container
from visavox.media.limits import Limits
from visavox.media.sound import Sound

READ_PAST_END = 10  # seconds of video packets read after max_seconds in search of the rest of a sound that broke off
PREROLL = 1  # seconds of sound decoded before and after the wanted span: decoders need a start, stamps may be off
QUIET = 500  # root mean square of int16 below which two channels may have cancelled each other in the mix


class Decoder:
    """Decodes packets of any stream. A damaged one gives nothing and is counted: what lies before and after it is kept."""

    lost = 0
    """Packets that could not be decoded."""

    def __call__(self, stream: av.stream.Stream, packet: av.Packet | None) -> list[Any]:
        """Return the packet's frames; None: what the decoder still holds."""
        try:
            return cast(Any, stream.codec_context).decode(packet)
        except av.FFmpegError:
            self.lost += 1
            return []


def choose_audio(
    container: av.container.InputContainer, video: av.VideoStream, note: Callable[[str], None]
) -> av.AudioStream | None:
    """Return the stream of sound that belongs to a video, or None; say which of several it is, and why there is none."""
    audio = cast("av.AudioStream | None", container.streams.best("audio", related=video))
    if audio is not None and audio.codec_context is None:
        note("no audio: no decoder for its codec")
        return None
    streams = container.streams.audio
    if audio is not None and len(streams) > 1:
        language = f", {utf8_name(audio.language)}" if audio.language else ""
        which = f"number {streams.index(audio) + 1} ({audio.codec_context.name}{language})"
        note(f"sound: {len(streams)} streams, {which} is taken")
    return audio


class Soundtrack:
    """One stream of sound beside the picture, decoded where it may be heard within the wanted span."""

    def __init__(
        self,
        file: RegularFile,
        stream: av.AudioStream,
        rate: int,
        *,
        longest: float,
        decode: Decoder,
        limits: Limits,
        note: Callable[[str], None],
    ):
        """longest: seconds that are wanted at most. note: takes what is to be told."""
        self.stream, self.sound = stream, Sound(stream, rate)
        self.is_cut = False
        """Whether the sound goes on where reading stopped."""
        self._file, self._rate, self._decode, self._limits, self._note = file, rate, decode, limits, note
        self._most = longest + limits.sound_ahead  # seconds held

    def listen(self, packet: av.Packet | None, start: float | None, end: float | None) -> None:
        """Decode a packet of sound (None: what the decoder still holds) that may be heard between `start` and `end`, which
        are not known before the first picture."""
        self._listen(self.sound, self.stream, packet, start, end)

    def has_all(self, end: Fraction, video: av.VideoStream, packet: av.Packet | None) -> bool:
        """After the last wanted frame and a packet of any stream: whether nothing further in the file is of use."""
        sound = self.sound
        if sound.covers(end) or sound.lost_from is not None:
            return True
        if packet and packet.stream is video and packet.dts is not None:
            past_end = packet.dts * packet.time_base - end
            if past_end > READ_PAST_END:
                video.discard = Discard.all  # where no sound was met yet, it lies behind the picture
                return bool(sound.runs)
        return False

    def complete(self, start: Fraction, samples: int) -> np.ndarray | None:
        """Return (samples,) int16 from `start` on, once that span is known; None where nothing is heard."""
        end = start + Fraction(samples, self._rate)
        if self.sound.lost_from is not None and self.sound.lost_from < end:
            self.sound = self._read_again(start, end)
        if self.sound.is_empty():
            self._note("no audio: the stream holds no sound that can be decoded beside the picture")
            return None
        heard = self.sound.cut(start, samples)
        self.sound.forget()
        if self.stream.codec_context.channels == 2 and (level := _level(heard)) < QUIET:
            first = self._read_again(start, end, first_channel=True).cut(start, samples)
            if _level(first) > 10 * level:
                heard = first
                self._note("sound: its two channels cancel each other, the first one is taken")
        if heard.any():
            return heard
        self._note("no audio: the sound is silent throughout")
        return None

    def _listen(
        self, sound: Sound, stream: av.stream.Stream, packet: av.Packet | None, start: float | None, end: float | None
    ) -> None:
        time = sound.end if packet is None or packet.pts is None else packet.pts * sound.tick
        most = self._most if start is None else 2 * self._most  # what was held before may be of no use
        if sound.seconds_held > most or (end is not None and time > end + PREROLL):
            sound.finished, sound.lost_from = end is not None, time if end is None else sound.lost_from
        if sound.covers(end) or sound.lost_from is not None:
            self.is_cut, stream.discard = True, Discard.all
            return
        if start is not None and time < start - PREROLL:
            return
        for frame in self._decode(stream, packet):
            try:
                sound.add(frame)
            except av.FFmpegError:  # a channel layout that has no mono mix, such as ambisonics
                self._decode.lost += 1

    def _read_again(self, start: Fraction, end: Fraction, first_channel: bool = False) -> Sound:
        """Read the file once more for the sound between `start` and `end`."""
        sound, lost = Sound(self.stream, self._rate, first_channel), self._decode.lost
        with self._file.again() as file, open_container(file.name, file, self._limits) as container:
            file.left = self._limits.bytes_ahead
            stream = container.streams[self.stream.index]
            for other in container.streams:
                if other is not stream:
                    other.discard = Discard.all
            try:
                for packet in container.demux(stream):
                    self._listen(sound, stream, packet if packet.size else None, float(start), float(end))
                    if sound.covers(end):
                        break
            except MediaError as error:  # too much was read
                self._note(f"no more sound: {error}")
            except (av.FFmpegError, OSError, IndexError):
                pass  # the first reading met it too, and noted it
        if first_channel:
            self._decode.lost = lost
        return sound


def _level(sound: np.ndarray) -> float:
    """Root mean square of (N,) int16."""
    power = np.einsum("n,n->", sound, sound, dtype=np.float64, casting="unsafe")  # without a copy of all in float64
    return float(np.sqrt(power / max(len(sound), 1)))
