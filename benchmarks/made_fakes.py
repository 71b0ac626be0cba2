"""What a detector knows that was trained on real people and fakes made of them: skill on generated clips it has never seen.

    python -m benchmarks.made_fakes --clips CLIPS --output work/made [--faces retinaface_mobilenet0.25]

CLIPS holds real/, fake/ and clips.csv (file, label, identity, method). People are shared out to folds. In each fold every
detector is trained on fakes made of the real clips of the other folds' people, nothing that anyone else generated, and scores the
fold's real clips, all generated clips, and the fold's faces with speech of espeak-ng in place of their voice. Beside it stand the
same detectors with random weights, the sync that needs no training, and the audit's measures: real and generated clips differ in
source, size and codec, and an AUC here is skill only as far as it beats those. Finished stages are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PICTURE = ("sbv", "region", "shift_blend", "splice_picture")
SOUND = ("griffin_lim", "world", "lpc", "codec", "voice_swap", "splice_sound")
BOTH = ("offset", "swap")
PREP = ["sync=correlation", "max_clip_len=8", "frame_size=224", "bundle_faces=32", "face_detection_step=16"]
TRAIN = ["optimizer=adamw", "weight_decay=0.01", "grad_clip=1.0", "num_workers=0", "train_batch_size=8", "device=cpu"]
TRAIN += ["submit_batch_size=8", "patience=100", "frame_num=4"]
RESNET = '"backbone":"test_resnet"'
DETECTORS: dict[str, tuple[int, tuple[str, ...], list[str]]] = {
    "patches": (
        60,
        PICTURE,
        [
            'detector={"name":"fiveway","train_faces":4,"visual_epochs":0,"temporal_epochs":0,"audio_epochs":0,"sync_epochs":0,'
            '"visual_width":8,"visual_blocks":1,"audio_width":4,"sync_width":4,"tiny_lr":0.005,"early_exit":false,"folds":2}'
        ],
    ),
    "frames": (30, PICTURE, [f'detector={{"name":"xception_video",{RESNET},"size":112,"frame_skip":10}}', "lr=2e-3"]),
    "voice": (
        40,
        (*SOUND, "swap"),
        [
            f'detector={{"name":"xception_audio",{RESNET},"size":96,"windows":2,"n_mels":64,"hidden":[64,32]}}',
            "lr=2e-3",
        ],
    ),
    "timesformer": (
        20,
        (*PICTURE, *SOUND, *BOTH),
        [
            'detector={"name":"timesformer_syncnet","embed_dims":64,"num_layers":2,"num_heads":4,"patch_size":32,'
            '"drop_path_rate":0.0}',
            "lr=1e-3",
        ],
    ),
}
"""Name -> epochs, kinds of fake it is shown, settings: as small as a CPU trains in a minute or two."""
ESPEAK_VOICES = ("en-us", "en-gb", "de", "fr", "es")
TEXT = (
    "The council met again on Tuesday to discuss the new bridge, and although nobody agreed on its colour, everyone wanted it "
    "to be finished before the rain begins in autumn."
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.made_fakes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="folder with real/, fake/ and clips.csv")
    parser.add_argument("--output", type=Path, default=Path("made_fakes"))
    parser.add_argument(
        "--faces", default="retinaface_mobilenet0.25", help="face detector (default the small RetinaFace)"
    )
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1.0, help="times those of DETECTORS (default 1)")
    parser.add_argument("--per-real", type=int, default=6, help="fakes made of each real clip (default 6)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a stretch that a fake is made of (default 2)")
    parser.add_argument(
        "--road", choices=("both", "none"), default="both", help="as `visavox fakes` has it (default both)"
    )
    parser.add_argument("--tooled", type=float, default=0.5, help="as `visavox fakes` has it (default 0.5)")
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    words = parser.parse_args(argv)
    found = measure(words)
    print(as_table(found))
    return 0


def measure(words: argparse.Namespace) -> dict[str, Any]:
    """Run all stages; returns what OUTPUT/skill.json holds."""
    out = words.output
    out.mkdir(parents=True, exist_ok=True)
    clips = crop(words)
    make(words, clips)
    spoken = speak(out, clips)
    result: dict[str, Any] = {"real": int((clips["label"] == 0).sum()), "generated": int((clips["label"] == 1).sum())}
    result["people"] = int(clips.loc[clips["label"] == 0, "identity"].nunique())
    result["detectors"] = {}
    for name in words.detectors:
        scored = [score_fold(words, clips, spoken, name, fold) for fold in range(words.folds)]
        result["detectors"][name] = {how: figures([fold[how] for fold in scored], clips, spoken) for how in scored[0]}
        print(name, json.dumps(result["detectors"][name]), file=sys.stderr, flush=True)
    result["sync_without_training"] = untrained_sync(out, clips, spoken)
    result["audit"] = audit(out, clips)
    result["audit_made"] = [f["name"] for f in audited(out / "made/fakes.csv", out / "made") if f["flagged"]]
    (out / "skill.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def crop(words: argparse.Namespace) -> pd.DataFrame:
    """Bundles of all clips; the table with columns filepath (below OUTPUT), label, identity, method, fold."""
    from sklearn.model_selection import GroupKFold

    from visavox.commands import crop as command

    listed = pd.read_csv(words.clips / "clips.csv")
    settings = [*PREP, f"face_detector={words.faces}"]
    done = words.output / "bundles/manifest.jsonl"
    if not done.is_file():
        arguments = [
            "--input",
            str(words.clips),
            "--output",
            str(words.output / "bundles"),
            "--workers",
            "1",
            *settings,
        ]
        assert command.main(arguments) == 0
    listed["filepath"] = [f"bundles/{Path(name).with_suffix('.npz')}" for name in listed["file"]]
    listed = listed[[(words.output / path).is_file() for path in listed["filepath"]]].reset_index(drop=True)
    listed["fold"] = -1
    reals = listed[listed["label"] == 0]
    for fold, (_, held) in enumerate(GroupKFold(words.folds).split(reals, groups=reals["identity"])):
        listed.loc[reals.index[held], "fold"] = fold
    return listed


def make(words: argparse.Namespace, clips: pd.DataFrame) -> None:
    """OUTPUT/made: pairs of reals and fakes of every real clip; each fold trains on a part of it."""
    from visavox.commands import fakes

    if (words.output / "made/fakes.csv").is_file():
        return
    reals = clips[clips["label"] == 0]
    table = pd.DataFrame(
        {"filename": reals["file"], "filepath": reals["filepath"], "label": 0, "source": reals["identity"]}
    )
    # Folds stand for splits, so that nobody lends a voice to somebody of another fold's training.
    table["split"] = [("train", "val", "test")[fold % 3] for fold in reals["fold"]]
    table.to_csv(words.output / "reals.csv", index=False)
    fakes.write_set(
        words.output / "reals.csv",
        words.output / "made",
        root=words.output,
        kinds=[*PICTURE, *SOUND, *BOTH],
        per_real=words.per_real,
        seconds=words.seconds,
        road=words.road,
        tooled=words.tooled,
        pairs=True,
        sheets=True,
    )


def speak(out: Path, clips: pd.DataFrame) -> dict[str, str]:
    """Real clip -> the same with speech of espeak-ng, as loud as its own sound; empty where espeak-ng is not installed."""
    from visavox.bundle import Bundle
    from visavox.features.audio import mel_3cs
    from visavox.features.sync import correlation_sync
    from visavox.media.recode import resample

    if shutil.which("espeak-ng") is None:
        return {}
    (out / "spoken").mkdir(exist_ok=True)
    made: dict[str, str] = {}
    for index, row in enumerate(clips[clips["label"] == 0].itertuples()):
        place = out / "spoken" / f"{Path(row.file).stem}.npz"
        made[row.filepath] = str(place.relative_to(out))
        if place.is_file():
            continue
        bundle = Bundle.load(out / row.filepath)
        how = [
            "-v",
            ESPEAK_VOICES[index % len(ESPEAK_VOICES)],
            "-p",
            str(35 + 7 * index % 40),
            "-s",
            str(140 + 6 * index % 50),
        ]
        wav = subprocess.run(["espeak-ng", "--stdout", *how, TEXT], capture_output=True, check=True).stdout
        speech = resample(np.frombuffer(wav[44:], np.int16), int.from_bytes(wav[24:28], "little"), bundle.sample_rate)
        speech = np.resize(speech, len(bundle.sound)).astype(np.float64)
        level = np.sqrt(np.mean(np.square(bundle.sound, dtype=np.float64)) / np.mean(speech**2))
        sound = np.clip(speech * level, -32768, 32767).astype(np.int16)
        crops = [bundle.frame(t) for t in range(bundle.track_frames)]
        sync = correlation_sync(crops, bundle.landmarks, sound, bundle.sample_rate)
        changes: dict[str, Any] = {
            "audio": sound,
            "mel_3cs": mel_3cs(sound, bundle.sample_rate, bundle.mel_3cs.shape[1]),
        }
        changes |= {name: np.asarray(value, np.float32) for name, value in sync._asdict().items()}
        replace(bundle, **changes).save(place)
    return made


def score_fold(
    words: argparse.Namespace, clips: pd.DataFrame, spoken: dict[str, str], name: str, fold: int
) -> dict[str, Any]:
    """Train on the other folds' people and score: how -> bundle below OUTPUT -> P(fake)."""
    from visavox import config as configuration
    from visavox.bundle import Bundle
    from visavox.bundle.trim import load_trimmed
    from visavox.commands.train import train
    from visavox.detectors import build
    from visavox.detectors.fiveway.weights import start

    out = words.output
    done = out / "scores" / f"{name}_{fold}.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    epochs, kinds, settings = DETECTORS[name]
    made = pd.read_csv(out / "made/fakes.csv", keep_default_na=False)
    fold_of = dict(zip(clips["identity"], clips["fold"]))
    rows = made[(made["label"] == 0) | made["method"].isin(kinds)].copy()
    partner = [f"fake/{Path(path).stem}_" for path in rows["filepath"]]
    there = set(rows["filepath"])
    kept = [label == 1 or any(path.startswith(start) for path in there) for start, label in zip(partner, rows["label"])]
    rows = rows[kept]
    rows["fold"] = [fold_of[person] for person in rows["source"]]
    rows = rows[rows["fold"] != fold]
    people = sorted(rows["source"].unique(), key=lambda person: zlib.crc32(person.encode()))
    held = set(people[::4])  # a quarter of the people chooses the epoch
    rows["split"] = ["val" if person in held else "train" for person in rows["source"]]
    rows["filepath"] = ["made/" + path for path in rows["filepath"]]
    rows["donors"] = ""  # within a fold: whoever lends a voice to the other side of train and val is not counted here
    version = f"{name}_{fold}"
    (out / "data").mkdir(exist_ok=True)
    rows.drop(columns="fold").to_csv(out / "data" / f"{version}.csv", index=False)
    overrides = [
        *PREP,
        f"face_detector={words.faces}",
        *TRAIN,
        *settings,
        f"epoch={max(1, round(words.epochs * epochs))}",
    ]
    config = configuration.load(None, [*overrides, f"root_path={out}", f"runs_path={out / 'runs'}"])
    run = out / "runs" / version
    if not (run / "test.json").is_file():
        shutil.rmtree(run, ignore_errors=True)
        train(config, data_version=version, code_version=version)
    wanted = [
        path for path, where, label in zip(clips["filepath"], clips["fold"], clips["label"]) if label or where == fold
    ]
    wanted += [spoken[path] for path in wanted if path in spoken]
    bundles = [load_trimmed(out / path, config) for path in wanted]
    trained = build.load(run / "best.ckpt")
    found: dict[str, Any] = {"trained": scores_of(trained, name, bundles)}
    fresh = build.trainable(config)
    fresh.fit_inputs(Bundle.load(out / path) for path in rows["filepath"][:20])
    found["random"] = scores_of(fresh.eval(), name, bundles)
    if name == "patches" and registered("tiny_ladeda_wildrf"):
        start(fresh.tiny, "tiny", "tiny_ladeda_wildrf")
        found["published"] = scores_of(fresh.eval(), name, bundles)
    found = {how: dict(zip(wanted, scores)) for how, scores in found.items()}
    done.parent.mkdir(exist_ok=True)
    done.write_text(json.dumps(found), encoding="utf-8")
    return found


