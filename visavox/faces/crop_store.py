"""Where the crops of a track wait until the video is read: in memory, or as JPEG images in a file without a name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import cv2
import numpy as np

JPEG_QUALITY = 95


class CropStore(Sequence):
    """Crops (size, size, 3) uint8 RGB in order: in memory as they are, or on disk as JPEG when `compressed`.

    `store[i]` is one crop; a slice or an array of indices gives (n, size, size, 3). What is on disk lies in a file without
    a name below TMPDIR, gone with the store.
    """

    def __init__(self, size: int, compressed: bool = False):
        self.size, self.compressed = size, compressed
        self._crops: list[np.ndarray] = []
        self._file = tempfile.TemporaryFile(prefix="visavox-") if compressed else None  # noqa: SIM115 (it lives as long as the store)
        self._offsets = [0]  # of the JPEG images in the file

    def append(self, crop: np.ndarray) -> None:
        if self._file is None:
            self._crops.append(crop)
        else:
            self._offsets.append(self._offsets[-1] + self._file.write(encode_jpeg(crop)))

    def __len__(self) -> int:
        return len(self._crops) if self._file is None else len(self._offsets) - 1

    def __getitem__(self, index):
        if isinstance(index, int | np.integer):
            return self._crops[index] if self._file is None else decode_jpeg(self.jpeg(index))
        crops = np.empty((0, self.size, self.size, 3), np.uint8)
        chosen = np.arange(len(self))[index]
        return np.stack([self[i] for i in chosen]) if len(chosen) else crops

    def jpeg(self, index: int) -> bytes:
        if self._file is None:
            return encode_jpeg(self._crops[index])
        place = range(len(self))[index]
        begin, end = self._offsets[place : place + 2]
        self._file.flush()
        return os.pread(self._file.fileno(), end - begin, begin)

    def jpegs(self) -> tuple[np.ndarray, np.ndarray]:
        """All images in one uint8 buffer, and where each begins and ends: (n + 1,) int64. On disk, the buffer is mapped."""
        if self._file is not None and len(self):
            self._file.flush()
            return np.memmap(self._file, np.uint8, "r"), np.array(self._offsets, np.int64)
        images = [self.jpeg(index) for index in range(len(self))]
        return np.frombuffer(b"".join(images), np.uint8), np.cumsum([0, *map(len, images)], dtype=np.int64)


def encode_jpeg(image: np.ndarray) -> bytes:
    """Image (H, W, 3) uint8 RGB -> JPEG of quality 95 without chroma sub-sampling, which would blur lips."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    return data.tobytes()


def decode_jpeg(data: bytes | np.ndarray) -> np.ndarray:
    """JPEG bytes (or a uint8 array of them) -> image (H, W, 3) uint8 RGB."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{len(data)} bytes are not a JPEG image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
