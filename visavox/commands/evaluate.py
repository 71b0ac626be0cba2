"""Score a folder of videos into a submission.

    python eval.py -input VIDEOS -output submission.csv
    python eval.py --input VIDEOS --output submission.csv --checkpoint runs/v1/best.ckpt --labels labels.csv
    python eval.py --input VIDEOS --output submission.csv --detector zeroshot --robustness grid/ --labels labels.csv
    python eval.py --input s3://bucket/videos --output s3://bucket/submission.csv

Writes `filename,probability` with P(fake), one row for every input, sorted; inputs are videos and `.npz` bundles, searched
below the folder; for 2D3MF also the files that `visavox features` wrote. A video that cannot be scored (no face, too short,
unreadable) gets the stated prior, or, where there is no face, the score of its sound by a detector that judges sound alone;
why, what judged it, and the seconds of each stage stand in submission.details.jsonl. With `--detector my.py` the scores are
those of a file with `predict(path) -> float` (or `predict_bundle(bundle)`), run in a child with a deadline and a limit of
memory; with `--detector NAME` those of a published model (`visavox detect --models`).
A run that was killed continues when it is started again. Scores of two runs may differ in their ninth digit, which depends on the
clips that share a batch; with submit_batch_size=1 they are equal, by each launcher.
Exit codes: 0 every input has its row; 2 wrong arguments, settings, checkpoint or weights; 4 another run writes to OUTPUT;
5 the disk is full; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import glob
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox import remote, runs
from visavox.commands.scoring import identity_of, score_inputs
from visavox.config import Config
from visavox.evaluation.rows import ScoredRow, details_path
from visavox.evaluation.submission import (
    describe_auc,
    describe_classes,
    write_classes,
    write_submission,
)
from visavox.files import CHECKOUT, VIDEO_SUFFIXES, shown
from visavox.logs import complain, say
from visavox.workers import launching, sharding

if TYPE_CHECKING:
    import pandas as pd

    from visavox.commands.foreign import Opened
    from visavox.detectors.scorer import Scorer
    from visavox.evaluation.calibration import Calibration

log = logging.getLogger(__name__)

COLUMNS = {"tmc": "probability", "dfdc": "label"}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        from visavox.logs import set_up_logging

        set_up_logging()
        from visavox.detectors.build import is_configuration

        inputs = remote.find_inputs(arguments.input, VIDEO_SUFFIXES | {".npz"})
        if arguments.shard:
            inputs = {name: path for name, path in inputs.items() if arguments.shard.takes(name)}
        foreign = arguments.detector and not is_configuration(arguments.detector)
        given = arguments.output
        rows, said = (_score_foreign if foreign else _score_own)(arguments, inputs)
    except KeyboardInterrupt as stop:
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ValueError, ImportError, RuntimeError, OSError) as error:
        complain("visavox eval", error)
        return runs.exit_code(error)
    _report(rows, remote.url_of(given))
    for words in said:
        say(words)
    return 0


def _score_own(arguments: argparse.Namespace, inputs: dict[str, Path]) -> tuple[list[ScoredRow], list[str]]:
    """Score by a detector of the house and write what is asked for; the rows, and what there is to say of them."""
    from visavox.compute import resolve_device
    from visavox.detectors.build import load, ready
    from visavox.detectors.scorer import inference
    from visavox.evaluation.scores import read_labels
    from visavox.preprocessing.tools import check_weights
    from visavox.splits.table import label_map

    calibration = _calibration(arguments)
    found = ready(arguments.detector, arguments.overrides) if arguments.detector else None
    detector = found or load(arguments.checkpoint, arguments.overrides)
    classes = detector.config.detector.classes
    _refuse_for_classes(arguments, classes)
    labels = None
    if arguments.labels and not classes:
        labels = read_labels(arguments.labels, label_map(arguments.label_map))
    detector = detector.to(resolve_device(detector.config.device))
    check_weights(detector.config)
    checkpoint = detector.card.checkpoint
    if calibration:
        calibration.require(checkpoint)
    with _held(arguments), inference(detector) as detector:
        rows = _scored_before(arguments, inputs, detector)
        rows = rows or _score(arguments, inputs, detector, checkpoint, calibration)
        if classes:
            write_classes(rows, arguments.output, "emotion", classes)
            return rows, [describe_classes(rows, arguments.labels, "emotion")]
        said = _write(arguments, rows, inputs, checkpoint, calibration, labels, config=detector.config)
        if arguments.robustness and labels is not None:
            said.append(_robustness(arguments, inputs, detector, rows, labels))
    return rows, said


def _score_foreign(arguments: argparse.Namespace, inputs: dict[str, Path]) -> tuple[list[ScoredRow], list[str]]:
    """Score by somebody else's detector and write what is asked for; the rows, and what there is to say of them."""
    from visavox import config as configuration
    from visavox.commands import foreign
    from visavox.evaluation.scores import read_labels
    from visavox.preprocessing.tools import check_weights
    from visavox.splits.table import label_map

    if arguments.ray is not None:
        raise ValueError("--ray: somebody else's detector runs on this machine; leave it out, or share with --shard")
    calibration = _calibration(arguments)
    labels = read_labels(arguments.labels, label_map(arguments.label_map)) if arguments.labels else None
    config = configuration.load(configuration.reference(), arguments.overrides)
    limits = {"timeout": arguments.timeout, "memory": arguments.memory}
    with _held(arguments), foreign.opened(arguments.detector, **limits, config=config) as detector:
        if calibration:
            calibration.require(detector.identity)
        if detector.scorer is None:
            store = remote.asked(arguments)
            rows = foreign.score_paths(inputs, detector, arguments.output, config, calibration, store)
        else:
            check_weights(config)
            rows = _score(arguments, inputs, detector.scorer, detector.identity, calibration)
        made = config if detector.scorer else None
        said = _write(arguments, rows, inputs, detector.identity, calibration, labels, config=made, name=detector.name)
        if arguments.robustness and labels is not None:
            said.append(_robustness_of_foreign(arguments, inputs, detector, config, rows, labels))
    return rows, said


