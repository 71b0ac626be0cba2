"""Train a detector on bundles.

    python train.py --data-version train_dev_test --code-version v1 --pret-version timesformer_k400
    python train.py --config configs/tiny.json --data-version train_dev_test --code-version tiny lr=3e-4 epoch=8
    python train.py --code-version v1 --resume

Reads ROOT_PATH/data/DATA_VERSION.csv, writes RUNS_PATH/CODE_VERSION/ (config.json, metrics.csv, TensorBoard files,
checkpoints/, best.ckpt by val/auc, best.features.npz of up to 128 training clips, test.json; a first stage has a folder of its
own below it). Randomness depends on seed, epoch and step alone: a run that was killed and resumed continues from its last
finished epoch and ends, on a CPU, with the same weights bit for bit.
Exit codes: 0 trained; 2 wrong arguments, settings, data or weights, or a loss that is no number; 4 another run writes to the
same folder; 5 the disk is full; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox import config as configuration
from visavox import runs
from visavox.config import Config, ConfigError
from visavox.errors import code_of
from visavox.files import replacing
from visavox.logs import complain, say

if TYPE_CHECKING:
    import pandas as pd
    import pytorch_lightning as pl
    import torch

    from visavox.detectors.base import Detector
    from visavox.training.callbacks import Watch

log = logging.getLogger(__name__)

KNOWN = 128
"""Training clips whose features are kept at most."""
FINISHED = "finished"
"""Marks the folder of a stage before the last that is trained."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        config = configuration.load(arguments.config or configuration.reference(), arguments.overrides)
        from visavox.logs import set_up_logging

        set_up_logging()
        with runs.stoppable():
            metrics = train(
                config,
                data_version=arguments.data_version,
                code_version=arguments.code_version,
                pret_version=arguments.pret_version,
                pret_fake_index=arguments.pret_fake_index,
                resume=arguments.resume,
                allow_leaks=arguments.allow_leaks,
            )
    except (KeyboardInterrupt, SystemExit) as error:
        stop = runs.stopped_by(error)  # Lightning makes a SystemExit of it
        if stop is None:
            raise
        say("interrupted; --resume continues from the last finished epoch", error=True)
        return runs.exit_code(stop)
    except (ConfigError, ValueError, RuntimeError, OSError) as error:
        log.debug("traceback", exc_info=True)
        out_of_memory = code_of(error) == "OUT_OF_MEMORY"
        complain("visavox train", f"{error}; halve train_batch_size and double accumulate" if out_of_memory else error)
        return runs.exit_code(error)
    from visavox.training.folder import is_first

    if is_first():
        say(json.dumps(metrics, indent=2))
    return 0


