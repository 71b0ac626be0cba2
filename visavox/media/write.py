"""Writing a video: H.264 and AAC by default, equal bytes for equal input."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.codec.context import Flags as CodecFlags

from visavox.files import replacing

MUXERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".mpg": "mpeg"}

# x264's AVX-512 code gave other bytes in up to 40 % of single-threaded runs of a noisy clip, SSE4.2 in 0 of 150.
X264_PARAMS = "asm=sse4.2"


def write_video(
    path: str | os.PathLike | bytes,
    frames: Iterable[np.ndarray],
    audio: np.ndarray | None = None,
    *,
    fps: float = 25,
    sample_rate: int = 16000,
    crf: int = 18,
    codec: str = "libx264",
    audio_codec: str = "aac",
) -> None:
    """Write frames (H, W, 3) uint8 RGB and sound (N,) int16 mono; the suffix of `path` names the container.

    Equal input gives equal bytes. Odd sizes are made even by repeating the last row or column, as 4:2:0 asks. The
    encoder's delay is written as an edit list, so `open_video` gives the sound back where it was. The file appears
    when it is complete.
    """
    path = Path(os.fsdecode(path))
    if path.suffix.lower() not in MUXERS:
        raise ValueError(f"{path}: its suffix names no container; use one of {', '.join(MUXERS)}")
    if audio is not None and (audio.dtype != np.int16 or audio.ndim != 1):
        raise ValueError(f"{path}: audio is {audio.dtype} {audio.shape}, expected int16 (N,)")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: there is no frame to write")
    with replacing(path) as part, open(part, "wb") as file:
        muxer = MUXERS[path.suffix.lower()]
        with av.open(file, "w", muxer, container_options={"fflags": "+bitexact"}) as container:
            height, width = first.shape[:2]
            rate = Fraction(fps).limit_denominator(1001)
            options = {"crf": str(crf)}
            if codec == "libx264":
                options["x264-params"] = X264_PARAMS
            picture = cast(av.VideoStream, container.add_stream(codec, rate=rate, options=options))
            _single_thread(picture)
            picture.width, picture.height, picture.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            sound = None
            if audio is not None:
                sound = cast(av.AudioStream, container.add_stream(audio_codec, rate=sample_rate, layout="mono"))
                _single_thread(sound)
            _encode(container, picture, sound, chain([first], frames), audio, rate, sample_rate)


def _single_thread(stream: av.stream.Stream) -> None:
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= CodecFlags.bitexact


def _encode(
    container: av.container.OutputContainer,
    picture: av.VideoStream,
    sound: av.AudioStream | None,
    frames: Iterable[np.ndarray],
    audio: np.ndarray | None,
    fps: Fraction,
    sample_rate: int,
) -> None:
    """Encode both streams side by side, so that neither waits in memory for the other."""
    sent = 0
    for index, rgb in enumerate(frames):
        odd = ((0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0))
        frame = av.VideoFrame.from_ndarray(np.pad(rgb, odd, mode="edge"), format="rgb24")
        frame.pts, frame.time_base = index, 1 / fps
        container.mux(picture.encode(frame))
        if sound is not None and audio is not None:
            heard = round((index + 1) / fps * sample_rate)
            _encode_sound(container, sound, audio[sent:heard], sent, sample_rate)
            sent = max(sent, min(heard, len(audio)))
    container.mux(picture.encode(None))
    if sound is not None and audio is not None:
        _encode_sound(container, sound, audio[sent:], sent, sample_rate)
        container.mux(sound.encode(None))


def _encode_sound(
    container: av.container.OutputContainer, sound: av.AudioStream, piece: np.ndarray, at: int, sample_rate: int
) -> None:
    if len(piece):
        frame = av.AudioFrame.from_ndarray(piece[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, at, Fraction(1, sample_rate)
        container.mux(sound.encode(frame))
