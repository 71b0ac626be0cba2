"""`python -m examples.anomaly --real CLIPS`: can the tiny detector, trained on some real clips, tell moved sound in others?

People are shared out into folds; each fold is judged by a detector that saw none of its people, neither in training nor for
the threshold. What is measured is whether synchronisation was learnt. It is no skill at deepfakes: nothing here is one.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from examples import common
from visavox.commands.trained import trained

CONFIG = Path("configs/anomaly_tiny.json")
FOLDS = 3
SETTINGS = ("max_clip_len=16", "epoch=30", "patience=30", "detector.sync_epochs=100")
"""A dozen clips make one step an epoch, so there are many epochs."""
SHIFTS = (-15, -10, -5, -3, 3, 5, 10, 15)


def real_clips(clips: Path, root: Path, *, start: str = "none", seed: int = 0, workers: int = 2) -> dict[str, Any]:
    """Crop, train a detector per fold, judge; prints and returns what ROOT/real.json holds.

    Args:
        start: checkpoint that training starts from, as train.py's --pret-version.
    """
    from visavox.commands import crop
    from visavox.detectors.anomaly.detector import load

    table = one_clip_of_each(clips)
    settings = common.settings(CONFIG, root, seed, SETTINGS)
    inputs = {name: clips / name for name in table["file"]}
    rows = {row.input: row for row in crop.crop_folder(inputs, root / "bundles", settings, workers=workers)}
    table = table[[bool(rows[name].bundle) and rows[name].status == "ok" for name in table["file"]]]
    table = table.assign(filepath=[f"bundles/{rows[name].bundle}" for name in table["file"]])
    table = table.sample(frac=1, random_state=seed).reset_index(drop=True)
    found = []
    for fold in range(FOLDS):
        train_fold(root, table, fold, settings, start)
        detector = load(root / f"runs/fold{fold}/best.ckpt")
        found += [judge(root, detector, row, fold) for row in table[table.index % FOLDS == fold].itertuples()]
    summary = summarise(found)
    print_summary("each judged by a detector that never saw them", summary)
    if start != "none":
        came = [judge(root, load(start), row, -1) for row in table.itertuples()]
        summary["start"] = summarise(came)
        print_summary(f"judged by {start} as it came, trained on none of them", summary["start"])
    print("This says whether synchronisation was learnt. It says nothing about deepfakes.")
    (root / "real.json").write_text(json.dumps(summary | {"clips": found}, indent=2) + "\n", encoding="utf-8")
    return summary


def one_clip_of_each(clips: Path) -> Any:
    """The real clips of clips.csv, the first of each identity: further ones may be the same with moved sound."""
    import pandas as pd

    path = clips / "clips.csv"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; --real wants a folder with clips.csv (file, label, identity)")
    table = pd.read_csv(path, dtype={"label": int})
    return table[table["label"] == 0].drop_duplicates("identity")


def train_fold(root: Path, table: Any, fold: int, settings: Any, start: str) -> None:
    """Test: every third person from `fold` on; of the others every fifth for validation."""
    others = table.index[table.index % FOLDS != fold]
    split = np.where(table.index % FOLDS == fold, "test", "train")
    split[others[::5]] = "val"
    rows = table.assign(filename=table["file"], split=split)[["filename", "filepath", "split", "label", "identity"]]
    (root / "data").mkdir(parents=True, exist_ok=True)
    rows.to_csv(root / f"data/fold{fold}.csv", index=False)
    trained(settings, data_version=f"fold{fold}", code_version=f"fold{fold}", pret_version=start)


def judge(root: Path, detector: Any, row: Any, fold: int) -> dict[str, Any]:
    """Scores of one held-out clip, as it is and with its sound moved, in deviations of its fold's validation clips."""
    from visavox.bundle import Bundle
    from visavox.bundle.trim import load_trimmed
    from visavox.pseudofakes import sound

    bundle = load_trimmed(root / row.filepath, detector.config)

    def score(changed: Bundle) -> float:
        steps = detector.step_scores(changed).scores.mean()
        return round(float((steps - float(detector.real_mean)) / float(detector.real_std)), 4)

    moved = {str(by): score(sound.moved(bundle, by)) for by in SHIFTS if abs(by) < bundle.track_frames - 16}
    return {
        "file": row.file,
        "fold": fold,
        "original": score(bundle),
        "moved": moved,
        "backwards": score(sound.backwards(bundle)),
    }


def summarise(found: list[dict[str, Any]]) -> dict[str, Any]:
    """AUC of moved against original clips, and how often a clip is more likely than itself with moved sound; 95 %."""
    from scipy.stats import rankdata

    from visavox.evaluation.intervals import estimate

    groups = [i for i, clip in enumerate(found) for _ in range(1 + len(clip["moved"]))]
    labels = np.array([int(j > 0) for clip in found for j in range(1 + len(clip["moved"]))])
    scores = np.array([s for clip in found for s in (clip["original"], *clip["moved"].values())])
    auc = estimate(labels, rankdata(scores) / (len(scores) + 1), np.array(groups))["auc"]
    shares = np.array([np.mean([clip["original"] < s for s in clip["moved"].values()]) for clip in found])
    rng = np.random.default_rng(0)
    draws = rng.choice(shares, (2000, len(shares))).mean(1)
    return {
        "people": len(found),
        "auc": [round(value, 3) for value in auc],
        "pairs": [round(float(value), 3) for value in (shares.mean(), *np.quantile(draws, [0.025, 0.975]))],
        "backwards": round(float(np.mean([clip["original"] < clip["backwards"] for clip in found])), 3),
    }


def print_summary(how: str, summary: dict[str, Any]) -> None:
    auc, low, high = summary["auc"]
    share, least, most = summary["pairs"]
    print(
        f"{summary['people']} people, {how}:\n"
        f"AUC of clips with moved sound against the originals: {auc:.3f} ({low:.3f} to {high:.3f})\n"
        f"a clip is more likely than itself with moved sound in {share:.0%} ({least:.0%} to {most:.0%}) of the pairs, "
        f"than itself with sound backwards in {summary['backwards']:.0%}"
    )
