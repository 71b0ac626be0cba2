"""The rate at which pictures come, held against the limit while a file is read."""

from __future__ import annotations

from collections.abc import Iterator

import av

from visavox.media.container import too_fast
from visavox.media.limits import Limits

LONGEST_GAP = 60  # seconds between two shown frames; beyond it the timestamps are taken for damage
LONGEST_BURST = 0.5  # seconds' worth of frames at the highest rate that may come at once


class Pace:
    """Counts the packets of one video stream against the time that they span."""

    def __init__(self, name: str, stream: av.VideoStream, limits: Limits):
        assert stream.time_base is not None  # every stream that was opened has one
        self._name, self._stream, self._limits, self._tick = name, stream, limits, float(stream.time_base)
        self._fastest, self._burst = limits.fps * 1.01, limits.fps * LONGEST_BURST
        self._count, self._latest, self._span = 0, -float("inf"), 0.0

    def heed(self, packet: av.Packet) -> None:
        """Count a packet of the stream; raises MediaError as soon as pictures come faster than the limit."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None or not packet.size:
            return
        time, self._count = stamp * self._tick, self._count + 1
        if self._count == 1 or time < self._latest - LONGEST_BURST:  # one file put behind the other: time begins anew
            self._latest = time
        elif time > self._latest:
            self._span, self._latest = self._span + min(time - self._latest, LONGEST_GAP), time
        if self._count > self._burst + self._fastest * self._span:
            raise too_fast(self._name, self._count / max(self._span, 1 / self._count), self._limits)

    def held_by(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """Pass on the packets of all streams, each heeded before it is decoded. Where the header declares a rate beyond the
        limit, the first packets are heeded before one is decoded.

        Raises:
            MediaError: as `heed`.
        """
        stream, heed = self._stream, self.heed
        ahead: list[av.Packet] = []
        if (stream.average_rate or 0) > self._fastest:
            for packet in packets:
                if packet.stream is stream:
                    heed(packet)
                ahead.append(packet)
                if self._span >= 2 * LONGEST_BURST or len(ahead) > 10 * self._burst:
                    break
        yield from ahead
        for packet in packets:
            if packet.stream is stream:
                heed(packet)
            yield packet
