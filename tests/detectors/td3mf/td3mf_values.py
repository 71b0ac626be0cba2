"""What both sides of a comparison with published code share: parameters and inputs that follow from names and a seed."""

import functools
import zlib

import torch
from torch import Tensor, nn

SEED = 12


def randomise(module: nn.Module) -> nn.Module:
    """Give every parameter and buffer random values that follow from its name and shape alone; returns it, in eval mode."""
    state = {name: values(name, tuple(x.shape), x.dtype) for name, x in module.state_dict().items()}
    module.load_state_dict(state)
    return module.eval()


@functools.lru_cache(128)
def values(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Random values for the parameter `name`: matrices by fan-in, variances positive, scales about 1."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{SEED}:{name}".encode()))
    if not dtype.is_floating_point:
        return torch.randint(0, 9, shape, generator=generator, dtype=dtype)
    found = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 0.5 + found.abs()
    if len(shape) < 2:
        return 0.1 * found + (1 if name.endswith("weight") else 0)
    return found / found[0].numel() ** 0.5


@functools.lru_cache(32)
def drawn(name: str, *shape: int) -> Tensor:
    """A random N(0, 1) input that follows from its name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{SEED}:{name}".encode())))


def summary(x: Tensor) -> list[float]:
    """A few numbers that stand for a tensor: mean, deviation, and five values spread over it."""
    flat = x.detach().double().flatten()
    picked = flat[torch.linspace(0, len(flat) - 1, 5).long()]
    return [float(v) for v in torch.cat([flat.mean()[None], flat.std(correction=0)[None], picked])]
