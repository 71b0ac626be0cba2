"""The only code that opens a media file."""

from __future__ import annotations

from visavox.media.container import MediaError
from visavox.media.image import IMAGE_SUFFIXES, is_image, read_image
from visavox.media.limits import LIMITS, Limits
from visavox.media.video import MAX_PIXELS, Video, open_video, probe
from visavox.media.write import write_video

__all__ = [
    "IMAGE_SUFFIXES",
    "LIMITS",
    "MAX_PIXELS",
    "Limits",
    "MediaError",
    "Video",
    "is_image",
    "open_video",
    "probe",
    "read_image",
    "write_video",
]
