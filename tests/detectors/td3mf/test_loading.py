"""A trained 2D3MF of full size: its frozen backbones are many times larger than what its checkpoint holds."""

from pathlib import Path

import torch

import visavox
from visavox import config as configuration
from visavox.detectors import build

ROOT = Path(__file__).parents[3]


def test_a_checkpoint_of_the_published_backbones_is_loaded_back(tmp_path: Path):
    config = configuration.load(ROOT / "configs/td3mf.json", ["device=cpu"])
    torch.manual_seed(0)
    made = build.build(config)
    hyper = {"config": config.model_dump(mode="json"), "about": {}}
    torch.save({"hyper_parameters": hyper, "state_dict": made.state_dict()}, tmp_path / "td3mf.ckpt")
    found = visavox.load(tmp_path / "td3mf.ckpt")
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in found.state_dict().items())
