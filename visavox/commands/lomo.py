"""Leave one manipulation out, one after the other: how well is a fake found whose kind was never trained on?

    visavox lomo --config configs/tiny.json --data-version train_dev_test
    visavox lomo --config configs/tiny.json --data-version train_dev_test --column kind --code-version lomo

For each value of the column among the test's fakes a training of its own without it, RUNS_PATH/CODE_VERSION/VALUE, on the split
ROOT_PATH/data/DATA_VERSION-without-VALUE.csv, whose people stay where they were. Those that are finished are not trained again.
RUNS_PATH/CODE_VERSION/lomo.csv has the AUC on the manipulation left out beside that on those it knew, the worst first.
Exit codes: 0 the table is whole; 2 wrong arguments, settings, data or weights; 4 another run writes to the same folder; 5 the
disk is full; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visavox import config as configuration
from visavox import runs
from visavox.commands.trained import trained
from visavox.config import Config, ConfigError
from visavox.files import replacing, shown
from visavox.logs import complain, say

if TYPE_CHECKING:
    import pandas as pd

    from visavox.evaluation.intervals import Estimate

TABLE = "lomo.csv"


def main(argv: Sequence[str] | None = None) -> int:
    words = _parse(argv)
    try:
        config = configuration.load(words.config, words.overrides)
        from visavox.logs import set_up_logging

        set_up_logging()
        with runs.stoppable():
            rows = lomo(
                config,
                data_version=words.data_version,
                code_version=words.code_version,
                column=words.column,
                allow_leaks=words.allow_leaks,
            )
    except (KeyboardInterrupt, SystemExit) as error:
        stop = runs.stopped_by(error)  # Lightning makes a SystemExit of it
        if stop is None:
            raise
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ConfigError, ValueError, RuntimeError, OSError) as error:
        complain("visavox lomo", error)
        return runs.exit_code(error)
    say(f"{'left out':24}{'AUC on it':>26}{'AUC on those it knew':>28}{'fakes':>8}")
    for row in rows:
        say(f"{shown(row.name)[:24]:24}{row.unseen!s:>26}{row.seen!s:>28}{row.fakes:8}")
    return 0


class Row(NamedTuple):
    """One manipulation that was left out."""

    name: str
    unseen: Estimate
    """AUC of its fakes in the test against the test's real clips, with its 95 % interval, clustered by identity."""
    seen: Estimate
    """The same of the manipulations that were trained on."""
    fakes: int
    """Fakes of the test that are of it."""


def lomo(
    config: Config, *, data_version: str, code_version: str = "lomo", column: str = "method", allow_leaks: bool = False
) -> list[Row]:
    """Train without each manipulation, score the test, write the table and return it, the worst first.

    Raises:
        SplitError: the column names no manipulations, or one alone.
    """
    from visavox.splits.protocols import leave_out
    from visavox.splits.table import SplitError, read_split, write_split

    root = Path(config.root_path)
    rows = read_split(root / "data" / f"{data_version}.csv", root)
    if column not in rows:
        raise SplitError(f"--column {column}: no such column; found {', '.join(rows.columns)}")
    fakes = rows[rows["label"] == 1]
    values = sorted(set(fakes.loc[fakes["split"] == "test", column].astype(str)) - {"", "-", "nan"})
    if len(values) < 2:
        raise SplitError(
            f"--column {column}: the test's fakes are of {', '.join(values) or 'none'}; two at least are needed"
        )
    names = {value: re.sub(r"[^\w-]+", "_", value) for value in values}
    if len(set(names.values())) < len(names):
        raise SplitError(f"--column {column}: two of {', '.join(values)} would have one run folder; rename one of them")
    table = []
    for value in values:
        part, said = leave_out(rows, value, column)
        name = names[value]
        say(f"{said}: {code_version}/{name}")
        write_split(part.drop(columns="path"), root / "data" / f"{data_version}-without-{name}.csv", root)
        trained(
            config,
            data_version=f"{data_version}-without-{name}",
            code_version=f"{code_version}/{name}",
            allow_leaks=allow_leaks,
        )
        checkpoint = Path(config.runs_path, code_version, name, "best.ckpt")
        table.append(_judge(value, column, rows[rows["split"] == "test"], checkpoint, config))
    table.sort(key=lambda row: row.unseen.value)
    flat = [[row.name, *row.unseen, *row.seen, row.fakes] for row in table]
    header = [
        "left_out",
        *(f"{which}_{part}" for which in ("unseen", "seen") for part in ("auc", "low", "high")),
        "fakes",
    ]
    with replacing(Path(config.runs_path, code_version, TABLE)) as beside, beside.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *flat])
    return table


def _judge(value: str, column: str, test: pd.DataFrame, checkpoint: Path, config: Config) -> Row:
    import numpy as np

    from visavox.bundle.trim import load_trimmed
    from visavox.compute import resolve_device
    from visavox.detectors.build import load
    from visavox.evaluation.intervals import estimate
    from visavox.evaluation.scores import groups_of

    scorer = load(checkpoint, [f"device={config.device}"])
    scorer = scorer.to(resolve_device(config.device))
    paths, size = list(test["path"]), config.submit_batch_size
    parts = [paths[i : i + size] for i in range(0, len(paths), size)]
    scores = np.concatenate([scorer.score([load_trimmed(path, config) for path in part]) for part in parts])
    labels, groups = test["label"].to_numpy(), groups_of(test)[0]
    own = test[column].astype(str).to_numpy() == value

    def auc(chosen: np.ndarray) -> Estimate:
        return estimate(labels[chosen], scores[chosen], None if groups is None else groups[chosen])["auc"]

    return Row(value, auc((labels == 0) | own), auc((labels == 0) | ~own), int((own & (labels == 1)).sum()))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox lomo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="of the detector: a JSON file or the name of a shipped one")
    parser.add_argument(
        "--data-version", default="train_dev_test", help="ROOT_PATH/data/NAME.csv (default train_dev_test)"
    )
    parser.add_argument("--code-version", default="lomo", help="folder of the runs: RUNS_PATH/NAME (default lomo)")
    parser.add_argument(
        "--column", default="method", help="what names the manipulations, such as method or kind (default method)"
    )
    parser.add_argument("--allow-leaks", action="store_true", help="train although somebody stands in two splits")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the configuration"
    )
    return parser.parse_intermixed_args(argv)
