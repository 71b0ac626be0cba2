"""Make a split CSV.

    python -m visavox.corpora folder --root data/bundles --output data/train_dev_test.csv
    python -m visavox.corpora folder --root bundles --output data/all.csv --labels videos/labels.csv --val 0.2 --test 0.2

Exit codes: 0 written; 2 wrong arguments or data, nothing was written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    from visavox.corpora.splits import SplitError

    try:
        print(arguments.make(arguments))
    except (SplitError, OSError) as error:
        print(f"visavox.corpora: {error}", file=sys.stderr)
        return 2
    return 0


def make_folder(arguments: argparse.Namespace) -> str:
    """Split CSV of a tree of bundles; what it holds, in words."""
    from visavox.corpora import folder, splits

    rows = folder.read_folder(arguments.root, by=arguments.by, labels=arguments.labels)
    if rows["split"].eq("").all():
        rows = folder.assign_splits(rows, val=arguments.val, test=arguments.test, seed=arguments.seed)
    base = arguments.relative_to or default_base(arguments.output)
    splits.write_split(folder.split_table(rows, arguments.root, base), arguments.output, base)
    warnings = [f"warning: {warning}" for warning in splits.warnings(rows)]
    together = f"{rows['group'].nunique()} groups that stay together"
    return "\n".join([f"{arguments.output}: {splits.describe(rows)} · {together}", *warnings])


def default_base(output: Path) -> Path:
    """The root_path with which train.py finds OUTPUT as ROOT_PATH/data/NAME.csv, else the current folder."""
    folder = output.absolute().parent
    return folder.parent if folder.name == "data" else Path()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m visavox.corpora", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    readers = parser.add_subparsers(title="corpora", required=True, metavar="CORPUS")
    _add_folder(readers)
    arguments = parser.parse_args(argv)
    if not (0 <= arguments.val < 1 and 0 <= arguments.test < 1 and arguments.val + arguments.test < 1):
        parser.error(f"--val {arguments.val} --test {arguments.test}: shares from 0 that leave something for training")
    return arguments


def _add_folder(readers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    reader = readers.add_parser(
        "folder",
        help="a real/ fake/ tree of bundles, or one with train/ val/ test/ above it",
        description="Bundles laid out as [train|val|test/]real|fake/[identity/]clip.npz, or anyhow with --labels.",
    )
    reader.set_defaults(make=make_folder)
    _add_common(reader)
    reader.add_argument(
        "--by",
        choices=("identity", "file"),
        default="identity",
        help="what stays in one split: the folder below real/ or fake/ (default), or single files",
    )
    reader.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="filename,label[,kind][,identity;identity...] instead of folder names",
    )


def _add_common(reader: argparse.ArgumentParser) -> None:
    reader.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the bundles")
    reader.add_argument("--output", type=Path, required=True, metavar="CSV", help="split CSV to write")
    reader.add_argument("--val", type=float, default=0.15, help="share of clips for validation (default 0.15)")
    reader.add_argument("--test", type=float, default=0.15, help="share of clips for the test (default 0.15)")
    reader.add_argument("--seed", type=int, default=100, help="seed of the draw (default 100)")
    reader.add_argument(
        "--relative-to",
        type=Path,
        metavar="DIR",
        help="root_path of training; file paths start there (default: the folder above data/, else the current one)",
    )


if __name__ == "__main__":
    sys.exit(main())
