"""What both branches share: the image network, pooling of many logits into one, and whose weights can be loaded.

N images · S side of an image in pixels · K classes: 0 = real, 1 = fake
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from visavox.config import Pooling
from visavox.weights import WeightsError, parameters

log = logging.getLogger(__name__)

State = dict[str, Tensor]


def image_network(name: str, classes: int) -> nn.Module:
    """A network of timm with fresh weights: (N, 3, S, S) in [-1, 1] -> (N, classes), or its features with classes=0."""
    import timm

    if not timm.is_model(name):
        import difflib

        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"detector.backbone={name}: timm has no such network; near: {', '.join(near) or 'none'}")
    network = timm.create_model(name, pretrained=False, num_classes=classes)
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
    """Weights of other people under our names, labels turned to ours; returns them and whose they are.

    Three kinds of file are known by their names:

    * ImageNet weights of timm (`conv1.weight`, ..., `fc.weight` of 1000 classes): the classes are left out.
    * Mbulss/Deepfake-Detecetor, `epoch_007.pt` (timm's own names, `fc` of 2 classes) and `best_audio_xception.pth`
      (`backbone.` or `base.`, and `classifier.0` to `.8`), both within `model_state_dict`. Their class 0 is FAKE and 1
      REAL: the two rows of the last layer change places, here and nowhere else.
    * A detector of an earlier run: its names and labels are ours already.

    Args:
        backbone: prefix of the image network in our detector, "net." or "base.".
        head: our name of the last layer, "net.fc" or "classifier.8".

    Raises:
        WeightsError: the file is none of these.
    """
    ours = isinstance(checkpoint, dict) and "hyper_parameters" in checkpoint
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("model_state_dict"), dict):
        checkpoint = checkpoint["model_state_dict"]
    state = parameters(checkpoint, what="Xception weights")
    if ours:
        return state, "an earlier run"
    named = {}
    for name, value in state.items():
        name = name.removeprefix("model.")
        if name.startswith(("backbone.", "base.")):
            name = backbone + name.split(".", 1)[1]
        elif not name.startswith("classifier."):
            name = backbone + name
        named[name] = value
    last = [name for name in named if name.startswith((f"{head}.", f"{backbone}fc."))]
    if not any(name.endswith("weight") for name in last) and len(named) < 10:
        raise WeightsError(f"no Xception weights: the file names {', '.join(list(state)[:3])}")
    if all(len(named[name]) == 2 for name in last) and last:
        return named | {name: named[name].flip(0) for name in last}, "Mbulss/Deepfake-Detecetor (class 0 = fake)"
    return {name: value for name, value in named.items() if name not in last}, "ImageNet"


def load_published(detector: nn.Module, checkpoint: Any, *, backbone: str, head: str) -> str:
    """Give a detector what `published` finds; the head stays fresh where the file has none. Returns whose weights.

    Raises:
        WeightsError: names what is missing, left over, or of another shape.
    """
    state, source = published(checkpoint, backbone=backbone, head=head)
    wanted = {name: value for name, value in detector.state_dict().items() if not name.startswith("aucs.")}
    state = {name: value for name, value in state.items() if not name.startswith("aucs.")}
    heads = ("classifier.", f"{head}.")
    missing = [name for name in wanted if name not in state and not (source == "ImageNet" and name.startswith(heads))]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    strange = [name for name in state if name not in wanted]
    differ = [
        f"{name} {tuple(value.shape)}, expected {tuple(wanted[name].shape)}"
        for name, value in state.items()
        if name in wanted and value.shape != wanted[name].shape
    ]
    if missing or strange or differ:
        raise WeightsError(
            f"weights of {source} do not fit: {len(missing)} missing {missing[:3]}, {len(strange)} unknown "
            f"{strange[:3]}, {len(differ)} of another shape {differ[:3]}; set detector.backbone to the network they "
            "belong to"
        )
    detector.load_state_dict(state, strict=False)
    log.info("%d parameters from %s", len(state), source)
    return source
