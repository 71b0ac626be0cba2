"""SyncNet (Chung and Zisserman, "Out of time", 2016): do these lips say this sound?

The layers and their names are those of joonson/syncnet_python, so that `syncnet_v2.model` loads unchanged.

    T frames at 25 fps · N samples at 16 kHz · n = min(T, N // 640) - 5 windows of 0.2 s · V = 2 * vshift + 1 shifts
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pairwise_distance
from torch.nn.functional import pad as pad_ends
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from visavox.features.audio import mfcc
from visavox.features.sync import Sync, TooShort, summarise

RATE = 16000
SAMPLES_PER_FRAME = 640
WINDOW = 5  # video frames, and 4 * WINDOW MFCC steps
SIZE = 224
BLOCK = 64  # windows whose crops are held at once


class Embedder(Protocol):
    """The two towers, wherever they are computed."""

    def lips(self, crops: np.ndarray, stride: int) -> Tensor:
        """Crops (n, S, S, 3) uint8 RGB -> (w, 1024) float32 on the CPU, of the windows that begin at 0, stride, .. <= n - 5."""

    def voice(self, cepstra: np.ndarray) -> Tensor:
        """Windows (w, 1, 13, 20) float32 -> (w, 1024) float32 on the CPU."""


def sync_distances(
    model: SyncNet | FoldedSyncNet | Embedder,
    crops: Sequence[np.ndarray],
    audio: np.ndarray,
    *,
    vshift: int = 15,
    pad: Literal["valid", "zero"] = "valid",
    stride: int = 1,
    batch: int | None = None,
    device: str | torch.device | None = None,
) -> Sync:
    """Mean embedding distance at each shift of sound against picture, in the conventions of `visavox.features.sync`.

    model: in eval mode, on `device` (None: wherever its parameters are), `batch` windows of lips at once (None: see
    `LocalEmbedder`); or an `Embedder`. crops: T indexable (S, S, 3) uint8 RGB of the whole face at 25 fps, of which
    stride * (BLOCK - 1) + 5 are held at once. audio: (N,) int16 mono at 16 kHz, sample 0 belonging to frame 0. stride: the
    lips are read in every stride-th window (1 to 5), the sound in all. Raises `TooShort` where a shift would have no pair.

    pad="zero" is the published computation: sound is continued by vshift zero vectors at both ends, so that a window
    without a partner counts with the norm of its own embedding. Up to vshift / n of the windows do (a third of a clip of
    2 s), which bends the ends of the curve down and lets a network read the clip's length off it. pad="valid" averages
    over the pairs that exist. Networks trained on the one must not be fed the other.
    """
    if pad not in ("valid", "zero"):
        raise ValueError(f'pad is {pad!r}; it may be "valid" (existing pairs only) or "zero" (as published)')
    if not 1 <= stride <= WINDOW:
        raise ValueError(f"stride is {stride}; it may be 1 to {WINDOW}, beyond which frames would never be looked at")
    count = min(len(crops), len(audio) // SAMPLES_PER_FRAME) - WINDOW
    needed = -(-vshift // stride) * stride + 1 if pad == "valid" else 1
    if count < needed:
        raise TooShort(
            f"{len(crops)} frames and {len(audio)} samples; SyncNet with vshift={vshift}, pad={pad} needs at least "
            f"{needed + WINDOW} frames and {(needed + WINDOW) * SAMPLES_PER_FRAME} samples; use sync=off for this clip"
        )
    embedder = LocalEmbedder(model, batch, device) if isinstance(model, nn.Module) else model
    pair = embed(embedder, crops, audio, stride)
    assert pair is not None  # count is at least 1
    lips, voice = pair
    with torch.inference_mode():
        return summarise(mean_distances(lips, voice, vshift, pad, stride).numpy())


def embed(
    embedder: Embedder, crops: Sequence[np.ndarray], audio: np.ndarray, stride: int = 1
) -> tuple[Tensor, Tensor] | None:
    """Return what lips and voice are to SyncNet, window by window: (ceil(n / stride), D) and (n, D) float32 on the CPU.

    None where there are too few frames or samples for one window.

    Args:
        crops: T indexable (S, S, 3) uint8 RGB of the whole face at 25 fps.
        audio: (N,) int16 mono at 16 kHz, sample 0 belonging to frame 0.
        stride: lips are read in every stride-th window, 1 to 5.
    """
    count = min(len(crops), len(audio) // SAMPLES_PER_FRAME) - WINDOW
    if count < 1:
        return None
    cepstra = _audio_windows(audio, count).numpy()
    with torch.inference_mode():
        lips = torch.cat([embedder.lips(block, stride) for block in _blocks(crops, count, stride)])
        voice = torch.cat([embedder.voice(cepstra[first : first + BLOCK]) for first in range(0, count, BLOCK)])
    return lips, voice


class LocalEmbedder:
    """The towers in this process. batch: windows of lips that the network sees at once; None: 4, which a processor's cache
    likes best, or all of a block on a GPU."""

    def __init__(
        self, model: SyncNet | FoldedSyncNet, batch: int | None = None, device: str | torch.device | None = None
    ):
        self.model = model
        self.device = torch.device(device or next(model.parameters(), torch.empty(0)).device)
        self.batch = batch or (BLOCK if self.device.type == "cuda" else 4)

    def to(self, device: torch.device) -> LocalEmbedder:
        """Move the towers to a device and return them."""
        self.model.to(device)
        self.device = device
        return self

    @torch.inference_mode()
    def lips(self, crops: np.ndarray, stride: int) -> Tensor:
        windows = _lip_windows(crops, len(crops) - WINDOW + 1, self.batch, stride, self.device)
        return torch.cat([self.model.embed_lips(some).float().cpu() for some in windows])

    @torch.inference_mode()
    def voice(self, cepstra: np.ndarray) -> Tensor:
        return self.model.embed_audio(torch.from_numpy(cepstra).to(self.device)).float().cpu()


def mean_distances(lips: Tensor, voice: Tensor, vshift: int, pad: str, stride: int = 1) -> Tensor:
    """Mean L2 distance of lips at i to voice at i + k - vshift over i = 0, stride, .. < n, for k = 0 .. 2 * vshift -> (V,).

    lips (ceil(n / stride), D), voice (n, D).
    """
    count = len(voice)
    voice = pad_ends(voice, (0, 0, vshift, vshift))  # (n + 2 * vshift, D)
    seen = torch.arange(0, count, stride)
    means = []
    for k in range(2 * vshift + 1):
        distances = pairwise_distance(lips, voice[k : k + count : stride])  # (ceil(n / stride),)
        if pad == "valid":
            heard = seen + k - vshift
            distances = distances[(heard >= 0) & (heard < count)]
        means.append(distances.mean())
    return torch.stack(means)


def load(state: Mapping[str, Tensor]) -> SyncNet:
    """SyncNet in eval mode with the published parameters; any missing, surplus or misshapen one is an error."""
    model = SyncNet()
    model.load_state_dict(state, strict=True)
    return model.eval()


class SyncNet(nn.Module):
    """The published two towers, 13,631,616 parameters; `FoldedSyncNet` computes the same faster."""

    def __init__(self, dim: int = 1024):
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_block(nn.Conv2d(1, 64, 3, padding=1)),
            nn.Identity(),  # a 1 x 1 pool upstream: it keeps the numbers of the layers after it
            *_block(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, (1, 2)),
            *_block(nn.Conv2d(192, 384, 3, padding=1)),
            *_block(nn.Conv2d(384, 256, 3, padding=1)),
            *_block(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, 2),
            *_block(nn.Conv2d(256, 512, (5, 4))),
        )  # (B, 1, 13, 20) -> (B, 512, 1, 1)
        self.netfcaud = nn.Sequential(*_block(nn.Linear(512, 512)), nn.Linear(512, dim))
        self.netcnnlip = nn.Sequential(
            *_block(nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block(nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block(nn.Conv3d(256, 512, (1, 6, 6))),
        )  # (B, 3, 5, 224, 224) -> (B, 512, 1, 1, 1)
        self.netfclip = nn.Sequential(*_block(nn.Linear(512, 512)), nn.Linear(512, dim))

    def embed_lips(self, frames: Tensor) -> Tensor:
        """Five whole-face frames (B, 3, 5, 224, 224) float32 BGR 0..255, not normalised -> (B, 1024)."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def embed_audio(self, cepstra: Tensor) -> Tensor:
        """Twenty MFCC steps of int16-scale sound (B, 1, 13, 20) float32 -> (B, 1024)."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))


class FoldedSyncNet(nn.Module):
    """A SyncNet for inference: same embeddings, in bfloat16 within a hundredth of their norm.

    Batch norms are folded into the layers before them. Of the lip tower only the first layer spans time, and the window
    as a whole; so time is folded into channels (3 colours of 5 frames, frame by frame, so that overlapping windows of a
    row of frames are a view of it) and every layer is 2-D, in channels_last memory.
    """

    def __init__(self, model: SyncNet, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.dtype = dtype
        self.netcnnaud = _folded(model.netcnnaud).to(dtype).to(memory_format=torch.channels_last)
        self.netfcaud = _folded(model.netfcaud).to(dtype)
        self.netcnnlip = _folded(model.netcnnlip).to(dtype).to(memory_format=torch.channels_last)
        self.netfclip = _folded(model.netfclip).to(dtype)
        self.eval().requires_grad_(False)

    def embed_lips(self, frames: Tensor) -> Tensor:
        """As `SyncNet.embed_lips`."""
        frames = frames.to(self.dtype).transpose(1, 2).flatten(1, 2)  # (B, 15, 224, 224)
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def embed_audio(self, cepstra: Tensor) -> Tensor:
        """As `SyncNet.embed_audio`."""
        cepstra = cepstra.to(self.dtype, memory_format=torch.channels_last)
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))


def _blocks(crops: Sequence[np.ndarray], count: int, stride: int) -> Iterator[np.ndarray]:
    """Crops (n, S, S, 3) of windows 0, stride, .. < count, up to BLOCK windows at once; those between are read once."""
    held: list[np.ndarray] = []
    for first in range(0, count, BLOCK * stride):
        windows = range(first, min(first + BLOCK * stride, count), stride)
        held += [crops[i] for i in range(first + len(held), windows[-1] + WINDOW)]
        yield np.stack(held)
        held = held[BLOCK * stride :]


def _lip_windows(
    crops: np.ndarray, count: int, batch: int, stride: int = 1, device: str | torch.device = "cpu"
) -> Iterator[Tensor]:
    """Windows 0, stride, .. < count, up to `batch` at once: (b, 3, 5, 224, 224) float32 BGR on the device."""
    frames = torch.empty(0, 3, SIZE, SIZE, device=device)
    for first in range(0, count, batch * stride):
        windows = range(first, min(first + batch * stride, count), stride)
        new = torch.from_numpy(crops[first + len(frames) : windows[-1] + WINDOW]).to(device)
        frames = torch.cat([frames, _bgr(new)])  # (stride * (b - 1) + 5, 3, 224, 224)
        yield frames.unfold(0, WINDOW, stride).permute(0, 1, 4, 2, 3)
        frames = frames[batch * stride :]


def _bgr(crops: Tensor) -> Tensor:
    """(n, S, S, 3) uint8 RGB -> (n, 3, 224, 224) float32 BGR 0..255."""
    images = crops.flip(-1).permute(0, 3, 1, 2).float()
    if images.shape[2:] != (SIZE, SIZE):
        images = interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
    return images


def _audio_windows(audio: np.ndarray, count: int) -> Tensor:
    """Twenty steps from step 4v on, for windows v = 0 .. count - 1: (count, 1, 13, 20) float32."""
    cepstra = torch.from_numpy(mfcc(audio, RATE))  # (13, M)
    return cepstra.unfold(1, 4 * WINDOW, 4)[:, :count].transpose(0, 1)[:, None]


def _block(layer: nn.Linear | nn.Conv2d | nn.Conv3d) -> list[nn.Module]:
    """A layer, its batch norm, ReLU."""
    norms: dict[type[nn.Module], type[nn.Module]] = {
        nn.Linear: nn.BatchNorm1d,
        nn.Conv2d: nn.BatchNorm2d,
        nn.Conv3d: nn.BatchNorm3d,
    }
    norm = norms[type(layer)]
    return [layer, norm(len(layer.weight)), nn.ReLU()]


def _folded(layers: nn.Sequential) -> nn.Sequential:
    """The same function without batch norms and, where it was 3-D, with time among the channels."""
    folded: list[nn.Module] = []
    for layer in copy.deepcopy(layers).eval():
        match layer:
            case nn.BatchNorm1d():
                folded[-1] = fuse_linear_bn_eval(cast(nn.Linear, folded[-1]), layer)
            case nn.BatchNorm2d() | nn.BatchNorm3d():
                folded[-1] = fuse_conv_bn_eval(cast(nn.Conv3d, folded[-1]), layer)  # or a Conv2d
            case nn.Identity():
                pass
            case _:
                folded.append(layer)
    return nn.Sequential(*map(_flat, folded))


def _plane(sizes: object) -> tuple[int, int]:
    """Return height and width of a layer's (time, height, width)."""
    return cast(tuple[int, int, int], sizes)[1:]


def _flat(layer: nn.Module) -> nn.Module:
    """A 3-D layer that leaves one time step, as a 2-D layer."""
    if isinstance(layer, nn.MaxPool3d):
        padding = _plane(layer.padding) if layer.padding else 0
        return nn.MaxPool2d(_plane(layer.kernel_size), _plane(layer.stride), padding)
    if isinstance(layer, nn.Conv3d):
        weight = layer.weight.detach().transpose(1, 2).flatten(1, 2)  # (out, time * in, h, w)
        kernel, stride, padding = map(_plane, (layer.kernel_size, layer.stride, layer.padding))
        flat = nn.Conv2d(weight.shape[1], len(weight), kernel, stride, padding)
        assert layer.bias is not None
        flat.load_state_dict({"weight": weight, "bias": layer.bias.detach()})
        return flat
    return layer
