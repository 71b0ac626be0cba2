"""Build the detector that a configuration names, or load a trained one."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import torch

from visavox import config as configuration
from visavox.config import (
    AnomalyConfig,
    Config,
    ConfigError,
    FiveWayConfig,
    GenDConfig,
    TD3MFConfig,
    TimeSformerSyncNetConfig,
    XceptionAudioConfig,
    XceptionFusedConfig,
    XceptionVideoConfig,
    ZeroShotConfig,
)
from visavox.detectors.base import Detector
from visavox.detectors.novelty import Known, beside
from visavox.detectors.scorer import Scorer
from visavox.detectors.timesformer.detector import MultimodalDetector
from visavox.files import sha256_of
from visavox.training import checkpoint, hub
from visavox.weights import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from visavox.detectors.xception.scorer import FusedScorer
    from visavox.detectors.zeroshot.scorer import ZeroShot

log = logging.getLogger(__name__)

SLACK, MARGIN = 4, 10_000_000
"""Numbers that a network may register while it is built, for each number of its checkpoint and beyond: layers are replaced on the
way, and tables that follow from the settings are not kept."""


def build(config: Config) -> Detector | FusedScorer | ZeroShot:
    """Return what `config.detector` describes, with fresh weights: a `Detector`, a fusion, or what needs no training."""
    match config.detector:
        case TimeSformerSyncNetConfig() as settings:
            return MultimodalDetector(config, settings)
        case XceptionVideoConfig() as settings:
            from visavox.detectors.xception.video import XceptionVideo

            return XceptionVideo(config, settings)
        case XceptionAudioConfig() as settings:
            from visavox.detectors.xception.audio import XceptionAudio

            return XceptionAudio(config, settings)
        case XceptionFusedConfig() as settings:
            from visavox.detectors.xception.scorer import FusedScorer

            return FusedScorer(config, settings)
        case AnomalyConfig() as settings:
            from visavox.detectors.anomaly.detector import AnomalyDetector

            return AnomalyDetector(config, settings)
        case TD3MFConfig() as settings:
            from visavox.detectors.td3mf.detector import TD3MF

            return TD3MF(config, settings)
        case FiveWayConfig() as settings:
            from visavox.detectors.fiveway.detector import FiveWayDetector

            return FiveWayDetector(config, settings)
        case GenDConfig() as settings:
            from visavox.detectors.gend.detector import GenD

            return GenD(config, settings)
        case ZeroShotConfig() as settings:
            from visavox.detectors.zeroshot.scorer import ZeroShot

            return ZeroShot(config, settings)
        case unknown:
            assert_never(unknown)


def trainable(config: Config) -> Detector:
    """Return the detector that `config.detector` describes, with fresh weights.

    Raises:
        ConfigError: it is a fusion, which is put together of trained detectors.
    """
    detector = build(config)
    if isinstance(config.detector, ZeroShotConfig):
        raise ConfigError("detector.name=zeroshot is not trained; score with `visavox eval --detector zeroshot`")
    if not isinstance(detector, Detector):
        raise ConfigError(
            f"detector.name={config.detector.name} is a fusion and is not trained: train its branches, configs/"
            "xception_video.json and configs/xception_audio.json, then `python -m visavox.detectors.xception fuse`"
        )
    return detector


def is_configuration(name: str) -> bool:
    """Return whether a word names settings, a JSON file or a configuration that comes with Visavox, for `ready`."""
    return name.lower().endswith(".json") or name in configuration.shipped()


def ready(config: str | Path, overrides: Sequence[str] = ()) -> Scorer:
    """Return the detector of a configuration that needs no training, ready to score.

    Args:
        config: a JSON file, or the name of a configuration that comes with Visavox.

    Raises:
        ConfigError: the configuration is wrong, or of a detector that has to be trained.
    """
    found = configuration.load(config, overrides)
    if not isinstance(found.detector, ZeroShotConfig):
        raise ConfigError(
            f"{config}: detector.name={found.detector.name} is trained; give its checkpoint with --checkpoint"
        )
    detector = build(found)
    assert not isinstance(detector, Detector)
    return detector


def load(path: str | Path, overrides: Sequence[str] = ()) -> Scorer:
    """Return a trained detector in eval mode on the CPU, rebuilt from the config that its checkpoint holds.

    Args:
        path: Lightning checkpoint written by train.py, read with weights_only=True, or the folder that `visavox export --hub`
            wrote: code in either never runs.
        overrides: `key=value` words for what may differ after training (device, submit_batch_size, root_path, ...).

    Raises:
        WeightsError: the file is missing, is no checkpoint, or holds no config.
        ConfigError: an override disagrees with what the network was built for or its bundles were made with.
    """
    folder = Path(path).is_dir()
    found = hub.read(Path(path)) if folder else checkpoint.read(path)
    config = _with(found.config, overrides)
    _refuse_conflicts(path, found.config, config)
    if isinstance(config.detector, ZeroShotConfig):
        raise WeightsError(f"{path}: zeroshot has no checkpoint; score with `--detector zeroshot`")
    try:
        with _no_larger_than(found.state):
            detector = build(config)
        assert isinstance(detector, torch.nn.Module)  # all but zeroshot are
        detector.load_state_dict(found.state)
    except (ConfigError, WeightsError):
        raise
    except Exception as error:  # whatever a library makes of sizes and names that were changed in the file
        raise WeightsError(f"{path}: its weights do not fit its own config; train it again\n{error}") from None
    detector.card = replace(
        detector.card,
        checkpoint=sha256_of(Path(path) / hub.WEIGHTS if folder else Path(path)),
        trained_on=found.about.get("trained_on", ""),
        synthetic=checkpoint.is_synthetic(found.about),
        calibration=found.about.get("calibration", detector.card.calibration),
    )
    if isinstance(detector, Detector) and not folder:
        detector.known = known_of(Path(path), detector.card.checkpoint)
    return detector.eval()


def known_of(path: Path, checkpoint: str) -> Known | None:
    """Return the features of training clips that lie beside a checkpoint; None where there are none, or those of another."""
    found = Known.load(beside(path))
    return found if found is not None and found.checkpoint == checkpoint else None


@contextmanager
def _no_larger_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block this thread builds no network much larger than its parameters: a damaged size would take all memory.

    Raises:
        ValueError: where it would; nothing of the size has been touched then.
    """
    from torch.nn.modules import module

    left = SLACK * sum(value.numel() for value in state.values()) + MARGIN
    thread = threading.get_ident()

    def count(_owner: object, name: str, value: Tensor | None) -> None:
        nonlocal left
        if value is not None and not value.is_meta and threading.get_ident() == thread:  # meta takes no memory
            left -= value.numel()
            if left < 0:
                raise ValueError(f"its config describes a network far larger than its weights (at {name})")

    hooks = [
        module.register_module_parameter_registration_hook(count),
        module.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _with(config: Config, overrides: Sequence[str]) -> Config:
    words = [f"{key}={json.dumps(value)}" for key, value in config.model_dump(mode="json").items()]
    return configuration.load(None, [*words, *overrides])


def _refuse_conflicts(path: str | Path, trained: Config, asked: Config) -> None:
    """What shapes the network or the bundles must stay as it was in training; everything else may change."""

    def fixed(config: Config) -> dict[str, object]:
        network = {"frame_num": config.frame_num, "mel_frames": config.mel_frames}
        return config.prep() | network | config.detector.fixed("detector.")

    was, now = fixed(trained), fixed(asked)
    faults = [
        f"  - {key}={now.get(key)!r} asked, trained with {key}={was.get(key)!r}"
        for key in was | now
        if was.get(key) != now.get(key)
    ]
    if faults:
        raise ConfigError(f"{path}: leave these out, or train a model with them\n" + "\n".join(faults))
