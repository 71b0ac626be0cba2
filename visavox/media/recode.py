"""Encode and decode again, in memory: what a codec leaves of a sound or of pictures. No file is opened.

N samples · T frames · S side of a frame in pixels
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple, cast

import av
import numpy as np
from av.audio.resampler import AudioResampler

from visavox.media.write import X264_PARAMS

LONGEST_DELAY = 0.2
"""Seconds of delay of a codec that are looked for and taken away, at most; of those in CODECS the longest is 0.15."""


class SoundCodec(NamedTuple):
    """One way to encode sound."""

    encoder: str
    """Its name in libav."""
    rate: int
    """Samples a second that it is given, in Hz."""
    bit_rate: int = 0
    """Bits a second; 0: the codec has one only."""


CODECS = {
    "aac_32": SoundCodec("aac", 16000, 32000),
    "aac_64": SoundCodec("aac", 44100, 64000),
    "mp3_32": SoundCodec("libmp3lame", 16000, 32000),
    "mp3_64": SoundCodec("libmp3lame", 44100, 64000),
    "opus_12": SoundCodec("libopus", 16000, 12000),
    "opus_24": SoundCodec("libopus", 48000, 24000),
    "amr_nb": SoundCodec("libopencore_amrnb", 8000, 12200),
    "g722": SoundCodec("g722", 16000),
    "g726": SoundCodec("g726", 8000, 32000),
    "mulaw": SoundCodec("pcm_mulaw", 8000),
}
"""What PyAV 18's wheel encodes, from a video platform's rates down to a telephone's. AMR, G.726 and µ-law are narrow band."""


def resample(sound: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Sound (N,) int16 mono at `rate` -> the same at `to`, (round(N to / rate),) int16, by libswresample."""
    if rate == to:
        return sound
    length = round(len(sound) * to / rate)
    resampler = AudioResampler("s16", "mono", to)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound)[None], format="s16", layout="mono")
    frame.sample_rate = rate
    pieces = [piece.to_ndarray()[0] for part in (frame, None) for piece in resampler.resample(part)]
    return _fit(np.concatenate([*pieces, np.zeros(0, np.int16)]), length)


def recode_sound(sound: np.ndarray, rate: int, codec: SoundCodec) -> np.ndarray:
    """Sound (N,) int16 mono -> what is left of it after one codec: (N,) int16 at the same rate, in its old place.

    The delay of encoder and decoder is measured by correlation and taken away, to a sample of `rate`.
    """
    if not len(sound):
        return sound
    heard = _through(resample(sound, rate, codec.rate), codec)
    back = resample(heard, codec.rate, rate)
    return _fit(back[_delay(sound, back, round(LONGEST_DELAY * rate)) :], len(sound))


def recode_frames(frames: np.ndarray, crf: int, fps: float = 25.0) -> np.ndarray:
    """Frames (T, S, S, 3) uint8 RGB -> what a quick H.264 at this constant rate factor leaves of them, of the same shape."""
    return np.stack(list(through_h264(iter(frames), crf=crf, preset="ultrafast", fps=fps)))


def through_h264(
    frames: Iterator[np.ndarray],
    *,
    crf: int | None = None,
    bit_rate: int | None = None,
    preset: str = "medium",
    fps: float = 25.0,
) -> Iterator[np.ndarray]:
    """Yield frames (H, W, 3) uint8 RGB as they come out of libx264 and its decoder; as many, in order, of the same size.

    Equal input gives equal output: one thread, as in `visavox.media.write`. Frames are held for the encoder's look-ahead.

    Args:
        crf: constant rate factor, 0 to 51; or
        bit_rate: bits a second, with a buffer of a second.
    """
    first = next(frames, None)
    if first is None:
        return
    height, width = first.shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    encoder.framerate, encoder.thread_count = Fraction(fps).limit_denominator(1001), 1
    encoder.time_base = 1 / encoder.framerate
    options = {"preset": preset, "x264-params": X264_PARAMS}
    if crf is not None:
        options["crf"] = str(crf)
    else:
        options |= {"b": str(bit_rate), "maxrate": str(bit_rate), "bufsize": str(bit_rate)}
    encoder.options = options
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1

    def decoded(packets: list[av.Packet]) -> Iterator[np.ndarray]:
        for packet in packets:
            for frame in decoder.decode(packet):
                yield frame.to_ndarray(format="rgb24")[:height, :width]

    index = 0
    image: np.ndarray | None = first
    while image is not None:
        odd = ((0, height % 2), (0, width % 2), (0, 0))
        picture = av.VideoFrame.from_ndarray(np.pad(image, odd, mode="edge"), format="rgb24")
        picture.pts, picture.time_base = index, encoder.time_base
        yield from decoded(encoder.encode(picture))
        index, image = index + 1, next(frames, None)
    yield from decoded(encoder.encode(None))
    for frame in decoder.decode(None):
        yield frame.to_ndarray(format="rgb24")[:height, :width]


def _through(sound: np.ndarray, codec: SoundCodec) -> np.ndarray:
    """Sound (N,) int16 at the codec's rate -> what it decodes to, with its delay, at the same rate.

    It is muxed in between, into memory: decoders learn some of what they need from the container, G.726 its code size.
    """
    kept = io.BytesIO()
    with av.open(kept, "w", _MUXERS.get(codec.encoder, "matroska")) as muxer:
        stream = cast(av.AudioStream, muxer.add_stream(codec.encoder, rate=codec.rate, layout="mono"))
        stream.codec_context.thread_count = 1
        if codec.bit_rate:
            stream.bit_rate = codec.bit_rate
        tail = codec.rate // 4  # so that what the codec holds back comes out too
        frame = av.AudioFrame.from_ndarray(np.pad(sound, (0, tail))[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = codec.rate, Fraction(1, codec.rate), 0
        muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
    kept.seek(0)
    back = AudioResampler("s16", "mono", codec.rate)
    with av.open(kept, "r") as demuxer:
        decoded = [piece for frame in demuxer.decode(audio=0) for piece in back.resample(frame)]
    decoded += back.resample(None)
    return np.concatenate([*(piece.to_ndarray()[0] for piece in decoded), np.zeros(0, np.int16)])


_MUXERS = {"libopencore_amrnb": "amr", **dict.fromkeys(("g722", "g726", "pcm_mulaw"), "wav")}


def _delay(sound: np.ndarray, later: np.ndarray, most: int) -> int:
    """Samples by which `later` repeats `sound`, 0 to `most`, by the peak of their correlation."""
    size = 1 << (len(sound) + most).bit_length()
    cross = np.fft.irfft(np.fft.rfft(later[: len(sound) + most], size) * np.conj(np.fft.rfft(sound, size)), size)
    return int(cross[: most + 1].argmax())


def _fit(sound: np.ndarray, length: int) -> np.ndarray:
    """The first `length` samples, silence behind them where there are fewer."""
    return np.pad(sound[:length], (0, max(0, length - len(sound))))
