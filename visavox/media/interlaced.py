"""Interlaced frames, two moments woven into one picture, made whole by libavfilter's `bwdif`.

What moves between the two fields of a frame, a fiftieth of a second apart, looks like a comb. A face detector puts up with it;
networks that look for traces of synthesis take the teeth for them. bwdif (the Weston three-field filter of the BBC joined with
yadif's edges) keeps the first field's lines and finds the others from the fields around. It gives one frame for each it takes,
and leaves alone those that are not flagged as interlaced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import av

Moment = TypeVar("Moment")


class Deinterlacer(Generic[Moment]):
    """Takes frames in order, each with what is known of its moment, and gives them back whole, one frame late."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._kind: tuple[int, int, str] | None = None
        self._moments: deque[Moment] = deque()

    def __call__(self, image: av.VideoFrame, moment: Moment) -> Iterator[tuple[av.VideoFrame, Moment]]:
        """Take a frame; yield those that are ready."""
        kind = image.width, image.height, image.format.name
        if self._graph is None or kind != self._kind:
            yield from self.rest()
            self._graph, self._kind = _graph_for(image), kind
        self._moments.append(moment)
        image.pts = len(self._moments)  # frames without a moment of their own would be dropped
        self._graph.vpush(image)
        yield from self._ready()

    def rest(self) -> Iterator[tuple[av.VideoFrame, Moment]]:
        """Yield what is left: no further frame comes, or none of this size."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._ready()
            self._graph = None

    def _ready(self) -> Iterator[tuple[av.VideoFrame, Moment]]:
        assert self._graph is not None
        while True:
            try:
                image = self._graph.vpull()
            except (BlockingIOError, EOFError):  # it wants the next frame, or has given all
                return
            yield image, self._moments.popleft()


def _graph_for(image: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=image.width, height=image.height, format=image.format, time_base=image.time_base)
    whole = graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced")
    sink = graph.add("buffersink")
    source.link_to(whole)
    whole.link_to(sink)
    graph.configure()
    return graph