@contextmanager
def _held(arguments: argparse.Namespace) -> Iterator[None]:
    """Keep other runs from the output; one on a storage is written here meanwhile."""
    store, given = remote.asked(arguments), arguments.output
    details = details_path(given).name
    names = given.name, details, f"{details}.part"
    with (
        runs.stoppable(),
        runs.holding(store.lock_of(given)),
        store.standing_in(given.parent, [glob.escape(name) for name in names]) as folder,
    ):
        arguments.output = folder / given.name
        yield


def _calibration(arguments: argparse.Namespace) -> Calibration | None:
    from visavox.evaluation.calibration import Calibration

    return Calibration.load(arguments.calibration) if arguments.calibration else None


def _scored_before(arguments: argparse.Namespace, inputs: dict[str, Path], scorer: Scorer) -> list[ScoredRow] | None:
    """The rows of the clips as they are, where a run with --robustness was killed after they were written.

    Where some failed, those of the others are put where scoring takes them up.
    """
    if not arguments.robustness or arguments.calibration or arguments.time_budget or arguments.any_bundles:
        return None
    from visavox.commands.robustness import earlier
    from visavox.evaluation.submission import Details

    same = identity_of(scorer.config, scorer.card.checkpoint)
    rows = [
        row for row in earlier(arguments.output, inputs, same) if row.raw is None
    ]  # calibrated ones are another run's
    if len(rows) == len(inputs):
        return rows
    Details(arguments.output, identity=same, keep=True).begin_with(rows)
    return None


def _score(
    arguments: argparse.Namespace,
    inputs: dict[str, Path],
    scorer: Scorer,
    identity: str,
    calibration: Calibration | None,
) -> list[ScoredRow]:
    return score_inputs(
        inputs,
        scorer,
        scorer.config,
        arguments.output,
        identity=identity,
        workers=arguments.workers,
        timeout=arguments.timeout,
        any_bundles=arguments.any_bundles,
        time_budget=arguments.time_budget,
        calibration=calibration,
        ray=launching.asked(arguments),
        spool=arguments.spool,
        store=remote.asked(arguments),
    )


def _write(
    arguments: argparse.Namespace,
    rows: Sequence[ScoredRow],
    inputs: dict[str, Path],
    identity: str,
    calibration: Calibration | None,
    labels: pd.DataFrame | None,
    *,
    config: Config | None,
    name: str = "",
) -> list[str]:
    """The submission, and the report where it is asked for; without a report the AUC in words."""
    from visavox.report.write import report_run
    from visavox.splits.table import label_map

    write_submission(rows, arguments.output, COLUMNS[arguments.format])
    if not arguments.report:
        said = describe_auc(rows, labels, arguments.labels)
        return [said] if said else []
    report_run(
        rows,
        arguments.labels,
        arguments.report,
        inputs=inputs,
        config=config,
        calibration=calibration,
        checkpoint=identity,
        label_map=label_map(arguments.label_map),
        name=name,
    )
    return []


def _robustness(
    arguments: argparse.Namespace,
    inputs: dict[str, Path],
    detector: Scorer,
    rows: Sequence[ScoredRow],
    labels: pd.DataFrame,
) -> str:
    """The table of the perturbed videos, as text; see `visavox.commands.robustness`."""
    from visavox.commands import robustness

    table = robustness.measure(
        inputs,
        detector,
        [row if row.raw is None else replace(row, probability=row.raw) for row in rows],
        labels,
        arguments.robustness,
        identity=identity_of(detector.config, detector.card.checkpoint),
        workers=arguments.workers,
        timeout=arguments.timeout,
        **_grid(arguments),
    )
    return f"{table}\n{arguments.robustness / 'robustness.html'}"


