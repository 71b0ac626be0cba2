"""Augmentations, transforms, frames and logging set-up. Behind this door: `visavox/training/augment.py`,
`visavox/media/frames.py`, `visavox/logs.py`.

frames = utils.extract_frames(open("clip.mp4", "rb").read())      # (8, 3, 224, 224) float32 in [0, 1]
faces = utils.augment_faces(faces, np.random.default_rng(0))      # (n, S, S, 3) uint8 RGB
"""

from visavox.logs import set_up_logging
from visavox.media.frames import extract_frames
from visavox.training.augment import augment_faces, face_augmentation, resize_faces, to_signed

__all__ = ["augment_faces", "extract_frames", "face_augmentation", "resize_faces", "set_up_logging", "to_signed"]
