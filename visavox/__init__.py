"""Visavox: face against voice. Train, evaluate and use audio-visual deepfake detectors.

    import visavox
    visavox.detect("clip.mp4", model="tiny_ladeda_wildrf")     # -> Analysis: verdict, P(fake), seconds, reasons
    visavox.score("clip.mp4", "runs/v1/best.ckpt")             # -> P(fake)
    preprocess = visavox.preprocessor()                        # preprocess("clip.mp4") -> Bundle
    detector = visavox.load("runs/v1/best.ckpt")               # detector.score([bundle]) -> array of P(fake)

The map of the house (docs/architecture.md says more): a video becomes numbers in `preprocessing`, with `media`, `faces` and
`features`; the numbers are a `bundle`, the waist of it all; `detectors` judge bundles, `training` makes detectors,
`evaluation`, `report` and `audit` judge them; `commands` are the programs, and `visavox` on the command line lists them.
Everything below is imported when it is used: `import visavox` itself takes no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visavox.config import Config
    from visavox.detectors.analysis import Analysis
    from visavox.detectors.scorer import Scorer
    from visavox.preprocessing.pipeline import Preprocessor

__version__ = "0.2.0"
__all__ = ["detect", "load", "preprocessor", "score"]


def detect(path: str | Path, model: str | Path = "default", *, device: str = "auto") -> Analysis:
    """Judge one video or picture with a published model or a checkpoint; `visavox detect` does the same for many.

    Args:
        model: `default`, a name that `visavox detect --models` lists, or a checkpoint of `visavox train`.
        device: `auto`, `cuda` or `cpu`.

    Raises:
        ModelError: there is no such model, or it does not judge this kind of file.
        WeightsError: weights are missing and could not be fetched; the message says what to put where.
        MediaError, CropError: the file gives nothing to judge by.
    """
    from visavox.detectors.published import open_judge

    return open_judge(model, device=device)(path)


def load(checkpoint: str | Path, overrides: Sequence[str] = ()) -> Scorer:
    """Load a trained detector, ready to score, on the device that its configuration names.

    Args:
        checkpoint: written by `visavox train` or `visavox fuse`, or the folder of `visavox export --hub`; code in it never runs.
        overrides: `key=value` words for what may differ after training, such as `device=cpu`.

    Raises:
        WeightsError: the file is missing or no checkpoint of Visavox.
        ConfigError: an override disagrees with what the detector was trained with.
    """
    from visavox.compute import resolve_device
    from visavox.detectors.build import load as load_checkpoint

    scorer = load_checkpoint(checkpoint, overrides)
    return scorer.to(resolve_device(scorer.config.device))


def preprocessor(config: Config | str | Path | None = None, threads: int | None = None) -> Preprocessor:
    """Build what turns a video into a bundle; the weights it needs are fetched and verified.

    Args:
        config: settings, a file of them, the name of a shipped configuration (`tiny`), or None for the reference's.
        threads: of decoder and networks; None leaves their number to the libraries.

    Raises:
        WeightsError: weights are missing and could not be fetched; the message says what to put where.
    """
    from visavox import config as configuration
    from visavox.preprocessing import tools

    if config is None or isinstance(config, str | Path):
        config = configuration.load(config or configuration.reference())
    tools.check_weights(config)
    return tools.build(config, threads)


def score(source: str | Path, checkpoint: str | Path, *, explain: bool = False) -> float | Analysis:
    """Score one video or bundle.

    Returns:
        P(fake) in [0, 1], label 1 = fake; with `explain` an Analysis, which holds it with its reasons.

    Raises:
        CropError, MediaError, BundleError: the video gives no bundle, or the bundle does not fit the detector.
    """
    from visavox.detectors.single import HouseJudge

    analysis = HouseJudge.of(load(checkpoint))(source)
    return analysis if explain else analysis.probability
