"""Every augmentation changes what it is given by a stated size: one that changes nothing is a fault, however quietly it runs."""

import cv2
import numpy as np
import pytest

from visavox.detectors.fiveway import crops
from visavox.detectors.xception import video
from visavox.detectors.xception.audio import spec_augment
from visavox.training.augment import augment_faces, face_augmentation


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Three frames of coloured texture, (3, 96, 96, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 215, (3, 12, 12, 3), np.uint8)
    fine = rng.integers(-20, 21, (3, 96, 96, 3))
    large = np.stack([cv2.resize(frame, (96, 96), interpolation=cv2.INTER_CUBIC) for frame in coarse])
    return np.clip(large + fine, 0, 255).astype(np.uint8)


def names() -> list[tuple[str, int, int]]:
    """(name, place among the transforms, place within a OneOf or -1) of every transform of faces."""
    found = []
    for place, transform in enumerate(face_augmentation().transforms):
        inner = getattr(transform, "transforms", None)
        found += (
            [(type(each).__name__, place, at) for at, each in enumerate(inner)]
            if inner
            else [(type(transform).__name__, place, -1)]
        )
    return found


LEAST = {"HueSaturationValue": 1.0, "RandomBrightnessContrast": 2.0, "ImageCompression": 0.5, "GaussNoise": 1.5}
"""Mean change in grey levels over 20 draws, at least; 2.0 for those that are not named."""


@pytest.mark.parametrize(("name", "place", "at"), names())
def test_a_transform_of_faces_changes_them(name, place, at, faces):
    import random

    from albumentations import Compose

    transform = face_augmentation().transforms[place]
    transform = transform.transforms[at] if at >= 0 else transform
    before, transform.p = transform.p, 1.0
    try:
        alone = Compose([transform])
        alone.set_random_state(np.random.default_rng(1), random.Random(1))
        changes = [np.abs(alone(images=faces)["images"].astype(int) - faces).mean() for _ in range(20)]
    finally:
        transform.p = before
    assert np.mean(changes) > LEAST.get(name, 2.0), changes
    assert np.count_nonzero(changes) >= 15


@pytest.mark.parametrize("augment", [augment_faces, video.augment, crops.augment])
def test_faces_are_augmented_by_two_grey_levels_or_more(augment, faces):
    changes = [
        np.abs(augment(faces.copy(), np.random.default_rng(seed)).astype(int) - faces).mean() for seed in range(20)
    ]
    assert np.median(changes) > 2


def test_a_mel_image_loses_a_twentieth_or_more():
    mel = np.random.default_rng(0).normal(0, 1, (64, 100)).astype(np.float32)
    shares = [(spec_augment(mel, np.random.default_rng(seed)) != mel).mean() for seed in range(40)]
    assert np.mean(shares) > 0.05
