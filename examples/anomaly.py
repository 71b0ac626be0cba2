"""The detector that never sees a fake, on synthetic clips: train on real ones alone, say what it notices and what it cannot.

    python -m examples.anomaly                # on the clips of `make demo`, which are made if they are not there
    python -m examples.anomaly --real CLIPS   # on the real clips of a folder with clips.csv: can it tell moved sound?
    python -m examples.anomaly --real CLIPS --start demo/runs/anomaly/best.ckpt   # the same, not from random weights

Prints the test AUC for each kind of fake with its 95 % interval, how often a real clip is more likely than the same with
its sound backwards, and how near the peak of the score lies to 0.8 s of foreign sound in clips of 6 s. Everyone in the
test is unseen in training. Synthetic clips say nothing about real deepfakes; nor does --real, whose "fakes" are real clips
with moved sound.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples import common
from visavox.commands.trained import trained

CONFIG = Path("configs/anomaly_tiny.json")
RUN, SPLIT = "anomaly", "anomaly"
SPLICES, SPLICE_SECONDS, CLIP_SECONDS, TOLERANCE = 20, 0.8, 6.0, 0.2
SPLICE_SEED = 41
"""Of the spliced clips: other people than the demo's."""
SHIFTS = (-10, -5, -3, 3, 5, 10)


def main(argv: Sequence[str] | None = None) -> int:
    parser = common.arguments("anomaly", __doc__)
    parser.add_argument(
        "--real", type=Path, help="folder with clips.csv (file, label, identity): train on its real clips"
    )
    parser.add_argument(
        "--start", default="none", help="with --real: checkpoint to start from, such as the synthetic one's"
    )
    arguments = parser.parse_args(argv)
    from visavox.logs import set_up_logging

    set_up_logging()
    if arguments.real:
        from examples.anomaly_real import real_clips

        root = arguments.output / ("anomaly_real" if arguments.start == "none" else "anomaly_real_started")
        how = {"start": arguments.start, "seed": arguments.seed, "workers": arguments.workers}
        real_clips(arguments.real, root, **how)
        return 0
    summary = example(arguments.output, seed=arguments.seed, workers=arguments.workers)
    print_summary(summary, arguments.output)
    return 0


