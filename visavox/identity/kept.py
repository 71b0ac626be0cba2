"""Embeddings that were made already, a file for each clip and kind: `.npy`, empty for a clip without a face or a voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from visavox.bundle.schema import read_stamp
from visavox.files import replacing

VERSION = 1
"""Raised where embeddings of the same bundle change."""


def place(folder: Path | None, bundle: Path, kind: str) -> Path | None:
    """Return where an embedding of a bundle lies: named after the video's sum and the settings that it was cropped with.

    Raises:
        BundleError: the bundle cannot be read.
    """
    if folder is None:
        return None
    stamp = read_stamp(bundle)
    return folder / f"{stamp.source_sha256}_{stamp.prep_hash[:12]}_{kind.replace(' ', '_')}_{VERSION}.npy"


def read(path: Path | None) -> np.ndarray | None:
    """Return an embedding (D,), (0,) where the clip has none; None where it was not made yet."""
    return np.load(path, allow_pickle=False) if path is not None and path.is_file() else None


def write(path: Path | None, vector: np.ndarray | None) -> np.ndarray:
    """Keep an embedding where there is a place, and return it: (D,), (0,) for none."""
    made = np.zeros(0, np.float32) if vector is None else vector
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, open(beside, "wb") as file:
            np.save(file, made)
    return made
