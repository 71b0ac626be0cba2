"""The reference detector, and the way to any other. What lies behind this door: `visavox/detectors/`.

detector = model.build(config)                      # fresh weights
detector = model.load("runs/v1/best.ckpt")          # config and weights from the checkpoint
"""

from visavox.detectors.build import build, load
from visavox.detectors.timesformer.detector import LatencyNet, MultimodalDetector
from visavox.detectors.timesformer.network import (
    Attention,
    DividedLayer,
    FeedForward,
    PlainLayer,
    SpatialAttention,
    TemporalAttention,
    TimeSformer,
)

__all__ = [
    "Attention",
    "DividedLayer",
    "FeedForward",
    "LatencyNet",
    "MultimodalDetector",
    "PlainLayer",
    "SpatialAttention",
    "TemporalAttention",
    "TimeSformer",
    "build",
    "load",
]
