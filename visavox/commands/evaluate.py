"""Score a folder of videos into a submission.

    python eval.py -input VIDEOS -output submission.csv
    python eval.py --input VIDEOS --output submission.csv --checkpoint runs/v1/best.ckpt --labels labels.csv
    python eval.py --input VIDEOS --output submission.csv --detector zeroshot --robustness grid/ --labels labels.csv

Writes `filename,probability` with P(fake), one row for every input, sorted; inputs are videos and `.npz` bundles, searched
below the folder; for 2D3MF also the files that `visavox features` wrote. A video that cannot be scored (no face, too short,
unreadable) gets the stated prior, or, where there is no face, the score of its sound by a detector that judges sound alone;
why, what judged it, and the seconds of each stage stand in submission.details.jsonl. With `--detector my.py` the scores are
those of a file with `predict(path) -> float` (or `predict_bundle(bundle)`), run in a child with a deadline and a limit of
memory; with `--detector NAME` those of a published model (`visavox detect --models`).
A run that was killed continues when it is started again.
Exit codes: 0 every input has its row; 2 wrong arguments, settings, checkpoint or weights; 4 another run writes to OUTPUT;
5 the disk is full; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox import runs
from visavox.commands.streaming import Prepared, bundles_of
from visavox.config import Config
from visavox.errors import code_of
from visavox.evaluation.rows import Identity, ScoredRow
from visavox.evaluation.submission import (
    Details,
    describe_auc,
    describe_classes,
    fingerprint,
    write_classes,
    write_submission,
)
from visavox.files import CHECKOUT, VIDEO_SUFFIXES, find_inputs, shown
from visavox.logs import complain, say
from visavox.progress import Stopwatch, progress
from visavox.workers.sharding import Shard

if TYPE_CHECKING:
    import pandas as pd

    from visavox.detectors.scorer import Scored, Scorer
    from visavox.evaluation.calibration import Calibration

log = logging.getLogger(__name__)

COLUMNS = {"tmc": "probability", "dfdc": "label"}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        from visavox.logs import set_up_logging

        set_up_logging()
        from visavox.compute import resolve_device
        from visavox.detectors.build import is_configuration, load, ready
        from visavox.detectors.scorer import inference
        from visavox.evaluation.calibration import Calibration
        from visavox.evaluation.scores import read_labels
        from visavox.preprocessing.tools import check_weights
        from visavox.report.write import report_run
        from visavox.splits.table import label_map

        inputs = find_inputs(arguments.input, VIDEO_SUFFIXES | {".npz"})
        if arguments.shard:
            inputs = {name: path for name, path in inputs.items() if arguments.shard.takes(name)}
        known = label_map(arguments.label_map)
        calibration = Calibration.load(arguments.calibration) if arguments.calibration else None
        if arguments.detector and not is_configuration(arguments.detector):
            if arguments.robustness:
                raise ValueError("--robustness needs bundles: give --checkpoint, or --detector zeroshot")
            labels = read_labels(arguments.labels, known) if arguments.labels else None
            rows = _score_foreign(arguments, inputs, calibration, known)
            _report(rows, arguments.output)
            if not arguments.report:
                say(describe_auc(rows, labels, arguments.labels))
            return 0
        found = ready(arguments.detector, arguments.overrides) if arguments.detector else None
        detector = found or load(arguments.checkpoint, arguments.overrides)
        classes = detector.config.detector.classes
        _refuse_for_classes(arguments, classes)
        labels = read_labels(arguments.labels, known) if arguments.labels and not classes else None
        detector = detector.to(resolve_device(detector.config.device))
        check_weights(detector.config)
        checkpoint = detector.card.checkpoint
        if calibration:
            calibration.require(checkpoint)
        table = ""
        with runs.stoppable(), runs.holding(arguments.output), inference(detector) as detector:
            rows = score_inputs(
                inputs,
                detector,
                detector.config,
                arguments.output,
                identity=checkpoint,
                workers=arguments.workers,
                timeout=arguments.timeout,
                any_bundles=arguments.any_bundles,
                time_budget=arguments.time_budget,
                calibration=calibration,
            )
            if classes:
                write_classes(rows, arguments.output, "emotion", classes)
                measured = describe_classes(rows, arguments.labels, "emotion")
            else:
                write_submission(rows, arguments.output, COLUMNS[arguments.format])
                measured = "" if arguments.report else describe_auc(rows, labels, arguments.labels)
            if arguments.report:
                report_run(
                    rows,
                    arguments.labels,
                    arguments.report,
                    inputs=inputs,
                    config=detector.config,
                    calibration=calibration,
                    checkpoint=checkpoint,
                    label_map=known,
                )
            if arguments.robustness and labels is not None:
                table = _robustness(arguments, inputs, detector, rows, labels)
    except KeyboardInterrupt as stop:
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox eval", error)
        return runs.exit_code(error)
    _report(rows, arguments.output)
    if measured:
        say(measured)
    if table:
        say(f"{table}\n{arguments.robustness / 'robustness.html'}")
    return 0


def _robustness(
    arguments: argparse.Namespace,
    inputs: dict[str, Path],
    detector: Scorer,
    rows: Sequence[ScoredRow],
    labels: pd.DataFrame,
) -> str:
    """The table of the perturbed videos, as text; see `visavox.commands.robustness`."""
    from visavox.commands import robustness
    from visavox.robustness.kinds import chosen, levels_of

    return robustness.measure(
        inputs,
        detector,
        [row if row.raw is None else replace(row, probability=row.raw) for row in rows],
        labels,
        arguments.robustness,
        kinds=chosen(arguments.kinds),
        levels=levels_of(arguments.levels),
        identity=identity_of(detector.config, detector.card.checkpoint),
        root=arguments.input if arguments.input.is_dir() else arguments.input.parent,
        workers=arguments.workers,
        timeout=arguments.timeout,
    )


def _score_foreign(
    arguments: argparse.Namespace, inputs: dict[str, Path], calibration: Calibration | None, known: dict[str, int]
) -> list[ScoredRow]:
    """Score by somebody else's detector and write what is asked for."""
    from visavox import config as configuration
    from visavox.commands import foreign
    from visavox.report.write import report_run

    config = configuration.load(configuration.reference(), arguments.overrides)
    with (
        runs.stoppable(),
        runs.holding(arguments.output),
        foreign.opened(
            arguments.detector, timeout=arguments.timeout, memory=arguments.memory, config=config
        ) as detector,
    ):
        if calibration:
            calibration.require(detector.identity)
        if detector.scorer is None:
            rows = foreign.score_paths(inputs, detector, arguments.output, config, calibration)
        else:
            from visavox.preprocessing.tools import check_weights

            check_weights(config)
            rows = score_inputs(
                inputs,
                detector.scorer,
                detector.scorer.config,
                arguments.output,
                identity=detector.identity,
                workers=arguments.workers,
                timeout=arguments.timeout,
                any_bundles=arguments.any_bundles,
                calibration=calibration,
            )
        write_submission(rows, arguments.output, COLUMNS[arguments.format])
        if arguments.report:
            report_run(
                rows,
                arguments.labels,
                arguments.report,
                inputs=inputs,
                config=config if detector.scorer else None,
                calibration=calibration,
                checkpoint=detector.identity,
                label_map=known,
                name=detector.name,
            )
    return rows


