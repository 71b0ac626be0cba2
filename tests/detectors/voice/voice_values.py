"""Parameters of a small voice network under DeepFense's names, drawn from their names alone, and sounds to hear with it.

The P(fake) of `goldens.json` are those of the published code (PyPI deepfense 0.2.2: WavLM, Nes2Net, CrossEntropy) with the
same parameters and sounds, softmax of its logits in float64, class spoof.
"""

import zlib

import numpy as np
import torch

LAYERS, WIDTH, INNER, HEADS, CHANNELS = 2, 64, 64, 4, 16


def _shapes() -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter and buffer of the published file, for the small size."""
    shapes: dict[str, tuple[int, ...]] = {"frontend.model.mask_emb": (WIDTH,)}
    for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        front = f"frontend.model.feature_extractor.conv_layers.{i}"
        shapes[f"{front}.0.weight"] = (CHANNELS, CHANNELS if i else 1, kernel)
        shapes |= {f"{front}.2.1.{kind}": (CHANNELS,) for kind in ("weight", "bias")}
    shapes |= _linear("frontend.model.post_extract_proj", CHANNELS, WIDTH)
    shapes |= {f"frontend.model.layer_norm.{kind}": (CHANNELS,) for kind in ("weight", "bias")}
    encoder = "frontend.model.encoder"
    shapes[f"{encoder}.pos_conv.0.bias"] = (WIDTH,)
    shapes[f"{encoder}.pos_conv.0.weight_g"] = (1, 1, 128)
    shapes[f"{encoder}.pos_conv.0.weight_v"] = (WIDTH, WIDTH // 16, 128)
    shapes |= {f"{encoder}.layer_norm.{kind}": (WIDTH,) for kind in ("weight", "bias")}
    for i in range(LAYERS):
        layer = f"{encoder}.layers.{i}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{name}", WIDTH, WIDTH)
        shapes |= _linear(f"{layer}.self_attn.grep_linear", WIDTH // HEADS, 8)
        shapes[f"{layer}.self_attn.grep_a"] = (1, HEADS, 1, 1)
        if i == 0:
            shapes[f"{layer}.self_attn.relative_attention_bias.weight"] = (320, HEADS)
        shapes |= _linear(f"{layer}.fc1", WIDTH, INNER) | _linear(f"{layer}.fc2", INNER, WIDTH)
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{layer}.{norm}.{kind}": (WIDTH,) for kind in ("weight", "bias")}
    for i in range(7):
        block, C = f"backend.Build_in_Res2Nets.{i}", WIDTH // 8
        for name in ("conv1", "conv3"):
            shapes |= _linear(f"{block}.{name}", C, C, 1)
        for k in range(7):
            shapes |= _linear(f"{block}.convs.{k}", C // 8, C // 8, 3) | _norm(f"{block}.bns.{k}", C // 8)
        shapes |= _norm(f"{block}.bn1", C) | _norm(f"{block}.bn3", C)
        shapes |= _linear(f"{block}.se.se.1", C, C // 8, 1) | _linear(f"{block}.se.se.3", C // 8, C, 1)
        shapes |= _norm(f"backend.bns.{i}", C)
    return shapes | _norm("backend.bn", WIDTH) | _linear("losses.0.fc", WIDTH, 2)


def _linear(name: str, given: int, made: int, *kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (made, given, *kernel), f"{name}.bias": (made,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{kind}": (width,) for kind in kinds} | {f"{name}.num_batches_tracked": ()}


def parameters() -> dict[str, torch.Tensor]:
    state = {}
    for name, shape in _shapes().items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(3)
            continue
        value = rng.normal(0, 1 / max(1, np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1, shape)
        if "norm" in name and name.endswith(".weight") or "bn" in name and name.endswith(".weight"):
            value = 1 + rng.normal(0, 0.1, shape)
        if name.endswith("running_var"):
            value = rng.uniform(0.5, 2, shape)
        if name.endswith(("grep_a", "weight_g", "relative_attention_bias.weight")):
            value = rng.normal(0, 1, shape)
        state[name] = torch.tensor(np.asarray(value), dtype=torch.float32)
    return state


def sounds() -> list[np.ndarray]:
    """One second, exactly four, and more than four: (N,) int16 at 16 kHz."""
    made = []
    for i, count in enumerate((16000, 64000, 100_000)):
        t = np.arange(count) / 16000
        voice = 8000 * np.sin(2 * np.pi * (110 + 40 * np.sin(3 * t)) * t)
        made.append((voice + np.random.default_rng(i).normal(0, 2000, count)).round().astype(np.int16))
    return made
