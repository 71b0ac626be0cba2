"""Videos of eight colours whose planes are written by the formulas of the standards, and what is read of them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from tests.cases.media_files import needs_encoder, ordinary_priority, read

# The matrix that turns R'G'B' into Y'CbCr follows from two weights (ITU-R BT.601, BT.709, BT.2020).
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
TAGS = {"bt601": 6, "bt709": 1, "bt2020": 9}
X264 = {"qp": "4"}
X265_FINE = {"x265-params": "log-level=none:qp=4"}
PATCHES = np.array(
    [
        [200, 30, 40],
        [30, 180, 60],
        [40, 60, 200],
        [224, 172, 140],
        [90, 60, 45],
        [128, 128, 128],
        [16, 16, 16],
        [240, 240, 240],
    ]
)


def planes_of(rgb: np.ndarray, matrix: str, full: bool, bits: int) -> np.ndarray:
    """(N, 3) integer Y'CbCr of (N, 3) R'G'B' in [0, 1]."""
    red, blue = WEIGHTS[matrix]
    luma = rgb @ [red, 1 - red - blue, blue]
    chroma = np.stack([(rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)], 1)
    scale = 2 ** (bits - 8)
    if full:
        values = np.concatenate([luma[:, None] * (2**bits - 1), chroma * (2**bits - 1) + 128 * scale], 1)
    else:
        values = np.concatenate([luma[:, None] * 219 * scale + 16 * scale, chroma * 224 * scale + 128 * scale], 1)
    return np.clip(np.round(values), 0, 2**bits - 1).astype(np.uint16)


def patches_frame(values: np.ndarray, pixels: str) -> av.VideoFrame:
    """A frame of upright stripes, 32 pixels each, whose planes hold `values` (N, 3 or 4 with alpha)."""
    frame = av.VideoFrame(32 * len(values), 64, pixels)
    for index, plane in enumerate(frame.planes):
        deep = frame.format.components[index].bits > 8
        row = np.repeat(values[:, index], plane.width // len(values)).astype(np.uint16 if deep else np.uint8)
        padded = np.zeros((plane.height, plane.line_size // row.itemsize), row.dtype)
        padded[:, : plane.width] = row
        plane.update(padded)
    return frame


@ordinary_priority()
def record_patches(path, codec, pixels, values, *, matrix="bt601", full=False, transfer=2, primaries=2, options=None):
    needs_encoder(codec)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = 32 * len(values), 64, pixels
        context = video.codec_context
        context.colorspace, context.color_range = TAGS[matrix], 2 if full else 1
        context.color_trc, context.color_primaries = transfer, primaries
        for i in range(5):
            frame = patches_frame(values, pixels)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            frame.colorspace, frame.color_range = TAGS[matrix], 2 if full else 1
            frame.color_trc, frame.color_primaries = transfer, primaries
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def patches_read(path) -> tuple[np.ndarray, list[str]]:
    """Mean (N, 3) of the middle of each stripe, and the notes."""
    frames, _, video = read(path)
    stripes = frames[2].reshape(64, -1, 32, 3)[16:48, :, 8:24]
    return stripes.mean((0, 2)), video.notes


def hdr_of(rgb: np.ndarray, transfer: str) -> np.ndarray:
    """PQ or HLG code values (N, 3) in [0, 1] of a BT.709 picture whose white stands at 203 cd/m2 (ITU-R BT.2408)."""
    light = 203 * (rgb / 255) ** 2.4 @ np.linalg.inv(TO_BT709).T
    if transfer == "PQ":
        power = (light / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    bright = light @ [0.2627, 0.6780, 0.0593]
    scene = light / 1000 * (bright[:, None] / 1000) ** (1 / 1.2 - 1)  # inverse of the OOTF at 1000 cd/m2
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)  # ITU-R BT.2087