def _refuse_for_classes(arguments: argparse.Namespace, classes: Sequence[str]) -> None:
    """Refuse what is about P(fake) where the checkpoint tells other classes apart."""
    given = [f"--{name}" for name in ("report", "calibration", "label_map", "robustness") if getattr(arguments, name)]
    given += ["--format dfdc"] if arguments.format != "tmc" else []
    if classes and given:
        raise ValueError(
            f"{', '.join(given).replace('_', '-')}: about P(fake), and the checkpoint tells apart {', '.join(classes)}; "
            "leave it out"
        )


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
    }
    with progress("scoring", len(tasks)) as advance, closing(bundles_of(tasks, lean, **how)) as found:
        for row in score_prepared(scorer, found):
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
            yield from _score(scorer, waiting, config.failure_prior)
            waiting = []
    yield from _score(scorer, waiting, config.failure_prior)


def _score(scorer: Scorer, waiting: Sequence[Prepared], prior: float) -> Iterator[ScoredRow]:
    """Rows of a batch, those that see equally many faces together."""

    def faces(prepared: Prepared) -> int:
        return prepared.budget["faces"] if prepared.budget else 0

    for count, some in groupby(sorted(waiting, key=faces), key=faces):
        fewer = scorer.with_frames(count) if count else None
        yield from _score_alike(fewer or scorer, list(some), prior)


def _score_alike(scorer: Scorer, waiting: Sequence[Prepared], prior: float) -> Iterator[ScoredRow]:
    """Rows of a batch; if it does not score, of its halves, down to single clips: each fault ends its own clip's row.

    A GPU that runs out of memory over a batch thus gets a smaller one; a clip that it has no room for alone is scored on the
    CPU, and its row says so.
    """
    from visavox.detectors.scorer import score_in_detail
    from visavox.preprocessing.pipeline import explain

    watch = Stopwatch()
    try:
        found = score_in_detail(scorer, [prepared.bundle for prepared in waiting if prepared.bundle])
        if len(found) != len(waiting):
            raise RuntimeError(f"the network gave {len(found)} scores for {len(waiting)} clips")
    except Exception as error:  # a library's own classes too: nothing that a clip raises may stop the others
        half = len(waiting) // 2
        if half:
            log.warning("%d clips together did not score, now in two parts: %s", len(waiting), error)
            yield from _score_alike(scorer, waiting[:half], prior)
            yield from _score_alike(scorer, waiting[half:], prior)
            return
        device = scorer.device
        if code_of(error) == "OUT_OF_MEMORY" and device.type != "cpu":
            note = f"scored on the CPU: the memory of {device} did not suffice"
            log.warning("%s: %s", waiting[0].name, note)
            try:
                slow = scorer.to(type(device)("cpu"))
                yield from _score_alike(slow, [waiting[0]._replace(notes=[*waiting[0].notes, note])], prior)
            finally:
                scorer.to(device)
            return
        lost = waiting[0]._replace(status="failed", reason=explain(error)[1], code=code_of(error))
        yield _row(lost, prior, 0.0)
        return
    for prepared, one in zip(waiting, found, strict=True):
        if math.isfinite(one.probability):
            yield _scored_row(prepared, one, watch.total() / len(waiting))
        else:
            reason = f"the network gave {one.probability}; score again with score_precision=fp32"
            yield _row(prepared._replace(status="failed", reason=reason, code="BAD_SCORE"), prior, 0.0)


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


