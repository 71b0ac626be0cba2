"""The reference detector: TimeSformer over faces and mel images, beside a small network over the audio-visual distances.

    detector = build(config)                      # fresh weights
    detector = load("runs/v1/best.ckpt")          # config and weights from the checkpoint
    detector.start_from(safe_load(path))          # weights of mmaction2, Hugging Face or an image ViT

TimeSformer is Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (ICML 2021), with the
parameter names of mmaction2 1.2.0, so that its checkpoints load unchanged.

    B clips · T frames · P patches of a frame · D embed_dims · S side of a frame in pixels
"""

import copy
import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from dataset import Clip, clip_from_bundle
from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.config import (
    AnomalyConfig,
    Config,
    ConfigError,
    TimeSformerSyncNetConfig,
    XceptionAudioConfig,
    XceptionFusedConfig,
    XceptionVideoConfig,
)
from visavox.detector import Detector
from visavox.folded import FoldedTimeSformer
from visavox.pretrained import AttentionType, LoadReport, load_pretrained, resize_time
from visavox.weights import WeightsError, parameters, safe_load

log = logging.getLogger("visavox.model")


def build(config: Config) -> Detector:
    """The detector that `config.detector` describes, with fresh weights."""
    match config.detector:
        case TimeSformerSyncNetConfig():
            return MultimodalDetector(config)
        case XceptionVideoConfig():
            from visavox.xception.video import XceptionVideo

            return XceptionVideo(config)
        case XceptionAudioConfig():
            from visavox.xception.audio import XceptionAudio

            return XceptionAudio(config)
        case XceptionFusedConfig():
            from visavox.xception.scorer import FusedScorer

            return FusedScorer(config)
        case AnomalyConfig():
            from visavox.anomaly.detector import AnomalyDetector

            return AnomalyDetector(config)
        case unknown:
            assert_never(unknown)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Detector:
    """A trained detector in eval mode on the CPU, rebuilt from the config that its checkpoint holds.

    Args:
        path: Lightning checkpoint written by train.py. It is read with weights_only=True: code in it never runs.
        overrides: `key=value` words for what may differ after training (device, submit_batch_size, root_path, ...).

    Raises:
        WeightsError: the file is missing, is no checkpoint, or holds no config.
        ConfigError: an override disagrees with what the network was built for or its bundles were made with.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such checkpoint; train.py writes RUNS_PATH/CODE_VERSION/best.ckpt")
    state = safe_load(path)
    hyper_parameters = state.get("hyper_parameters") if isinstance(state, dict) else None
    if not isinstance(hyper_parameters, dict) or "config" not in hyper_parameters or "state_dict" not in state:
        raise WeightsError(
            f"{path}: not a checkpoint of Visavox, it holds no config; give one that train.py wrote. Weights alone are "
            f"where training can start: `python train.py --pret-version {path}`"
        )
    trained = configuration.from_dict(hyper_parameters["config"], source=str(path))
    config = _with(trained, overrides)
    _refuse_conflicts(path, trained, config)
    detector = build(config)
    try:
        detector.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        raise WeightsError(f"{path}: its weights do not fit its own config; train it again\n{error}") from None
    return detector.eval()


def _with(config: Config, overrides: Sequence[str]) -> Config:
    words = [f"{key}={json.dumps(value)}" for key, value in config.model_dump(mode="json").items()]
    return configuration.load(None, [*words, *overrides])


def _refuse_conflicts(path: str | Path, trained: Config, asked: Config) -> None:
    """What shapes the network or the bundles must stay as it was in training; everything else may change."""

    def fixed(config: Config) -> dict[str, object]:
        detector = config.detector.model_dump(exclude=config.detector.after_training)
        network = {"frame_num": config.frame_num, "mel_frames": config.mel_frames}
        return config.prep() | network | {f"detector.{key}": value for key, value in detector.items()}

    was, now = fixed(trained), fixed(asked)
    faults = [
        f"  - {key}={now.get(key)!r} asked, trained with {key}={was.get(key)!r}"
        for key in was | now
        if was.get(key) != now.get(key)
    ]
    if faults:
        raise ConfigError(f"{path}: leave these out, or train a model with them\n" + "\n".join(faults))


class MultimodalDetector(Detector):
    """Faces and mel images through TimeSformer, audio-visual distances through LatencyNet, one linear classifier."""

    fewer_faces = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        settings = config.detector
        self.timesformer = TimeSformer(
            num_frames=2 * config.frame_num if config.mel_frames else config.frame_num,
            img_size=config.frame_size,
            patch_size=settings.patch_size,
            embed_dims=settings.embed_dims,
            num_heads=settings.num_heads,
            num_layers=settings.num_layers,
            drop_path_rate=settings.drop_path_rate,
            attention_type=settings.attention_type,
            checkpoint_activations=settings.checkpoint_activations,
        )
        distances = 2 * config.vshift + 1
        self.latency = LatencyNet(distances + 2, settings.latency_hidden, settings.latency_features)
        self.classifier = nn.Sequential(
            nn.Dropout(settings.dropout), nn.Linear(settings.embed_dims + settings.latency_features, 1)
        )

    def start_from(self, checkpoint: Any) -> LoadReport:
        """Give TimeSformer the weights of a file that `safe_load` read: published ones, or a detector's of an earlier run.

        The latency network and the classifier stay fresh.
        """
        report = load_pretrained(self.timesformer, parameters(checkpoint))
        log.info("TimeSformer: %d parameters from %s weights", len(report.loaded), report.source)
        if report.resized:
            log.info("interpolated to this model's size: %s", ", ".join(report.resized))
        if report.dropped:
            log.info("not used: %s", ", ".join(report.dropped))
        return report

    def fit_inputs(self, bundles: Iterable[Bundle]) -> None:
        """Standardise the latency network's inputs by the training split."""
        self.latency.fit(torch.from_numpy(np.stack([bundle.latency_vector for bundle in bundles])))

    def fold(self, dtype: torch.dtype) -> None:
        """TimeSformer in its form for scoring alone, `visavox.folded`; of other attention types it stays as it is."""
        if self.config.detector.attention_type == "divided_space_time":
            self.timesformer = FoldedTimeSformer(self.timesformer, dtype)

    def seeing(self, faces: int) -> "MultimodalDetector":
        """This network, weights shared, on so many faces and mel images; the time embedding is resized to their number."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"frame_num": faces})
        return other

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Clip:
        """The clip of a bundle that this network sees; `rng` None is deterministic."""
        return clip_from_bundle(bundle, self.config, rng)

    def forward(self, batch: Clip) -> Tensor:
        """frames (B, 3, T, S, S) in [-1, 1] and latency (B, 33), NaN = no audio -> logits (B,), higher = more fake."""
        look = self.timesformer(batch.frames)  # (B, D)
        sync = self.latency(batch.latency)  # (B, 8)
        with torch.autocast(
            look.device.type, enabled=False
        ):  # the 8 bits of bfloat16 would give many clips equal logits
            joined = torch.cat([look, sync], dim=1).to(self.classifier[1].weight.dtype)  # (B, D + 8)
            return self.classifier(joined).squeeze(1)  # (B,)


class LatencyNet(nn.Module):
    """Mean distances per shift, latency and confidence -> features. Standardised by the training split's own scale.

    SyncNet's distances and those of the correlation differ in scale, so mean and std are buffers that `fit` sets once,
    from the training split; they travel in the checkpoint.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, inputs: int = 33, hidden: int = 32, features: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, features))
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Set mean and std from vectors (N, 33) float32, ignoring NaN; a column that never varies keeps std 1."""
        vectors = vectors.to(self.mean)
        heard = vectors.isfinite()  # (N, 33)
        count = heard.sum(0).clamp(min=1)
        mean = vectors.where(heard, 0).sum(0) / count
        std = (((vectors - mean) ** 2).where(heard, 0).sum(0) / count).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(std.where(std > 1e-6, 1))
        self.fitted.fill_(True)

    def forward(self, vectors: Tensor) -> Tensor:
        """vectors (B, 33) float32, NaN where there is no audio -> (B, 8). A missing value counts as the training mean."""
        if not self.training and not self.fitted:
            raise RuntimeError(
                "LatencyNet has no mean and std: call fit(vectors) with the training split's (N, 33) latency vectors "
                "before evaluating (train.py does), or load a trained checkpoint with model.load"
            )
        standard = (vectors - self.mean) / self.std
        return self.layers(standard.where(~standard.isnan(), 0))


class TimeSformer(nn.Module):
    """Vision transformer over space and time; parameter names and shapes of mmaction2 1.2.0.

    Args:
        num_frames: length of the time embedding. A clip of another length is seen through the embedding resized by
            nearest neighbour, as in the authors' code (facebookresearch/TimeSformer).
        img_size: side of a frame in pixels, a multiple of patch_size.
        num_layers: transformer layers; layer i of n drops its branches with probability i / (n - 1) * drop_path_rate.
        attention_type: `divided_space_time` attends along time at each patch, then over the patches of each frame;
            `space_only` over the patches of each frame, frames averaged at the end; `joint_space_time` over everything.
        checkpoint_activations: recompute each layer in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        num_frames: int,
        img_size: int,
        patch_size: int,
        embed_dims: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        drop_path_rate: float = 0.1,
        attention_type: AttentionType = "divided_space_time",
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"patch_size={patch_size} does not divide img_size={img_size}")
        if embed_dims % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide embed_dims={embed_dims}")
        self.img_size = img_size
        self.attention_type = attention_type
        self.checkpoint_activations = checkpoint_activations

        projection = nn.Conv2d(3, embed_dims, patch_size, patch_size)
        self.patch_embed = nn.Sequential(OrderedDict(projection=projection))
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dims))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (img_size // patch_size) ** 2, embed_dims))
        if attention_type != "space_only":
            self.time_embed = nn.Parameter(torch.zeros(1, num_frames, embed_dims))
        layer = DividedLayer if attention_type == "divided_space_time" else PlainLayer
        rates = np.linspace(0, drop_path_rate, num_layers).tolist()
        layers = nn.ModuleList(layer(embed_dims, num_heads, rate) for rate in rates)
        self.transformer_layers = nn.ModuleDict({"layers": layers})
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)

        nn.init.kaiming_normal_(projection.weight, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(projection.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, frames: Tensor) -> Tensor:
        """frames (B, 3, T, S, S) float RGB in [-1, 1] -> class token (B, D)."""
        clips, _, length, height, width = frames.shape
        if (height, width) != (self.img_size, self.img_size):
            raise ValueError(
                f"frames are {height}x{width}, this TimeSformer was built for {self.img_size}x{self.img_size}"
            )
        patches = self.patch_embed(rearrange(frames, "b c t h w -> (b t) c h w"))  # (B*T, D, h, w)
        tokens = rearrange(patches, "(b t) d h w -> b (h w) t d", b=clips)  # (B, P, T, D)
        tokens = tokens + self.pos_embed[:, 1:, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(clips, -1, -1)  # (B, 1, D)

        if self.attention_type == "space_only":
            tokens = rearrange(tokens, "b p t d -> (b t) p d")
            cls = repeat(cls, "b 1 d -> (b t) 1 d", t=length)
        else:
            tokens = tokens + resize_time(self.time_embed, length)[:, None]
            tokens = rearrange(tokens, "b p t d -> b (p t) d")
        x = torch.cat([cls, tokens], dim=1)  # (B, 1 + P*T, D); space_only (B*T, 1 + P, D)

        *layers, last = self.transformer_layers["layers"]
        for layer in (*layers, partial(last, class_only=True)):  # of the last layer nothing else is read
            if self.checkpoint_activations and self.training:
                x = checkpoint(layer, x, length, use_reentrant=False)
            else:
                x = layer(x, length)

        cls = x[:, 0]
        if self.attention_type == "space_only":
            cls = rearrange(cls, "(b t) d -> b t d", t=length).mean(1)
        return self.norm(cls)  # (B, D)

    @torch.no_grad()
    def attention_over_time(self, frames: Tensor) -> Tensor:
        """How much each frame reads from each other: frames (B, 3, T, S, S) -> (layers, B, T, T), rows sum to 1.

        Mean over heads and patches; for divided_space_time, where time has an attention of its own.
        """
        if self.attention_type != "divided_space_time":
            raise ValueError(f"attention_type={self.attention_type} has no attention of its own along time")
        maps: list[Tensor] = []

        def keep(attention: Attention, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            each = attention.weights(inputs[0]).mean(1)  # (B*P, T, T)
            maps.append(rearrange(each, "(b p) t u -> b p t u", b=len(frames)).mean(1))

        layers = self.transformer_layers["layers"]
        hooks = [layer.attentions[0].attn.register_forward_hook(keep) for layer in layers]
        try:
            self(frames)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(maps)


class DividedLayer(nn.Module):
    """Attention along time, attention over space, feed-forward; each normalises its input and adds its own residual."""

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        attentions = [TemporalAttention(dims, heads, drop_path), SpatialAttention(dims, heads, drop_path)]
        self.attentions = nn.ModuleList(attentions)
        self.ffns = nn.ModuleList([FeedForward(dims, drop_path)])
        self.ffns[0].norm = nn.LayerNorm(dims, eps=1e-6)

    def forward(self, x: Tensor, frames: int, class_only: bool = False) -> Tensor:
        """x (B, 1 + P*T, D) -> the same shape; class_only: its class token alone, (B, 1, D)."""
        over_time, over_space = self.attentions
        x = over_space(over_time(x, frames), frames, class_only)
        return x + self.ffns[0](self.ffns[0].norm(x))


class PlainLayer(nn.Module):
    """Pre-norm transformer layer over all tokens it is given: those of a frame (space_only) or of a clip (joint)."""

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([nn.ModuleDict({"attn": Attention(dims, heads)})])
        self.norms = nn.ModuleList(nn.LayerNorm(dims, eps=1e-6) for _ in range(2))
        self.ffns = nn.ModuleList([FeedForward(dims, drop_path)])
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor, frames: int, class_only: bool = False) -> Tensor:
        """x (N, L, D) -> the same shape, (N, 1, D) for the class token alone."""
        queries = 1 if class_only else None
        x = x[:, :queries] + self.drop_path(self.attentions[0]["attn"](self.norms[0](x), queries))
        return x + self.ffns[0](self.norms[1](x))


class TemporalAttention(nn.Module):
    """Each patch attends to the same patch of the other frames; the class token passes by. `temporal_fc` starts at zero,
    so that a network that starts from image weights first ignores time."""

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims, eps=1e-6)
        self.attn = Attention(dims, heads)
        self.drop_path = StochasticDepth(drop_path, "row")
        self.temporal_fc = nn.Linear(dims, dims)
        nn.init.zeros_(self.temporal_fc.weight)
        nn.init.zeros_(self.temporal_fc.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        cls, tokens = x[:, :1], x[:, 1:]
        along = rearrange(tokens, "b (p t) d -> (b p) t d", t=frames)
        change = self.temporal_fc(self.drop_path(self.attn(self.norm(along))))  # (B*P, T, D)
        return torch.cat([cls, tokens + rearrange(change, "(b p) t d -> b (p t) d", b=len(x))], dim=1)


class SpatialAttention(nn.Module):
    """The patches of each frame attend to each other and to the class token, whose changes are averaged over frames."""

    def __init__(self, dims: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dims, eps=1e-6)
        self.attn = Attention(dims, heads)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor, frames: int, class_only: bool = False) -> Tensor:
        cls = repeat(x[:, :1], "b 1 d -> (b t) 1 d", t=frames)
        tokens = rearrange(x[:, 1:], "b (p t) d -> (b t) p d", t=frames)
        seen = self.norm(torch.cat([cls, tokens], dim=1))
        change = self.drop_path(self.attn(seen, queries=1 if class_only else None))  # (B*T, 1 + P, D), or (B*T, 1, D)
        cls = rearrange(change[:, :1], "(b t) 1 d -> b t d", t=frames).mean(1, keepdim=True)
        if class_only:
            return x[:, :1] + cls
        tokens = rearrange(change[:, 1:], "(b t) p d -> b (p t) d", t=frames)
        return x + torch.cat([cls, tokens], dim=1)


class Attention(nn.Module):
    """Multi-head self-attention under the parameter names and initial values of `nn.MultiheadAttention`."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = nn.Linear(dims, dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """x (N, L, D) -> (N, L, D), or (N, queries, D) where only the first so many tokens ask."""
        query, key, value = self._heads(x, queries)
        heads = F.scaled_dot_product_attention(query, key, value)  # (N, heads, L, D / heads)
        return self.out_proj(rearrange(heads, "n h l d -> n l (h d)"))

    def weights(self, x: Tensor) -> Tensor:
        """x (N, L, D) -> (N, heads, L, L): what `forward` weighs the values with."""
        query, key, _ = self._heads(x)
        return (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)

    def _heads(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        if queries is None:
            qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
            return rearrange(qkv, "n l (three h d) -> three n h l d", three=3, h=self.heads)
        dims = x.shape[-1]
        query = F.linear(x[:, :queries], self.in_proj_weight[:dims], self.in_proj_bias[:dims])
        pair = F.linear(x, self.in_proj_weight[dims:], self.in_proj_bias[dims:])
        key, value = rearrange(pair, "n l (two h d) -> two n h l d", two=2, h=self.heads)
        return rearrange(query, "n l (h d) -> n h l d", h=self.heads), key, value


class FeedForward(nn.Module):
    """D -> 4 D -> D with GELU, and the layer's stochastic depth. `layers.0.0` and `layers.1` are mmcv's names."""

    def __init__(self, dims: int, drop_path: float) -> None:
        super().__init__()
        widen = nn.Sequential(nn.Linear(dims, 4 * dims), nn.GELU())
        self.layers = nn.Sequential(widen, nn.Linear(4 * dims, dims))
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        """x (N, L, D) -> (N, L, D)."""
        return self.drop_path(self.layers(x))
