"""Sound through an encoder and back, in memory, in step with what went in. N samples"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
import numpy as np

CONTAINERS = {
    "aac": "adts",
    "libmp3lame": "mp3",
    "libopus": "ogg",
    "libopencore_amrnb": "amr",
}
"""Encoder -> a container that carries its packets back to the decoder."""


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