def _report(rows: Sequence[ScoredRow], output: Path) -> None:
    lost = [row for row in rows if not row.scored]
    for row in lost:
        say(f"  {row.status:9} {shown(row.filename)}: {shown(row.reason)} [{row.code}]", error=True)
    faceless = [row for row in rows if row.scored and row.status == "no_face"]
    for row in faceless:
        say(f"  {row.status:9} {shown(row.filename)}: judged by its sound, head {row.head}", error=True)
    silent = sum(row.status == "no_audio" for row in rows)
    without = f"{silent} without audio" + (f", {len(faceless)} without a face" if faceless else "")
    say(f"{len(rows)} files: {len(rows) - len(lost)} scored ({without}), {len(lost)} at the prior; {output}")
    gated = [row for row in rows if row.exited is not None]
    if gated:
        say(f"gate: {sum(bool(row.exited) for row in gated)} of {len(gated)} clips exited early")


def _default_checkpoint() -> Path:
    """model.ckpt of the checkout, or without one of the folder where the command runs."""
    beside = CHECKOUT / "model.ckpt"
    return beside if beside.is_file() or (CHECKOUT / "eval.py").is_file() else Path("model.ckpt")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox eval",
        description=__doc__,
        epilog="settings (key=value): those that touch neither the network nor the bundles, such as device=cpu "
        "submit_batch_size=8 failure_prior=0.5; all others come from the checkpoint",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-input", "--input", type=Path, required=True, help="folder of videos, bundles or features, or one of them"
    )
    parser.add_argument("-output", "--output", type=Path, required=True, help="the CSV to write")
    parser.add_argument("--checkpoint", type=Path, default=_default_checkpoint(), help="default model.ckpt")
    parser.add_argument(
        "--detector",
        metavar="FILE.py|NAME|CONFIG",
        help="a Python file with predict(path) or predict_bundle(bundle), a published model, or the configuration of a "
        "detector that needs no training (zeroshot), in place of a checkpoint",
    )
    parser.add_argument(
        "--memory", type=float, default=8.0, metavar="GIB", help="that the child of --detector may hold (default 8)"
    )
    parser.add_argument("--labels", type=Path, help="CSV with filename,label (0 real, 1 fake): prints the AUC")
    parser.add_argument(
        "--label-map",
        metavar="MAP",
        help="what labels mean where 1 is not fake: 1=real,0=fake or bonafide=real,spoof=fake",
    )
    parser.add_argument(
        "--format", choices=COLUMNS, default="tmc", help="tmc: filename,probability; dfdc: filename,label"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that crop (default: all cores)"
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds after which a video is given up (default 600)"
    )
    parser.add_argument(
        "--shard",
        type=Shard.parse,
        metavar="I/N",
        help="score share I (from 0) of N alone; `visavox merge OUTPUT` afterwards",
    )
    parser.add_argument("--calibration", type=Path, help="JSON of `visavox calibrate`, applied to the scores")
    parser.add_argument("--report", type=Path, help="folder for report.html, its figures and numbers; needs --labels")
    parser.add_argument(
        "--time-budget",
        type=float,
        metavar="SECONDS",
        help="of a video: what does not fit is left out (fewer faces, then fewer looks for faces, then fewer sync "
        "windows) and said in the details file",
    )
    parser.add_argument(
        "--robustness",
        type=Path,
        metavar="DIR",
        help="score perturbed videos as well; bundles and tables go there; needs --labels",
    )
    parser.add_argument(
        "--kinds", help="of perturbation, such as blur,aac, or all (default: seven of the picture, noise)"
    )
    parser.add_argument("--levels", help="of perturbation, such as 1,3,5 (default: all five)")
    parser.add_argument("--any-bundles", action="store_true", help="also score bundles made with other settings")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the checkpoint"
    )
    arguments = parser.parse_intermixed_args(argv)
    if arguments.shard:
        arguments.output = arguments.shard.of(arguments.output)
    if arguments.label_map and not arguments.labels:
        parser.error("--label-map says what the labels mean; give --labels CSV")
    if arguments.time_budget is not None and not arguments.time_budget > 0:
        parser.error(f"--time-budget is {arguments.time_budget:g}; give seconds above 0")
    if arguments.robustness and not arguments.labels:
        parser.error("--robustness measures AUC; give --labels CSV with filename,label")
    if (arguments.kinds or arguments.levels) and not arguments.robustness:
        parser.error("--kinds and --levels say what --robustness DIR measures; give it")
    if arguments.report and not arguments.labels:
        parser.error(
            "--report needs --labels CSV (filename,label and the columns of its parts: split, method, identity, ...)"
        )
    return arguments
