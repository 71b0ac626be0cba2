"""Put together what the shards of one job left behind.

    visavox merge BUNDLES                       # manifest.I-of-N.jsonl of `visavox crop --shard I/N` -> manifest.jsonl
    visavox merge submission.csv --labels CSV   # submission.I-of-N.csv of `visavox eval --shard I/N` -> submission.csv

Says which shards are missing and writes nothing then. What the shards wrote stays; run again, it gives the same.
Exit codes: 0 merged; 1 merged, and some inputs of BUNDLES have no bundle; 2 shards are missing or do not belong together;
4 another run writes there.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from visavox import runs
from visavox.logs import complain, say
from visavox.workers.sharding import ShardError, shards_of


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        with runs.stoppable(), runs.holding(arguments.output):
            if arguments.output.suffix.lower() == ".csv":
                return merge_scores(arguments.output, arguments.labels)
            return merge_manifests(arguments.output)
    except KeyboardInterrupt as stop:
        return runs.exit_code(stop)
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox merge", error)
        return runs.exit_code(error)


def merge_manifests(output: Path) -> int:
    """Write OUTPUT/manifest.jsonl from those of the shards; return 1 where some inputs have no bundle, else 0.

    Raises:
        ShardError: shards are missing, were made with other settings, or name an input twice.
    """
    from visavox.preprocessing.manifest import MANIFEST, Manifest

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
    say(f"{len(shards)} shards, {len(rows)} inputs: {summary}; {output / MANIFEST}")
    return 1 if any(row.bundle is None for row in rows) else 0


def merge_scores(output: Path, labels: Path | None = None) -> int:
    """Write the submission OUTPUT and its details from those of the shards.

    Raises:
        ShardError: shards are missing, were scored by other scorers, or name a file twice.
    """
    from visavox.evaluation.rows import details_path, read_details
    from visavox.evaluation.scores import read_labels
    from visavox.evaluation.submission import describe_auc, write_submission
    from visavox.files import replacing

    shards = shards_of(output)
    for shard in shards:
        if not details_path(shard).is_file():
            raise ShardError(f"{details_path(shard)} is missing; score that shard with save_details=true")
    known = read_labels(labels) if labels else None
    rows = sorted((row for shard in shards for row in read_details(shard)), key=lambda row: row.filename)
    _once([row.filename for row in rows])
    if len(scorers := {json.dumps(row.to_json().get("identity"), sort_keys=True) for row in rows}) > 1:
        raise ShardError(
            f"{output}: its shards were scored in {len(scorers)} different ways; score them with the same checkpoint"
        )
    write_submission(
        rows, output, shards[0].open(encoding="utf-8").readline().strip().partition(",")[2] or "probability"
    )
    with replacing(details_path(output)) as beside:
        beside.write_text("".join(f"{json.dumps(row.to_json())}\n" for row in rows), encoding="utf-8")
    say(f"{len(shards)} shards, {len(rows)} files, {sum(not row.scored for row in rows)} at the prior; {output}")
    say(describe_auc(rows, known, labels))
    return 0


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
    parser.add_argument("output", type=Path, help="folder of bundles, or submission CSV, as it was given to each shard")
    parser.add_argument("--labels", type=Path, help="CSV with filename,label: prints the AUC of a submission")
    return parser.parse_args(argv)
