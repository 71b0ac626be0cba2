"""What crop.py works with, also where SyncNet's trained weights are not at hand."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from visavox import config as configuration
from visavox import weights
from visavox.compute import dtype_of
from visavox.config import Config
from visavox.features import syncnet
from visavox.preprocessing import tools
from visavox.preprocessing.pipeline import Preprocessor


def settings(overrides: Sequence[str]) -> Config:
    return configuration.load(None, ["device=cpu", *overrides])


def has_syncnet() -> bool:
    return (weights.folder() / "syncnet_v2.model").is_file()


def build(config: Config, threads: int) -> Preprocessor:
    """What crop.py builds; where the registry's SyncNet is missing, one of random weights, which takes the same time and room."""
    if config.sync != "syncnet" or has_syncnet():
        return tools.build(config, threads)
    torch.manual_seed(config.seed)
    random = syncnet.FoldedSyncNet(syncnet.SyncNet().eval(), dtype_of(config.crop_precision))
    torch.set_num_threads(threads)
    return replace(
        tools.build(config.model_copy(update={"sync": "off"}), threads),
        config=config,
        sync=lambda track, sound, stride=config.sync_stride: syncnet.sync_distances(
            random, track.crops, sound, vshift=config.vshift, pad=config.sync_pad, stride=stride
        ),
    )
