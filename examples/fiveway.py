"""Five branches on synthetic clips: what each of them sees, what they are worth together, and what the gate saves.

    python -m examples.fiveway               # on the clips of `make demo`, which are made if they are not there
    python -m examples.fiveway --people 24   # then: the same table on 24 people more, all of them unseen
    python -m examples.fiveway --gate        # then: the gate on face fakes enough for a recall of 0.99, seconds with and without

Trains configs/fiveway_tiny.json and prints, of each branch and each fusion, the test AUC for each kind of fake and for all
together with 95 % intervals, whether the branches see what they should and nothing where they are blind, the coefficients of
the five-way head, and the seconds of a clip with and without the gate.
Everyone in the test is unseen in training and in the fusion. Synthetic clips say nothing about real deepfakes.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from examples import common
from visavox.commands.trained import trained

CONFIG = Path("configs/fiveway_tiny.json")
RUN = "fiveway"
SEES: dict[str, tuple[str, ...]] = {
    "tiny": ("face_blended",),
    "visual": ("face_blended",),
    "temporal": ("face_blended",),
    "audio": ("voice_vocoded",),
    "sync": ("audio_shifted", "audio_swapped"),
}
"""The kinds of fake that each branch should see."""
MAY_SEE = {"sync": ("face_blended", "voice_vocoded")}
"""Kinds that change what a branch reads, so that it may see them: mouths of a blended face, a vocoded voice."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = common.arguments("fiveway", __doc__)
    parser.add_argument("--people", type=int, metavar="N", help="judge N people more with the finished run")
    parser.add_argument("--gate", action="store_true", help="what the gate of the finished run saves on face fakes")
    arguments = parser.parse_args(argv)
    from visavox.logs import set_up_logging

    set_up_logging()
    if arguments.people or arguments.gate:
        from examples import fiveway_more

        how = {"seed": arguments.seed, "workers": arguments.workers}
        if arguments.people:
            found = fiveway_more.more_people(arguments.output, arguments.people, **how)
            print_table(found, f"{found['n_test']} clips of {arguments.people} people more")
        if arguments.gate:
            fiveway_more.print_gate(fiveway_more.gate(arguments.output, **how), arguments.output)
        return 0
    summary = example(arguments.output, seed=arguments.seed, workers=arguments.workers)
    print_summary(summary, arguments.output)
    return 0