def registered(name: str) -> bool:
    """Return whether published weights lie on this machine."""
    from visavox.weights.store import find, folder

    return (folder() / find(name).file).is_file()


def scores_of(detector: Any, name: str, bundles: Sequence[Any]) -> list[float]:
    """P(fake) of each clip; of `patches` the patches' mean logit, without the fusion over the other branches."""
    import torch

    from visavox.detectors.fiveway.tiny import cut_patches

    if name != "patches":
        return [float(detector.score([bundle])[0]) for bundle in bundles]
    found = []
    for bundle in bundles:
        faces = torch.from_numpy(cut_patches(bundle.faces[::4])).flatten(0, 1)
        with torch.inference_mode():
            found.append(float(detector.tiny(detector._tiny_input(faces)).mean()))
    return found


def figures(folds: Sequence[dict[str, float]], clips: pd.DataFrame, spoken: dict[str, str]) -> dict[str, Any]:
    """AUC against generated clips and against espeak-ng's speech: mean over folds, 95 % interval by resampling people."""
    who = dict(zip(clips["filepath"], clips["identity"]))
    label = dict(zip(clips["filepath"], clips["label"]))
    found: dict[str, Any] = {}
    tables = {"generated": [], "espeak": []}
    for scores in folds:
        reals = [(score, who[path]) for path, score in scores.items() if label.get(path) == 0]
        tables["generated"].append((reals, [(s, who[p]) for p, s in scores.items() if label.get(p) == 1]))
        said = {spoken[path]: who[path] for path in scores if path in spoken}
        tables["espeak"].append((reals, [(s, said[p]) for p, s in scores.items() if p in said]))
    for against, parts in tables.items():
        if all(fakes for _, fakes in parts):
            found[against] = interval(parts)
    methods = dict(zip(clips["filepath"], clips["method"]))
    for method in sorted({methods[p] for p in methods if label[p] == 1}):
        parts = [
            (reals, [(s, who[p]) for p, s in scores.items() if label.get(p) == 1 and methods[p] == method])
            for (reals, _), scores in zip(tables["generated"], folds)
        ]
        found[f"generated: {method}"] = {"auc": round(mean_auc(parts), 3), "fakes": len(parts[0][1])}
    return found


