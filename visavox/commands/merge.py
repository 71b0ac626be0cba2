"""Put together what the shards of one job left behind.

    visavox merge BUNDLES                       # manifest.I-of-N.jsonl of `visavox crop --shard I/N` -> manifest.jsonl
    visavox merge FEATURES                      # features.I-of-N.csv of `visavox features --shard I/N` -> features.csv
    visavox merge PERTURBED                     # effects.I-of-N.csv of `visavox perturb --shard I/N` -> effects.csv
    visavox merge submission.csv --labels CSV   # submission.I-of-N.csv of `visavox eval --shard I/N` -> submission.csv

What is given may be an s3:// or gs:// address.
Says which shards are missing and writes nothing then. What the shards wrote stays; run again, it gives the same.
Exit codes: 0 merged; 1 merged, and some inputs gave no bundle, features or video; 2 shards are missing or do not belong together;
4 another run writes there.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from visavox import remote, runs
from visavox.logs import complain, say
from visavox.preprocessing.manifest import MANIFEST
from visavox.workers.sharding import ShardError, shards_of


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        store, output = remote.LOCAL, arguments.output
        scores = output.suffix.lower() == ".csv"
        with (
            runs.stoppable(),
            runs.holding(store.lock_of(output)),
            store.standing_in(output.parent if scores else output, ["*-of-*"]) as folder,
        ):
            if scores:
                return merge_scores(folder / output.name, arguments.labels, told=remote.url_of(output))
            if table := _table_of_shards(folder):
                if table.stem == "features":
                    _require_one_kind(output, store)
                return merge_tables(table, told=remote.url_of(output / table.name))
            return merge_manifests(folder, told=remote.url_of(output / MANIFEST))
    except KeyboardInterrupt as stop:
        return runs.exit_code(stop)
    except (ValueError, ImportError, RuntimeError, OSError) as error:
        complain("visavox merge", error)
        return runs.exit_code(error)


def merge_manifests(output: Path, told: str = "") -> int:
    """Write OUTPUT/manifest.jsonl from those of the shards; return 1 where some inputs have no bundle, else 0.

    Args:
        told: how the output is named to people.

    Raises:
        ShardError: shards are missing, were made with other settings, or name an input twice.
    """
    from visavox.preprocessing.manifest import Manifest

    shards = shards_of(output / MANIFEST)
    rows = [row for shard in shards for row in Manifest(shard).rows.values()]
    _once([row.input for row in rows])
    if len(stamps := {row.prep_hash for row in rows}) > 1:
        raise ShardError(
            f"{output}: its shards were cropped with {len(stamps)} different settings; crop them with the same"
        )
    Manifest(output / MANIFEST).rewrite(sorted(rows, key=lambda row: row.input))
    counts = Counter(row.status for row in rows)
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    say(f"{len(shards)} shards, {len(rows)} inputs: {summary}; {told or output / MANIFEST}")
    return 1 if any(row.bundle is None for row in rows) else 0


def _table_of_shards(output: Path) -> Path | None:
    """The table, of features or effects, whose shards lie in a folder; None where there are none."""
    from visavox.commands import features, perturb

    tables = (output / features.TABLE, output / perturb.TABLE)
    return next((table for table in tables if any(output.glob(f"{table.stem}.*-of-*.csv"))), None)


def _require_one_kind(folder: Path, store: remote.Store) -> None:
    """Raise FeatureError where shards left features of several kinds; those on a storage are fetched, one at a time."""
    from visavox.detectors.td3mf.features import FeatureFolder, Stamp, read_stamp, require_one_kind

    if not remote.is_remote(folder):
        FeatureFolder(folder)
        return
    stamps: dict[Stamp, str] = {}
    for path in remote.files_below(folder, ".npz"):
        with store.fetched(path) as here:
            stamps.setdefault(read_stamp(here)[0], remote.url_of(path))
    require_one_kind(remote.url_of(folder), stamps)


def merge_tables(output: Path, told: str = "") -> int:
    """Write the table OUTPUT from those of the shards; return 1 where some row has a reason why there is nothing, else 0.

    Rows are ordered by what stands before the file name (the perturbation, in the order of the shards) and by the name.

    Raises:
        ShardError: shards are missing, are of different commands, or name a file twice.
    """
    from visavox.files import replacing

    shards = shards_of(output)
    tables = [_cells(shard) for shard in shards]
    header = tables[0][0]
    if any(table[0] != header for table in tables):
        raise ShardError(f"{output}: its shards have different columns; make them with the same version")
    name, why = header.index("filename"), header.index("reason")
    rows = [row for table in tables for row in table[1:]]
    _once(["/".join(row[: name + 1]) for row in rows])
    groups = {tuple(row[:name]): None for row in rows}
    order = {group: place for place, group in enumerate(groups)}
    rows.sort(key=lambda row: (order[tuple(row[:name])], row[name]))
    with replacing(output) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    lost = sum(bool(row[why]) for row in rows)
    say(f"{len(shards)} shards, {len(rows)} rows, {lost} of them without a file; {told or output}")
    return 1 if lost else 0


def merge_scores(output: Path, labels: Path | None = None, told: str = "") -> int:
    """Write the submission OUTPUT and its details from those of the shards.

    Raises:
        ShardError: shards are missing or not done, were scored by other scorers, some calibrated and others not, or name a file
            twice.
    """
    from visavox.evaluation.rows import details_path, read_details
    from visavox.evaluation.scores import read_labels
    from visavox.evaluation.submission import describe_auc, describe_classes, write_classes, write_submission
    from visavox.files import replacing

    shards = shards_of(output)
    for shard in shards:
        if not details_path(shard).is_file():
            raise ShardError(f"{details_path(shard)} is missing; score that shard with save_details=true")
        if (part := details_path(shard).with_name(f"{details_path(shard).name}.part")).is_file():
            raise ShardError(
                f"{part.name} is there: that shard was stopped, or is at work still; wait, or run it again"
            )
    _, column, *classes = _cells(shards[0])[0]
    known = read_labels(labels) if labels and not classes else None
    rows = sorted((row for shard in shards for row in read_details(shard)), key=lambda row: row.filename)
    _once([row.filename for row in rows])
    if len(scorers := {json.dumps(row.to_json().get("identity"), sort_keys=True) for row in rows}) > 1:
        raise ShardError(
            f"{output}: its shards were scored in {len(scorers)} different ways; score them with the same checkpoint"
        )
    calibrated = [row.raw is not None for row in rows if row.scored]
    if any(calibrated) and not all(calibrated):
        raise ShardError(
            f"{output}: {sum(calibrated)} of its {len(calibrated)} scores are calibrated, the others are not; score all shards "
            "with the same --calibration, or all without"
        )
    if classes:
        write_classes(rows, output, column, classes)
    else:
        write_submission(rows, output, column)
    with replacing(details_path(output)) as beside:
        beside.write_text("".join(f"{json.dumps(row.to_json())}\n" for row in rows), encoding="utf-8")
    say(
        f"{len(shards)} shards, {len(rows)} files, {sum(not row.scored for row in rows)} at the prior; {told or output}"
    )
    say(describe_classes(rows, labels, column) if classes else describe_auc(rows, known, labels))
    return 0


def _cells(table: Path) -> list[list[str]]:
    """The rows of a table as they stand there, its header first."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            cells = list(csv.reader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ShardError(f"{table} is damaged ({error}); remove it and run that share again") from None
    if not cells:
        raise ShardError(f"{table} is empty; remove it and run that share again")
    return cells


def _once(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ShardError(
            f"{twice[0]} and {len(twice) - 1} more stand in two shards: they are not of one job; run them again"
        )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox merge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=remote.place, help="folder, or submission CSV, as it was given to each shard")
    parser.add_argument(
        "--labels", type=remote.here_alone, help="CSV with filename,label: prints the AUC of a submission"
    )
    return parser.parse_args(argv)
