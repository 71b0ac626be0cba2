"""What every judge is, whether trained here or published by others: a file goes in, an Analysis comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from visavox.detectors.analysis import Analysis, ModelCard
    from visavox.detectors.scorer import Watch
    from visavox.progress import Stopwatch


class ModelError(ValueError):
    """There is no such model, or it cannot judge this kind of file; the message holds the cure."""

    code = "BAD_CONFIG"


class Judge(Protocol):
    """Whatever turns a file into an Analysis."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def card(self) -> ModelCard:
        """What it is and what it was trained on."""

    def __call__(self, path: str | Path, *, watch: Stopwatch | None = None, ended: Watch | None = None) -> Analysis:
        """Judge one video, picture or bundle.

        Args:
            watch: books the seconds of the stages.
            ended: told of each branch that has ended.

        Raises:
            MediaError, CropError, BundleError: the file gives nothing to judge by.
            ModelError: the model does not judge this kind of file.
        """