def train(
    config: Config,
    *,
    data_version: str = "train_dev_test",
    code_version: str = "v1",
    pret_version: str = "none",
    pret_fake_index: int | None = None,
    resume: bool = False,
    allow_leaks: bool = False,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train, keep the best checkpoint by val/auc, test it; returns the metrics that test.json holds.

    Args:
        data_version: name of the split, ROOT_PATH/data/NAME.csv.
        code_version: name of the run, RUNS_PATH/NAME/.
        pret_version: weights to start from: a registry name, a path, or `none`.
        pret_fake_index: which of two classes means fake in weights of other people that the registry does not know.
        resume: continue the run from its last finished epoch.
        allow_leaks: train although somebody stands in two splits; the metrics say so.
        watch: told what each epoch of the last stage is worth.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import pytorch_lightning as pl
    import torch

    from visavox.compute import resolve_device, resolve_precision
    from visavox.detectors import build
    from visavox.preprocessing.tools import build_sync
    from visavox.training.data_module import BundleDataModule
    from visavox.training.folder import claim, held, is_first
    from visavox.training.trainer import build_trainer

    run = Path(config.runs_path, code_version)
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)

    torch.set_num_threads(
        torch.get_num_threads()
    )  # said, else MKL takes fewer at times, which changes the bits of sums
    pl.seed_everything(config.seed, workers=True, verbose=False)
    detector = build.trainable(config)
    csv_path = Path(config.root_path, "data", f"{data_version}.csv")
    measure = build_sync(config, torch.device("cpu")) if config.fakes and detector.needs_sync else None
    data = BundleDataModule(
        config,
        csv_path,
        detector.prepare,
        full=detector.needs_track,
        allow_leaks=allow_leaks,
        measure=measure,
        kept=detector.kept,
        classes=detector.classes,
        prepare_made=detector.prepare_made,
    )
    data.prepare_data()
    detector.check_inputs()
    labels = data.labels("train")
    detector.card = replace(
        detector.card,
        trained_on=f"{data_version}, {_trained_on(detector, config, labels)}",
        synthetic=_are_drawn(data.rows),
    )
    folders = [run / stage for stage in detector.stages[:-1]] + [run]
    begun = [folder / "checkpoints" / "last.ckpt" for folder in folders]
    with held(run):
        words = {"--data-version": data_version, "--pret-version": pret_version, "--pret-fake-index": pret_fake_index}
        last_begun = next((last for last in reversed(begun) if last.is_file()), begun[0])
        if is_first():
            claim(run, config, words, resume=resume, last=last_begun)
        if not any(last.is_file() for last in begun):
            _start_from(detector, pret_version, pret_fake_index)
            detector.fit_inputs(data.bundles("train"))

        for stage, folder, last in zip(detector.stages, folders, begun):
            detector.begin(stage)
            data.target = detector.target
            told = watch if folder == run else None
            trainer = build_trainer(config, folder, device.type, precision, detector, data.labels("val"), told)
            if not (folder / FINISHED).is_file():
                with (
                    warnings.catch_warnings()
                ):  # the folder of best.ckpt is the run's, which holds config.json from the start
                    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
                    trainer.fit(detector, data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
            if folder != run:
                _finish_stage(detector, folder, trainer)
        metrics = _test(trainer, data, run)
        if trainer.is_global_zero:
            detector.leave_outputs(run, data)
            _leave_known(run, data, device)
        return metrics


def _trained_on(detector: Detector, config: Config, labels: Sequence[int]) -> str:
    """What the detector is trained on, in words."""
    if detector.classes:
        return detector.classes.describe(labels)
    fakes = f"and fakes made of them: {', '.join(config.fakes)}" if config.fakes else f"and {sum(labels)} fake clips"
    return f"{len(labels) - sum(labels)} real {'clips ' if config.fakes else ''}{fakes}"


def _are_drawn(rows: pd.DataFrame) -> bool:
    """Whether all clips of the training split are drawn ones, by their column `corpus`."""
    from visavox.splits.table import DRAWN

    return "corpus" in rows and bool(rows.loc[rows["split"] == "train", "corpus"].eq(DRAWN).all())


def _finish_stage(detector: Detector, folder: Path, trainer: pl.Trainer) -> None:
    """The next stage goes on from the best epoch of this one; a file says that it needs no resuming."""
    from visavox.training import checkpoint

    trainer.strategy.barrier()
    detector.load_state_dict(checkpoint.read(folder / "best.ckpt").state)
    if trainer.is_global_zero:
        (folder / FINISHED).touch()


def _start_from(detector: Detector, pret_version: str, fake_index: int | None) -> None:
    """Load the weights that training starts from; `none` is said, never assumed in silence."""
    from visavox.training import checkpoint

    if pret_version == "none":
        detector.start_fresh()
        return
    detector.start_from(checkpoint.starting(pret_version, fake_index))
    log.info("starting from %s", pret_version)


def _test(trainer: pl.Trainer, data: Any, run: Path) -> dict[str, Any]:
    """Score the test split with the best checkpoint; AUC (of classes: accuracy) is null, with the reason, where undefined."""
    from pytorch_lightning import LightningModule
    from pytorch_lightning.callbacks import ModelCheckpoint

    from visavox.detectors import build

    best = run / "best.ckpt"
    keeper = trainer.checkpoint_callback
    assert isinstance(keeper, ModelCheckpoint) and keeper.monitor and keeper.best_model_score is not None
    metrics: dict[str, Any] = {
        "best_checkpoint": str(best),
        f"best_{keeper.monitor.replace('/', '_')}": float(keeper.best_model_score),
        "epochs": trainer.current_epoch,
    }
    protocols = sorted(set(data.rows["protocol"]) - {""}) if "protocol" in data.rows else []
    metrics |= {"split_protocol": protocols, "leak": str(data.leak) if data.leak else None}
    labels = data.labels("test")
    if config_fakes := [name for name in ("val", "test") if data.makes_fakes(name)]:
        metrics["made_fakes"] = {"splits": config_fakes, "kinds": data.config.fakes}
    if not labels or (not data.classes and len(set(labels)) < 2):
        reason = "the test split is empty" if not labels else "the test split has one class only"
        name, words = ("accuracy", "accuracy") if data.classes else ("auc", "AUC")
        metrics |= {f"test_{name}": None, "test_note": f"{words} is not defined: {reason}"}
    else:
        detector = build.load(best)
        assert isinstance(detector, LightningModule)
        tested = trainer.test(detector, datamodule=data, verbose=False)[0]
        metrics |= {name.replace("/", "_"): value for name, value in tested.items()} | {"n_test": len(labels)}
        if data.config.eval_datasets and not data.classes:
            metrics |= _by_corpus(detector, data)
    if trainer.is_global_zero:
        with replacing(run / "test.json") as beside:
            beside.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def _leave_known(run: Path, data: Any, device: torch.device) -> None:
    """Write features of training clips beside best.ckpt, so that a verdict can say how unlike them a clip is.

    Of at most `KNOWN` clips, evenly spaced in the order of the split, those alone that have the branches which most have; none
    where there are too few, or classes are told apart.
    """
    import numpy as np

    from visavox.bundle.trim import load_trimmed
    from visavox.detectors import build
    from visavox.detectors.base import Detector
    from visavox.detectors.novelty import LEAST, TRAINED, Features, Known, alike, beside

    rows = data.rows[data.rows["split"] == "train"]
    paths = list(rows.loc[rows["label"] == 0, "path"] if data.config.train_on == "real" else rows["path"])
    detector = build.load(run / "best.ckpt")
    if len(paths) < LEAST or data.classes or not isinstance(detector, Detector):
        return
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(KNOWN, len(paths))).round().astype(int))]
    detector.to(device)
    vectors = []
    for path in chosen:
        with Features(detector) as seen:
            detector.explain(load_trimmed(path, detector.config, full=True))
        vector = seen.vector
        if vector is None:  # its last layer is none that gives features
            return
        vectors.append(vector)
    on, vectors = f"{run.name}'s training clips", alike(vectors)
    if len(vectors) >= LEAST:
        Known.of(np.stack(vectors), on, detector.card.checkpoint, TRAINED).save(beside(run / "best.ckpt"))


