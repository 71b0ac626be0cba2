"""Cut faces out of frames."""

from __future__ import annotations

import cv2
import numpy as np

PAD_VALUE = 110  # grey outside the picture, SyncNet's and the seed's


def cut(frames: np.ndarray, boxes: np.ndarray, size: int, margin: float = 0.4) -> np.ndarray:
    """Square face crops: frames (T, H, W, 3) uint8 RGB, boxes (T, 4) source pixels -> (T, size, size, 3) uint8 RGB."""
    squares = crop_square(np.asarray(boxes, np.float64), margin)
    return np.stack([cut_square(frame, square, size) for frame, square in zip(frames, squares, strict=True)])


def crop_square(boxes: np.ndarray, margin: float) -> np.ndarray:
    """Boxes (..., 4) -> the squares to cut, (..., 3): left, top, side in source pixels.

    The square of syncnet_python's run_pipeline (crop_scale = margin), so that its weights see what they were trained
    on: with m = max(w, h), the side is m (1 + margin), centred across; its top lies m / 2 above the box's centre, so
    that the margin goes below the chin.
    """
    x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)
    largest = np.maximum(x1 - x0, y1 - y0)
    side = largest * (1 + margin)
    return np.stack([(x0 + x1 - side) / 2, (y0 + y1 - largest) / 2, side], -1)


def to_crop(points: np.ndarray, boxes: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Points (T, n, 2) in source pixels -> the same in pixels of the crops that `cut` makes of boxes (T, 4)."""
    square = crop_square(boxes, margin)[:, None]  # (T, 1, 3)
    return (points - square[..., :2]) * size / square[..., 2:]


def cut_square(frame: np.ndarray, square: np.ndarray, size: int) -> np.ndarray:
    """Cut the square (3,) left, top, side of a frame (H, W, 3) uint8 -> (size, size, 3), at sub-pixel position.

    Samples are taken k times as densely as asked (k size >= side), then averaged k x k. Rounding the square to whole
    pixels instead would make the face tremble where it is enlarged, and the mouth with it.
    """
    left, top, side = square
    k = max(1, int(np.ceil(side / size)))
    scale = side / (k * size)  # source pixels per sample
    # Sample i has its centre at left + (i + 0.5) scale; OpenCV counts from pixel centres.
    sampling = np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, top + scale / 2 - 0.5]])
    crop = cv2.warpAffine(
        frame,
        sampling,
        (k * size, k * size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PAD_VALUE,) * 3,
    )
    return crop if k == 1 else cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
