"""The frozen networks whose features 2D3MF fuses, under their published parameter names.

    load("marlin_vit_small_ytf", "video")               # published weights, strictly fitted
    load("eat", "audio", weights="random", seed=3)      # the control: the same network, never trained
    load("eat_tiny", "audio", weights="demo/backbones") # of a folder that `visavox pretrain-backbones` wrote

Sizes whose names end in `_tiny` are for tests; nobody publishes weights for them.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from visavox.files import sha256_of

if TYPE_CHECKING:
    from torch import nn

    from visavox.detectors.td3mf.backbones.base import AudioBackbone, Backbone, VideoBackbone

log = logging.getLogger(__name__)

VIDEO = ("marlin_vit_small_ytf", "marlin_vit_base_ytf", "marlin_vit_large_ytf", "efficientface")
AUDIO = ("MFCC", "xvectors", "xvectors_posteriors", "resnet", "emotion2vec", "eat")
TINY_VIDEO = ("marlin_vit_tiny", "efficientface_tiny")
TINY_AUDIO = ("xvectors_tiny", "xvectors_posteriors_tiny", "resnet_tiny", "emotion2vec_tiny", "eat_tiny")

PUBLISHED, RANDOM = "published", "random"


@dataclass(frozen=True)
class Loaded:
    """A backbone ready for use, and what identifies its parameters."""

    backbone: Backbone
    sha256: str
    """Of the published files one after the other; of the parameters where they are random; of nothing for MFCC."""


def load(
    name: str, kind: Literal["video", "audio"], *, weights: str = PUBLISHED, seed: int = 0, device: str = "cpu"
) -> Loaded:
    """Build a backbone and give it its weights.

    Args:
        weights: `published` takes the registry's files, fetched at first use; `random` leaves the network untrained, as a
            control or for tests; anything else is a folder with weights of one's own, PART.pt.
        seed: of random weights.

    Raises:
        ValueError: no backbone of that kind has the name; the nearest is named.
        WeightsError: published weights are not to be had, do not fit, or do not exist for that size.
    """
    import torch

    from visavox import weights as store
    from visavox.weights.loading import fit

    if weights == PUBLISHED:
        _require_published(name, kind)  # before a gigabyte of parameters is made for nothing
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build(name, kind)
    sums = []
    for part, network in backbone.parts.items():
        if weights == PUBLISHED:
            state, unread = backbone.named(part, store.state_dict(part))
            report = fit(network, state, unread=unread, what=part)
            log.info("%s: %d parameters from %s, %d of the file unread", name, report.loaded, part, len(report.unread))
            sums.append(store.fingerprint(part))
        elif weights == RANDOM:
            sums.append(sum_of(network))
        else:
            path = own_file(weights, part)
            fit(network, store.parameters(store.safe_load(path, what=f"weights of {name}")), what=str(path))
            sums.append(sha256_of(path))
        network.requires_grad_(False).eval().to(device)
    sha256 = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    return Loaded(backbone, sha256)


def _require_published(name: str, kind: Literal["video", "audio"]) -> None:
    """Have the published files of every part in the weights folder, or raise WeightsError that says what to put where."""
    import torch

    from visavox import weights as store

    with torch.device("meta"):  # for the names of its parts
        parts = tuple(build(name, kind).parts)
    for part in parts:
        if part not in store.REGISTRY or name.endswith("_tiny"):
            raise store.WeightsError(
                f"{name}: nobody publishes weights for this size; take weights=random, a full size, or a folder that "
                "`visavox pretrain-backbones` wrote"
            )
        store.resolve(part)


@overload
def build(name: str, kind: Literal["video"]) -> VideoBackbone: ...
@overload
def build(name: str, kind: Literal["audio"]) -> AudioBackbone: ...
@overload
def build(name: str, kind: Literal["video", "audio"]) -> VideoBackbone | AudioBackbone: ...
def build(name: str, kind: Literal["video", "audio"]) -> VideoBackbone | AudioBackbone:
    """Build a backbone with fresh weights; ValueError names the nearest where there is none of that name."""
    from visavox.detectors.td3mf.backbones import eat, efficientface, emotion2vec, marlin, mfcc, resnet, xvector

    known: dict[str, Any] = (
        dict.fromkeys(marlin.SIZES, marlin.Marlin) | dict.fromkeys(efficientface.SIZES, efficientface.EfficientFace)
        if kind == "video"
        else dict.fromkeys(xvector.SIZES, xvector.XVectors)
        | dict.fromkeys(resnet.SIZES, resnet.AudioResNet)
        | dict.fromkeys(emotion2vec.SIZES, emotion2vec.Emotion2vec)
        | dict.fromkeys(eat.SIZES, eat.Eat)
    )
    if kind == "audio" and name == mfcc.Mfcc.name:
        return mfcc.Mfcc()
    check_name(name, kind)
    return known[name](name)


def check_name(name: str, kind: Literal["video", "audio"]) -> None:
    """Raise ValueError with the nearest name if there is no backbone of that name; torch is not imported."""
    names = (*VIDEO, *TINY_VIDEO) if kind == "video" else (*AUDIO, *TINY_AUDIO)
    if name not in names:
        import difflib

        folded = {known.lower(): known for known in names}
        near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.4)
        hint = f"; did you mean {folded[near[0]]}?" if near else "."
        raise ValueError(f"{kind}_backbone={name}: no such backbone{hint} There are: {', '.join(names)}")


def own_file(folder: str | Path, part: str) -> Path:
    """Return where the weights of a backbone's part lie in a folder of one's own.

    Raises:
        WeightsError: they do not.
    """
    from visavox.weights import WeightsError

    path = Path(folder, f"{part}.pt")
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights; `visavox pretrain-backbones --output {folder}` writes them; or give {PUBLISHED}, {RANDOM}"
        )
    return path


def sum_of(network: nn.Module) -> str:
    """sha256 of the names and values of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
