"""Make a split CSV.

    visavox corpora folder --root data/bundles --output data/train_dev_test.csv
    visavox corpora fakeavceleb --root FakeAVCeleb_v1.2 --bundles data/favc --output data/favc.csv
    visavox corpora fakeavceleb --root FakeAVCeleb_v1.2 --protocol partition --published split.csv
    visavox corpora dfdc --root DFDC --bundles data/dfdc --groups dfdc_groups.csv --output data/dfdc.csv
    visavox corpora concat data/favc.csv data/ravdess.csv --output data/both.csv

A corpus is read from its own metadata and from what is on the disk: ROOT as downloaded, BUNDLES as `python crop.py --input ROOT
--output BUNDLES` wrote them. Clips without bundle are counted and left out. Without --output nothing is written: the command
says what the metadata promises, what is there, and what a protocol keeps.
Exit codes: 0 done; 2 wrong arguments or data, nothing was written.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.logs import complain, say

if TYPE_CHECKING:
    import pandas as pd

CORPORA = {  # name -> options of its reader, help
    "fakeavceleb": (("metadata", "published"), "FakeAVCeleb v1.2: meta_data.csv"),
    "dfdc": (("metadata",), "DFDC: metadata.json of each part, labels.csv of the test"),
    "ffpp": ((), "FaceForensics++ and DeepFakeDetection: splits/*.json, conversion_dict.json"),
    "deepfaketimit": ((), "DeepfakeTIMIT, with VidTIMIT's videos where they are"),
    "ravdess": ((), "RAVDESS: real clips of 24 actors"),
    "unified": (("metadata",), "a folder of 2D3MF_Dataset: NAME/video/*.mp4, named after the corpus"),
    "lavdf": (("metadata",), "LAV-DF: metadata.json or metadata.min.json"),
    "avdeepfake1m": (("metadata",), "AV-Deepfake1M and AV-Deepfake1M++: {train,val}_metadata.json"),
    "kodf": ((), "KoDF: its tables of real and synthesised videos"),
    "asvspoof2019": ((), "ASVspoof 2019 LA: sound alone, by its protocols"),
    "idforge": (("metadata",), "IDForge v1: train.csv, val.csv, test.csv of its authors"),
    "megammdf": (("metadata",), "Mega-MMDF: train.json, val.json, test.json, attributes.json"),
    "tmc": (("metadata", "label_map"), "Trusted Media Challenge: filename,label"),
}
PROTOCOLS = (
    "group_out",
    "kfold",
    "partition",
    "official",
    "compat",
    "lomo",
)  # of visavox.splits.protocols, which needs pandas


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    from visavox.splits.table import SplitError

    try:
        say(arguments.make(arguments))
    except (SplitError, OSError) as error:
        complain("visavox corpora", error)
        return 2
    return 0


def make_corpus(arguments: argparse.Namespace) -> str:
    """Split CSV of a known corpus, or only what it would hold; in words."""
    from visavox.corpora import groups
    from visavox.corpora.clip import clip_table
    from visavox.corpora.disk import Disk, match
    from visavox.files import VIDEO_SUFFIXES
    from visavox.splits.protocols import share_out
    from visavox.splits.table import SplitError, label_map

    reader = importlib.import_module(f"visavox.corpora.{arguments.corpus}")
    disk = Disk(arguments.root, arguments.bundles, vars(reader).get("SUFFIXES", VIDEO_SUFFIXES))
    options = {name: getattr(arguments, name) for name in CORPORA[arguments.corpus][0]}
    if "label_map" in options:
        options["label_map"] = label_map(arguments.label_map)
    corpus = reader.read(disk, **options)
    rows, missing = match(clip_table(corpus), disk, corpus.key)
    said = [f"{corpus.name}: {missing if disk.root or disk.bundle_root else f'{len(rows)} clips in the metadata'}"]
    said += corpus.notes
    if arguments.bundles:
        rows = rows[rows["bundle"].ne("")]
    rows = _only(rows, arguments.only)
    if arguments.groups:
        rows, found = groups.join(rows, arguments.groups)
        said.append(found)
    if rows.empty:
        raise SplitError(
            "\n".join(said)
            + "\nno clip is left; ROOT and BUNDLES belong together: `python crop.py --input ROOT --output BUNDLES`"
        )
    rows, more = share_out(
        rows,
        arguments.protocol,
        val=arguments.val,
        test=arguments.test,
        seed=arguments.seed,
        folds=arguments.folds,
        fold=arguments.fold,
        leave=arguments.leave,
    )
    said += more
    return "\n".join([*said, _write(rows, arguments, arguments.bundles)])


def make_folder(arguments: argparse.Namespace) -> str:
    """Split CSV of a tree of bundles; what it holds, in words."""
    from visavox.corpora import folder, groups
    from visavox.splits import protocols
    from visavox.splits import table as splits
    from visavox.splits.groups import components, find_leak

    labels = splits.label_map(arguments.label_map)
    rows = folder.read_folder(arguments.root, by=arguments.by, labels=arguments.labels, label_map=labels)
    joined = []
    if arguments.groups:
        rows, found = groups.join(rows, arguments.groups)
        joined.append(found)
        alike = [cell.split(";") if cell else [] for cell in rows["donors"]]
        rows["group"] = components([[f"group {one}", *others] for one, others in zip(rows["group"], alike)])
    if rows["split"].eq("").all():
        rows = protocols.assign_groups(rows, val=arguments.val, test=arguments.test, seed=arguments.seed)
    base = arguments.relative_to or default_base(arguments.output)
    real_only = not (rows["label"] == 1).any()
    splits.write_split(folder.split_table(rows, arguments.root, base), arguments.output, base, part=real_only)
    warnings = [f"warning: {warning}" for warning in splits.warnings(rows)]
    if real_only:
        warnings = [
            "real clips alone: train with train_on=real, and fakes=[sbv,offset,...] for a detector that needs fakes"
        ]
    leak = find_leak(rows)
    warnings += [f"warning: {leak}; train.py wants --allow-leaks for it"] if leak else []
    together = f"{rows['group'].nunique()} groups that stay together"
    return "\n".join([*joined, f"{arguments.output}: {splits.describe(rows)} · {together}", *warnings])


def make_concat(arguments: argparse.Namespace) -> str:
    """One CSV of several: the rows one below the other, columns that one lacks are empty."""
    import pandas as pd

    from visavox.splits import table as splits
    from visavox.splits.groups import find_leak

    base = arguments.relative_to or default_base(arguments.output)
    tables = [
        splits.read_split(path, arguments.relative_to or default_base(path), part=True).assign(
            filepath=lambda rows: rows["path"]
        )
        for path in arguments.csv
    ]
    rows = pd.concat([table.drop(columns="path") for table in tables], ignore_index=True).fillna("")
    rows["filepath"] = [_below(path, base) for path in rows["filepath"]]
    splits.write_split(rows, arguments.output, base, part=True)
    leak = find_leak(rows)
    warnings = [f"warning: {fault}" for fault in splits.lopsided(rows)]
    warnings += [f"warning: {leak}; train.py wants --allow-leaks for it"] if leak else []
    return "\n".join([f"{arguments.output}: {splits.describe(rows)}", *warnings])


def default_base(output: Path) -> Path:
    """The root_path with which train.py finds OUTPUT as ROOT_PATH/data/NAME.csv, else the current folder."""
    folder = output.absolute().parent
    return folder.parent if folder.name == "data" else Path()


def _write(rows: pd.DataFrame, arguments: argparse.Namespace, bundles: Path | None) -> str:
    """Write the split CSV if there is a place for it; what it holds, in words."""
    from visavox.corpora.clip import FACTS
    from visavox.splits import table as splits

    said = splits.describe(rows)
    if arguments.output:
        assert bundles is not None  # the parser asks for it where there is an output
        base = arguments.relative_to or default_base(arguments.output)
        table = rows.assign(filepath=[_below(Path(bundles, bundle), base) for bundle in rows["bundle"]])
        splits.write_split(table[[*splits.COLUMNS, *FACTS]], arguments.output, base, part=True)
        said = f"{arguments.output}: {said}"
    warnings = [*splits.warnings(rows), *splits.lopsided(rows)]
    return "\n".join([said, *(f"warning: {warning}" for warning in warnings)])


def _below(path: str | Path, base: Path) -> str:
    """A path as a split CSV holds it: relative to `base` if it lies below, else absolute."""
    path, base = Path(path).resolve(), base.resolve()
    return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def _only(rows: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Rows that fit `column=a,b` conditions; real clips pass one on the method, empty cells pass all."""
    from visavox.splits.table import SplitError

    for condition in conditions:
        column, _, text = condition.partition("=")
        known = set(rows[column]) if column in ("method", "category", "quality", "race", "gender", "emotion") else set()
        asked = set(text.split(","))
        if not asked <= known:
            there = ", ".join(sorted(known)) or "which is no such column"
            raise SplitError(f"--only {condition}: write COLUMN=A,B; {column} here: {there}")
        wanted = asked | {""} | ({"real"} if column == "method" else set())
        rows = rows[rows[column].isin(wanted)]
    return rows


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox corpora", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    readers = parser.add_subparsers(title="corpora", required=True, metavar="CORPUS")
    _add_folder(readers)
    for name, (options, words) in CORPORA.items():
        _add_corpus(readers, name, options, words)
    _add_concat(readers)
    arguments = parser.parse_args(argv)
    if "val" in arguments:
        most = 1 if arguments.make is make_corpus else 0.999999
        if not (0 <= arguments.val < 1 and 0 <= arguments.test <= most and arguments.val + arguments.test <= most):
            parser.error(
                f"--val {arguments.val} --test {arguments.test}: shares from 0 that leave something for training"
            )
    if arguments.make is make_corpus:
        if arguments.output and not arguments.bundles:
            parser.error("--output needs --bundles DIR, the folder that crop.py wrote for the corpus")
        if (arguments.protocol == "lomo") != bool(arguments.leave):
            parser.error(
                "--protocol lomo wants --leave METHOD, and --leave wants it; `visavox lomo` goes through all of them"
            )
        if not (arguments.root or arguments.bundles or getattr(arguments, "metadata", None)):
            parser.error("give --root DIR, the corpus as downloaded")
    return arguments


