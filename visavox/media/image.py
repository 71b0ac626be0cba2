"""Open a still picture that may be anything: known kinds only, its size read from the header before a pixel is decoded."""

from __future__ import annotations

import io
import os
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from visavox.media.container import MediaError, RegularFile, check_size, open_regular
from visavox.media.limits import LIMITS, Limits

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""Names of files that are taken for pictures."""
KINDS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
"""Decoders of Pillow that may run."""

OF_PICTURES = replace(LIMITS, pixels=120_000_000, side=20_000)
"""Photographs are larger than frames."""
MOST_BYTES = 512 << 20
"""Of a file that is read as a picture."""


def is_image(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a picture by its name."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def prepare() -> None:
    """Import what Pillow imports when it first meets a kind of picture: a confined process has nothing to import from."""
    from PIL import Image, ImageOps

    Image.init()
    for kind in KINDS:
        data = io.BytesIO()
        with suppress(KeyError, OSError):  # a Pillow that was built without it
            Image.new("RGB", (8, 8)).save(data, kind)
            with Image.open(data, formats=KINDS) as image:
                ImageOps.exif_transpose(image).convert("RGB")


def read_image(path: str | os.PathLike[str] | RegularFile, *, limits: Limits = OF_PICTURES) -> np.ndarray:
    """Return a picture as people see it, (H, W, 3) uint8 RGB: turned as its EXIF says, transparency on black, first frame.

    Args:
        path: its name, or the file itself, which is then closed.

    Raises:
        MediaError: it is no picture, is damaged, or is larger than the limits; the message holds the cure.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    file = path if isinstance(path, RegularFile) else open_regular(os.fsdecode(path))
    name = file.name
    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limits are ours
        if file.size == 0:
            raise MediaError("empty", f"{name}: is empty (0 bytes); copy the file again from its source")
        if file.size > MOST_BYTES:
            raise MediaError("too_large", f"{name}: has {file.size:,} bytes, the limit for a picture is {MOST_BYTES:,}")
        try:
            with Image.open(io.BytesIO(file.read(file.size)), formats=KINDS) as image:
                check_size(name, image.width, image.height, limits)
                upright = ImageOps.exif_transpose(image)
                return np.array(upright.convert("RGB"))
        except UnidentifiedImageError:
            raise MediaError(
                "not_media", f"{name}: no picture of a known kind ({', '.join(KINDS)}); save it as PNG"
            ) from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, MediaError):
                raise
            raise MediaError("truncated", f"{name}: the picture cannot be decoded ({error}); copy it again") from error
