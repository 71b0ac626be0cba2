"""What turns bundles into verdicts: a detector, or a fusion of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from visavox.compute import scoring_context, scoring_dtype

if TYPE_CHECKING:
    import numpy as np
    import torch

    from visavox.bundle import Bundle
    from visavox.config import Config
    from visavox.detectors.analysis import Analysis, ModelCard

Watch = Callable[[str, float], None]
"""Is told of each branch as soon as it has ended: its name as in `Analysis.branches`, and the seconds that it took."""


class Scorer(Protocol):
    """Anything that `build.load` gives. Bundles come in trimmed, as `visavox.bundle.trim.trimmed_as(scorer.config, bundle)`."""

    config: Config
    """The configuration it was trained with; its bundles are made and trimmed as this says."""
    needs_track: bool
    """Whether it reads the track or the audio of a bundle, which may be left out of what is loaded otherwise."""
    card: ModelCard
    """What it is and what it was trained on."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def to(self, device: torch.device) -> Self:
        """Move it to a device and return it."""

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake), (N,) float64 in [0, 1], higher = more fake. The order and the batch do not matter."""

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return all that is to be said about one clip; its probability is that of `score`.

        Args:
            watch: called in the thread of the caller when a branch has run or failed, before the next one begins; what it
                raises ends the call. Branches that do not run are not told of.
        """

    def with_frames(self, frames: int) -> Scorer | None:
        """Return the same network, weights shared, on so many faces of each bundle; None if it cannot see fewer."""

    def for_inference(self, dtype: torch.dtype) -> Scorer:
        """Return a form for scoring alone, in `dtype` where that is faster; this one must not be trained or saved after."""


@dataclass(frozen=True)
class Scored:
    """The score of one clip, and what its details should say beside it."""

    probability: float
    """P(fake); of a scorer that tells other classes apart, that of the likeliest."""
    notes: tuple[str, ...] = ()
    """What is unusual about the verdict, such as a branch that failed."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Part of the detector -> seconds it took for this clip."""
    head: str = ""
    """What judged it, in a detector that has several heads."""
    exited: bool | None = None
    """Whether a gate let it through before the other parts ran; None where the detector has no gate."""
    classes: dict[str, float] = field(default_factory=dict)
    """Class -> its probability, of a scorer that tells others apart than real and fake."""


@runtime_checkable
class Detailed(Protocol):
    """A scorer of several parts that says of each clip which of them ran, how long, and what failed."""

    def score_in_detail(self, bundles: Sequence[Any]) -> list[Scored]:
        """Return the probabilities of `score` with their details."""


@runtime_checkable
class Together(Protocol):
    """A scorer that explains several clips in one call, so that its networks see them as one batch where they can."""

    def explain_all(self, bundles: Sequence[Bundle], watches: Sequence[Watch | None]) -> list[Analysis]:
        """Return what `Scorer.explain` says of each, with the watch of each."""


@runtime_checkable
class Hearing(Protocol):
    """A scorer that can judge a video in which no face was found by its sound, (N,) int16 at `resample_rate`."""

    def score_sound(self, sound: np.ndarray) -> Scored:
        """Return P(fake) with what judged it."""

    def explain_sound(self, sound: np.ndarray, watch: Watch | None = None) -> Analysis:
        """Return all that is to be said about it, as `Scorer.explain`; the card has no `prep_hash`, for there is no bundle."""


def score_in_detail(scorer: Scorer, bundles: Sequence[Any]) -> list[Scored]:
    """Return the scores of bundles (or of what else the scorer reads in their place), with details where it has any."""
    if isinstance(scorer, Detailed):
        return scorer.score_in_detail(bundles)
    return [Scored(float(score)) for score in scorer.score(bundles)]


@contextmanager
def inference(scorer: Scorer) -> Iterator[Scorer]:
    """Yield a scorer in its form for inference, in the precision that `score_precision` asks for on its device."""

    dtype = scoring_dtype(scorer.config.score_precision, scorer.device)
    ready = scorer.for_inference(
        dtype
    )  # outside the context: autocast would multiply the matrices that are merged in bf16
    with scoring_context(dtype, ready.device):
        yield ready
