"""The only code that opens a media file."""

from __future__ import annotations

from visavox.media.container import MediaError
from visavox.media.limits import LIMITS, Limits
from visavox.media.video import MAX_PIXELS, Video, open_video, probe
from visavox.media.write import write_video

__all__ = ["LIMITS", "MAX_PIXELS", "Limits", "MediaError", "Video", "open_video", "probe", "write_video"]
