"""Augmentation of aligned faces with GenD's published probabilities and ranges (yermandy/GenD e03532d, src/config.py)."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np


def augment(faces: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Change all faces of a clip alike: (S, S, 3) uint8 each -> the same shapes.

    Mirrored with probability 0.5; turned by up to 10 degrees, moved by up to a tenth, scaled by 0.9 to 1.1; blurred with
    probability 0.1 (kernel 7, deviation 0.1 to 2); brightness and contrast by up to a tenth; JPEG of quality 40 to 100.
    """
    S = faces[0].shape[0]
    mirrored, blurred = rng.random() < 0.5, rng.random() < 0.1
    matrix = cv2.getRotationMatrix2D((S / 2, S / 2), float(rng.uniform(-10, 10)), float(rng.uniform(0.9, 1.1)))
    matrix[:, 2] += rng.uniform(-0.1, 0.1, 2) * S
    sigma, gain, contrast = rng.uniform(0.1, 2.0), rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1)
    quality = int(rng.integers(40, 101))
    changed = []
    for face in faces:
        if mirrored:
            face = face[:, ::-1]
        face = cv2.warpAffine(np.ascontiguousarray(face), matrix, (S, S), flags=cv2.INTER_LINEAR)
        if blurred:
            face = cv2.GaussianBlur(face, (7, 7), sigma)
        bright = face.astype(np.float32) * gain
        grey = float(cv2.cvtColor(np.clip(bright, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY).mean())
        face = np.clip((bright - grey) * contrast + grey, 0, 255).astype(np.uint8)
        jpeg = cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        changed.append(cast(np.ndarray, cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1])
    return changed
