"""Augmentations, transforms and logging set-up. Behind this door: `visavox/training/augment.py`, `visavox/logs.py`.

faces = utils.augment_faces(faces, np.random.default_rng(0))      # (n, S, S, 3) uint8 RGB
"""

from visavox.logs import set_up_logging
from visavox.training.augment import augment_faces, face_augmentation, resize_faces, to_signed

__all__ = ["augment_faces", "face_augmentation", "resize_faces", "set_up_logging", "to_signed"]
