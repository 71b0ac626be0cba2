"""Two opinions into one: the equations, as functions of numbers.

A logit z stands for two class logits (0, z), real and fake, so that softmax gives P(fake) = sigmoid(z), and a weighted sum
of class logits is the same weighted sum of z. NaN stands for a modality that is not there.

    W segments of a clip, each with its window of sound and the frames of its own seconds · n frames
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from visavox.config import Pooling

Strategy = Literal["equal", "video_trust", "adaptive", "either"]
VIDEO_TRUST = 0.85


class Fused(NamedTuple):
    """What the branches say together, and how much each of them has to say."""

    logit: np.ndarray
    """(W,): z = alpha_v z_v + alpha_a z_a; NaN where there is neither."""
    alpha_video: np.ndarray
    """(W,) in [0, 1]."""
    alpha_audio: np.ndarray
    """(W,): 1 - alpha_video, but 0 where there is neither."""


def reliability(logit: np.ndarray) -> np.ndarray:
    """r = max_c softmax(z)_c = sigmoid(|z|), in [0.5, 1]."""
    return sigmoid(np.abs(logit))


def adaptive(logit_video: np.ndarray, logit_audio: np.ndarray, tau: float) -> np.ndarray:
    """alpha_v = exp(tau r_v) / (exp(tau r_v) + exp(tau r_a)) = sigmoid(tau (r_v - r_a)).

    r differs by 0.5 at most, so alpha_v keeps within sigmoid(±tau / 2): 0.475 to 0.525 for tau = 0.2.
    """
    return sigmoid(tau * (reliability(logit_video) - reliability(logit_audio)))


def either(logit_video: np.ndarray, logit_audio: np.ndarray) -> np.ndarray:
    """alpha_v = 1 where z_v >= z_a, else 0, so that P(fake) = max(P_v, P_a): a clip is as fake as its most fake modality.

    The other strategies are means: a voice that is surely fake and a face that is surely real come out at 0.5. Noisy-or,
    1 - (1 - P_v)(1 - P_a), would call fake what both branches think is rather real: 0.51 for 0.3 and 0.3.
    """
    return (logit_video >= logit_audio).astype(np.float64)


def calibrate(logit: np.ndarray, a: float = 1.0, b: float = 0.0, temperature: float = 1.0) -> np.ndarray:
    """(a z + b) / T: a and b fitted on validation clips (Platt, 1999), T chosen by hand, above 1 softer (Guo et al., 2017)."""
    return (a * logit + b) / temperature


def fuse(
    logit_video: np.ndarray,
    logit_audio: np.ndarray,
    *,
    strategy: Strategy,
    tau: float = 0.2,
) -> Fused:
    """alpha_v z_v + alpha_a z_a, segment by segment; a modality that is missing (NaN) has weight 0.

    equal: alpha_v = 0.5. video_trust: alpha_v = 0.85. adaptive, either: see there.

    Args:
        logit_video, logit_audio: (W,) after `calibrate`, NaN = missing.
    """
    video, audio = np.asarray(logit_video, np.float64), np.asarray(logit_audio, np.float64)
    if strategy == "adaptive":
        alpha = adaptive(video, audio, tau)
    elif strategy == "either":
        alpha = either(video, audio)
    else:
        alpha = np.full(video.shape, {"equal": 0.5, "video_trust": VIDEO_TRUST}[strategy])
    seen, heard = np.isfinite(video), np.isfinite(audio)
    alpha_video = np.where(seen & heard, alpha, np.where(seen, 1.0, 0.0))
    alpha_audio = np.where(seen & heard, 1 - alpha, np.where(heard, 1.0, 0.0))
    logit = alpha_video * np.where(seen, video, 0) + alpha_audio * np.where(heard, audio, 0)
    return Fused(np.where(seen | heard, logit, np.nan), alpha_video, alpha_audio)


def segments(starts: np.ndarray, window: float, end: float) -> np.ndarray:
    """Seconds that each window of sound answers for: (W, 2), start and end; the last one reaches to the clip's end."""
    spans = np.stack([starts, starts + window], axis=1)
    spans[-1, 1] = max(spans[-1, 1], end)
    return spans


def align(frame_seconds: np.ndarray, frame_logits: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Video logit of each span: that of the mean probability of the frames within it, NaN where it has none.

    Args:
        frame_seconds, frame_logits: (n,), in any order.
        spans: (W, 2) seconds, each including its start and not its end; they may overlap.
    """
    within = (frame_seconds >= spans[:, :1]) & (frame_seconds < spans[:, 1:])  # (W, n)
    return np.array([pool(frame_logits[row], "mean") for row in within])


def pool(logits: np.ndarray, how: Pooling, top_k: int = 3) -> float:
    """As `network.pool` for (n,) float64; NaN for n = 0."""
    import torch

    from visavox.detectors.xception import network

    if not len(logits):
        return float("nan")
    return network.pool(torch.from_numpy(np.sort(logits)), how, top_k).item()


def sigmoid(z: np.ndarray | float) -> np.ndarray:
    from scipy.special import expit

    return expit(z)
