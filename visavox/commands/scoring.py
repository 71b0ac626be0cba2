"""Videos, bundles and feature files -> rows with scores, in one streaming pass: what `visavox eval` runs.

A fault stays with its clip: a batch that does not score is halved down to the clip that is at fault.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox import remote
from visavox.commands.streaming import Prepared, bundles_of
from visavox.config import Config
from visavox.errors import code_of
from visavox.evaluation.rows import Identity, ScoredRow
from visavox.evaluation.submission import Details, fingerprint
from visavox.progress import Stopwatch, progress
from visavox.workers.memory import fits_the_cpu, in_parts, on_cpu

if TYPE_CHECKING:
    from visavox.detectors.scorer import Scored, Scorer
    from visavox.evaluation.calibration import Calibration
    from visavox.remote import Store
    from visavox.workers.launching import Ray

log = logging.getLogger(__name__)


def score_inputs(
    inputs: dict[str, Path],
    scorer: Scorer,
    config: Config,
    output: Path,
    *,
    identity: str,
    workers: int,
    timeout: float | None = None,
    any_bundles: bool = False,
    time_budget: float | None = None,
    calibration: Calibration | None = None,
    ray: Ray | None = None,
    spool: Path | None = None,
    store: Store = remote.LOCAL,
) -> list[ScoredRow]:
    """Crop and score in one streaming pass; rows sorted by file name, written to OUTPUT's details file.

    Args:
        inputs: name -> path of videos and bundles.
        config: the settings that the scorer's bundles are made with.
        identity: names the scorer, such as the sha256 of its checkpoint; rows of an interrupted run count only if theirs
            is the same.
        any_bundles: also score bundles made with other settings.
        time_budget: seconds that a video may take; see `visavox.preprocessing.budget`.
        calibration: maps the scores of the network to those of the rows, which keep both.
        ray: the cluster whose actors make the bundles, which come here through a folder.
        spool: that folder; None: one beside OUTPUT.
        store: how inputs are held here where they lie on a storage.

    Raises:
        OSError: the disk is full; what has its row is kept.
    """
    from visavox.bundle.trim import needs_sound
    from visavox.detectors.scorer import Hearing
    from visavox.evaluation.calibration import apply_to_rows
    from visavox.preprocessing.budget import Planner
    from visavox.preprocessing.provenance import prep_hash

    same = identity_of(config, identity, time_budget)
    details = Details(output, identity=same, keep=config.save_details)
    rows = details.earlier(inputs)
    tasks = [(name, path) for name, path in inputs.items() if name not in rows]
    lean = config.model_copy(update={"store_track": scorer.needs_track or needs_sound(config)})
    planner = Planner.of(time_budget, scorer, config) if time_budget and tasks else None
    how: dict[str, Any] = {
        "prep_hash": None if any_bundles else prep_hash(config),
        "hears": isinstance(scorer, Hearing),
        "planner": planner,
        "workers": workers,
        "timeout": timeout,
        "ray": ray,
        "spool": spool or output.with_name(f".{output.name}.bundles"),
        "store": store,
    }
    with progress("scoring", len(tasks)) as advance, closing(bundles_of(tasks, lean, **how)) as found:
        for row in score_prepared(scorer, found):
            if row.code == "NO_SPACE":  # every other input would fare the same
                raise OSError(errno.ENOSPC, row.reason)
            rows[row.filename] = details.append(row)
            advance()
    ordered = [rows[name] for name in sorted(rows)]
    if calibration:
        ordered = apply_to_rows(ordered, calibration)
    details.close(ordered)
    return ordered


def identity_of(config: Config, checkpoint: str, time_budget: float | None = None) -> Identity:
    """Return what scores follow from, beside the input.

    Args:
        checkpoint: names the scorer, such as the sha256 of its checkpoint.
    """
    from visavox.bundle.trim import trimming
    from visavox.preprocessing.provenance import prep_hash

    return Identity(
        checkpoint=checkpoint,
        prep_hash=prep_hash(config),
        trim_silence=trimming(config),
        detector=config.detector.model_dump(mode="json"),
        time_budget=time_budget,
    )


def score_prepared(scorer: Scorer, found: Iterable[Prepared]) -> Iterator[ScoredRow]:
    """Yield the row of each prepared input; one without a bundle is judged by its sound, or stands at the prior."""
    config = scorer.config
    waiting: list[Prepared] = []
    for prepared in found:
        if prepared.bundle is None:
            yield _row_without_face(scorer, prepared, config.failure_prior)
            continue
        waiting.append(prepared)
        if len(waiting) == config.submit_batch_size:
            yield from score_batch(scorer, waiting, config.failure_prior)
            waiting = []
    yield from score_batch(scorer, waiting, config.failure_prior)


def score_batch(scorer: Scorer, waiting: Sequence[Prepared], prior: float) -> Iterator[ScoredRow]:
    """Rows of a batch, those that see equally many faces together."""

    def faces(prepared: Prepared) -> int:
        return prepared.budget["faces"] if prepared.budget else 0

    for count, some in groupby(sorted(waiting, key=faces), key=faces):
        fewer = scorer.with_frames(count) if count else None
        yield from _score_alike(fewer or scorer, list(some), prior)


def _score_alike(scorer: Scorer, waiting: Sequence[Prepared], prior: float) -> list[ScoredRow]:
    """Rows of a batch; if it does not score, of its halves, down to single clips: each fault ends its own clip's row.

    A GPU that runs out of memory over a batch thus gets a smaller one; a clip that it has no room for alone is scored on the
    CPU, and its row says so.
    """
    from visavox.preprocessing.pipeline import explain

    def alone(prepared: Prepared, error: Exception) -> ScoredRow:
        if not fits_the_cpu(error, scorer):
            lost = prepared._replace(status="failed", reason=explain(error)[1], code=code_of(error))
            return _row(lost, prior, 0.0)
        with on_cpu(scorer) as (slow, told):
            log.warning("%s: scored %s", prepared.name, told)
            noted = prepared._replace(notes=[*prepared.notes, f"scored {told}"])
            return _score_alike(slow, [noted], prior)[0]

    every = partial(_score_together, scorer, prior=prior)
    return in_parts(
        waiting, every, alone, what="clips", parts=lambda error: True
    )  # nothing one raises stops the others


def _score_together(scorer: Scorer, waiting: Sequence[Prepared], *, prior: float) -> list[ScoredRow]:
    """Rows of a batch. Raises whatever the network does."""
    from visavox.detectors.scorer import score_in_detail

    watch = Stopwatch()
    found = score_in_detail(scorer, [prepared.bundle for prepared in waiting if prepared.bundle])
    if len(found) != len(waiting):
        raise RuntimeError(f"the network gave {len(found)} scores for {len(waiting)} clips")
    rows = []
    for prepared, one in zip(waiting, found, strict=True):
        if math.isfinite(one.probability):
            rows.append(_scored_row(prepared, one, watch.total() / len(waiting)))
        else:
            reason = f"the network gave {one.probability}; score again with score_precision=fp32"
            rows.append(_row(prepared._replace(status="failed", reason=reason, code="BAD_SCORE"), prior, 0.0))
    return rows


def _row_without_face(scorer: Scorer, prepared: Prepared, prior: float) -> ScoredRow:
    """The row of an input that gave no bundle: judged by its sound where there is one and the scorer can, else at the prior."""
    from visavox.detectors.scorer import Hearing

    if prepared.sound is not None and isinstance(scorer, Hearing):
        watch = Stopwatch()
        try:
            one = scorer.score_sound(prepared.sound)
        except Exception as error:  # the row stands at the prior as it would without sound; why is said
            prepared.notes.append(f"its sound could not be judged: {error}")
        else:
            if math.isfinite(one.probability):
                return _scored_row(prepared, one, watch.total())
            prepared.notes.append(f"its sound could not be judged: the network gave {one.probability}")
    return _row(prepared, prior, 0.0)


def _scored_row(prepared: Prepared, one: Scored, scoring: float) -> ScoredRow:
    """The row of an input with a score of its own."""
    parts = {f"score_{part}": spent for part, spent in one.seconds.items()}
    told = prepared._replace(notes=[*prepared.notes, *one.notes], seconds=prepared.seconds | parts)
    return replace(_row(told, one.probability, scoring), head=one.head, exited=one.exited, classes=one.classes or None)


def _row(prepared: Prepared, probability: float, scoring: float) -> ScoredRow:
    seconds = prepared.seconds | ({"score": scoring} if scoring else {})
    budget = None
    if prepared.budget:
        met = prepared.seconds.get("total", 0.0) + scoring <= prepared.budget["seconds"]
        budget = prepared.budget | {"met": met}
    return ScoredRow(
        filename=prepared.name,
        probability=probability,
        status=prepared.status,
        reason=prepared.reason,
        code=prepared.code,
        notes=tuple(prepared.notes),
        seconds={stage: round(value, 4) for stage, value in seconds.items()},
        file=fingerprint(prepared.path),
        budget=budget,
    )
