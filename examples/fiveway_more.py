"""A finished run of `examples.fiveway` on people made for the purpose.

`--people N`: what each branch sees of N people more than the split has, so that chance has less to say about blind cells.
`--gate`: the gate where it can open at its usual recall. Its clips are real ones and blended faces, for a patch shows no other
fake, as many as a recall of 0.99 takes, of many people, short.
"""

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd

from examples import common

RUN = "fiveway"
PEOPLE_SEED, GATE_SEED = 1000, 2000
"""Added to the run's seed: other people than the run's, and than each other's."""
GATE_PEOPLE, GATE_CLIPS = 240, 3
GATE: dict[str, Any] = {"seconds": (1.0, 1.0), "kinds": ("face_blended",), "fake_share": 2 / 3}
RECALL, VAL_SHARE = 0.99, 0.8
"""Of 240 people 192 have 384 fakes; 368 is the least for which a recall of 0.99 can be vouched for."""


def more_people(root: Path, people: int, *, seed: int = 0, workers: int = 2) -> dict[str, Any]:
    """Return what the run below `root` is worth on that many people of twelve clips each; ROOT/people.json holds it."""
    from examples.fiveway import worth

    detector, folder = finished(root), root / "people"
    common.make_clips(folder, seed=seed + PEOPLE_SEED, workers=workers, identities=people)
    common.crop_clips(folder, workers=workers)
    table = features_once(detector, folder, clips_of(folder))
    summary = worth(detector.verdicts.fusion, table) | {"people": people}
    (root / "people.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def gate(
    root: Path,
    *,
    seed: int = 0,
    workers: int = 2,
    people: int = GATE_PEOPLE,
    clips: int = GATE_CLIPS,
    recall: float = RECALL,
) -> dict[str, Any]:
    """Fit heads and gate on four people in five, judge the clips of the others with the gate and without.

    ROOT/gate.json holds the outcome.

    Raises:
        AssertionError: the gate changed the score of a clip that it did not let out.
    """
    from visavox.bundle.trim import load_trimmed
    from visavox.detectors.fiveway.fusion import FEATURES
    from visavox.detectors.fiveway.gate import exact_interval

    detector, folder = finished(root), root / "gate"
    common.make_clips(
        folder, seed=seed + GATE_SEED, workers=workers, identities=people, clips_per_identity=clips, **GATE
    )
    common.crop_clips(folder, workers=workers)
    rows = clips_of(folder)
    everyone = sorted(set(rows["source"]))
    first = rows["source"].isin(everyone[: round(VAL_SHARE * people)])
    val, test = features_once(detector, folder, rows[first]), rows[~first]

    detector.settings = detector.settings.model_copy(update={"gate_recall": recall})
    table = {name: val[name].to_numpy() for name in FEATURES}
    detector.fit_fusion(table, val["label"].to_numpy(), val["group"].to_numpy(), "the gate's validation clips")
    fitted = detector.verdicts.gate
    bundles = [load_trimmed(path, detector.config) for path in test["path"]]
    judged = both_ways(detector, bundles)
    labels, exits = test["label"].to_numpy(), judged["exited"].to_numpy()
    stayed = ~exits
    differing = int((judged["logit_with"] != judged["logit_without"])[stayed].sum())
    assert not differing, f"the gate changed the scores of {differing} clips that it did not let out"
    kept, fakes = int((stayed & (labels == 1)).sum()), int((labels == 1).sum())
    summary = {
        "said": str(fitted),
        "open": fitted.open,
        "val_people": int(val["source"].nunique()),
        "test_people": int(test["source"].nunique()),
        "test_clips": len(test),
        "test_recall": [round(value, 4) for value in (kept / fakes, *exact_interval(kept, fakes))],
        "test_fakes": fakes,
        "test_exits_real": round(float(exits[labels == 0].mean()), 4),
        "test_exits": round(float(exits.mean()), 4),
        "stayed_equal": int(stayed.sum()),
        "called_real_of_exited": round(float((judged["logit_with"] < 0)[exits].mean()), 4) if exits.any() else None,
    }
    for way in ("without", "with"):
        summary[f"seconds_{way}"] = round(float(judged[f"seconds_{way}"].mean()), 5)
    for name, some in {"exited": exits, "stayed": stayed}.items():
        summary[f"seconds_of_{name}"] = [
            round(float(judged.loc[some, f"seconds_{way}"].mean()), 5) if some.any() else None
            for way in ("without", "with")
        ]
    (root / "gate.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def both_ways(detector: Any, bundles: list[Any]) -> pd.DataFrame:
    """Judge each clip with the gate and without, which comes first in turn; seconds are of this process's CPU."""
    lines = []
    detector.examine(bundles[0], early_exit=False)  # what a first call prepares is nobody's
    for i, bundle in enumerate(bundles):
        line: dict[str, Any] = {}
        for early in (False, True) if i % 2 else (True, False):
            way, begun = "with" if early else "without", time.process_time()
            one = detector.examine(bundle, early_exit=early)
            line |= {f"seconds_{way}": time.process_time() - begun, f"logit_{way}": one.logit}
            if early:
                line["exited"] = one.exited
        lines.append(line)
    return pd.DataFrame(lines)


def finished(root: Path) -> Any:
    """Return the detector of the run below `root`."""
    from visavox.detectors.fiveway.detector import load

    checkpoint = root / "runs" / RUN / "best.ckpt"
    if not (root / "runs" / RUN / "gate.json").is_file():
        raise SystemExit(f"{checkpoint.parent}: no finished run; `python -m examples.fiveway --output {root}` makes it")
    return load(checkpoint)


def clips_of(folder: Path) -> pd.DataFrame:
    """Return the clips below a folder as rows of a split CSV, all of them `test`."""
    rows = pd.read_csv(folder / common.VIDEOS / "labels.csv")
    places = [folder / common.BUNDLES / Path(name).with_suffix(".npz") for name in rows["filename"]]
    rows = rows.assign(split="test", source=rows["identity"], path=[str(place) for place in places])
    missing = [str(place) for place in places if not place.is_file()]
    if missing:
        raise SystemExit(f"{len(missing)} of {len(rows)} clips gave no bundle, the first {missing[0]}")
    return rows


def features_once(detector: Any, folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the features of clips; they are kept in FOLDER/features.csv, which is read where it is there."""
    from visavox.detectors.fiveway.outputs import feature_table

    path = folder / "features.csv"
    if not path.is_file():
        feature_table(detector, rows).to_csv(path, index=False)
    table = pd.read_csv(path)
    if list(table["filename"]) != list(rows["filename"]):
        raise SystemExit(f"{path} is of other clips; take it away to have it made anew")
    return table


def print_gate(summary: dict[str, Any], root: Path) -> None:
    print(f"{summary['said']} ({summary['val_people']} people; the fakes are blended faces)")
    recall, low, high = summary["test_recall"]
    print(
        f"on {summary['test_clips']} clips of {summary['test_people']} other people: recall {recall:.4f} [{low:.4f}, {high:.4f}] "
        f"of {summary['test_fakes']} fakes, {summary['test_exits_real']:.1%} of the real ones exit"
    )
    print(
        f"CPU seconds a clip: {summary['seconds_without']:.4f} without the gate, {summary['seconds_with']:.4f} with it; of those "
        f"that exit {' and '.join('-' if s is None else f'{s:.4f}' for s in summary['seconds_of_exited'])}"
    )
    if summary["called_real_of_exited"] is not None:
        print(f"{summary['called_real_of_exited']:.1%} of those that exit are called real")
    print(f"the {summary['stayed_equal']} clips that stay have equal scores with it and without; {root / 'gate.json'}")
