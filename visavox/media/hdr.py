"""High dynamic range to standard: PQ and HLG (ITU-R BT.2100) as a grading monitor of 203 cd/m2 would show them.

A picture stored in PQ or HLG looks grey and pale where its code values are taken for ordinary ones, and networks that have
seen ordinary video only take it for something else. Each RGB value is brought to light (BT.2100), its highlights are
compressed by the curve of BT.2390-10, 5.4.1, from a peak of 1000 to one of 203 cd/m2 (reference white of BT.2408), its primaries
become those of BT.709, and the light is stored with the exponent of BT.1886. Below about 80 cd/m2 nothing is compressed:
a standard picture that was put into an HDR file comes back as it was.

Dolby Vision whose picture is PQ, HLG or standard by itself (profiles 7, 8, 9 and their like) is read as that. Where it says
nothing of its colours (profiles 5 and 10.0) they are IPTPQc2, which only the metadata beside each frame turns into colours: green
and violet faces would come of it, so such a file is refused.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorTrc, VideoReformatter

from visavox.media.container import MediaError

DOLBY_VISION_TAGS = ("dvh1", "dvhe", "dva1", "dvav", "dav1")
"""Sample entries of Dolby Vision Streams Within the ISO Base Media File Format 2.2, of streams that other players cannot show."""
UNSPECIFIED = 2
"""Transfer characteristics that the stream does not state (ITU-T H.273)."""
TRANSFERS = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
PEAK, WHITE = 1000.0, 203.0  # cd/m2: what films and phones are mastered for; reference white
NODES = 33  # of the table in each direction; libavfilter interpolates between them (tetrahedra)

TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # BT.2087
LUMA = np.array([0.2627, 0.6780, 0.0593])  # of BT.2020

M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # BT.2100, table 4
A, B, C = 0.17883277, 0.28466892, 0.55991073  # BT.2100, table 5


def refuse_unreadable_colours(name: str, tag: str, image: av.VideoFrame) -> None:
    """Raise MediaError for Dolby Vision that says nothing of its colours.

    Args:
        tag: four characters that name the codec in the file, such as `hvc1`.
        image: a decoded frame.
    """
    dolby_vision = tag in DOLBY_VISION_TAGS or cast(Any, image.side_data).get(SideData.DOVI_RPU_BUFFER) is not None
    if dolby_vision and image.color_trc == UNSPECIFIED:
        raise MediaError(
            "unsupported_codec",
            f"{name}: Dolby Vision in colours of its own (IPTPQc2, as in profile 5), which cannot be read here; convert it with "
            "an ffmpeg that has libplacebo (ffmpeg -i FILE -vf libplacebo=colorspace=bt709:color_primaries=bt709:color_trc=bt709 "
            "-c:v libx264 NEW.mp4), or export it as HDR10, HLG or standard video",
        )


class ToneMapper:
    """Maps frames of one transfer function ("PQ" or "HLG") to standard dynamic range."""

    def __init__(self, transfer: str):
        self.transfer = transfer
        self._graph: av.filter.Graph | None = None
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()

    def __call__(self, image: av.VideoFrame) -> av.VideoFrame:
        """rgb48le in, rgb24 out."""
        if self._graph is None or self._size != (image.width, image.height):
            self._graph, self._size = self._graph_for(image), (image.width, image.height)
        image.pts = None
        self._graph.vpush(image)
        return self._reformatter.reformat(self._graph.vpull(), format="rgb24", threads=1)

    def _graph_for(self, image: av.VideoFrame) -> av.filter.Graph:
        graph, lookup = _prepared.pop(self.transfer) if self.transfer in _prepared else _lookup(self.transfer)
        source = graph.add_buffer(
            width=image.width, height=image.height, format=image.format, time_base=Fraction(1, 1000)
        )
        sink = graph.add("buffersink")
        source.link_to(lookup)
        lookup.link_to(sink)
        graph.configure()
        return graph


_prepared: dict[str, tuple[av.filter.Graph, Any]] = {}


def prepare() -> None:
    """Make one lookup of each transfer function for later: a process that is about to give up its files needs it. Where no file
    can be written (ENOSPC, EFBIG), there is none, and HDR alone cannot be read later."""
    for transfer in TRANSFERS.values():
        with suppress(OSError):
            _prepared.setdefault(transfer, _lookup(transfer, threads=1))


def _lookup(transfer: str, threads: int = 0) -> tuple[av.filter.Graph, Any]:
    """A graph with a filter that looks values up; it takes its table from a file, and reads it at once."""
    handle, name = tempfile.mkstemp(suffix=".cube")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"LUT_3D_SIZE {NODES}\n")
            np.savetxt(file, table(transfer), fmt="%.6f")
        graph = av.filter.Graph()
        graph.threads = threads  # 0: as many as cores; they start at once
        return graph, graph.add("lut3d", file=name, interp="tetrahedral")
    finally:
        os.unlink(name)


def table(transfer: str) -> np.ndarray:
    """Return (NODES ** 3, 3) output RGB in [0, 1] for input RGB on a grid, red fastest."""
    grid = np.linspace(0, 1, NODES)
    blue, green, red = np.meshgrid(grid, grid, grid, indexing="ij")
    signal = np.stack([red, green, blue], -1).reshape(-1, 3)
    light = light_of_pq(signal) if transfer == "PQ" else light_of_hlg(signal)
    brightest = light.max(1, keepdims=True)
    light = light * (compress(brightest) / np.maximum(brightest, 1e-6))  # one factor for all three keeps the hue
    return np.clip(light / WHITE @ TO_BT709.T, 0, 1) ** (1 / 2.4)


def light_of_pq(signal: np.ndarray) -> np.ndarray:
    """cd/m2 of PQ code values in [0, 1] (BT.2100, EOTF)."""
    root = signal ** (1 / M2)
    return 10000 * (np.maximum(root - C1, 0) / (C2 - C3 * root)) ** (1 / M1)


def pq_of_light(light: np.ndarray) -> np.ndarray:
    """PQ code values in [0, 1] of cd/m2."""
    power = (light / 10000) ** M1
    return ((C1 + C2 * power) / (1 + C3 * power)) ** M2


def light_of_hlg(signal: np.ndarray) -> np.ndarray:
    """cd/m2 of HLG code values in [0, 1] (..., 3) on a display of 1000 cd/m2 (BT.2100: inverse OETF, OOTF of exponent 1.2)."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - C) / A) + B) / 12)
    return PEAK * np.maximum(scene @ LUMA, 1e-9)[..., None] ** 0.2 * scene


def compress(light: np.ndarray) -> np.ndarray:
    """cd/m2 up to WHITE for cd/m2 up to PEAK: BT.2390-10, 5.4.1, with black at 0."""
    top, white = pq_of_light(np.array(PEAK)), pq_of_light(np.array(WHITE))
    level = np.minimum(pq_of_light(light) / top, 1)
    most = white / top
    knee = 1.5 * most - 0.5
    t = (level - knee) / (1 - knee)
    hermite = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return light_of_pq(np.where(level < knee, level, hermite) * top)