def _by_corpus(detector: Any, data: Any) -> dict[str, Any]:
    """AUC of each corpus of the test split, null where it has one class only, and the mean of those that are defined."""
    import numpy as np

    from visavox.evaluation.metrics import auc

    rows = data.rows[data.rows["split"] == "test"]
    found: dict[str, float | None] = {}
    for corpus, clips in rows.groupby("corpus"):
        labels, found[str(corpus)] = clips["label"].to_numpy(), None
        if len(set(labels)) == 2:
            found[str(corpus)] = float(auc(labels, detector.score_files(list(clips["path"]))))
    defined = [value for value in found.values() if value is not None]
    return {"test_auc_by_corpus": found, "test_auc_macro": float(np.mean(defined)) if defined else None}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox train",
        description=__doc__,
        epilog=f"settings (key=value, after the options):\n{configuration.help_text()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data-version", default="train_dev_test", help="ROOT_PATH/data/NAME.csv (default train_dev_test)"
    )
    parser.add_argument("--code-version", default="v1", help="name of the run: RUNS_PATH/NAME (default v1)")
    parser.add_argument(
        "--pret-version", default="none", help="start from: a name of `visavox weights list`, a path, none"
    )
    parser.add_argument(
        "--pret-fake-index",
        type=int,
        choices=(0, 1),
        help="of two classes in a file that --pret-version names by its path, the one that means fake",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run from its last finished epoch")
    parser.add_argument(
        "--allow-leaks",
        action="store_true",
        help="train although somebody stands in two splits; test.json says so",
    )
    parser.add_argument("--config", help="JSON file, or the name of a shipped one, such as tiny (default: config.json)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the configuration"
    )
    return parser.parse_intermixed_args(argv)
