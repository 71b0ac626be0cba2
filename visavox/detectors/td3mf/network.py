"""The fusion network of 2D3MF, under the published parameter names.

Middle fusion by cross-attention follows Chumachenko, Iosifidis and Gabbouj, "Self-attention fusion for audiovisual emotion
recognition with incomplete data" (2022), as put together in aiden200/2D3MF, TD3MF/classifier.py.

B clips · T steps of the video · U steps of the sound · E width of a video feature · H hidden width · A width of the sound in
the fusion · C outputs (1 for real or fake, 8 for emotions)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from visavox.weights import WeightsError
from visavox.weights.loading import Fit, fit

Fusion = Literal["mf", "lf"]
"""Middle fusion convolves what the attention gave before it averages over time; late fusion averages at once."""
FusionType = Literal[
    "default", "audio_refuse", "video_refuse", "self_attention", "self_cross_attention", "multi_attention"
]
Probe = Literal["none", "video", "audio"]
"""A linear map on the features of one modality in place of the fusion."""

SHRINKS_BY = 6
"""Steps that the two valid convolutions and poolings of the audio stage take from a sequence."""


@dataclass(frozen=True)
class AudioInput:
    """What an audio backbone gives the fusion."""

    kind: Literal["vectors", "mfcc", "posteriors"]
    """A vector per step; an MFCC image per step; or class posteriors per step, which a linear map brings to `projected`."""
    dim: int
    """Width of the vectors, coefficients of the MFCC, or classes of the posteriors."""
    steps: int
    """U."""
    projected: int = 768
    """Width that posteriors are brought to."""
    frames: int = 0
    """W of an MFCC image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one step."""
        return (self.dim, self.frames) if self.kind == "mfcc" else (self.dim,)

    def width(self, hidden: int) -> int:
        """Return A, the width of the sound in the fusion."""
        return {"vectors": self.dim, "mfcc": hidden, "posteriors": self.projected}[self.kind]


class FusionNetwork(nn.Module):
    """Video and audio features of a clip -> logits.

    Masks are ours: the published code pads short clips with zeros and lets the network see them as if they were features.
    Without masks the arithmetic is the published one. With them, what stands in a masked step never reaches a logit, and a
    modality that is masked throughout adds zeros to what is classified and nothing to the other modality.
    """

    def __init__(
        self,
        *,
        video_dim: int,
        audio: AudioInput,
        hidden: int = 64,
        heads: int = 2,
        steps: int = 10,
        fusion: Fusion = "mf",
        fusion_type: FusionType = "default",
        audio_positional_encoding: bool = False,
        probe: Probe = "none",
        classes: int = 1,
        encoder: nn.Module | None = None,
    ) -> None:
        """Build only what the chosen fusion reads; `UNREAD` names the published parameters that are left out.

        Args:
            video_dim: E.
            hidden: H; `heads` has to divide it and A.
            steps: T.
            encoder: a MARLIN encoder trained with the rest; `forward` then takes clips of frames for `video`.

        Raises:
            ValueError: heads that do not divide a width, or too few steps for the convolutions.
        """
        super().__init__()
        width = audio.width(hidden)
        _check(hidden, width, heads, min(audio.steps, steps), fusion, probe)
        self.audio, self.fusion_type, self.probe = audio, fusion_type, probe
        self.audio_width, self.fused_width, self.steps = width, width + hidden, steps
        self.model = encoder
        if probe != "video":
            self._build_audio(audio, hidden, width)
        if probe == "video":
            self.lp_only_fc = nn.Linear(steps * video_dim, classes)
        elif probe == "audio":
            self.audio_only_fc = nn.Linear(audio.steps * width, classes)
        else:
            self.project_down = nn.Linear(video_dim, hidden)
            self.audio_pe = PositionalEncoding(width, audio.steps) if audio_positional_encoding else None
            self._build_attention(hidden, width, heads)
            self.middle = fusion == "mf"
            if self.middle:
                self.video_model_cnn = VideoStage(hidden)
                if audio.kind != "mfcc":
                    self.audio_model_cnn = AudioStage(width)
            self.classifier_1 = nn.Sequential(nn.Linear(width + hidden, classes))

    def _build_audio(self, audio: AudioInput, hidden: int, width: int) -> None:
        if audio.kind == "mfcc":
            self.audio_model_cnn = MfccNetwork(audio.dim, hidden)
        elif audio.kind == "posteriors":
            self.fc_xvec = nn.Linear(audio.dim, width)

    def _build_attention(self, hidden: int, width: int, heads: int) -> None:
        if self.fusion_type in ("self_attention", "self_cross_attention"):
            self.vv = AttentionBlock(hidden, hidden, heads)
            self.aa = AttentionBlock(width, width, heads)
        if self.fusion_type != "self_attention":
            self.av1 = AttentionBlock(hidden, width, heads)
            self.va1 = AttentionBlock(width, hidden, heads)
        if self.fusion_type == "multi_attention":
            self.av2 = AttentionBlock(hidden, width, heads)
            self.va2 = AttentionBlock(width, hidden, heads)

    def forward(
        self, video: Tensor, audio: Tensor, video_mask: Tensor | None = None, audio_mask: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C), higher = more fake for C = 1.

        Args:
            video: (B, T, E) features, or (B, T, 16, 3, S, S) frames in [0, 1] with an `encoder`.
            audio: (B, U, dim), or (B, T, dim, W) MFCC of W frames per step.
            video_mask: (B, T) bool, True where there is a step.
            audio_mask: (B, U) bool.
        """
        if self.probe == "video":
            return self.lp_only_fc(_only(self.encoded(video), video_mask).flatten(1))
        if self.probe == "audio":
            return self.audio_only_fc(_only(self.adjusted(audio), audio_mask).flatten(1))
        return self.classifier_1(self.fused(video, audio, video_mask, audio_mask))

    def fused(
        self, video: Tensor, audio: Tensor, video_mask: Tensor | None = None, audio_mask: Tensor | None = None
    ) -> Tensor:
        """Return what is classified, sound before face: arguments as for `forward` -> (B, A + H)."""
        a, v = self.adjusted(audio), self.project_down(self.encoded(video))  # (B, U, A), (B, T, H)
        if self.audio_pe is not None:
            a = self.audio_pe(a)
        a, v = self._attend(_only(a, audio_mask), _only(v, video_mask), audio_mask, video_mask)
        if not self.middle:
            return torch.cat([_mean(a, audio_mask), _mean(v, video_mask)], dim=-1)
        a = self.audio_model_cnn.stage2(a, audio_mask)  # (B, U - 6, A)
        v = self.video_model_cnn(v, video_mask)  # (B, T, H)
        return torch.cat([_mean(a, _shrunk(audio_mask)), _mean(v, video_mask)], dim=-1)

    def encoded(self, video: Tensor) -> Tensor:
        """Return video features (B, T, E); frames go through the encoder that is trained along."""
        if self.model is None:
            return video
        clips = video.transpose(2, 3).flatten(0, 1)  # (B * T, 3, 16, S, S)
        return self.model(clips).unflatten(0, video.shape[:2])

    def adjusted(self, audio: Tensor) -> Tensor:
        """Return audio features in the fusion's width: (B, U, dim) or (B, T, dim, W) -> (B, U, A)."""
        if self.audio.kind == "mfcc":
            return self.audio_model_cnn(audio.flatten(0, 1)).unflatten(0, audio.shape[:2])
        return self.fc_xvec(audio) if self.audio.kind == "posteriors" else audio

    def _attend(self, a: Tensor, v: Tensor, heard: Tensor | None, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return sound (B, U, A) and face (B, T, H), each with what it takes from the other or from itself."""
        if self.fusion_type == "self_attention":
            return a + self.aa(a, a, heard, heard), v + self.vv(v, v, seen, seen)
        if self.fusion_type == "self_cross_attention":
            a, v = a + self.aa(a, a, heard, heard), v + self.vv(v, v, seen, seen)
        if self.fusion_type == "multi_attention":
            a, v = a + self.av1(v, a, seen, heard), v + self.va1(a, v, heard, seen)
            return a + self.av2(v, a, seen, heard), v + self.va2(a, v, heard, seen)
        if self.fusion_type == "audio_refuse":
            to_video = self.va1(a, v, heard, seen)
            return a + self.av1(v + to_video, a, seen, heard), v + to_video
        if self.fusion_type == "video_refuse":
            to_audio = self.av1(v, a, seen, heard)
            return a + to_audio, v + self.va1(a + to_audio, v, heard, seen)
        return a + self.av1(v, a, seen, heard), v + self.va1(a, v, heard, seen)


class AttentionBlock(nn.Module):
    """What one sequence takes from another: attention without a residual, then an MLP with one (width times 2)."""

    def __init__(self, key_dim: int, query_dim: int, heads: int) -> None:
        super().__init__()
        self.norm1_q = nn.LayerNorm(query_dim)
        self.norm1_k = nn.LayerNorm(key_dim)
        self.attn = Attention(key_dim, query_dim, heads)
        self.norm2 = nn.LayerNorm(query_dim)
        self.mlp = Mlp(query_dim, 2 * query_dim)

    def forward(self, keys: Tensor, queries: Tensor, key_mask: Tensor | None, query_mask: Tensor | None) -> Tensor:
        """keys (B, N, K), queries (B, M, Q) -> (B, M, Q); zeros where a clip has no key, or the step no query."""
        x = self.attn(self.norm1_k(keys), self.norm1_q(queries), key_mask)
        x = x + self.mlp(self.norm2(x))
        if key_mask is not None:
            x = x * key_mask.any(dim=1)[:, None, None]
        return _only(x, query_mask)


class Attention(nn.Module):
    def __init__(self, key_dim: int, query_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(query_dim, query_dim, bias=False)
        self.kv = nn.Linear(key_dim, 2 * query_dim, bias=False)
        self.proj = nn.Linear(query_dim, query_dim)

    def forward(self, keys: Tensor, queries: Tensor, key_mask: Tensor | None) -> Tensor:
        q = self.q(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, M, D)
        k, v = self.kv(keys).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, D) each
        mask = None
        if key_mask is not None:
            # A clip without keys attends to everything, so that softmax is defined; the block then drops the result.
            mask = (key_mask | ~key_mask.any(dim=1, keepdim=True))[:, None, None]
        x = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(x.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, inner)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class PositionalEncoding(nn.Module):
    """Sinusoids (Vaswani et al., 2017) added to a sequence, then dropout of 0.1."""

    pe: Tensor

    def __init__(self, dim: int, steps: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        angles = torch.arange(steps)[:, None] * rates
        pe = torch.zeros(steps, 1, dim)
        pe[:, 0, 0::2] = angles.sin()
        pe[:, 0, 1::2] = angles.cos()[:, : dim // 2]
        self.register_buffer("pe", pe)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, U, A) -> (B, U, A)."""
        return self.dropout(x + self.pe[: x.shape[1], 0])


class VideoStage(nn.Module):
    """Two convolutions over time that keep its length: (B, T, H) -> (B, T, H)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv1d_2 = _convolution(hidden, 128, padding="same")
        self.conv1d_3 = _convolution(128, hidden, padding="same")

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for layer in (self.conv1d_2, self.conv1d_3):
            x = layer(_only(x, mask).transpose(1, 2)).transpose(1, 2)
        return x


class AudioStage(nn.Module):
    """Two convolutions over time, each with a pooling of stride 1: (B, U, A) -> (B, U - 6, A)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1d_2 = _convolution(width, 256, pool=True)
        self.conv1d_3 = _convolution(256, width, pool=True)

    def stage2(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.conv1d_3(self.conv1d_2(_only(x, mask).transpose(1, 2))).transpose(1, 2)


class MfccNetwork(AudioStage):
    """MFCC of a step to a vector. Its last two convolutions are used again on the fused sequence, as published."""

    def __init__(self, coefficients: int, hidden: int) -> None:
        super().__init__(hidden)
        self.conv1d_0 = _convolution(coefficients, 64, pool=True)
        self.conv1d_1 = _convolution(64, hidden, pool=True)
        self.classifier_1 = nn.Sequential(nn.Linear(hidden, hidden))

    def forward(self, mfcc: Tensor) -> Tensor:
        """mfcc (N, coefficients, W) -> (N, H)."""
        x = self.conv1d_3(self.conv1d_2(self.conv1d_1(self.conv1d_0(mfcc))))  # (N, H, W - 12)
        return self.classifier_1(x.mean(dim=-1))


UNREAD = (
    "eat_down.*",
    "layer_norm.*",
    "layer_norm2.*",
    "fc.*",
    "av[12].*",
    "va[12].*",
    "project_down.*",
    "classifier_1.*",
    "lp_only_fc.*",
    "audio_only_fc.*",
    "fc_xvec.*",
    "audio_model_cnn.*",
    "video_model_cnn.*",
    "audio_pe.pe",
    "loss_fn.*",
    "acc_fn.*",
    "auc_fn.*",
)
"""Parameters of the published class that it builds and, as configured, never reads: nothing is lost where ours lacks them."""


def load_published(network: FusionNetwork, state: Mapping[str, Tensor], *, what: str = "2D3MF checkpoint") -> Fit:
    """Load the parameters of a published 2D3MF checkpoint; the one place where its names meet ours.

    The names are equal. The published `mf` classifier is sized `2 * hidden`, which fits its own features only for MFCC: with
    another backbone such a classifier was never run. It is left fresh, and named in the returned report.

    Args:
        state: `state_dict` of the checkpoint, e.g. from `visavox.weights.loading.parameters`.

    Raises:
        WeightsError: a parameter is missing or unknown, or has another shape.
    """
    state = dict(state)
    fresh: tuple[str, ...] = ()
    key = "classifier_1.0.weight"
    if network.probe == "none" and key in state and state[key].shape[1] != network.fused_width:
        hidden = network.fused_width - network.audio_width
        if state[key].shape[1] != 2 * hidden:
            raise WeightsError(
                f"{what}: its classifier reads {state[key].shape[1]} features, {network.fused_width} were expected (sound "
                f"{network.audio_width} + hidden {hidden}); set detector.hidden_layers and detector.audio_backbone to its own"
            )
        fresh = (key, "classifier_1.0.bias")
        state |= {name: network.state_dict()[name] for name in fresh}
    report = fit(network, state, unread=UNREAD, what=what)
    return Fit(report.loaded - len(fresh), report.unread, fresh)


def drop_modality(
    video: Tensor,
    audio: Tensor,
    video_mask: Tensor,
    audio_mask: Tensor,
    *,
    probability: float,
    how: Literal["noise", "mask"],
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take one modality from a share of the clips; for training only.

    Args:
        video, audio, video_mask, audio_mask: as in `FusionNetwork.forward`.
        probability: share of clips that lose one; which one is drawn evenly.
        how: `noise` puts N(0, 1) in its place, as published; `mask` masks all its steps, which is what a clip without that
            modality looks like later. A clip that has one modality only keeps it.

    Returns:
        The four, changed copies where something was dropped.
    """
    count, device = len(video), generator.device if generator is not None else video.device
    chosen = (torch.rand(count, generator=generator, device=device) < probability).to(video.device)
    which = (torch.rand(count, generator=generator, device=device) < 0.5).to(video.device)
    both = video_mask.any(dim=1) & audio_mask.any(dim=1)
    no_video, no_audio = chosen & which & both, chosen & ~which & both
    if how == "mask":
        return video, audio, video_mask & ~no_video[:, None], audio_mask & ~no_audio[:, None]
    return _noised(video, no_video, generator), _noised(audio, no_audio, generator), video_mask, audio_mask


def _noised(x: Tensor, where: Tensor, generator: torch.Generator | None) -> Tensor:
    """N(0, 1) in place of the clips `where` (B,)."""
    device = generator.device if generator is not None else x.device
    noise = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
    return torch.where(where.view(-1, *[1] * (x.ndim - 1)), noise, x)


def _convolution(inputs: int, outputs: int, *, padding: str = "valid", pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv1d(inputs, outputs, 3, padding=padding), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool1d(2, 1)] if pool else []))


def _only(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros in the masked steps: x (B, N, ...), mask (B, N)."""
    return x if mask is None else torch.where(mask.view(*mask.shape, *[1] * (x.ndim - 2)), x, torch.zeros_like(x))


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the steps there are: (B, N, D) -> (B, D), zeros where there is none."""
    if mask is None:
        return x.mean(dim=1)
    return _only(x, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def _shrunk(mask: Tensor | None) -> Tensor | None:
    """Mask of the audio stage's outputs: those whose middle is heard, the first one at least: (B, U) -> (B, U - 6)."""
    if mask is None:
        return None
    half = SHRINKS_BY // 2
    kept = mask[:, half : mask.shape[1] - half].clone()
    kept[:, 0] |= mask.any(dim=1)
    return kept


def _check(hidden: int, width: int, heads: int, steps: int, fusion: str, probe: str) -> None:
    if probe != "none":
        return
    for name, size in (("hidden_layers", hidden), ("the sound's width", width)):
        if size % heads:
            raise ValueError(f"num_heads={heads} does not divide {name}={size}; take a divisor of both")
    if fusion == "mf" and steps <= SHRINKS_BY:
        raise ValueError(
            f"{steps} steps are too few for fusion=mf, whose convolutions need {SHRINKS_BY + 1}; raise temporal_axis, or "
            "set fusion=lf"
        )
