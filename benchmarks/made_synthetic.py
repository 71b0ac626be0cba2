"""Detectors trained on real synthetic clips alone, scored on the fakes that the demo makes of other people.

The demo's fakes (`visavox/synthetic/fakes.py`) and the made ones (`visavox/pseudofakes`) share no function. What is nearest:
`sbv` and the demo's `face_blended` both follow SBI (one moves and softens a face and shifts its colours a little, the other tints
and pales it), `griffin_lim` and `voice_vocoded` both use Griffin and Lim's algorithm (in windows, or over the whole voice).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.made_figures import interval, scores_of, train_on

PEOPLE: dict[str, dict[str, Any]] = {
    "train": {"identities": 30, "clips_per_identity": 6, "seed": 5, "fake_share": 0.0},
    "test": {"identities": 16, "clips_per_identity": 6, "seed": 77, "fake_share": 2 / 3},
}
HELD = ("id0000", "id0001", "id0002", "id0003", "id0004")
"""Of the 30 people those who choose the epoch."""
SETS = {"picture": ("sbv", "region"), "sound": ("griffin_lim", "lpc", "codec"), "both": ("offset", "swap")}
"""Made sets: kinds of fake."""
PER_REAL = {"picture": 3, "sound": 2, "both": 3}
SECONDS = {"picture": 0.8, "sound": 2.4, "both": 4.0}


class Recipe(NamedTuple):
    """How a detector is trained."""

    config: str
    """One of configs/."""
    made: tuple[str, ...]
    """Of SETS those that it is shown, from the disk; none: it learns of the real clips alone, or not at all."""
    sees: tuple[str, ...]
    """Of the demo's fakes those that it should know."""
    settings: list[str]


ON_THE_WAY = ["train_on=real", 'fakes=["sbv","region"]', "fake_seconds=0.8"]
"""Fakes made in training, others in each epoch, a real clip and its fake in one batch."""
SYNC = ("audio_shifted", "audio_swapped")
RECIPES = {
    "xception_video": Recipe("xception_video_tiny", (), ("face_blended",), [*ON_THE_WAY, "epoch=40"]),
    "xception_audio": Recipe("xception_audio_tiny", ("sound",), ("voice_vocoded",), ["epoch=4", "detector.windows=2"]),
    "timesformer": Recipe("tiny", ("both",), SYNC, ["epoch=6", "lr=2e-3", "frame_num=2"]),
    "patches": Recipe(
        "fiveway_tiny",
        ("picture",),
        ("face_blended",),
        [f"detector.{stage}_epochs=0" for stage in ("visual", "temporal", "audio", "sync")] + ["epoch=5"],
    ),
    "fiveway": Recipe("fiveway_tiny", ("picture", "sound", "both"), ("face_blended", "voice_vocoded", *SYNC), []),
    "td3mf": Recipe("td3mf_tiny", ("both",), SYNC, []),
    "anomaly": Recipe("anomaly_tiny", (), SYNC, []),
    "zeroshot": Recipe("zeroshot", (), SYNC[1:], []),  # its score is the best of all shifts: blind to an offset
    "zeroshot_centre": Recipe("zeroshot", (), SYNC, ["detector.score=centre"]),
}


def measure(out: Path, names: list[str]) -> dict[str, Any]:
    """Run all stages below OUT/synthetic; finished ones are kept. Returns name -> kind of the demo's fake -> AUC."""
    out = out / "synthetic"
    prepare(out)
    return {name: scored(out, name) for name in names}


def prepare(out: Path) -> None:
    """Clips, bundles and the split of the real ones."""
    from visavox.commands import crop
    from visavox.splits.table import write_split
    from visavox.synthetic.dataset import make_dataset

    for part, how in PEOPLE.items():
        if not (out / "videos" / part / "labels.csv").is_file():
            make_dataset(out / "videos" / part, workers=1, **how)
    places = ["--input", str(out / "videos"), "--output", str(out / "bundles"), "--workers", "1"]
    assert crop.main([*places, "--config", "tiny"]) in (0, 1)  # 1: some have no face
    reals = pd.read_csv(out / "videos/train/labels.csv")
    table = pd.DataFrame({"filename": "train/" + reals["filename"], "label": 0, "source": reals["identity"]})
    table["filepath"] = [f"bundles/{Path(name).with_suffix('.npz')}" for name in table["filename"]]
    table["split"] = ["val" if person in HELD else "train" for person in table["source"]]
    write_split(table[[(out / path).is_file() for path in table["filepath"]]], out / "reals.csv", out, part=True)


