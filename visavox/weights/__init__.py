"""Trained weights of other people: what they are, where they lie, how they get there, how they are read safely."""

from __future__ import annotations

from visavox.weights.loading import Fit, fit, parameters, safe_load, state_dict
from visavox.weights.registry import REGISTRY, Entry
from visavox.weights.store import WeightsError, by_hand, fetch, find, fingerprint, folder, resolve

__all__ = [
    "Entry",
    "Fit",
    "REGISTRY",
    "WeightsError",
    "by_hand",
    "fetch",
    "find",
    "fit",
    "fingerprint",
    "folder",
    "parameters",
    "resolve",
    "safe_load",
    "state_dict",
]