def _add_folder(readers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    reader = readers.add_parser(
        "folder",
        help="a real/ fake/ tree of bundles, or one with train/ val/ test/ above it",
        description="Bundles laid out as [train|val|test/]real|fake/[identity/]clip.npz, or anyhow with --labels.",
    )
    reader.set_defaults(make=make_folder)
    reader.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the bundles")
    reader.add_argument("--output", type=Path, required=True, metavar="CSV", help="split CSV to write")
    _add_shares(reader)
    _add_groups(reader)
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
    _add_label_map(reader)


def _add_corpus(
    readers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, options: Sequence[str], words: str
) -> None:
    reader = readers.add_parser(name, help=words, description=words)
    reader.set_defaults(make=make_corpus, corpus=name)
    reader.add_argument("--root", type=Path, metavar="DIR", help="the corpus as downloaded")
    reader.add_argument("--bundles", type=Path, metavar="DIR", help="what `crop.py --input ROOT --output DIR` wrote")
    reader.add_argument(
        "--output", type=Path, metavar="CSV", help="split CSV to write (default: only say what it holds)"
    )
    reader.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="group_out",
        help="group_out: whole connected groups (default); kfold: the same in folds; partition: split identities, drop "
        "clips that cross; official: as published, if nobody crosses; compat: as published all the same; lomo: group_out, and "
        "the manipulation --leave stands in the test alone",
    )
    _add_shares(reader)
    reader.add_argument("--folds", type=int, default=5, help="of kfold (default 5)")
    reader.add_argument(
        "--leave", metavar="METHOD", default="", help="of lomo: the manipulation that is not trained on"
    )
    reader.add_argument("--fold", type=int, default=0, help="of kfold: the one that is tested, from 0 (default 0)")
    reader.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="COLUMN=A,B",
        help="only these, such as quality=c23; may be repeated",
    )
    _add_groups(reader)
    if "metadata" in options:
        reader.add_argument("--metadata", type=Path, metavar="FILE", help="the metadata, if not found below the root")
    if "published" in options:
        reader.add_argument("--published", type=Path, metavar="CSV", help="a split of others: path and split")
    if "label_map" in options:
        _add_label_map(reader)


