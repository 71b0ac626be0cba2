"""Seeded values and small networks and clips for the tests of TimeSformer."""

import zlib
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.detectors import build
from visavox.detectors.timesformer.clip import Clip
from visavox.detectors.timesformer.detector import MultimodalDetector
from visavox.detectors.timesformer.network import TimeSformer

KINDS = ("divided_space_time", "space_only", "joint_space_time")


def seeded(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values that depend on the name alone; no parameter is left at its start value, and outputs stay near 1."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if "norm" in name and name.endswith("weight"):
        values = 1 + 0.2 * values
    elif name.endswith("weight"):
        values = values / np.sqrt(np.prod(shape[1:]))
    else:
        values = 0.2 * values
    return torch.from_numpy(values).float()


def seed(module: nn.Module) -> dict[str, Tensor]:
    state = {name: seeded(name, tuple(value.shape)) for name, value in module.state_dict().items()}
    module.load_state_dict(state)
    return state


def small(attention_type: str = "divided_space_time", frames: int = 3, seeds: bool = True, **kwargs) -> TimeSformer:
    network = TimeSformer(frames, 16, 8, 16, 4, 3, attention_type=attention_type, **kwargs).eval()
    if seeds:
        seed(network)
    return network


def clips(count: int = 2, frames: int = 3, size: int = 16) -> Tensor:
    return seeded("frames", (count, 3, frames, size, size)).mul(2.5).clamp(-1, 1)


CONFIG = configuration.load(None, [
    *("frame_num=2", "frame_size=16", "bundle_faces=4", "vshift=3", "sync=correlation", "face_detector=haar"),
    *("detector.embed_dims=16", "detector.num_layers=2", "detector.num_heads=4", "detector.patch_size=8"),
])  # fmt: skip


def fitted(config: configuration.Config = CONFIG) -> MultimodalDetector:
    detector = build.build(config).eval()
    seed(detector.timesformer)
    rows = seeded("latency vectors", (12, 2 * config.vshift + 3)).numpy()
    detector.fit_inputs(SimpleNamespace(latency_vector=row) for row in rows)
    return detector


def batch(count: int = 2) -> Clip:
    return Clip(clips(count, 4), seeded("latency", (count, 9)))


def bundle(number: int = 0) -> Bundle:
    """A clip of noise, in the shapes that CONFIG wants."""
    rng = np.random.default_rng(number)
    mdist = rng.random(7).astype(np.float32) if number else np.full(7, np.nan, np.float32)
    return Bundle(
        faces=rng.integers(0, 256, (4, 16, 16, 3), np.uint8),
        mel_3cs=rng.uniform(-80, 0, (3, 128, 60)).astype(np.float16),
        mdist=mdist,
        latency=np.float32(mdist.argmin() - 3 if number else np.nan),
        conf=np.float32(np.median(mdist) - mdist.min()),
        **{"boxes": np.zeros((5, 4), np.float32), "landmarks": np.zeros((5, 5, 2), np.float32)},
        **{"det_score": np.ones(5, np.float32), "times": np.arange(5, dtype=np.float32) / 25, "fps": np.float32(25)},
        **{"audio": None, "track": None, "track_offsets": None, "status": "ok" if number else "no_audio"},
        **{"sync": "correlation", "landmark_source": "template", "notes": "", "settings": "{}", "prep_hash": ""},
        source_sha256="",
    )
