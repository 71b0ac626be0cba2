"""Turned, mirrored, odd and stretched pictures: given upright, whole, of square pixels."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np

from tests.cases.cases import Case, held_by
from tests.cases.media_files import read, record


def corners(time: float) -> np.ndarray:
    """Four corners of different grey, so that every turn and every mirror is told apart."""
    image = np.zeros((48, 96, 3), np.uint8)
    image[:16, :24], image[:16, -24:], image[-16:, :24], image[-16:, -24:] = 60, 120, 180, 240
    return image


@held_by(
    *[
        Case("M13", f"turned by {turn} degrees" + ", mirrored" * flip, "frames are given upright", (turn, flip))
        for turn in (0, 90, 180, 270)
        for flip in (False, True)
    ]
)
def test_turned_pictures(case, tmp_path):
    """Corners stand where the display matrix puts them (ISO 14496-12: (x, y) is shown at (a x + c y, b x + d y))."""
    turn, flip = case.given
    path = record(
        tmp_path / "v.mp4",
        picture=corners,
        seconds=0.2,
        sound=None,
        prepare=lambda v: v.set_display_rotation(turn, hflip=flip),
    )
    frames, _, video = read(path)
    expected = np.rot90(corners(0), turn // 90)[:, :: -1 if flip else 1]  # counter-clockwise, mirrored last
    assert frames[0].shape == expected.shape == (video.info.height, video.info.width, 3)
    assert np.abs(frames[0].astype(int) - expected).mean() < 6


@held_by(
    Case("M14", "odd width and height, 4:4:4", "every pixel is kept", ("v.mkv", "ffv1", "yuv444p", (127, 95))),
    Case("M14", "odd width and height, 4:2:0", "every pixel is kept", ("v.mkv", "ffv1", "yuv420p", (127, 95))),
    Case("M14", "odd width and height in VP9", "every pixel is kept", ("v.webm", "libvpx-vp9", "yuv420p", (127, 95))),
    Case("M14", "as small as is allowed", "every pixel is kept", ("v.mp4", "libx264", "yuv420p", (32, 32))),
)
def test_sizes(case, tmp_path):
    name, codec, pixels, (width, height) = case.given

    def ramp(time: float) -> np.ndarray:
        down, across = np.mgrid[:height, :width]
        return np.stack([across + 60, down + 60, (across + down) // 2 + 40], -1).astype(np.uint8)

    options = {"crf": "4", "b": "0", "cpu-used": "8"} if "vp9" in codec else {"qp": "2"} if codec == "libx264" else {}
    frames, _, video = read(
        record(tmp_path / name, picture=ramp, codec=codec, pixels=pixels, options=options, sound=None, seconds=0.4)
    )
    assert frames[0].shape == (height, width, 3) and (video.info.width, video.info.height) == (width, height)
    assert np.abs(frames[3].astype(int) - ramp(0)).max() <= 6


def ball(width: int, height: int) -> np.ndarray:
    """A bright disc in the middle, as large as fits nearly."""
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2 + 0.5) ** 2 + (y - height / 2 + 0.5) ** 2 < (0.4 * min(width, height)) ** 2
    return np.where(inside[..., None], np.uint8([220, 180, 150]), np.uint8([60, 70, 80]))


ROUND = "pixels are made square: a round face is round; the note says from which size to which"


@held_by(
    Case("M14", "PAL 4:3 stored 720x576", ROUND, ("v.mp4", "libx264", (720, 576), Fraction(16, 15), (768, 576))),
    Case(
        "M14",
        "PAL 16:9 stored 720x576, MPEG-2",
        ROUND,
        ("v.mpg", "mpeg2video", (720, 576), Fraction(64, 45), (1024, 576)),
    ),
    Case("M14", "NTSC 4:3 stored 720x480", ROUND, ("v.mkv", "libx264", (720, 480), Fraction(8, 9), (720, 540))),
    Case("M14", "HDV stored 1440x1080", ROUND, ("v.ts", "libx264", (1440, 1080), Fraction(4, 3), (1920, 1080))),
)
def test_pixels_that_are_not_square(case, tmp_path):
    name, codec, (width, height), shape, shown = case.given
    stored = cv2.resize(ball(*shown), (width, height), interpolation=cv2.INTER_AREA)

    def prepare(video):
        video.codec_context.sample_aspect_ratio = shape

    options = {"preset": "ultrafast"} if codec == "libx264" else {}
    path = record(
        tmp_path / name,
        picture=lambda time: stored,
        codec=codec,
        prepare=prepare,
        options=options,
        sound=None,
        seconds=0.2,
    )
    frames, _, video = read(path)
    bright = frames[2][..., 0] > 140
    assert abs(frames[0].shape[1] - shown[0]) <= 1 and abs(frames[0].shape[0] - shown[1]) <= 1
    assert abs(int(bright.any(0).sum()) - int(bright.any(1).sum())) <= 2
    assert f"{width}x{height} scaled to {frames[0].shape[1]}x{frames[0].shape[0]}" in " ".join(video.notes)
