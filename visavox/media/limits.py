"""What a media file may ask for, in one place: `open_video` and `probe` keep to it, `visavox doctor` shows it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _limit(value: float, unit: str) -> Any:
    return field(default=value, metadata={"unit": unit})


@dataclass(frozen=True)
class Limits:
    """Bounds on one media file. What a file declares beyond them is refused before anything is decoded."""

    pixels: int = _limit(4096 * 2304, "pixels")
    """Pixels of a frame, width x height. DCI and UHD 4K pass, either way up; 8K does not."""
    side: int = _limit(8192, "pixels")
    """The longer side of a frame."""
    least_side: int = _limit(32, "pixels")
    """The shorter side of a frame; a face has no room below."""
    fps: float = _limit(240, "frames a second")
    """Frame rate, over more than half a second."""
    seconds: float = _limit(4 * 3600, "seconds")
    """Length of a video that is read to its end. Where reading stops at `max_seconds`, the video may be longer."""
    streams: int = _limit(32, "streams")
    """Streams of any kind in one file."""
    header_bytes: int = _limit(128 << 20, "bytes")
    """Bytes read until the streams are known: index, extra data, first packets."""
    bytes_ahead: int = _limit(4 << 30, "bytes")
    """Bytes read in search of the first picture, and again in search of sound behind the last wanted picture."""
    sound_ahead: float = _limit(60, "seconds")
    """Sound held beyond what is wanted while no picture has come; what is left out is read again if it is needed."""
    coverage: float = _limit(0.5, "of the declared length")
    """Share of the declared length, as far as it is wanted, that has to be there."""

    def in_words(self) -> dict[str, str]:
        """Return each limit's value with its unit, by name."""
        return {limit.name: f"{getattr(self, limit.name):,} {limit.metadata['unit']}" for limit in fields(self)}


LIMITS = Limits()
