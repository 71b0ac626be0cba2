"""Put detectors together.

    visavox fuse --video runs/v/best.ckpt --audio runs/a/best.ckpt --output xception.ckpt      two Xception branches
    visavox fuse --branches runs/v1/best.ckpt --data-version train_dev_test --output fused.ckpt    five branches, fused anew
    visavox fuse --score one=a.csv --score other=b.csv --labels data/split.csv --output fusion.json    any detectors
    visavox fuse --apply fusion.json --score one=a.csv --score other=b.csv --output fused.csv
    visavox fuse --from-sklearn clip_fusion_logreg.joblib       how to turn such a file into JSON; it is not read here

A fusion is standardised features -> logistic regression -> temperature on held-out people, for every set of branches that a
clip may have. It is fitted on the validation split, and JSON says every number of it. For options of the first form:
`visavox fuse --video X --help`.
Exit codes: 0 written; 2 wrong arguments or data; 4 another run writes to OUTPUT; 5 the disk is full.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from visavox import runs
from visavox.files import replacing
from visavox.logs import complain, say


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if any(word.split("=")[0] in ("--video", "--audio") for word in words):
        from visavox.detectors.xception.__main__ import main as fuse_pair

        return fuse_pair(["fuse", *words])
    arguments = _parse(words)
    try:
        with runs.holding(arguments.output) if arguments.output else nullcontext():
            say(arguments.work(arguments))
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox fuse", error)
        return runs.exit_code(error)
    return 0


def fuse_branches(arguments: argparse.Namespace) -> str:
    """Fit the fusion of a trained detector again, on a split of its own; write checkpoint and JSON, return what it is."""
    from visavox import config as configuration
    from visavox.detectors.fiveway import outputs, stacking
    from visavox.detectors.fiveway.detector import load
    from visavox.splits.table import read_split
    from visavox.training import checkpoint

    detector = load(arguments.branches)
    held = checkpoint.read(arguments.branches)
    root = configuration.load(None, arguments.overrides).root_path if arguments.overrides else held.config.root_path
    csv = Path(root, "data", f"{arguments.data_version}.csv")
    rows = read_split(csv, root, part=True)
    rows = rows[rows["split"] == arguments.split]
    if rows.empty:
        raise ValueError(f"{csv}: no clip with split={arguments.split}")
    table = outputs.feature_table(detector, rows.reset_index(drop=True))
    columns = {name: table[name].to_numpy() for name in stacking.fusion.FEATURES}
    detector.fit_fusion(columns, table["label"].to_numpy(), table["group"].to_numpy(), f"{csv} {arguments.split}")
    fitted = detector.verdicts.fusion
    assert fitted is not None
    checkpoint.write(arguments.output, held.config, detector.state_dict(), held.about)
    fitted.save(arguments.output.with_suffix(".json"))
    described = stacking.describe(stacking.fusion.Fusion(fitted.heads, detector.validated), table)
    return f"{described}\n{detector.verdicts.gate}\n{arguments.output}, {arguments.output.with_suffix('.json')}"


def fuse_scores(arguments: argparse.Namespace) -> str:
    """Fit a fusion of score files; return what each head is worth on people it has not seen."""
    from visavox.detectors.fiveway import stacking

    scores = stacking.parse_scores(arguments.score)
    table, said = stacking.stack(scores, arguments.labels, arguments.split)
    on = f"{arguments.labels or next(iter(scores.values()))} {said}".strip()
    fitted = stacking.fit_stack(table, list(scores), fitted_on=on, folds=arguments.folds, seed=arguments.seed)
    fitted.save(arguments.output)
    return "\n".join([*([said] if said else []), stacking.describe(fitted, table), str(arguments.output)])


def apply_scores(arguments: argparse.Namespace) -> str:
    """Fuse score files with a fusion that was fitted; return how many rows each head judged."""
    from visavox.detectors.fiveway import stacking

    fitted = stacking.Fusion.load(arguments.apply)
    table = stacking.apply_stack(fitted, stacking.parse_scores(arguments.score), arguments.prior)
    with replacing(arguments.output) as beside:
        table.to_csv(beside, index=False, lineterminator="\n", float_format="%.9g")
    counts = table["head"].replace("", "prior").value_counts(sort=False)
    return "\n".join([*(f"{head}: {count} rows" for head, count in counts.items()), str(arguments.output)])


def say_sklearn(arguments: argparse.Namespace) -> str:
    """Return what to run where the file is trusted: it prints the JSON of the fusion."""
    return _CONVERSION.format(path=str(arguments.from_sklearn))


_CONVERSION = """# {path} is a pickle: reading it runs whatever code its maker put in. Visavox does not read it.
# Where you trust its maker, in an environment you can throw away, with the scikit-learn it was written with, run this;
# it prints a fusion that `visavox fuse --apply` and the detector read.
import json, joblib
held = joblib.load({path!r})
model = held["model"] if isinstance(held, dict) else held
temperature = float(held.get("temperature", 1.0)) if isinstance(held, dict) else 1.0
scaler, regression = model[0], model[-1]
names = list(held["feature_cols"]) if isinstance(held, dict) else list(scaler.feature_names_in_)
owner = lambda name: name.split("_")[0]
branches = [b for b in ("tiny", "visual", "audio", "temporal", "sync") if any(owner(n) == b for n in names)]
head = dict(
    name=f"{{len(branches)}}way", branches=branches, features=names,
    means=scaler.mean_.tolist(), scales=scaler.scale_.tolist(), weights=regression.coef_[0].tolist(),
    bias=float(regression.intercept_[0]), temperature=temperature,
    fitted_on="a file of scikit-learn", fitted_at="", n_real=0, n_fake=0, warnings=[],
)
print(json.dumps(dict(format="visavox.fusion", version=1, heads=[head]), indent=1))
"""


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox fuse", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--branches", type=Path, metavar="CKPT", help="a trained detector of five branches")
    parser.add_argument(
        "--data-version",
        default="train_dev_test",
        help="with --branches: ROOT_PATH/data/NAME.csv (default train_dev_test)",
    )
    parser.add_argument(
        "--score", action="append", default=[], metavar="NAME=CSV", help="a detector and its scores; repeat it"
    )
    parser.add_argument("--labels", type=Path, metavar="CSV", help="filename,label and more, such as a split CSV")
    parser.add_argument("--split", help="clips that are fitted on (default val)")
    parser.add_argument("--apply", type=Path, metavar="JSON", help="fuse with this instead of fitting")
    parser.add_argument("--prior", type=float, default=0.5, help="P(fake) where no detector scored (default 0.5)")
    parser.add_argument("--from-sklearn", type=Path, metavar="FILE", help="print how to turn a .joblib into JSON")
    parser.add_argument("--folds", type=int, default=5, help="folds by identity (default 5)")
    parser.add_argument("--seed", type=int, default=100, help="of the folds (default 100)")
    parser.add_argument("--output", type=Path, help="what to write")
    parser.add_argument("overrides", nargs="*", metavar="root_path=DIR", help="with --branches: where the data are")
    arguments = parser.parse_intermixed_args(words)
    if arguments.from_sklearn:
        arguments.work = say_sklearn
        return arguments
    if arguments.output is None:
        parser.error("--output is needed")
    if bool(arguments.branches) == bool(arguments.score):
        parser.error("give --branches CKPT, or --score NAME=CSV for each detector, or --video and --audio")
    arguments.work = fuse_branches if arguments.branches else apply_scores if arguments.apply else fuse_scores
    if arguments.branches:
        arguments.split = arguments.split or "val"
    return arguments


if __name__ == "__main__":
    sys.exit(main())
