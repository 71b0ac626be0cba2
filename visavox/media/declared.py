"""What a file declares about itself, and whether it keeps to it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av

from visavox.media.container import MediaError
from visavox.media.limits import Limits

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


class Length(NamedTuple):
    """The declared length of a video."""

    seconds: Fraction | None
    """None where nothing is declared that could be believed."""
    own: bool
    """Whether it is the video stream's own rather than the whole file's."""


def describe(
    container: av.container.InputContainer,
    video: av.VideoStream,
    audio: av.AudioStream | None,
    image: av.VideoFrame,
    size: tuple[int, int],
) -> MediaInfo:
    """Return the facts of a file.

    Args:
        image: the first decoded frame.
        size: width and height of the frames given.
    """
    pixel_shape = video.sample_aspect_ratio or Fraction(1)
    declared = declared_length(container, video).seconds
    return MediaInfo(
        container=container.format.name,
        video_codec=video.codec_context.name,
        width=size[0],
        height=size[1],
        pixel_format=image.format.name,
        fps=float(video.average_rate) if video.average_rate else None,
        duration=None if declared is None else float(declared),
        rotation=-image.rotation % 360,
        sample_aspect_ratio=f"{pixel_shape.numerator}:{pixel_shape.denominator}",
        audio_codec=audio.codec_context.name if audio else None,
        sample_rate=audio.codec_context.sample_rate if audio else None,
        channels=audio.codec_context.channels if audio else None,
    )


def declared_length(container: av.container.InputContainer, stream: av.VideoStream) -> Length:
    """Return the length of the video stream, of the whole file where the stream declares none."""
    kind, ticks = container.format.name, stream.duration or 0
    if kind == "avi":  # libav shortens the duration of a file that was cut; its time base is a frame
        ticks = max(ticks, stream.frames)
    elif "matroska" in kind:  # libav fills in the whole file's
        ticks = 0
    own = ticks * (stream.time_base or 0)
    if 0 < own < LONGEST_BELIEVED:
        return Length(Fraction(own), True)
    whole = Fraction(container.duration or 0, av.time_base)
    return Length(whole, False) if 0 < whole < LONGEST_BELIEVED else Length(None, False)


def refuse_length(name: str, length: Length, limits: Limits) -> None:
    """Raise MediaError where a video that is to be read to its end declares more than the limit."""
    if length.own and length.seconds is not None and length.seconds > limits.seconds:
        raise MediaError(
            "too_long",
            f"{name}: lasts {float(length.seconds):.0f} s, the limit is {limits.seconds:g} s; "
            "cut it, or read its beginning with max_seconds",
        )


def what_is_missing(name: str, declared: Fraction, decoded: Fraction | float, wanted: Fraction, limits: Limits) -> str:
    """Return a note of how much of the declared length is not there; empty where all of it is.

    Args:
        declared, decoded: seconds.
        wanted: seconds that are read at most.

    Raises:
        MediaError: too little is there.
    """
    if declared - decoded <= DURATION_SLACK:
        return ""
    share = decoded / min(declared, wanted)
    missing = f"decoded {float(decoded):.1f} s of {float(declared):.1f} s"
    if share < limits.coverage:
        raise MediaError(
            "truncated",
            f"{name}: {missing}, less than {limits.coverage:.0%} of what is wanted is there; "
            "copy the file again from its source",
        )
    return f"truncated: {missing} ({float(share):.0%})"


def no_frames(name: str, declared: Fraction | None) -> MediaError:
    """Return the error of a video of which nothing can be decoded."""
    if declared:
        return MediaError(
            "truncated",
            f"{name}: declares {float(declared):.1f} s of video and holds no frame that can be decoded; "
            "copy the file again from its source",
        )
    return MediaError(
        "no_frames",
        f"{name}: its video stream holds no frame that can be decoded; play it to see whether it is whole",
    )