def make(out: Path, name: str) -> pd.DataFrame:
    """A set of made fakes, each beside its real clip; returns the rows of its split."""
    from visavox.commands import fakes

    place = out / f"made_{name}"
    if not (place / fakes.CSV).is_file():
        how: dict[str, Any] = {"kinds": SETS[name], "per_real": PER_REAL[name], "seconds": SECONDS[name]}
        fakes.write_set(out / "reals.csv", place, root=out, tooled=0.0, pairs=True, **how)
    rows = pd.read_csv(place / fakes.CSV, keep_default_na=False)
    rows["filepath"] = f"{place.name}/" + rows["filepath"]
    return rows


def scored(out: Path, name: str) -> dict[str, Any]:
    """Train by a recipe, score the demo's clips; returns kind -> AUC with its interval by person."""
    done, recipe = out / "scores" / f"{name}.json", RECIPES[name]
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    rows = pd.read_csv(out / "videos/test/labels.csv")
    rows["path"] = [str(out / "bundles/test" / Path(filename).with_suffix(".npz")) for filename in rows["filename"]]
    rows = rows[[Path(path).is_file() for path in rows["path"]]]
    rows["score"] = scores_of(learnt(out, name), name, list(rows["path"]))
    kinds = [kind for each in recipe.made for kind in SETS[each]] + made_on_the_way(recipe)
    found = {"kinds": kinds, "sees": list(recipe.sees), "auc": by_kind(rows)}
    _made(done.parent)
    done.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def learnt(out: Path, name: str) -> Any:
    """The detector of a recipe, trained where it is one that is."""
    from visavox import config as configuration
    from visavox.detectors import build

    recipe = RECIPES[name]
    where = [f"root_path={out}", f"runs_path={out / 'runs'}", "device=cpu", "patience=100"]
    config = configuration.load(recipe.config, [*recipe.settings, *where])
    if config.detector.name == "zeroshot":
        return build.ready(recipe.config, recipe.settings)
    run = out / "runs" / name
    if not (run / "test.json").is_file():
        made = pd.concat([make(out, each) for each in recipe.made] or [pd.read_csv(out / "reals.csv")])
        made.to_csv(_made(out / "data") / f"{name}.csv", index=False)
        train_on(config, run, name)
    return build.load(run / "best.ckpt")


def made_on_the_way(recipe: Recipe) -> list[str]:
    """Kinds that a recipe makes in training."""
    from visavox import config as configuration

    return configuration.load(recipe.config, recipe.settings).fakes


def by_kind(rows: pd.DataFrame) -> dict[str, Any]:
    """Rows with kind, identity and score -> kind of fake -> AUC against all real clips, with its interval by person."""
    sides = {
        kind: [(float(score), person.split(";")[0]) for score, person in zip(some["score"], some["identity"])]
        for kind, some in rows.groupby("kind")
    }
    return {kind: interval([(sides["real"], side)]) for kind, side in sides.items() if kind != "real"}


def as_table(found: dict[str, Any]) -> str:
    """Markdown: AUC of each kind, in bold where the detector should see it."""
    from visavox.synthetic.fakes import KINDS as DEMO

    lines = [f"| detector | made fakes shown | {' | '.join(DEMO)} |", "|" + "---|" * (2 + len(DEMO))]
    for name, one in found.items():
        cells = []
        for kind in DEMO:
            figure = one["auc"][kind]
            text = f"{figure['auc']:.3f}"
            cells.append(f"**{text}** [{figure['low']:.2f}, {figure['high']:.2f}]" if kind in one["sees"] else text)
        lines.append(f"| {name} | {', '.join(one['kinds']) or 'none'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
