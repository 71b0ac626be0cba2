"""Reports of score files.

    visavox report make submission.csv --labels data/split.csv --output report/ [--input VIDEOS]
    visavox report --scores prediction.txt --labels labels.csv --output report/       the same; files of others, too
    visavox report --from report/scores.csv            its numbers again, from its rows alone; compared with report.json beside
    visavox report compare a.csv b.csv --labels data/split.csv
    visavox report matrix ours=ours.csv theirs=theirs.csv --labels data/all.csv --output matrix/

A score file is what eval.py writes (filename,probability), the scores.csv of a report or of detect, AV-Deepfake1M's
prediction.txt, a submission to DFDC, or deepsafe-bench's matrix of detectors (--score-column NAME); one with labels in it needs
no --labels. Labels are a CSV with filename,label; further columns (split, corpus, method, kind, identity, gender, ...) give the
parts, and an identity column the groups of the bootstrap.
Exit codes: 0 done; 1 --from found other numbers than report.json has; 2 wrong arguments or files; 4 another run writes to
OUTPUT; 5 the disk is full.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from visavox import runs
from visavox.logs import complain, say


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(_spelled(list(sys.argv[1:] if argv is None else argv)))
    try:
        if arguments.output and arguments.command != "compare":
            arguments.output.mkdir(parents=True, exist_ok=True)
        with runs.holding(arguments.output) if arguments.output else nullcontext():
            commands = {"make": _make, "again": _again, "compare": _compare, "matrix": _matrix}
            return commands[arguments.command](arguments)
    except (ValueError, runs.LockedError, OSError) as error:
        complain("visavox report", error)
        return runs.exit_code(error)


def _spelled(words: list[str]) -> list[str]:
    """`--scores FILE ...` is `make FILE ...`, `--from FILE` is `again FILE`."""
    for option, command in (("--scores", "make"), ("--from", "again")):
        if words[:1] == [option]:
            return [command, *words[1:]]
    return words


def _make(arguments: argparse.Namespace) -> int:
    from visavox.evaluation.calibration import Calibration
    from visavox.evaluation.rows import read_details
    from visavox.evaluation.scores import read_labels
    from visavox.files import VIDEO_SUFFIXES, find_inputs, sha256_of
    from visavox.report.write import describe, write_report
    from visavox.splits.table import label_map

    rows = _rows(arguments.scores, arguments)
    inputs = find_inputs(arguments.input, VIDEO_SUFFIXES | {".npz"}) if arguments.input else {}
    origin = {"scores": str(arguments.scores)}
    scorer = next((row.identity for row in read_details(arguments.scores)), None)
    if scorer:
        origin |= {"checkpoint_sha256": scorer.checkpoint, "prep_hash": scorer.prep_hash}
    if arguments.labels:
        origin |= {"labels": str(arguments.labels), "labels_sha256": sha256_of(arguments.labels)}
    numbers = write_report(
        rows,
        arguments.output,
        title=arguments.title or f"Evaluation of {arguments.scores.name}",
        labels=read_labels(arguments.labels, label_map(arguments.label_map)) if arguments.labels else None,
        calibration=Calibration.load(arguments.calibration) if arguments.calibration else None,
        threshold=arguments.threshold,
        split=arguments.split,
        group=arguments.group,
        resamples=arguments.resamples,
        find=inputs.get,
        provenance=origin,
    )
    say(describe(numbers, arguments.output))
    return 0


def _again(arguments: argparse.Namespace) -> int:
    """Measure the rows of a report again and say whether its report.json has the same numbers."""
    from visavox.evaluation.scores import join
    from visavox.report.again import differences, measured_again

    rows = join(arguments.scores, None)
    written, numbers = measured_again(rows, arguments.scores.with_name("report.json"))
    for name, metric in numbers["overall"]["metrics"].items():
        if metric["value"] is not None:
            span = "" if metric["low"] is None else f"  [{metric['low']:.4f}, {metric['high']:.4f}]"
            say(f"{name:18} {metric['value']:.4f}{span}")
    if written is None:
        say(f"{len(rows)} rows; there is no report.json beside them to compare with")
        return 0
    found = differences(written, numbers)
    for line in found:
        say(f"differs: {line}")
    say(f"{len(rows)} rows; " + (f"{len(found)} numbers differ from report.json" if found else "all as in report.json"))
    return 1 if found else 0


def _compare(arguments: argparse.Namespace) -> int:
    from visavox.evaluation.scores import of_split
    from visavox.report.compare import compare, describe_comparison
    from visavox.report.write import write_beside

    a, b = (of_split(_rows(path, arguments), arguments.split)[0] for path in (arguments.a, arguments.b))
    resamples = arguments.resamples or 2000
    numbers = compare(a, b, group=arguments.group, threshold=arguments.threshold or 0.5, resamples=resamples)
    say(describe_comparison(numbers, (str(arguments.a), str(arguments.b))))
    if arguments.output:
        write_beside(arguments.output, json.dumps(numbers, indent=1).encode() + b"\n")
    return 0


def _matrix(arguments: argparse.Namespace) -> int:
    from visavox.evaluation.scores import of_split
    from visavox.report.compare import describe_matrix, matrix, matrix_page, named
    from visavox.report.write import write_beside
    from visavox.splits.text_table import table_for_people

    files = named(arguments.scores)
    tables = {name: of_split(_rows(path, arguments), arguments.split)[0] for name, path in files.items()}
    cells = matrix(tables, column=arguments.column, group=arguments.group, resamples=arguments.resamples or 1000)
    say(describe_matrix(cells))
    if arguments.output:
        safe = table_for_people(cells)
        write_beside(arguments.output / "matrix.csv", safe.to_csv(index=False, lineterminator="\n").encode())
        write_beside(arguments.output / "matrix.html", matrix_page(cells).encode())
    return 0


def _rows(path: Path, arguments: argparse.Namespace) -> Any:
    from visavox.evaluation.scores import join
    from visavox.splits.table import label_map

    return join(
        path,
        arguments.labels,
        label_map=label_map(arguments.label_map),
        scores_of=arguments.scores_of,
        column=arguments.score_column,
        where=arguments.where,
        label_column=arguments.label_column,
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--labels", type=Path, help="CSV with filename,label and the columns of the parts")
    shared.add_argument("--split", help="rows to use: train, val, test or all (default test where there are splits)")
    shared.add_argument("--group", help="column of identities (default group, identity, source or speaker)")
    shared.add_argument("--label-map", metavar="MAP", help="what labels mean where 1 is not fake: 1=real,0=fake")
    shared.add_argument(
        "--scores-of", choices=("fake", "real"), default="fake", help="what the scores are probabilities of"
    )
    shared.add_argument(
        "--score-column", metavar="NAME", help="of a file with several detectors, the one that is meant"
    )
    shared.add_argument("--label-column", default="label", metavar="NAME", help="of a score file that holds labels")
    shared.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=PATTERN",
        help="use rows of the score file that are like this: generator=lavdf*, or label=real; may be repeated",
    )
    shared.add_argument("--threshold", type=float, help="a clip at or above it is called fake")
    shared.add_argument("--resamples", type=int, help="bootstrap resamples (default 2000; matrix 1000)")

    make = commands.add_parser("make", parents=[shared], help="a report of one score file")
    make.add_argument("scores", type=Path)
    make.add_argument("--output", type=Path, required=True, help="folder of the report")
    make.add_argument("--input", type=Path, help="folder that was scored, for pictures of the worst errors")
    make.add_argument("--calibration", type=Path, help="what calibrated the scores: its threshold is used")
    make.add_argument("--title")
    again = commands.add_parser("again", help="the numbers of a report from its scores.csv alone")
    again.add_argument("scores", type=Path)
    again.set_defaults(output=None)
    two = commands.add_parser("compare", parents=[shared], help="two score files of the same clips")
    two.add_argument("a", type=Path)
    two.add_argument("b", type=Path)
    two.add_argument("--output", type=Path, help="JSON file for the numbers")
    many = commands.add_parser("matrix", parents=[shared], help="several score files by corpus")
    many.add_argument("scores", nargs="+", metavar="NAME=SCORES.csv")
    many.add_argument("--column", default="corpus", help="column that names the corpus (default corpus)")
    many.add_argument("--output", type=Path, help="folder for matrix.csv and matrix.html")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
