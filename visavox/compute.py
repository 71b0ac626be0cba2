"""Where the numbers are computed, decided once and said once."""

import logging

import torch

log = logging.getLogger(__name__)


class DeviceError(RuntimeError):
    """The device asked for is not there."""


def resolve_device(name: str) -> torch.device:
    """`auto` takes a GPU when there is one; `cuda` without a GPU is an error, never a silent CPU run."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("device=cuda, but torch sees no GPU; `python -m visavox.doctor` says why, or set device=cpu")
    device = torch.device("cuda" if available and name != "cpu" else "cpu")
    described = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    log.info("computing on %s (%s)", device, described)
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """Lightning precision: `auto` is bf16-mixed on a GPU that has bf16, else full fp32."""
    if name != "auto":
        return name
    return "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
