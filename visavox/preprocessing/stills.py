"""A few pictures of a video, spread over its length, or the one picture of a picture file: what networks for pictures judge.

stills = Stills("clip.mp4", count=32)
for second, frame in stills:         # second of the video's own clock, frame (H, W, 3) uint8 RGB
    ...
stills.notes                         # complete once it was read
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from visavox import media
from visavox.files import VIDEO_SUFFIXES
from visavox.media import confined

SUFFIXES = VIDEO_SUFFIXES | media.IMAGE_SUFFIXES
"""Names of files that are taken for videos or pictures."""
LONGEST = 600.0
"""Seconds of a video that pictures are taken from; what comes later is not looked at, which a note says."""
COUNTING_RATE = 5.0
"""Frames a second at which a video is measured that does not declare its length."""


class Stills:
    """`count` pictures at the middles of equal parts of a video; fewer where it has fewer. One for a picture file.

    Args:
        threads: of the decoder; 0 leaves their number to libav.
    """

    def __init__(self, path: str | Path, count: int, *, longest: float = LONGEST, threads: int = 0) -> None:
        self.path, self.count, self.longest, self.threads = Path(path), count, longest, threads
        self.notes: list[str] = []
        self.seconds = 0.0
        """Length of what the pictures are spread over; 0 for a picture file."""
        self.given = 0
        """Frames that were yielded."""
        self.is_picture = media.is_image(self.path)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yield second and frame, in the order of time; one frame is held at a time.

        Raises:
            MediaError: no video or picture, unreadable, too large; the message holds the cure.
        """
        self.given = 0
        if self.is_picture:
            self.given = 1
            yield 0.0, confined.read_image(self.path)
            return
        self.seconds = self._length()
        rate = 2 * self.count / self.seconds
        before: np.ndarray | None = None
        with confined.open_video(self.path, fps=rate, max_seconds=self.longest, threads=self.threads) as video:
            for i, frame in enumerate(video.frames()):
                if i % 2 and i < 2 * self.count and frame is not before:
                    self.given += 1
                    yield i / rate, frame
                    before = frame
            self.notes += [note for note in video.notes if note not in self.notes]

    def _length(self) -> float:
        """Seconds to spread over: what the file declares, or where it declares nothing what a first pass counts."""
        rate, longest = COUNTING_RATE, self.longest
        declared = confined.describe(self.path).info.duration
        if not declared:
            with confined.open_video(self.path, fps=rate, max_seconds=longest, threads=self.threads) as video:
                declared = sum(1 for _ in video.frames()) / COUNTING_RATE
        return max(min(declared, self.longest), 1e-3)


def is_picture(path: str | Path) -> bool:
    """Return whether a file is a picture by its name."""
    return media.is_image(path)