def example(
    root: Path,
    *,
    seed: int = 0,
    workers: int = 2,
    identities: int = common.IDENTITIES,
    clips: int = common.CLIPS_PER_IDENTITY,
    seconds: tuple[float, float] = common.SECONDS,
    words: Sequence[str] = (),
) -> dict[str, Any]:
    """Run every stage below `root`; returns what fiveway.json holds. Stages that are done are not done again.

    Args:
        identities, clips, seconds: people, clips of each, and how long these are, at least and at most.
        words: settings (key=value) in place of the configuration's.
    """
    took: dict[str, float] = {}
    made = {"identities": identities, "clips_per_identity": clips, "seconds": seconds}
    labels, _ = common.make_bundles(root, took, seed=seed, workers=workers, **made)
    with common.stage("split", took):
        common.make_split(root, labels, seed=seed)
    with common.stage("train", took):
        config = common.settings(CONFIG, root, seed, words)
        trained(config, data_version=common.SPLIT, code_version=RUN, last="gate.json")
    summary = measure(root / "runs" / RUN) | {"seconds": {name: round(value, 1) for name, value in took.items()}}
    (root / "fiveway.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def measure(run: Path) -> dict[str, Any]:
    """AUC by head and kind of fake on the test clips of a finished run, its gate, and the five-way coefficients."""
    from visavox.detectors.fiveway.fusion import Fusion

    table = pd.read_csv(run / "features.csv", keep_default_na=False, na_values=[""])
    fitted = Fusion.load(run / "fusion.json")
    head = fitted["5way"]
    return worth(fitted, table[table["split"] == "test"]) | {
        "coefficients": {n: round(w, 3) for n, w in zip(head.features, head.weights)},
        "temperature": round(head.temperature, 3),
        "gate": json.loads((run / "gate.json").read_text(encoding="utf-8")),
    }


def worth(fitted: Any, test: pd.DataFrame) -> dict[str, Any]:
    """AUC by head and kind of fake with intervals, on clips that the fusion was not fitted on; and what was not expected."""
    from visavox.detectors.fiveway.outputs import ablation, by_kind

    shown = [*SEES, "2way", "3way", "4way", "5way"]
    whole = ablation(fitted, test).set_index("head")
    cells: dict[str, dict[str, list[float]]] = {name: {} for name in shown}
    for cell in by_kind(fitted, test, shown).itertuples():
        numbers = (cell.auc, cell.low, cell.high, cell.chance, cell.p_value)
        cells[cell.head][cell.kind] = [round(float(value), 4) for value in numbers]
    return {
        "auc_by_kind": cells,
        "auc": {name: [round(float(whole.loc[name, k]), 4) for k in ("auc", "auc_low", "auc_high")] for name in shown},
        "as_expected": expectations(cells),
        "n_test": len(test),
    }


def expectations(cells: dict[str, dict[str, list[float]]]) -> list[str]:
    """Branches that do not see what they should (AUC below 0.9), or see where they should be blind.

    Chance is that of labels exchanged within each person's clips; so many cells are tested at 5 % together (Bonferroni).
    """
    blind = [
        (branch, kind)
        for branch, seen in SEES.items()
        for kind in cells[branch]
        if kind not in (*seen, *MAY_SEE.get(branch, ()))
    ]
    said = []
    for branch, seen in SEES.items():
        for kind, (auc, low, high, chance, p_value) in cells[branch].items():
            if kind in seen and auc < 0.9:
                said.append(f"{branch} should see {kind}: {auc:.3f} [{low:.3f}, {high:.3f}]")
            elif (branch, kind) in blind and p_value < 0.05 / len(blind):
                said.append(f"{branch} should be blind to {kind}: {auc:.3f}, by chance {chance:.3f}, p {p_value:.4f}")
    least = min((cells[branch][kind][4] for branch, kind in blind), default=1.0)
    return said or [
        f"each branch sees what it should; of {len(blind)} blind cells none is beyond chance, least p {least:.3f}"
    ]


def print_table(summary: dict[str, Any], of: str) -> None:
    from rich.console import Console
    from rich.table import Table

    kinds = list(summary["auc_by_kind"]["5way"])
    shown = Table("head", *kinds, "all", title=f"Test AUC by kind of fake; {of} (synthetic: no real skill)")
    for name, row in summary["auc_by_kind"].items():
        cells = [*(row[kind] for kind in kinds), summary["auc"][name]]
        shown.add_row(name, *("{:.3f} [{:.2f}, {:.2f}]".format(*cell[:3]).replace("[", "\\[") for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(shown)
    for said in summary["as_expected"]:
        console.print(said, markup=False)


def print_summary(summary: dict[str, Any], root: Path) -> None:
    from rich.console import Console

    print_table(summary, f"{summary['n_test']} clips of unseen people")
    console = Console(width=None if sys.stdout.isatty() else 140)
    weights = ", ".join(f"{n} {w:+.2f}" for n, w in sorted(summary["coefficients"].items(), key=lambda i: -abs(i[1])))
    console.print(
        f"five-way coefficients, log-odds per deviation (T {summary['temperature']}): {weights}", markup=False
    )
    gate, test = summary["gate"], summary["gate"]["test"]
    console.print(
        f"{gate['said']}; on test clips {1 - test['exits_fake']:.3f} of the fakes stay, {test['exits_real']:.0%} of the real "
        f"ones exit; {test['seconds_per_clip']:.3f} s a clip without it, {test['seconds_per_clip_with_gate']:.3f} s with it",
        markup=False,
    )
    console.print(f"{root / 'runs' / RUN}: features, heads and ablation; {root / 'fiveway.json'}")
    console.print(f"seconds: {summary['seconds']}")


if __name__ == "__main__":
    sys.exit(main())