def example(root: Path, *, seed: int = 0, workers: int = 2) -> dict[str, Any]:
    """Run every stage below `root`; returns what anomaly.json holds. Stages that are done are not done again."""
    from visavox.detectors.anomaly.detector import load

    seconds: dict[str, float] = {}
    labels, _ = common.make_bundles(root, seconds, seed=seed, workers=workers)
    with common.stage("split", seconds):
        split = common.make_split(root, labels, seed=seed)
        split = split[(split["label"] == 0) | (split["split"] == "test")]  # no fake in training, none in validation
        split.to_csv(common.split_path(root, SPLIT), index=False)
    with common.stage("train", seconds):
        trained(common.settings(CONFIG, root, seed), data_version=SPLIT, code_version=RUN)
    detector = load(root / "runs" / RUN / "best.ckpt")
    with common.stage("score", seconds):
        kinds, pairs = judge_test_clips(root, detector, split)
    with common.stage("splices", seconds):
        found = locate_splices(root, detector, workers=workers)
    summary = {
        "auc_by_kind": kinds,
        "n_train_real": int((split["split"] == "train").sum()),
        "backwards_less_likely": pairs,
        "splices": found,
        "false_positive_rate": detector.settings.false_positive_rate,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    (root / "anomaly.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def judge_test_clips(root: Path, detector: Any, split: Any) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Kind of fake -> AUC against the real test clips, interval, share above the threshold; and the backwards pairs.

    Beside the rendered fakes stand the real test clips themselves with their sound moved, swapped or reversed.
    """
    from visavox.bundle.trim import load_trimmed
    from visavox.pseudofakes import sound

    test = common.test_rows(split)
    bundles = [load_trimmed(root / path, detector.config) for path in test["filepath"]]
    real = [bundle for bundle, label in zip(bundles, test["label"]) if label == 0]
    people = test["identity"].to_numpy()
    real_people = people[test["label"] == 0]
    scores = {
        kind: ([b for b, k in zip(bundles, test["kind"]) if k == kind], people[test["kind"] == kind])
        for kind in sorted(set(test["kind"]), key=lambda kind: (kind != "real", kind))
    }
    scores |= {f"moved by {by:+d}": ([sound.moved(bundle, by) for bundle in real], real_people) for by in SHIFTS}
    others = [
        next(o for o, q in zip(real[i:] + real, [*real_people[i:], *real_people]) if q != p)
        for i, p in enumerate(real_people)
    ]
    scores["somebody else's"] = ([sound.with_sound_of(b, o) for b, o in zip(real, others)], real_people)
    scores["backwards"] = ([sound.backwards(bundle) for bundle in real], real_people)
    values = {
        name: (np.array([detector.step_scores(b).scores.mean() for b in some]), who)
        for name, (some, who) in scores.items()
    }
    table = {name: compare(values["real"], one, float(detector.threshold)) for name, one in values.items()}
    true, reversed_ = values["real"][0], values["backwards"][0]
    return table, {"share": float((true < reversed_).mean()), "pairs": len(true)}


def compare(
    real: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], threshold: float
) -> dict[str, float]:
    """AUC of scores (N,) with the interval of a bootstrap over people, against the real ones; share above the threshold."""
    from scipy.stats import rankdata

    from visavox.evaluation.intervals import estimate

    row: dict[str, float] = {"clips": len(other[0]), "above_threshold": round(float((other[0] >= threshold).mean()), 3)}
    if other is not real:
        labels = np.repeat([0, 1], [len(real[0]), len(other[0])])
        ranks = rankdata(np.concatenate([real[0], other[0]])) / (len(labels) + 1)
        found = estimate(labels, ranks, np.concatenate([real[1], other[1]]))["auc"]
        row |= {name: round(value, 4) for name, value in zip(("auc", "low", "high"), found)}
    return row


def locate_splices(root: Path, detector: Any, *, workers: int) -> dict[str, Any]:
    """How near the highest score lies to the foreign sound: seconds from it (0 inside) in each clip, and the share near."""
    from visavox import config
    from visavox.bundle.trim import load_trimmed
    from visavox.commands import crop
    from visavox.files import find_inputs
    from visavox.workers import pool

    folder = root / "splices"
    rng = np.random.default_rng(SPLICE_SEED)
    tasks = [
        (folder / f"clip_{i:02d}.mp4", i, round(float(rng.uniform(0.6, CLIP_SECONDS - SPLICE_SECONDS - 0.6)), 2))
        for i in range(SPLICES)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for task, done in pool.run([one for one in tasks if not one[0].is_file()], _ready, _make_splice, workers=workers):
        if isinstance(done, pool.Died):
            raise RuntimeError(f"{task[0]}: {done.reason}")
    settings = config.load(CONFIG, [f"max_clip_len={CLIP_SECONDS + 1}"])
    rows = crop.crop_folder(find_inputs(folder), folder / "bundles", settings, workers=workers)
    away = []
    for row, (_, _, start) in zip(rows, tasks, strict=True):
        steps = detector.step_scores(load_trimmed(folder / "bundles" / row.bundle, detector.config))
        peak = float(steps.times[steps.scores.argmax()])
        away.append(round(max(start - peak, peak - start - SPLICE_SECONDS, 0.0), 2))
    near = float(np.mean(np.array(away) <= TOLERANCE))
    return {"clips": len(away), "within_0.2_s": near, "seconds_away": away}


def _ready() -> None:
    import cv2

    cv2.setNumThreads(1)


def _make_splice(_: None, task: tuple[Path, int, float]) -> bool:
    """A clip of 6 s with 0.8 s of another person's voice from `start` on."""
    from visavox.media import write_video
    from visavox.synthetic.clips import render
    from visavox.synthetic.face import FPS
    from visavox.synthetic.voice import RATE

    path, i, start = task
    person = int(np.random.SeedSequence([SPLICE_SEED, i]).generate_state(1)[0])
    clip = render(person, i, CLIP_SECONDS)
    foreign = render(person, i, CLIP_SECONDS, size=32, voice=(person + 1, i)).audio
    a, b = round(start * RATE), round((start + SPLICE_SECONDS) * RATE)
    audio = clip.audio.copy()
    audio[a:b] = foreign[a:b]
    write_video(path, clip.frames, audio, fps=FPS, sample_rate=RATE)
    return True


def print_summary(summary: dict[str, Any], root: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(
        *("clips", "AUC", "95 %", "above threshold", "n"),
        title=f"Trained on {summary['n_train_real']} real clips and no fake; unseen people (synthetic: no real skill)",
    )
    for kind, row in summary["auc_by_kind"].items():
        auc, interval = (f"{row['auc']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}") if "auc" in row else ("", "")
        shown.add_row(kind, auc, interval, f"{row['above_threshold']:.0%}", str(row["clips"]))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(shown)
    pairs, splices = summary["backwards_less_likely"], summary["splices"]
    console.print(f"sound backwards is less likely in {pairs['share']:.0%} of {pairs['pairs']} pairs")
    console.print(
        f"0.8 s of foreign sound: the peak of the score lies within {TOLERANCE} s of it in "
        f"{splices['within_0.2_s']:.0%} of {splices['clips']} clips"
    )
    console.print(f"{root / 'runs' / RUN}: curves, histograms and a row per clip; {root / 'anomaly.json'}")
    console.print(f"seconds: {summary['seconds']}")


if __name__ == "__main__":
    sys.exit(main())
