"""Bundles as training sees them. Behind this door: `visavox/training/dataset.py`, `visavox/detectors/timesformer/clip.py`.

clip = dataset.clip_from_bundle(Bundle.load("data/bundles/clip.npz"), config)
"""

from visavox.detectors.timesformer.clip import Clip, clip_from_bundle
from visavox.training.dataset import BundleDataset, Prepare, check_bundles
from visavox.training.strata import choose

__all__ = ["BundleDataset", "Clip", "Prepare", "check_bundles", "choose", "clip_from_bundle"]
