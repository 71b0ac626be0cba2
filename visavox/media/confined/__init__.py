"""Decoding in a child process that may touch nothing else: no file, no network, no other process, bounded memory and time.

    with open_video("clip.mp4", max_seconds=16, confine="auto") as video:      # as `visavox.media.open_video`
        ...

A media decoder is a large program in an unsafe language that reads hostile bytes. Here it has, before it sees the first of them,
given up all it does not need (`sandbox`: no_new_privs, resource limits, Landlock, a filter of system calls); the file comes as an
open descriptor, frames go back through shared memory, and the parent checks every size (`decoder`).
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from visavox.logs import say_once
from visavox.media import image, repair
from visavox.media.compressed import Hint, hints
from visavox.media.confined import sandbox
from visavox.media.limits import LIMITS, Limits
from visavox.media.video import MediaInfo, Video
from visavox.media.video import open_video as open_here

if TYPE_CHECKING:
    from visavox.media.confined.decoder import ConfinedVideo

__all__ = [
    "Confine",
    "Description",
    "describe",
    "in_words",
    "insist",
    "insisted",
    "lacking",
    "open_video",
    "read_image",
    "repaired",
]

log = logging.getLogger(__name__)

Confine = Literal["auto", "require", "off"]
_insisted = False


def lacking() -> tuple[str, ...]:
    """Return the layers of `sandbox.LAYERS` that this system does not offer."""
    return tuple(layer for layer in sandbox.LAYERS if layer not in sandbox.offered())


def insist() -> None:
    """Have whatever is decoded in this process from now on decoded as `require` asks, whoever opens it and as what.

    Raises:
        SandboxError: the system lacks a layer.
    """
    global _insisted
    _confines("require")
    _insisted = True


def insisted() -> bool:
    """Return whether `insist` was called."""
    return _insisted


def _confines(confine: Confine) -> bool:
    """Return whether to decode in a child. Raises SandboxError for `require` where the system lacks a layer."""
    if _insisted:
        confine = "require"
    if confine == "off":
        return False
    if missing := lacking():
        if confine == "require":
            raise sandbox.SandboxError(
                f"this system cannot confine the decoder: {in_words(missing)}; confine=auto does with less"
            )
        say_once(
            log, f"decoding is confined less than it could be on this system: {in_words(missing)} (visavox doctor)"
        )
    return sys.platform.startswith("linux")


def open_video(
    path: str | os.PathLike,
    *,
    fps: float = 25.0,
    sample_rate: int = 16000,
    max_seconds: float | None = None,
    threads: int = 0,
    limits: Limits = LIMITS,
    confine: Confine = "auto",
) -> Video | ConfinedVideo:
    """Open a video as `visavox.media.open_video` does, decoded in a confined child.

    Args:
        confine: `auto` takes what the kernel offers and says once what it lacks, `require` refuses to decode with less than all
            of it, `off` decodes in this process.

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
    if not _confines(confine):
        return open_here(path, **how)
    from visavox.media.confined.decoder import ConfinedVideo, decoder  # needs what Linux alone has

    return ConfinedVideo(decoder(), os.fsdecode(path), how)


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
    how: dict[str, Any] = {"max_seconds": limits.seconds, "threads": 1, "limits": limits}
    if not _confines(confine):
        with open_here(path, **how) as here:
            return Description(here.info, list(here.notes), hints(path, limits=limits))
    from visavox.media.confined.decoder import ConfinedVideo, decoder

    wanted = {"fps": 25.0, "sample_rate": 16000, **how, "task": "describe"}
    with ConfinedVideo(decoder(), os.fsdecode(path), wanted) as video:
        return Description(video.info, *video.rest_of_description())


def read_image(path: str | os.PathLike, *, limits: Limits = image.OF_PICTURES, confine: Confine = "auto") -> np.ndarray:
    """Return a picture as `visavox.media.read_image` does, (H, W, 3) uint8 RGB; raises as `open_video`."""
    if not _confines(confine):
        return image.read_image(path, limits=limits)
    from visavox.media.confined.decoder import ConfinedVideo, decoder

    wanted = {"fps": 25.0, "sample_rate": 16000, "max_seconds": 1.0, "limits": limits, "task": "picture"}
    with ConfinedVideo(decoder("pictures"), os.fsdecode(path), wanted) as video:
        return list(video.frames())[0]


def repaired(path: str | os.PathLike, *, limits: Limits = LIMITS, confine: Confine = "auto") -> bytes | None:
    """Return what `visavox.media.repair` makes of a file, None where it makes nothing; raises as `open_video`."""
    if not _confines(confine):
        return repair.repaired(Path(path).read_bytes(), limits)
    from visavox.media.confined import decoder

    return decoder.repaired(decoder.decoder(), os.fsdecode(path), limits)
