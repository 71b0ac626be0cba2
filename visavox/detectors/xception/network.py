"""What both branches share: the image network, pooling of many logits into one, and whose weights can be loaded.

N images · S side of an image in pixels · K classes: 0 = real, 1 = fake
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from visavox.config import Pooling
from visavox.detectors.backbones import timm_network
from visavox.weights import WeightsError, fit, parameters

if TYPE_CHECKING:
    from visavox.detectors.backbones import ImageNetwork

log = logging.getLogger(__name__)

State = dict[str, Tensor]
IMAGENET_HEAD = ("classifier.weight", "classifier.bias")
"""What timm's EfficientNets call their last layer, which its Xception calls `fc`; theirs of two classes begins `classifier.0`."""


def image_network(name: str, classes: int) -> ImageNetwork:
    """Return a network of timm with fresh weights: (N, 3, S, S) in [-1, 1] -> (N, classes), or its features with classes=0."""
    network = timm_network(name, "backbone", classes)
    return network.to(memory_format=torch.channels_last)  # Xception on a CPU: 1.4 times as fast, equal to 5e-10


def at_once(chunk: int, size: int, device: torch.device) -> int:
    """Images that go through the network together. On a CPU large ones go one by one: they stay in its cache.

    Xception at 299 pixels, one thread: 0.21 s an image alone, 0.23 s by fours, 0.25 s by eights, and 1.2 GB less memory
    than by 32.
    """
    return 1 if device.type == "cpu" and size >= 192 else chunk


def fake_logit(classes: Tensor) -> Tensor:
    """Two class logits (N, 2), real and fake -> (N,), the logit of P(fake): softmax([a, b])[1] = sigmoid(b - a)."""
    return classes[:, 1] - classes[:, 0]


def pool(logits: Tensor, how: Pooling, top_k: int) -> Tensor:
    """Logits (..., n) of a clip's parts -> (...,), the logit of their pooled *probability*; their order does not matter.

    The mean of probabilities as a logit, log(sum p / sum (1 - p)), is a difference of two log-sums, so that neither
    certainty nor its gradient is lost to rounding.
    """
    n = logits.shape[-1]
    if how == "max":
        return logits.amax(-1)
    if how == "p90":  # linear between ranks, as numpy's percentile; on probabilities, then back
        p = torch.quantile(torch.sigmoid(logits.double()), 0.9, dim=-1)
        return torch.logit(p, eps=1e-12).to(logits.dtype)
    if how == "top_k":
        logits = logits.topk(min(top_k, n), dim=-1).values
    return torch.logsumexp(logsigmoid(logits), -1) - torch.logsumexp(logsigmoid(-logits), -1)


def published(checkpoint: Any, *, backbone: str, head: str) -> tuple[State, str]:
    """Return weights of other people under our names, labels turned to ours, and whose they are.

    Three kinds of file are known by their names:

    * ImageNet weights of timm (`conv1.weight`, ..., `fc.weight` or `classifier.weight` of 1000 classes): the classes are
      left out.
    * Mbulss/Deepfake-Detecetor, `epoch_007.pt` (timm's own names, `fc` of 2 classes) and `best_audio_xception.pth`
      (`backbone.` or `base.`, and `classifier.0` to `.8`), both within `model_state_dict`, or another file of two classes.
      Which of them means fake differs from file to file and comes as `fake_index` (`training.checkpoint.starting`): where it
      is 0, the two rows of the last layer change places, here and nowhere else.
    * A detector of an earlier run: its names and labels are ours already.

    Args:
        backbone: prefix of the image network in our detector, "net." or "base.".
        head: our name of the last layer, such as "net.fc" or "classifier.8".

    Raises:
        WeightsError: the file is none of these, or nobody says which of its two classes means fake.
    """
    held = checkpoint if isinstance(checkpoint, dict) else {}
    ours, fake_index = "hyper_parameters" in held, held.get("fake_index")
    state = parameters(checkpoint, what="Xception weights")
    if ours:
        return state, "an earlier run"
    named = {}
    for name, value in state.items():
        name = name.removeprefix("model.")
        if name.startswith(("backbone.", "base.")):
            name = backbone + name.split(".", 1)[1]
        elif not name.startswith("classifier.") or name in IMAGENET_HEAD:
            name = backbone + name
        named[name] = value
    last = [name for name in named if name.startswith((f"{head}.", f"{backbone}fc.", f"{backbone}classifier."))]
    if not any(name.endswith("weight") for name in last) and len(named) < 10:
        raise WeightsError(f"no Xception weights: the file names {', '.join(list(state)[:3])}")
    if all(len(named[name]) == 2 for name in last) and last:
        if fake_index is None:
            raise WeightsError(
                "weights of two classes, and nobody says which of them means fake. Say it, 0 or 1: --pret-fake-index of train, "
                "--video-fake-index and --audio-fake-index of fuse; or give a file of `visavox weights list` by its name"
            )
        turned = {name: named[name].flip(0) for name in last} if fake_index == 0 else {}
        return named | turned, f"other people (class {fake_index} means fake)"
    return {name: value for name, value in named.items() if name not in last}, "ImageNet"


def load_published(detector: nn.Module, checkpoint: Any, *, backbone: str, head: str) -> str:
    """Give a detector what `published` finds; the head stays fresh where the file has none. Returns whose weights.

    Raises:
        WeightsError: names what is missing, left over, or of another shape.
    """
    state, source = published(checkpoint, backbone=backbone, head=head)
    fresh = ["*num_batches_tracked"] + (["classifier.*", f"{head}.*"] if source == "ImageNet" else [])
    try:
        found = fit(detector, state, fresh=fresh, what=f"weights of {source}")
    except WeightsError as error:
        raise WeightsError(f"{error}; set detector.backbone to the network they belong to") from None
    log.info("%d parameters from %s", found.loaded, source)
    return source
