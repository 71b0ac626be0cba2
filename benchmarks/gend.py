"""Does GenD give the numbers of its published code?

    python -m benchmarks.gend --published GenD --layers 24 dinov3_l16
    python -m benchmarks.gend --published GenD --layers 2 clip_l14 vit_pe_core_large_patch14_336 dinov3_l16

GenD is a checkout of yermandy/GenD at e03532d. Both networks get the same seeded random weights, by way of a file under the
published names, and the same pictures of noise. Norms and biases are moved away from their initial 1 and 0, and the head is
made steep, so that P(fake) differs between pictures. Of the published code modeling_gend.py alone is run; the backbones that
it would download are built from their sizes. Needs the extra `foundation`; at 24 layers some 4 GB.
"""

import argparse
import resource
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from safetensors.torch import save_file

from visavox.detectors.gend.network import GenDNetwork, published_names
from visavox.weights import loading

PUBLISHED = {
    "clip_l14": "openai/clip-vit-large-patch14",
    "dinov3_l16": "facebook/dinov3-vitl16",
    "vit_pe_core_large_patch14_336": "vit_pe_core_large_patch14_336",
}
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "image_size": 224}
PICTURES = 3


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+", choices=PUBLISHED)
    parser.add_argument("--published", type=Path, required=True, metavar="DIR", help="checkout of the published code")
    parser.add_argument("--layers", type=int, default=24, help="of the backbone (default: all 24)")
    parser.add_argument("--head", choices=("LinearNorm", "linear"), default="LinearNorm")
    arguments = parser.parse_args(argv)
    for name in arguments.backbones:
        print(compare(name, arguments.published, arguments.layers, arguments.head), flush=True)
    return 0


@torch.inference_mode()
def compare(name: str, folder: Path, layers: int, head: str) -> str:
    """Build both, and compare P(fake) and features; a line of figures."""
    torch.manual_seed(3)
    theirs = published(name, folder, layers, head)
    generator = torch.Generator().manual_seed(5)
    for parameter_name, parameter in theirs.named_parameters():
        if parameter.ndim < 2:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        if parameter_name.startswith("model."):
            parameter.normal_(0, 2, generator=generator)
    ours = GenDNetwork(name, head, layers).eval()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "gend.safetensors")
        save_file({key: value.contiguous().clone() for key, value in theirs.state_dict().items()}, path)
        fit = loading.fit(ours, published_names(loading.safe_load(path)), what=name)
    pictures = torch.randn(PICTURES, 3, 224, 224, generator=generator)
    a, b = torch.softmax(theirs(pictures).double(), 1)[:, 1], torch.sigmoid(ours(pictures).double())
    features = theirs.feature_extractor(pictures)
    apart = (features - ours.feature_extractor(pictures)).abs().max().item()
    said = " ".join(f"{p:.4f}" for p in a.tolist())
    return (
        f"{name}, {layers} layers, {head}: {fit.loaded} parameters taken over; P(fake) {said}, apart by at most "
        f"{(a - b).abs().max().item():.1e}; features by {apart:.1e} of {features.abs().max().item():.2f}; "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"
    )


def published(name: str, folder: Path, layers: int, head: str) -> Any:
    """Return the published network with random weights; what it would fetch is built from its size in place."""
    sized: dict[str, Any] = LARGE | {"num_hidden_layers": layers}
    seen = {"vision_config": sized | {"patch_size": 14, "projection_dim": 768}, "text_config": {"num_hidden_layers": 1}}
    clip, dino = transformers.CLIPModel, transformers.DINOv3ViTModel
    built = {
        "CLIPModel": lambda: clip(transformers.CLIPConfig(**seen, projection_dim=768)),
        "AutoModel": lambda: dino(transformers.DINOv3ViTConfig(**sized, patch_size=16, num_register_tokens=4)),
        "CLIPProcessor": lambda: None,
        "AutoImageProcessor": lambda: None,
    }
    for each, make in built.items():
        stands_in = classmethod(lambda cls, *_, make=make, **__: make())
        getattr(transformers, each).from_pretrained = stands_in
    create, depth = timm.create_model, {} if layers == 24 else {"depth": layers}
    timm.create_model = lambda model, pretrained=False, **more: create(model, pretrained=False, **depth, **more)
    sys.path.insert(0, str(folder))
    try:
        import modeling_gend

        module: types.ModuleType = modeling_gend
        return module.GenD(module.GenDConfig(backbone=PUBLISHED[name], head=head)).eval()
    finally:
        sys.path.remove(str(folder))
        timm.create_model = create


if __name__ == "__main__":
    sys.exit(main())
