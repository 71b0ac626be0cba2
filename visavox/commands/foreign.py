"""`visavox eval --detector my.py` and `--detector NAME`: anyone's detector, scored, reported and calibrated as ours are.

A Python file is run in a child with a deadline and a limit of memory (`visavox.detectors.foreign`); a name is that of a published
model (`visavox detect --models`). What raises, hangs, ends or gives no number costs its clip the score, and the row says why.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from visavox import remote
from visavox.errors import code_of
from visavox.evaluation.rows import Identity, ScoredRow
from visavox.evaluation.submission import Details, fingerprint
from visavox.files import sha256_of
from visavox.preprocessing.pipeline import explain
from visavox.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from visavox.bundle import Bundle
    from visavox.config import Config
    from visavox.detectors.analysis import Analysis
    from visavox.detectors.foreign import Foreign
    from visavox.detectors.scorer import Scorer
    from visavox.evaluation.calibration import Calibration
    from visavox.remote import Store

GIB = 1 << 30


@dataclass(frozen=True)
class Opened:
    """A detector that is ready."""

    name: str
    identity: str
    """sha256 of its file or weights."""
    predict: Callable[[Path], float] | None
    """P(fake) of a file; None where it takes bundles."""
    scorer: Scorer | None = None
    """Where it takes bundles."""


@contextmanager
def opened(detector: str, *, timeout: float, memory: float, config: Config) -> Iterator[Opened]:
    """Yield a detector by its Python file or its name.

    Args:
        timeout: seconds of a clip.
        memory: GiB that the child of a Python file may hold.
        config: how bundles are made, for those that take them.

    Raises:
        ForeignError, ModelError, WeightsError: it cannot be loaded.
    """
    if not detector.endswith(".py"):
        from visavox.detectors.published import open_judge
        from visavox.preprocessing import tools

        tools.confine(config.confine)
        judge = open_judge(detector, device=config.device)
        checkpoint = getattr(getattr(judge, "card", None), "checkpoint", "")
        yield Opened(judge.name, checkpoint or judge.name, lambda path: judge(path).probability)
        return
    from visavox.detectors.foreign import Foreign

    with Foreign(Path(detector), timeout=timeout, memory=round(memory * GIB)) as foreign:
        identity = sha256_of(foreign.file)
        if foreign.kind == "predict":
            yield Opened(foreign.file.name, identity, foreign.predict)
        else:
            with ForeignScorer(foreign, config, identity) as scorer:
                yield Opened(foreign.file.name, identity, None, scorer)


def score_paths(
    inputs: dict[str, Path],
    detector: Opened,
    output: Path,
    config: Config,
    calibration: Calibration | None = None,
    store: Store = remote.LOCAL,
    identity: Identity | None = None,
) -> list[ScoredRow]:
    """Score files by a detector that takes paths; rows sorted by name, written to OUTPUT's details file.

    Args:
        identity: what the scores follow from, where that is more than `identity_of` the detector.
    """
    from visavox.evaluation.calibration import apply_to_rows

    assert detector.predict is not None
    details = Details(output, identity=identity or identity_of(detector), keep=config.save_details)
    rows = details.earlier(inputs)
    todo = {name: path for name, path in inputs.items() if name not in rows}
    with progress("scoring", len(todo)) as advance:
        for name, path in todo.items():
            rows[name] = details.append(_row(name, path, detector.predict, config.failure_prior, store))
            advance()
    ordered = [rows[name] for name in sorted(rows)]
    if calibration:
        ordered = apply_to_rows(ordered, calibration)
    details.close(ordered)
    return ordered


def identity_of(detector: Opened, **more: Any) -> Identity:
    """Return what the scores of a detector that takes paths follow from, beside the file.

    Args:
        more: settings that the file it is given was written with.
    """
    known = {"name": detector.name, **more}
    return Identity(checkpoint=detector.identity, prep_hash="", trim_silence="none", detector=known)


def _row(name: str, path: Path, predict: Callable[[Path], float], prior: float, store: Store) -> ScoredRow:
    here, began = path, time.perf_counter()
    probability, status, reason, code = prior, "ok", "", ""
    try:
        with store.fetched(path) as here:
            probability = predict(here)
    except Exception as error:  # the row is the answer: nothing a clip does may stop the others
        status, reason = explain(error)
        reason, code = reason.replace(str(here), remote.url_of(path)), code_of(error)
    spent = round(time.perf_counter() - began, 4)
    return ScoredRow(
        filename=name,
        probability=probability,
        status=status,  # type: ignore[arg-type]
        reason=reason,
        code=code,
        seconds={"total": spent},
        file=fingerprint(path),
    )


class ForeignScorer(AbstractContextManager["ForeignScorer"]):
    """A detector of bundles in a child, as a `Scorer`."""

    needs_track = True

    def __init__(self, foreign: Foreign, config: Config, identity: str) -> None:
        from visavox.detectors.analysis import ModelCard

        self.foreign = foreign
        self.config = config.model_copy(update={"submit_batch_size": 1})
        self.card = ModelCard(detector=foreign.file.name, checkpoint=identity)
        self._folder = tempfile.TemporaryDirectory(prefix="visavox-")

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()

    @property
    def device(self) -> torch.device:
        """Return the CPU: where the child computes is its own business."""
        import torch

        return torch.device("cpu")

    def to(self, device: torch.device) -> Self:
        """Return this scorer."""
        return self

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64; each goes to the child as a file.

        Raises:
            ForeignError: the child gave no score.
        """
        found = []
        for bundle in bundles:
            path = Path(self._folder.name) / "bundle.npz"
            bundle.save(path)
            found.append(self.foreign.predict(path))
        return np.array(found)

    def explain(self, bundle: Bundle, watch: Callable[[str, float], None] | None = None) -> Analysis:
        """Return the score of one clip, without reasons."""
        from visavox.detectors.analysis import Analysis, Branch

        began = time.perf_counter()
        p = float(self.score([bundle])[0])
        branch = Branch(self.card.detector, p, 1.0, time.perf_counter() - began)
        return Analysis.of(
            p,
            card=self.card,
            branches=[branch],
            notes=[f"{self.card.detector} judges a clip as a whole: there is no time line."],
        )

    def with_frames(self, frames: int) -> Scorer | None:
        """Return None: what it sees of a bundle is its own business."""
        return None

    def for_inference(self, dtype: Any) -> Scorer:
        """Return this scorer."""
        return self
