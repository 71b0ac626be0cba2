"""A decoded frame as people see it: upright, square pixels, 8-bit RGB of standard dynamic range."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import Interpolation, VideoReformatter

from visavox.media.hdr import TRANSFERS, ToneMapper
from visavox.media.limits import Limits

MOST_ANAMORPHIC = (
    4  # pixel shapes in use lie between 1:2 and 24:11 (half of D1); beyond 4 the header is taken for damage
)


class Converter:
    """Turns decoded frames into arrays of one size. `notes` says what was done beyond the change of format."""

    def __init__(self, first: av.VideoFrame, pixel_shape: Fraction, limits: Limits):
        """first: fixes the size. pixel_shape: width of a stored pixel over its height (sample aspect ratio)."""
        self.notes: list[str] = []
        self._stored = first.width, first.height
        self._width, self._height = self._square(pixel_shape, limits)
        self._matrix = _display_matrix(first)
        self._reformatter, self._arrays = VideoReformatter(), Arrays()
        self._tone_mapper: ToneMapper | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is given."""
        a, b, c, d = self._matrix
        return (self._height, self._width) if _swaps_sides(a, b, c, d) else (self._width, self._height)

    def __call__(self, image: av.VideoFrame) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB. A stream that changes its size is scaled to its first frame's: users want one."""
        if (image.width, image.height) != self._stored:
            self._note_once(f"resized: frames change from {self._stored[0]}x{self._stored[1]} within the stream")
        plain = self._tone_mapped(image) if image.color_trc in TRANSFERS else self._reformat(image, "rgb24")
        (plane,) = plain.planes
        shape, strides = (plain.height, plain.width, 3), (plane.line_size, 3, 1)
        upright = _upright(np.ndarray(shape, np.uint8, cast(Any, plane), strides=strides), self._matrix)
        array = self._arrays.take(upright.shape)
        np.copyto(array, upright)
        return array

    def close(self) -> None:
        """Let go of the memory of frames."""
        self._arrays = Arrays()

    def _reformat(self, image: av.VideoFrame, pixels: str) -> av.VideoFrame:
        """Scale and change the pixel format in one step. Colours are converted as the frame's tags say, untagged as BT.601."""
        scaled = (self._width, self._height) != self._stored
        how = Interpolation.BICUBIC if scaled else Interpolation.BILINEAR  # unscaled, it decides on chroma alone
        return self._reformatter.reformat(image, self._width, self._height, pixels, interpolation=how, threads=1)

    def _tone_mapped(self, image: av.VideoFrame) -> av.VideoFrame:
        transfer = TRANSFERS[image.color_trc]
        if self._tone_mapper is None or self._tone_mapper.transfer != transfer:
            self._tone_mapper = ToneMapper(transfer)
            self._note_once(f"hdr: {transfer} tone-mapped to standard dynamic range (ITU-R BT.2390)")
        return self._tone_mapper(self._reformat(image, "rgb48le"))

    def _square(self, shape: Fraction, limits: Limits) -> tuple[int, int]:
        """Width and height in square pixels. The side that is too short grows, so that no stored pixel is lost, unless
        that would break the limits."""
        width, height = self._stored
        if shape == 1:
            return width, height
        if not Fraction(1, MOST_ANAMORPHIC) <= shape <= MOST_ANAMORPHIC:
            self.notes.append(f"anamorphic: pixels of {_ratio(shape)} are taken for damage and kept as stored")
            return width, height
        grown = (round(width * shape), height) if shape > 1 else (width, round(height / shape))
        if grown[0] * grown[1] > limits.pixels or max(grown) > limits.side:
            grown = (width, round(height / shape)) if shape > 1 else (round(width * shape), height)
        self.notes.append(
            f"anamorphic: pixels of {_ratio(shape)} made square, {width}x{height} scaled to {grown[0]}x{grown[1]}"
        )
        return grown

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _ratio(shape: Fraction) -> str:
    return f"{shape.numerator}:{shape.denominator}"


class Arrays:
    """Arrays for frames, given out again once nobody holds them or a view of them.

    Fresh memory for each frame would be carved up by what the networks allocate in between: a worker that held 64 frames
    of 1080p grew to 2.4 GB.
    """

    MOST = 256  # that are kept in mind; who holds more frames wants to keep them

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = [np.empty(0, np.uint8)]
        self.free = self._references(0)  # of an array that only the list holds; how many that is, Python decides

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """(H, W, 3) uint8, of any content."""
        for which in range(len(self.arrays)):
            if self._references(which) == self.free and self.arrays[which].shape == shape:
                return self.arrays[which]
        array = np.empty(shape, np.uint8)
        if len(self.arrays) < self.MOST:
            self.arrays.append(array)
        return array

    def _references(self, which: int) -> int:
        return sys.getrefcount(self.arrays[which])


def _display_matrix(image: av.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix (ISO 14496-12, 8.3.2): stored (x, y) is shown at (a x + c y, b x + d y)."""
    data = cast(Any, image.side_data).get(SideData.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    return a, b, c, d


def _upright(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A view of (H, W, 3), turned and mirrored by quarter turns as the display matrix says."""
    a, b, c, d = matrix
    if _swaps_sides(a, b, c, d):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _swaps_sides(a: int, b: int, c: int, d: int) -> bool:
    return abs(b) + abs(c) > abs(a) + abs(d)