def _add_concat(readers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    reader = readers.add_parser("concat", help="several split CSVs into one", description=make_concat.__doc__)
    reader.set_defaults(make=make_concat)
    reader.add_argument("csv", type=Path, nargs="+", metavar="CSV", help="split CSVs")
    reader.add_argument("--output", type=Path, required=True, metavar="CSV", help="split CSV to write")
    _add_relative_to(reader)


def _add_shares(reader: argparse.ArgumentParser) -> None:
    reader.add_argument("--val", type=float, default=0.15, help="share of clips for validation (default 0.15)")
    reader.add_argument("--test", type=float, default=0.15, help="share of clips for the test (default 0.15)")
    reader.add_argument("--seed", type=int, default=100, help="seed of the draw (default 100)")
    _add_relative_to(reader)


def _add_relative_to(reader: argparse.ArgumentParser) -> None:
    reader.add_argument(
        "--relative-to",
        type=Path,
        metavar="DIR",
        help="root_path of training; file paths start there (default: the folder above data/, else the current one)",
    )


def _add_groups(reader: argparse.ArgumentParser) -> None:
    reader.add_argument(
        "--groups",
        type=Path,
        metavar="CSV",
        help="who is who, as `visavox groups` found it: clips it joins stay together",
    )


def _add_label_map(reader: argparse.ArgumentParser) -> None:
    reader.add_argument(
        "--label-map",
        metavar="MAP",
        help="what labels mean where 1 is not fake: 1=real,0=fake or bonafide=real,spoof=fake",
    )


if __name__ == "__main__":
    sys.exit(main())