def _robustness_of_foreign(
    arguments: argparse.Namespace,
    inputs: dict[str, Path],
    detector: Opened,
    config: Config,
    rows: Sequence[ScoredRow],
    labels: pd.DataFrame,
) -> str:
    """The same for somebody else's detector, of bundles or of files."""
    from visavox.commands import robustness

    if detector.scorer is not None:
        return _robustness(arguments, inputs, detector.scorer, rows, labels)
    table = robustness.measure_files(inputs, detector, labels, arguments.robustness, config=config, **_grid(arguments))
    return f"{table}\n{arguments.robustness / 'robustness.html'}"


def _grid(arguments: argparse.Namespace) -> dict[str, Any]:
    """Which kinds and levels, and the folder that names start from."""
    from visavox.robustness.kinds import chosen, levels_of

    root = arguments.input if arguments.input.is_dir() else arguments.input.parent
    return {"kinds": chosen(arguments.kinds), "levels": levels_of(arguments.levels), "root": root}


def _refuse_for_classes(arguments: argparse.Namespace, classes: Sequence[str]) -> None:
    """Refuse what is about P(fake) where the checkpoint tells other classes apart."""
    given = [f"--{name}" for name in ("report", "calibration", "label_map", "robustness") if getattr(arguments, name)]
    given += ["--format dfdc"] if arguments.format != "tmc" else []
    if classes and given:
        raise ValueError(
            f"{', '.join(given).replace('_', '-')}: about P(fake), and the checkpoint tells apart {', '.join(classes)}; "
            "leave it out"
        )


def _report(rows: Sequence[ScoredRow], output: str) -> None:
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
        "-input",
        "--input",
        type=remote.place,
        required=True,
        help="folder of videos, bundles or features, or one of them; a path, s3:// or gs://",
    )
    parser.add_argument("-output", "--output", type=remote.place, required=True, help="the CSV to write; the same")
    parser.add_argument(
        "--checkpoint", type=remote.here_alone, default=_default_checkpoint(), help="default model.ckpt"
    )
    parser.add_argument(
        "--detector",
        metavar="FILE.py|NAME|CONFIG",
        help="a Python file with predict(path) or predict_bundle(bundle), a published model, or the configuration of a "
        "detector that needs no training (zeroshot), in place of a checkpoint",
    )
    parser.add_argument(
        "--memory", type=float, default=8.0, metavar="GIB", help="that the child of --detector may hold (default 8)"
    )
    parser.add_argument(
        "--labels", type=remote.here_alone, help="CSV with filename,label (0 real, 1 fake): prints the AUC"
    )
    parser.add_argument(
        "--label-map",
        metavar="MAP",
        help="what labels mean where 1 is not fake: 1=real,0=fake or bonafide=real,spoof=fake",
    )
    parser.add_argument(
        "--format", choices=COLUMNS, default="tmc", help="tmc: filename,probability; dfdc: filename,label"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes, or actors of --ray, that crop (default: all cores)",
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds after which a video is given up (default 600)"
    )
    sharding.add_argument(parser)
    launching.add_arguments(parser)
    remote.add_arguments(parser)
    parser.add_argument(
        "--calibration", type=remote.here_alone, help="JSON of `visavox calibrate`, applied to the scores"
    )
    parser.add_argument(
        "--report", type=remote.here_alone, help="folder for report.html, its figures and numbers; needs --labels"
    )
    parser.add_argument(
        "--time-budget",
        type=float,
        metavar="SECONDS",
        help="of a video: what does not fit is left out (fewer faces, then fewer looks for faces, then fewer sync "
        "windows) and said in the details file",
    )
    parser.add_argument(
        "--robustness",
        type=remote.here_alone,
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
    if remote.is_remote(arguments.output) and len(arguments.output.parts) < 3:
        parser.error(f"--output {remote.url_of(arguments.output)} is a bucket; name the CSV in it")
    arguments.spool = arguments.output.with_name(f".{arguments.output.name}.bundles")
    if remote.is_remote(arguments.input) and (arguments.report or arguments.robustness):
        parser.error(
            "--report and --robustness open the videos themselves: copy them to this machine; `visavox report make` writes the "
            "report of a submission"
        )
    if arguments.shard and (arguments.report or arguments.robustness):
        parser.error(
            "--report and --robustness are of all shares, and each would write its own in the place of another's: leave out "
            "--shard; `visavox merge`, then `visavox report make`, gives the report of all"
        )
    if arguments.label_map and not arguments.labels:
        parser.error("--label-map says what the labels mean; give --labels CSV")
    if arguments.time_budget is not None and not arguments.time_budget > 0:
        parser.error(f"--time-budget is {arguments.time_budget:g}; give seconds above 0")
    if arguments.robustness and not arguments.labels:
        parser.error("--robustness measures AUC; give --labels CSV with filename,label")
    if arguments.robustness and arguments.ray is not None:
        parser.error("--robustness perturbs on this machine; leave out --ray")
    if (arguments.kinds or arguments.levels) and not arguments.robustness:
        parser.error("--kinds and --levels say what --robustness DIR measures; give it")
    if arguments.report and not arguments.labels:
        parser.error(
            "--report needs --labels CSV (filename,label and the columns of its parts: split, method, identity, ...)"
        )
    return arguments
