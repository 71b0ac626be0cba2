"""Detectors that others trained and published, run as published: their weights under their names, their preprocessing as data.

judge = open_judge("tiny_ladeda_wildrf")       # a name of `catalogue.MODELS`, or a checkpoint of `visavox train`
judge("clip.mp4")                              # -> Analysis
"""

from __future__ import annotations

from visavox.detectors.published.catalogue import MODELS, Published
from visavox.detectors.published.judge import Judge, ModelError, open_judge

__all__ = ["MODELS", "Judge", "ModelError", "Published", "open_judge"]
