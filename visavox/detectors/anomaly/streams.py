"""The two streams and their fusion.

N windows · T frames of a window · C chunks of sound in the same seconds · F mel bins · W mel steps of a chunk · D width
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from visavox import weights
from visavox.config import AnomalyConfig
from visavox.detectors.anomaly.mouth import PAD, STEPS
from visavox.detectors.backbones import timm_network

log = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Streams(nn.Module):
    """Mouths and sound -> what each step shows, what it lets hear, and both fused."""

    def __init__(self, settings: AnomalyConfig) -> None:
        super().__init__()
        self.settings = settings
        self.visual = VisualStream(settings)
        self.audio = AudioStream(settings)
        self.fusion = Fusion(settings.vis_transformer_d_model, settings.dropout)

    def see(self, frames: Tensor, starts: Tensor, valid: Tensor) -> Tensor:
        """frames (B, L, S, S, 3) uint8, starts (B, n) of windows, valid (B, n, T) -> (B, n, T, D).

        Each frame goes through the image network once, or where that is less work, each frame of each window.
        """
        if starts.shape[1] * valid.shape[2] < frames.shape[1]:
            windows = windows_of(frames, starts, valid.shape[2])  # (B, n, T, S, S, 3)
            images = self.visual.frames(windows.flatten(0, 2)).unflatten(0, valid.shape)  # (B, n, T, D)
        else:
            images = self.visual.frames(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, L, D)
            images = windows_of(images, starts, valid.shape[2])
        return self.see_windows(images, valid)

    def see_windows(self, images: Tensor, valid: Tensor) -> Tensor:
        """What each frame of the windows shows, images (B, n, T, D), valid (B, n, T) -> (B, n, T, D)."""
        return self.visual.encode(images.flatten(0, 1), valid.flatten(0, 1)).unflatten(0, images.shape[:2])

    def hear(self, mel: Tensor, starts: Tensor, valid: Tensor) -> Tensor:
        """mel (B, F, M), starts (B, n), valid (B, n, T) -> (B, n, T, D), on the frames' own moments."""
        T, C = valid.shape[-1], self.settings.aud_num_chunks
        chunks = cut_chunks(mel, starts, T, C, self.settings.chunk_steps)  # (B, n, C, F, W)
        heard = valid[..., (torch.arange(C, device=mel.device) * T) // C]  # (B, n, C): its first frame is there
        encoded = self.audio(chunks.flatten(0, 1), heard.flatten(0, 1))  # (N, C, D)
        return align(encoded, T).unflatten(0, starts.shape)

    def fuse(self, seen: Tensor, heard: Tensor) -> Tensor:
        """seen and heard (..., T, D) -> (..., T, D) float32, whatever the arithmetic of the streams."""
        with torch.autocast(seen.device.type, enabled=False):
            return self.fusion(seen.float(), heard.float())


class VisualStream(nn.Module):
    """Mouths, each through an image network, then in time through a transformer encoder."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: AnomalyConfig) -> None:
        super().__init__()
        self.net = timm_network(settings.vis_backbone, "vis_backbone")
        width = settings.vis_transformer_d_model
        self.project = nn.Linear(self.net.num_features, width)
        self.encoder = TimeEncoder(width, settings.vis_transformer_layers, settings.num_heads, settings.dropout)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def frames(self, mouths: Tensor) -> Tensor:
        """mouths (N, S, S, 3) uint8 RGB -> (N, D), each frame alone."""
        images = (mouths.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std  # (N, 3, S, S)
        return self.project(self.net(images))

    def in_chunks(self, mouths: Tensor, chunk: int) -> Tensor:
        """As `frames`, so many at once: memory does not grow with the clip."""
        return torch.cat([self.frames(part) for part in mouths.split(chunk)])

    def encode(self, features: Tensor, valid: Tensor) -> Tensor:
        """features (N, T, D), valid (N, T) -> (N, T, D)."""
        return self.encoder(features, valid)


class AudioStream(nn.Module):
    """Chunks of log-mel as pictures of three equal channels through an image network, then through a transformer encoder."""

    def __init__(self, settings: AnomalyConfig) -> None:
        super().__init__()
        self.net = timm_network(settings.aud_backbone, "aud_backbone")
        width = settings.vis_transformer_d_model
        self.project = nn.Linear(self.net.num_features, width)
        self.encoder = TimeEncoder(width, settings.aud_transformer_layers, settings.num_heads, settings.dropout)

    def forward(self, chunks: Tensor, valid: Tensor) -> Tensor:
        """chunks (N, C, F, W), valid (N, C) -> (N, C, D)."""
        pictures = chunks.flatten(0, 1).unsqueeze(1).expand(-1, 3, -1, -1)  # (N * C, 3, F, W)
        return self.encoder(self.project(self.net(pictures)).unflatten(0, valid.shape), valid)


class Fusion(nn.Module):
    """Both streams of a step -> its fused feature, and how well they match.

    What makes a mismatch visible in the fused feature is that `match` was trained on it, in the first stage: a linear map
    tells own sound from foreign or moved sound.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Linear(3 * width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.LayerNorm(width, elementwise_affine=False),
        )
        self.match = nn.Linear(width, 1)

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:
        """seen and heard (..., T, D) -> (..., T, D)."""
        v, a = unit(seen), unit(heard)
        return self.mix(torch.cat([v, a, v * a * math.sqrt(v.shape[-1])], dim=-1))


class TimeEncoder(nn.Module):
    """Sinusoidal positions (Vaswani et al., 2017) and a pre-norm transformer encoder that does not look at padding."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (N, T, D), valid (N, T) bool -> (N, T, D)."""
        return self.layers(x + positions(x), src_key_padding_mask=~valid)


def load_imagenet(stream: VisualStream | AudioStream, part: str, name: str) -> None:
    """Give a stream's image network the weights of a registry name, its classifier left out; `none` is said.

    Raises:
        WeightsError: the weights are not to be had, or do not fit the network.
    """

    field = {"visual": "vis", "audio": "aud"}[part]
    if name == "none":
        log.info("the %s stream starts from random weights (detector.%s_weights=none)", part, field)
        return
    state = weights.state_dict(name)
    try:
        found = weights.fit(stream.net, state, unread=["classifier.*"], fresh=["*num_batches_tracked"], what=name)
    except weights.WeightsError as error:
        raise weights.WeightsError(
            f"{error}; set detector.{field}_backbone to the network they belong to, or detector.{field}_weights=none"
        ) from None
    log.info("the %s stream starts from %s: %d parameters", part, name, found.loaded)


def positions(x: Tensor) -> Tensor:
    """Sinusoids for x (N, T, D) -> (T, D): wavelengths from 2 pi to 10000 * 2 pi steps."""
    T, D = x.shape[-2:]
    rates = torch.exp(torch.arange(0, D, 2, device=x.device) * (-math.log(10000.0) / D))  # (D / 2,)
    angles = torch.arange(T, device=x.device)[:, None] * rates  # (T, D / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(x.dtype)


def windows_of(x: Tensor, starts: Tensor, frames: int) -> Tensor:
    """T frames from each start: x (B, L, ...), starts (B, n) -> (B, n, T, ...); the last one again beyond the end."""
    steps = starts[..., None] + torch.arange(frames, device=x.device)  # (B, n, T)
    clips = torch.arange(len(x), device=x.device)[:, None, None]
    return x[clips, steps.clamp(max=x.shape[1] - 1)]


def cut_chunks(mel: Tensor, starts: Tensor, frames: int, chunks: int, width: int) -> Tensor:
    """C overlapping stretches of sound in the T frames from each start: mel (B, F, M), starts (B, n) -> (B, n, C, F, W).

    Chunk c is centred on the (c + 1/2) / C-th part of the window, to the nearest mel step.
    """
    centres = (torch.arange(chunks, device=mel.device) + 0.5) * frames / chunks - 0.5  # in frames
    first = PAD + (STEPS * centres - (width - 1) / 2).round().long()  # (C,)
    steps = STEPS * starts[..., None, None] + first[:, None] + torch.arange(width, device=mel.device)  # (B, n, C, W)
    steps = steps.clamp(0, mel.shape[2] - 1)
    clips = torch.arange(len(mel), device=mel.device)[:, None, None, None]
    return mel.transpose(1, 2)[clips, steps].transpose(-1, -2)  # (B, n, C, F, W)


def align(chunks: Tensor, frames: int) -> Tensor:
    """Features of C chunks at the moments of T frames, linear between the chunks' centres: (N, C, D) -> (N, T, D)."""
    count = chunks.shape[1]
    at = ((torch.arange(frames, device=chunks.device) + 0.5) * count / frames - 0.5).clamp(0, count - 1)  # in chunks
    left = at.floor().long().clamp(max=max(0, count - 2))
    share = (at - left)[:, None].to(chunks.dtype)  # (T, 1)
    return chunks[:, left] * (1 - share) + chunks[:, (left + 1).clamp(max=count - 1)] * share


def unit(x: Tensor) -> Tensor:
    return normalize(x, dim=-1)
