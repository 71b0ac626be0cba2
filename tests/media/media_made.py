"""Small real media files with numbered frames, and how tests read them."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from visavox.media import MediaError, open_video

RATE = 16000


def number_frame(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A grey frame (H, W, 3) whose eight vertical bars are the bits of `number`."""
    bars = np.repeat([(number >> bit & 1) * 200 + 28 for bit in range(8)], width // 8)
    row = np.pad(bars, (0, width - len(bars)), mode="edge")
    return np.broadcast_to(row[None, :, None], (height, width, 3)).astype(np.uint8)


def encode(
    path,
    times,
    *,
    codec="libx264",
    pixels="yuv420p",
    frame=number_frame,
    base=1000,
    rate=25,
    muxer=None,
    options=None,
    rotation=None,
    flip=False,
    sound=None,
    sound_at=0.0,
    sound_codec="aac",
):
    """Write frame(i) at times[i] seconds; `sound` (N,) int16 at 16 kHz begins at `sound_at` seconds."""
    with av.open(str(path), "w", format=muxer) as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        height, width = frame(0).shape[:2]
        video.width, video.height, video.pix_fmt = width, height, pixels
        if codec not in ("mpeg2video", "mpeg4") and path.suffix != ".avi":
            video.codec_context.time_base = Fraction(1, base)
        else:
            base = rate
        if rotation is not None:
            video.set_display_rotation(rotation, hflip=flip)
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=RATE, layout="mono")
        for index, time in enumerate(times):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame(index)), format="rgb24")
            image.pts, image.time_base = round(time * base), Fraction(1, base)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        if sound is not None:
            piece = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, round(sound_at * RATE), Fraction(1, RATE)
            container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def read(path, **options):
    with open_video(path, **options) as video:
        frames = list(video.frames())
        return frames, video.audio(), video


def click(seconds: float, at: float) -> np.ndarray:
    sound = np.zeros(round(seconds * RATE), np.int16)
    sound[round(at * RATE) :][:32] = 25000
    return sound


def onset(sound: np.ndarray) -> float:
    """Seconds at which the loudest stretch begins."""
    loud = np.abs(sound.astype(np.int32))
    return int(np.argmax(loud > loud.max() / 2)) / RATE


def flash(at: int):
    return lambda i: np.full((48, 64, 3), 230 if i == at else 20, np.uint8)


def flash_time(frames) -> float:
    return int(np.argmax([f.mean() for f in frames])) / 25


def reason(path, **options) -> str:
    with pytest.raises(MediaError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert os.fsdecode(path) in message and len(message) > len(os.fsdecode(path)) + 15
    return caught.value.reason
