"""Pictures and sound through an encoder and back, in memory.

T frames · N samples
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
import numpy as np

from visavox.media.write import X264_PARAMS

FPS = 25
CONTAINERS = {
    "aac": "adts",
    "libmp3lame": "mp3",
    "libopus": "ogg",
    "libopencore_amrnb": "amr",
}
"""Encoder -> a container that carries its packets back to the decoder."""


def through_h264(
    frames: Iterator[np.ndarray], *, crf: int | None = None, bit_rate: int | None = None, preset: str = "medium"
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
    encoder.time_base, encoder.framerate, encoder.thread_count = Fraction(1, FPS), Fraction(FPS), 1
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
        picture.pts, picture.time_base = index, Fraction(1, FPS)
        yield from decoded(encoder.encode(picture))
        index, image = index + 1, next(frames, None)
    yield from decoded(encoder.encode(None))
    for frame in decoder.decode(None):
        yield frame.to_ndarray(format="rgb24")[:height, :width]


def through_audio(
    sound: np.ndarray, rate: int, encoder: str, bit_rate: int | None = None, at: int | None = None
) -> np.ndarray:
    """Return sound (N,) int16 as it comes out of an encoder and its decoder, in step with what went in.

    Args:
        encoder: one of CONTAINERS.
        bit_rate: bits a second; None takes the encoder's own.
        at: sample rate at which it is encoded; None takes `rate`.
    """
    if not len(sound):
        return sound
    inner = at or rate
    buffer = io.BytesIO()
    with av.open(buffer, "w", CONTAINERS[encoder]) as container:
        stream = cast(av.AudioStream, container.add_stream(encoder, rate=inner, layout="mono"))
        stream.codec_context.thread_count = 1
        if bit_rate:
            stream.codec_context.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for piece in _resampled([frame], inner):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r", CONTAINERS[encoder].replace("adts", "aac")) as container:
        pieces = [piece.to_ndarray()[0] for piece in _resampled(container.decode(audio=0), rate)]
    heard = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    return _in_step(heard, sound)


def resampled(sound: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Return sound (N,) int16 at another sample rate."""
    if rate == to or not len(sound):
        return sound
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return np.concatenate([piece.to_ndarray()[0] for piece in _resampled([frame], to)])


def _resampled(frames: object, rate: int) -> Iterator[av.AudioFrame]:
    resampler = av.AudioResampler("s16", "mono", rate)
    for frame in frames:  # type: ignore[attr-defined]  # any iterable of frames, decoded or made here
        frame.pts = None  # what a codec pads at the start has stamps below zero
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _in_step(heard: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Cut the delay that encoder and decoder put in front, found by correlation, and fit the length: -> (N,) int16."""
    from scipy.signal import correlate

    most = 4096  # samples: no codec here delays by more
    padded = np.concatenate([heard, np.zeros(max(0, len(sound) + most - len(heard)), np.int16)])
    a, b = padded[: len(sound) + most].astype(np.float64), sound.astype(np.float64)
    delay = int(correlate(a, b, "valid", method="fft").argmax())
    return padded[delay : delay + len(sound)]
