"""One way to any model: a published one by its name, one trained here by its checkpoint."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.detectors.judging import Judge, ModelError
from visavox.detectors.published.catalogue import MODELS, Published

if TYPE_CHECKING:
    import torch

    from visavox.detectors.scorer import Scorer


DEFAULT = {"face": "gend_clip_l14", "voice": "deepfense_wavlm_nes2net"}
"""Branch -> model of `--model default`."""


def open_judge(model: str | Path, *, device: str = "auto", threads: int = 0, calibrated: bool = True) -> Judge:
    """Return a model ready to judge; the weights it needs are fetched and verified.

    Args:
        model: `default`, a name of the catalogue, or the path of a checkpoint of `visavox train` or `visavox fuse`.
        device: `auto` takes a GPU where there is one.
        calibrated: apply the calibration that `visavox calibrate --on` made for this model, where there is one.

    Raises:
        ModelError: there is no such model.
        WeightsError: weights are missing and could not be fetched; the message says what to put where.
    """
    from visavox.detectors.published.calibrated import CalibratedJudge, stored

    judge = _opened(model, device, threads)
    fitted = stored(str(model)) if calibrated else None
    return CalibratedJudge(judge, fitted) if fitted else judge


def _opened(model: str | Path, device: str, threads: int) -> Judge:
    from visavox.compute import resolve_device
    from visavox.detectors.single import HouseJudge

    if str(model) == "default":
        return _default(device, threads)
    if str(model) in MODELS:
        return _published(MODELS[str(model)], resolve_device(device), threads)
    if Path(model).exists():
        return HouseJudge.of(_loaded(Path(model), device), threads or None)
    near = difflib.get_close_matches(str(model), MODELS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"`visavox detect --models` lists {', '.join(MODELS)}"
    raise ModelError(f"{model}: no model of this name and no such checkpoint; {hint}")


def _default(device: str, threads: int) -> Judge:
    """Face, voice and how they fit together; what is not at hand is left out with its reason.

    Raises:
        WeightsError: no branch is at hand; the message holds the reason of each.
    """
    from visavox.detectors.published.fused import FusedJudge
    from visavox.weights import WeightsError

    judges: dict[str, Judge] = {}
    missing: dict[str, str] = {}
    opening: dict[str, Callable[[], Judge]] = {
        name: partial(_opened, model, device, threads) for name, model in DEFAULT.items()
    }
    opening["sync"] = partial(_sync, device, threads)
    for branch, open_branch in opening.items():
        try:
            judges[branch] = open_branch()
        except (WeightsError, ValueError, ImportError) as error:  # not fetched, an extra missing
            missing[branch] = str(error)
    if not judges:
        reasons = "\n".join(f"{branch}: {why}" for branch, why in missing.items())
        raise WeightsError(f"none of the branches of the default model is at hand\n{reasons}")
    return FusedJudge("default", judges, missing)


def _sync(device: str, threads: int) -> Judge:
    """SyncNet without training: how alike mouth and voice are at their best shift."""
    from visavox.compute import resolve_device
    from visavox.detectors.build import ready
    from visavox.detectors.single import HouseJudge

    scorer = ready("zeroshot", [f"device={device}", "sync=syncnet", "detector.encoder=syncnet"])
    return HouseJudge.of(scorer.to(resolve_device(scorer.config.device)), threads or None)


def _loaded(path: Path, device: str) -> Scorer:
    from visavox.compute import resolve_device
    from visavox.detectors.build import load

    scorer = load(path, [f"device={device}"])
    return scorer.to(resolve_device(scorer.config.device))


def _published(model: Published, device: torch.device, threads: int) -> Judge:
    from visavox.detectors.analysis import ModelCard
    from visavox.weights import fingerprint

    card = ModelCard(detector=model.name, trained_on=model.what.rpartition("trained on ")[2])
    card = replace(card, checkpoint=fingerprint(model.weights[0]))
    from visavox.detectors.published import gend, tiny_ladeda
    from visavox.detectors.published.voice import judge as voice

    makers: dict[str, Callable[..., Judge]] = {
        **dict.fromkeys(gend.BACKBONES, gend.judge),
        "tiny_ladeda_wildrf": tiny_ladeda.judge,
        "deepfense_wavlm_nes2net": voice.judge,
    }
    return makers[model.name](card, model.weights[0], device, threads)
