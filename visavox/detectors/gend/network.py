"""GenD's network under its published parameter names (yermandy/GenD e03532d, MIT).

network = GenDNetwork("clip_l14")          # names feature_extractor.vision_model.*, model.linear.*
network(images)                            # (N, 3, 224, 224) -> (N,) logits, higher = more fake

N images · S their side in pixels · D width of the features
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from visavox.preprocessing.picture_input import CLIP, HALVES, IMAGENET, PictureInput

FAKE = 1
"""Of the two classes, the one that means fake (run of its app: `softmax(...)[1]` is P(fake))."""
WIDTH = 1024
"""D of both transformers."""
INPUTS = {
    "clip_l14": PictureInput(224, "bicubic", *CLIP),
    "dinov3_l16": PictureInput(224, "bilinear", *IMAGENET, rounded=False),
    "vit_pe_core_large_patch14_336": PictureInput(224, "bicubic", *HALVES),
}
"""How aligned faces are shown, at 224 pixels: as CLIPProcessor of the transformers that GenD pins (4.56.2) does, which resizes
with Pillow; as DINOv3's image processor; by timm's settings of the model."""


class MissingExtraError(ValueError):
    """A backbone needs a package that is not installed; the message names the extra."""

    code = "BAD_CONFIG"


@dataclass
class Seen:
    """What the network makes of images."""

    logits: Tensor
    """(N, 2), real and fake."""
    features: Tensor
    """(N, D) of length 1."""


class GenDNetwork(nn.Module):
    """A vision transformer and a linear layer on its feature of the whole picture.

    Args:
        backbone: `clip_l14`, `dinov3_l16`, or the name of a vision transformer in timm.
        head: `LinearNorm` brings features to length 1 first.
        layers: of the two of transformers; None takes 24.
        size: side of the images, for backbones of timm.

    Raises:
        MissingExtraError: transformers is not installed.
        ValueError: timm has no such network.
    """

    def __init__(self, backbone: str, head: str = "LinearNorm", layers: int | None = None, size: int = 224) -> None:
        super().__init__()
        self.feature_extractor = _extractor(backbone, layers, size)
        self.model = LinearProbe(self.feature_extractor.width, head == "LinearNorm")

    def see(self, images: Tensor) -> Seen:
        """(N, 3, S, S) -> both logits and the features."""
        features = self.feature_extractor(images)  # (N, D)
        return self.model(features)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N,) log-odds of fake."""
        logits = self.see(images).logits
        return logits[:, FAKE] - logits[:, 1 - FAKE]

    def norms(self) -> list[nn.Parameter]:
        """Return the parameters of the layer norms, those that are tuned."""
        layers = [layer for layer in self.feature_extractor.modules() if isinstance(layer, nn.LayerNorm)]
        return [parameter for layer in layers for parameter in layer.parameters(recurse=False)]


class LinearProbe(nn.Module):
    """The head; published as `model.linear`."""

    is_head = True
    """For `detectors.novelty`: what it is given are the features of a picture."""

    def __init__(self, width: int, to_length_1: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)
        self.to_length_1 = to_length_1

    def forward(self, features: Tensor) -> Seen:
        """(N, D) -> logits and features of length 1."""
        on_sphere = normalize(features, p=2, dim=1)
        with torch.autocast(features.device.type, enabled=False):  # bf16 would give many pictures equal logits
            seen = (on_sphere if self.to_length_1 else features).float()
            return Seen(linear(seen, self.linear.weight.float(), self.linear.bias.float()), on_sphere)


class ClipExtractor(nn.Module):
    """CLIP's vision tower (ViT-L/14): the pooled class token, and the projection that GenD's file holds and nobody reads."""

    def __init__(self, layers: int | None) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        self.vision_model = CLIPVisionModel(CLIPVisionConfig(**_large(layers), patch_size=14, projection_dim=768))
        self.visual_projection = nn.Linear(WIDTH, 768, bias=False)
        self.width = WIDTH

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 224, 224) -> (N, 1024)."""
        return self.vision_model(images).pooler_output


class DinoExtractor(nn.Module):
    """DINOv3 (ViT-L/16): the class token after the last norm."""

    def __init__(self, layers: int | None) -> None:
        super().__init__()
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        self.backbone = DINOv3ViTModel(DINOv3ViTConfig(**_large(layers), patch_size=16, num_register_tokens=4))
        self.width = WIDTH

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, 1024)."""
        return self.backbone(images).last_hidden_state[:, 0]


class TimmExtractor(nn.Module):
    """A vision transformer of timm without its classifier."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        import difflib

        import timm

        if not timm.is_model(name) or "vit" not in name:
            near = difflib.get_close_matches(name, [*INPUTS, *timm.list_models("*vit*")], n=3, cutoff=0.4)
            raise ValueError(
                f"detector.backbone={name}: no vision transformer of timm; near: {', '.join(near) or ', '.join(INPUTS)}"
            )
        self.backbone = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        self.backbone.head = nn.Identity()  # as published, so that a projection of the model's own is left out
        with torch.no_grad():
            self.width = int(self.backbone.eval()(torch.zeros(1, 3, size, size)).shape[1])

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, D)."""
        return self.backbone(images)


def _large(layers: int | None) -> dict[str, int]:
    """Return the sizes that both transformers share, those of ViT-L; None takes its 24 layers."""
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": layers or 24,
        "num_attention_heads": 16,
        "image_size": 224,
    }


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published file's parameters as this network names them.

    DINOv3's layers are called `backbone.layer.N` by transformers 4, which wrote the file, and `backbone.model.layer.N` by 5.
    """
    old, new = "feature_extractor.backbone.layer.", "feature_extractor.backbone.model.layer."
    return {new + name.removeprefix(old) if name.startswith(old) else name: value for name, value in state.items()}


def picture_input(backbone: str, size: int) -> PictureInput:
    """Return how faces are shown to a backbone; those of timm as timm says, at `size` pixels."""
    if backbone in INPUTS:
        known = INPUTS[backbone]
        return replace(known, size=size)
    import timm

    wanted: Any = timm.get_pretrained_cfg(backbone)
    return PictureInput(size, "bicubic" if wanted.interpolation == "bicubic" else "bilinear", wanted.mean, wanted.std)


def _extractor(backbone: str, layers: int | None, size: int) -> Any:
    named = {"clip_l14": ClipExtractor, "dinov3_l16": DinoExtractor}
    if backbone not in named:
        return TimmExtractor(backbone, size)
    try:
        return named[backbone](layers)
    except ImportError:
        raise MissingExtraError(
            f"detector.backbone={backbone} needs transformers: pip install 'visavox[foundation]', or take a backbone of timm"
        ) from None
