"""One video that somebody is waiting for, such as an upload: read further than training clips go, and never given up for want
of a face while there is sound.

    preprocess = tools.build(single_config(config))
    clip = bundle_or_sound(preprocess, Path("upload.mp4"))      # what `visavox.detectors.xception.scorer.Session` takes
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visavox.bundle.trim import trimmed_as
from visavox.config import Config
from visavox.preprocessing.pipeline import CropError, Preprocessor
from visavox.progress import Stopwatch

if TYPE_CHECKING:
    import numpy as np

    from visavox.bundle import Bundle

SECONDS = 16.0
"""Seconds of a video that are read at least, however short the training clips were."""


def single_config(config: Config) -> Config:
    """Return the configuration with longer clips and without audio-visual distances, which the Xceptions never read."""
    return config.model_copy(update={"max_clip_len": max(SECONDS, config.max_clip_len), "sync": "off"})


def bundle_or_sound(preprocess: Preprocessor, path: Path, *, watch: Stopwatch | None = None) -> Bundle | np.ndarray:
    """Preprocess one video, trimmed as its configuration says; where it shows no face, return its sound alone.

    Args:
        watch: books the seconds of the preprocessor's stages.

    Returns:
        The bundle, or the sound (N,) int16 mono at `resample_rate`.

    Raises:
        MediaError: not a video, unreadable, too large.
        CropError: it gives neither: no face and no sound, or too few frames with a face.
    """

    try:
        return trimmed_as(preprocess.config, preprocess(path, watch=watch))
    except CropError as error:
        if error.status != "no_face" or error.sound is None:
            raise
        return error.sound
