"""The split CSV as batches. What lies behind this door: `visavox/training/data_module.py`.

data = data_loader.BundleDataModule(config, "data/train_dev_test.csv", detector.prepare)
"""

from visavox.training.data_module import BundleDataModule, EpochLoader, EpochSampler

__all__ = ["BundleDataModule", "EpochLoader", "EpochSampler"]
