"""Where the numbers are computed, decided once and said once."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

log = logging.getLogger(__name__)

TrainerPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]
Precision = Literal["auto"] | TrainerPrecision


class DeviceError(RuntimeError):
    """The device asked for is not there."""


def resolve_device(name: str) -> torch.device:
    """`auto` takes a GPU when there is one; `cuda` without a GPU is an error, never a silent CPU run."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("device=cuda, but torch sees no GPU; `visavox doctor` says why, or set device=cpu")
    device = torch.device("cuda" if available and name != "cpu" else "cpu")
    described = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    log.info("computing on %s (%s)", device, described)
    return device


def resolve_precision(name: Precision, device: torch.device) -> TrainerPrecision:
    """Lightning precision: `auto` is bf16-mixed on a GPU that has bf16, else full fp32."""
    if name != "auto":
        return name
    return "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


def dtype_of(precision: str) -> torch.dtype:
    """`fp32` or `bf16` as a dtype."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


def scoring_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What to score in for `auto`, `fp32` or `bf16`; says which."""
    bf16 = has_bf16(device) if precision == "auto" else precision == "bf16"
    log.info("scoring in %s", "bf16" if bf16 else "fp32")
    return torch.bfloat16 if bf16 else torch.float32


def scoring_context(dtype: torch.dtype, device: torch.device) -> AbstractContextManager:
    """Autocast for scoring in bfloat16, nothing for float32."""
    return torch.autocast(device.type, dtype) if dtype == torch.bfloat16 else nullcontext()
