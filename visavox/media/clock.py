"""When a decoded frame is shown."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import av

from visavox.media.pace import LONGEST_GAP


class Shown(NamedTuple):
    """A decoded frame and when it is shown, in seconds on the container's clock."""

    time: Fraction
    duration: Fraction
    image: av.VideoFrame


class Clock:
    """Puts the frames of one video stream on its container's clock."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream):
        assert stream.time_base is not None  # every stream that was opened has one
        self.tick: Fraction = stream.time_base
        self._is_avi, self._stream, self._delay = container.format.name == "avi", stream, 0

    def timed(self, image: av.VideoFrame, last: Shown | None) -> Shown:
        """The frame with its time; without a timestamp it follows the last one at the average rate."""
        interval = 1 / (self._stream.average_rate or self._stream.guessed_rate or Fraction(25))
        stamp = self._avi_stamp(image, last) if self._is_avi else image.pts
        if stamp is not None:
            time = stamp * self.tick
        else:
            time = last.time + interval if last else Fraction(0)
        duration = image.duration * self.tick if image.duration else interval
        return Shown(time, min(duration, Fraction(LONGEST_GAP)), image)

    def _avi_stamp(self, image: av.VideoFrame, last: Shown | None) -> int | None:
        """AVI stores no presentation times, and libav's guesses are scrambled around B-frames. Frames come in order, so
        each is timed by the packet that released it, and the first is shown when the stream starts."""
        if image.dts is None:
            return None
        if last is None:
            self._delay = image.dts - (self._stream.start_time or 0)
        stamp = image.dts - self._delay
        return stamp if last is None or stamp * self.tick > last.time else None
