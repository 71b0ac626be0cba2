"""Decoding in a child process that may touch nothing else: no file, no network, no other process, bounded memory and time.

    with open_video("clip.mp4", max_seconds=16, confine="auto") as video:      # as `visavox.media.open_video`
        ...

A media decoder is a large program in an unsafe language that reads hostile bytes. Here it has, before it sees the first of them,
given up all it does not need (`sandbox`: no_new_privs, resource limits, Landlock, a filter of system calls); the file comes as an
open descriptor, frames go back through shared memory, and the parent checks every size (`decoder`).
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from visavox.media.compressed import Hint, hints
from visavox.media.confined import sandbox
from visavox.media.limits import LIMITS, Limits
from visavox.media.video import MediaInfo, Video
from visavox.media.video import open_video as open_here

if TYPE_CHECKING:
    from visavox.media.confined.decoder import ConfinedVideo

__all__ = ["Confine", "Description", "describe", "in_words", "lacking", "open_video"]

log = logging.getLogger(__name__)

Confine = Literal["auto", "require", "off"]


def lacking() -> tuple[str, ...]:
    """Return the layers of `sandbox.LAYERS` that this system does not offer."""
    return tuple(layer for layer in sandbox.LAYERS if layer not in sandbox.offered())


def open_video(
    path: str | os.PathLike,
    *,
    fps: float = 25.0,
    sample_rate: int = 16000,
    max_seconds: float | None = None,
    threads: int = 0,
    limits: Limits = LIMITS,
    confine: Confine = "auto",
    describe: bool = False,
) -> Video | ConfinedVideo:
    """Open a video as `visavox.media.open_video` does, decoded in a confined child.

    Args:
        confine: `auto` takes what the kernel offers and says once what it lacks, `require` refuses to decode with less than all
            of it, `off` decodes in this process.
        describe: for `describe` alone: the child says what the file tells, and gives no frame.

    Raises:
        MediaError: as `visavox.media.open_video`; reason `decoder` where the child failed, was ended or took too long.
        SandboxError: `require`, and the system lacks a layer.
    """
    how: dict[str, Any] = {
        "fps": fps,
        "sample_rate": sample_rate,
        "max_seconds": max_seconds,
        "threads": threads,
        "limits": limits,
    }
    if confine == "off":
        return open_here(path, **how)
    if missing := lacking():
        if confine == "require":
            raise sandbox.SandboxError(
                f"this system cannot confine the decoder: {in_words(missing)}; confine=auto does with less"
            )
        _say_once(in_words(missing))
    if not sys.platform.startswith("linux"):
        return open_here(path, **how)
    from visavox.media.confined.decoder import ConfinedVideo, decoder  # needs what Linux alone has

    return ConfinedVideo(decoder(), os.fsdecode(path), how | ({"describe": True} if describe else {}))


def in_words(missing: tuple[str, ...]) -> str:
    """Say which layers are missing."""
    return f"it lacks {', '.join(missing)}"


class Description(NamedTuple):
    """What a video says of itself before more than its first frame is decoded."""

    info: MediaInfo
    notes: list[str]
    hints: list[Hint]


def describe(path: str | os.PathLike, *, limits: Limits = LIMITS, confine: Confine = "auto") -> Description:
    """Return what a video says of itself; raises as `open_video`. No frame of it is given."""
    if confine == "off" or not sys.platform.startswith("linux"):
        with open_here(path, max_seconds=limits.seconds, threads=1, limits=limits) as video:
            return Description(video.info, list(video.notes), hints(path, limits=limits))
    opened = open_video(path, max_seconds=limits.seconds, threads=1, limits=limits, confine=confine, describe=True)
    with opened as video:
        assert not isinstance(video, Video)
        return Description(video.info, *video.rest_of_description())


@functools.cache
def _say_once(missing: str) -> None:
    log.warning("decoding is confined less than it could be on this system: %s (visavox doctor)", missing)