Part = tuple[list[tuple[float, str]], list[tuple[float, str]]]
"""(score, person) of the real clips of a fold, and of the fakes."""


def interval(parts: Sequence[Part], draws: int = 1000) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    people = sorted({person for reals, fakes in parts for _, person in [*reals, *fakes]})
    sampled = []
    for _ in range(draws):
        times = dict(zip(people, rng.multinomial(len(people), np.full(len(people), 1 / len(people)))))
        again = [tuple([one for one in side for _ in range(times[one[1]])] for side in part) for part in parts]
        sampled.append(mean_auc(again))
    low, high = np.nanquantile(sampled, [0.025, 0.975])
    return {"auc": round(mean_auc(parts), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def mean_auc(parts: Sequence[Any]) -> float:
    """AUC of each fold, averaged; folds that lack a class are left out."""
    from visavox.evaluation.metrics import auc

    found = []
    for reals, fakes in parts:
        if reals and fakes:
            labels = np.array([0] * len(reals) + [1] * len(fakes))
            found.append(auc(labels, np.array([score for score, _ in [*reals, *fakes]])))
    return float(np.mean(found)) if found else float("nan")


def untrained_sync(out: Path, clips: pd.DataFrame, spoken: dict[str, str]) -> dict[str, Any]:
    """The least audio-visual distance of the weightless correlation as a score."""
    from visavox.bundle import Bundle

    paths = [*clips["filepath"], *spoken.values()]
    return figures([{path: float(Bundle.load(out / path, full=False).mdist.min()) for path in paths}], clips, spoken)


def audit(out: Path, clips: pd.DataFrame) -> list[dict[str, Any]]:
    """The audit's measures of the clips themselves, most telling first."""
    table = clips.rename(columns={"file": "filename"}).assign(split="train")
    table = table[["filename", "filepath", "split", "label", "identity"]]
    table.to_csv(out / "clips_split.csv", index=False)
    return audited(out / "clips_split.csv", out)[:6]


def audited(split: Path, root: Path) -> list[dict[str, Any]]:
    from visavox.audit.measures import audit_split

    found = audit_split(split, root)
    return [
        {"name": f.name, "auc": round(f.auc, 3), "low": round(f.low, 3), "high": round(f.high, 3), "flagged": f.flagged}
        for f in found
    ]


def as_table(result: dict[str, Any]) -> str:
    def cell(figure: dict[str, Any] | None) -> str:
        if figure is None:
            return "-"
        return f"{figure['auc']:.3f}" + (f" [{figure['low']:.2f}, {figure['high']:.2f}]" if "low" in figure else "")

    lines = ["| detector | weights | generated clips | espeak-ng's speech |", "|---|---|---|---|"]
    for name, how in result["detectors"].items():
        lines += [
            f"| {name} | {kind} | {cell(f.get('generated'))} | {cell(f.get('espeak'))} |" for kind, f in how.items()
        ]
    sync = result["sync_without_training"]
    lines.append(f"| sync, weightless | none | {cell(sync.get('generated'))} | {cell(sync.get('espeak'))} |")
    lines += [f"| audit: {f['name']} | none | {cell(f)} | |" for f in result["audit"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
