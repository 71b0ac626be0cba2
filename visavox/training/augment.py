"""Augmentations, transforms and logging set-up, and nothing else.

n frames of a clip · S side of a frame in pixels
"""

from __future__ import annotations

import os
import random
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from albumentations import Compose


def augment_faces(faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One draw of `face_augmentation` for all frames of a clip: faces (n, S, S, 3) uint8 RGB -> the same shape."""
    augmentation = face_augmentation()
    # Not set_random_seed: it gives every transform a generator of its own from the same seed, so that all of them draw
    # the same first number and flip, blur and compression always come together.
    augmentation.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    return augmentation(images=faces)["images"]


def augment_with_masks(faces: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Do the same to faces (n, S, S, 3) uint8 RGB and masks (n, S, S) uint8, which are moved as the faces are."""
    augmentation = face_augmentation()
    augmentation.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    found = augmentation(images=faces, masks=masks)
    return found["images"], np.asarray(found["masks"])


@lru_cache
def face_augmentation() -> Compose:
    """What a face meets on its way to a viewer: mirrored, re-lit, blurred or shrunk, noisy, compressed.

    Strengths stay below what hides a blending boundary at 224 pixels: blurs of sigma 1.2 at most, JPEG 40 at worst (the
    range of Self-Blended Images, Shiohara and Yamasaki, 2022).
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network at import
    import albumentations as A

    downscale = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}
    softer = [
        A.GaussianBlur(blur_limit=(3, 5), sigma_limit=(0.2, 1.2)),
        A.MotionBlur(blur_limit=(3, 5)),
        A.Downscale(scale_range=(0.5, 0.9), interpolation_pair=downscale),
    ]
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                scale=(0.95, 1.05),
                translate_percent=(-0.03, 0.03),
                rotate=(-5, 5),
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.3,
            ),
            A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=0.5),
            A.HueSaturationValue(hue_shift_limit=8, sat_shift_limit=20, val_shift_limit=10, p=0.3),
            A.OneOf(softer, p=0.3),
            A.GaussNoise(std_range=(0.01, 0.04), p=0.2),
            A.ImageCompression(quality_range=(40, 100), p=0.4),
        ]
    )


def resize_faces(faces: np.ndarray, size: int) -> np.ndarray:
    """faces (n, S, S, 3) uint8 -> (n, size, size, 3) uint8; the mean over areas when shrinking, bilinear when enlarging."""
    if faces.shape[1] == size:
        return faces
    how = cv2.INTER_AREA if faces.shape[1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(face, (size, size), interpolation=how) for face in faces])


def to_signed(faces: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """faces (n, S, S, 3) uint8 RGB -> (3, n, S, S) float32 in [-1, 1], into `out` where it is given."""
    turned = faces.transpose(3, 0, 1, 2)  # (3, n, S, S)
    out = np.empty(turned.shape, np.float32) if out is None else out
    np.copyto(out, turned)
    out -= 127.5
    out /= 127.5
    return out
