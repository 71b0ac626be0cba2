"""One way to any model: a published one by its name, one trained here by its checkpoint."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from visavox.detectors.published.catalogue import MODELS, Published

if TYPE_CHECKING:
    import torch

    from visavox.detectors.analysis import Analysis
    from visavox.detectors.scorer import Scorer


class ModelError(ValueError):
    """There is no such model, or it cannot judge this kind of file; the message holds the cure."""

    code = "BAD_CONFIG"


class Judge(Protocol):
    """Whatever turns a file into an Analysis."""

    name: str

    def __call__(self, path: str | Path) -> Analysis:
        """Judge one video, picture or bundle.

        Raises:
            MediaError, CropError, BundleError: the file gives nothing to judge by.
            ModelError: the model does not judge this kind of file.
        """


def open_judge(model: str | Path, *, device: str = "auto", threads: int = 0) -> Judge:
    """Return a model ready to judge; the weights it needs are fetched and verified.

    Args:
        model: a name of the catalogue, or the path of a checkpoint of `visavox train` or `visavox fuse`.
        device: `auto` takes a GPU where there is one.

    Raises:
        ModelError: there is no such model.
        WeightsError: weights are missing and could not be fetched; the message says what to put where.
    """
    from visavox.compute import resolve_device

    if str(model) in MODELS:
        return _published(MODELS[str(model)], resolve_device(device), threads)
    if Path(model).is_file():
        return HouseJudge(_loaded(Path(model), device))
    near = difflib.get_close_matches(str(model), MODELS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"`visavox detect --models` lists {', '.join(MODELS)}"
    raise ModelError(f"{model}: no model of this name and no such checkpoint; {hint}")


class HouseJudge:
    """A detector trained here, which judges videos and bundles."""

    def __init__(self, scorer: Scorer) -> None:
        from visavox.preprocessing import tools

        tools.check_weights(scorer.config)
        self.scorer = scorer
        self.name = scorer.card.detector
        self._preprocess = tools.build(scorer.config)

    def __call__(self, path: str | Path) -> Analysis:
        """Judge one video or bundle; see `Judge`."""
        from visavox.bundle.trim import trimmed_as
        from visavox.detectors.scorer import inference
        from visavox.preprocessing.stills import is_picture
        from visavox.preprocessing.tools import bundle_of

        if is_picture(path):
            raise ModelError(
                f"{path}: {self.name} judges videos, a picture has neither course nor sound; give --model "
                f"{next(name for name, model in MODELS.items() if 'picture' in model.reads)}"
            )
        config = self.scorer.config
        with inference(self.scorer) as scorer:
            return scorer.explain(trimmed_as(config, bundle_of(path, config, self._preprocess)))


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
    from visavox.detectors.published import tiny_ladeda

    return tiny_ladeda.judge(card, model.weights[0], device, threads)
