"""Linear probes on encoders with random weights: what can be told apart before anything is learnt.

A random audio encoder and a linear probe reach AUC 99.8 on FakeAVCeleb and 98.8 on AV-Deepfake1M (SSR-DFD, 2026, Table 2),
so a trained network that does as well there has not shown that it knows forgery.

    K faces · S side · F mel bins · M mel steps · D features
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

if TYPE_CHECKING:
    from visavox.bundle import Bundle

WIDTHS = (16, 32, 64)
HEAD = 100
"""Mel steps of the beginning, 1 s, which the audio encoder also sees for itself: beginnings are where silence is planted."""
FACE_SIDE = 96
FOLDS = 5


class Probes:
    """Features of one clip after the other, then scores by cross-validated logistic regression."""

    def __init__(self, seed: int = 0):
        self.audio, self.video = _encoder(1, seed), _encoder(3, seed + 1)
        self.heard: list[np.ndarray] = []
        self.seen: list[np.ndarray] = []

    def see(self, bundle: Bundle) -> None:
        """Take the features of a clip."""

        mel = torch.from_numpy(bundle.mel_3cs[:1].astype(np.float32) / 40 + 1)[None]  # (1, 1, F, M) about [-1, 2]
        small = np.stack(
            [cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA) for face in bundle.faces]
        )
        faces = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1  # (K, 3, side, side)
        with torch.inference_mode():
            whole = pooled(self.audio(mel))
            head = pooled(self.audio(mel[..., :HEAD]))
            look = pooled(self.video(faces))
        self.heard.append(torch.cat([whole, head], 1).mean(0).numpy())
        self.seen.append(torch.cat([look.mean(0), look.std(0, correction=0)]).numpy())

    def scores(self, labels: np.ndarray, groups: np.ndarray | None) -> dict[str, np.ndarray]:
        """P(fake) of every clip by a probe that saw none of its identity, each (N,)."""
        return {
            "audio_probe": cross_validated(np.array(self.heard), labels, groups),
            "video_probe": cross_validated(np.array(self.seen), labels, groups),
        }


def pooled(maps: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of each channel: (B, C, h, w) -> (B, 2 C)."""

    flat = maps.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2, correction=0)], 1)


def cross_validated(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Out-of-fold P(fake), (N,), of a standardised logistic regression on features (N, D); folds keep identities whole.

    0.5 for everyone where there are too few identities or clips for folds.
    """

    member = np.arange(len(labels)) if groups is None else groups
    folds = min(FOLDS, len(set(member.tolist())), int((labels == 0).sum()), int((labels == 1).sum()))
    scores = np.full(len(labels), 0.5)
    if folds < 2:
        return scores
    for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(features, labels, member):
        if len(set(labels[train])) < 2:
            continue
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, tol=1e-2, max_iter=500, class_weight="balanced")
        )
        scores[test] = probe.fit(features[train], labels[train]).predict_proba(features[test])[:, 1]
    return scores


def _encoder(channels: int, seed: int) -> torch.nn.Module:
    """Three strided convolutions with He weights from `seed`, never trained: (B, channels, h, w) -> (B, 64, h/8, w/8)."""

    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for width in WIDTHS:
        convolution = nn.Conv2d(channels, width, 3, 2, 1)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu", generator=generator)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.ReLU()]
        channels = width
    return nn.Sequential(*layers).eval()
