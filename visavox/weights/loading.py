"""Read files of weights safely."""

from __future__ import annotations

import fnmatch
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.weights import download

if TYPE_CHECKING:
    import torch
    from torch import nn
from visavox.weights.store import WeightsError, resolve


def state_dict(name: str) -> dict[str, torch.Tensor]:
    """Parameters of a registry entry under their published names, without the wrappers of training code."""
    return parameters(safe_load(resolve(name), what=f"the weights of {name}"), what=name)


def parameters(checkpoint: Any, *, what: str = "checkpoint") -> dict[str, torch.Tensor]:
    """Take off `state_dict`/`model` around the parameters and `module.` (DataParallel) before their names."""
    import torch

    for key in ("state_dict", "model_state_dict", "model_state", "model"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, dict) or not checkpoint:
        raise WeightsError(f"{what}: expected named parameters, found {type(checkpoint).__name__}")
    strangers = [key for key, value in checkpoint.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise WeightsError(
            f"{what}: {len(strangers)} of {len(checkpoint)} entries are no tensors, e.g. {strangers[:3]}"
        )
    prefix = "module." if all(key.startswith("module.") for key in checkpoint) else ""
    return {key.removeprefix(prefix): value for key, value in checkpoint.items()}


@dataclass(frozen=True)
class Fit:
    """Which parameters of a published file went into a network."""

    loaded: int
    """Parameters and buffers taken over."""
    unread: tuple[str, ...] = ()
    """Names of the file that the network has no use for."""
    fresh: tuple[str, ...] = ()
    """Names of the network that the file does not fill; they keep the values they had."""


def fit(
    module: nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    unread: Iterable[str] = (),
    fresh: Iterable[str] = (),
    what: str,
) -> Fit:
    """Load parameters strictly: every name and shape of the network has to be met.

    Args:
        unread: patterns (as of `fnmatch`) of names that `state` may hold beyond the network's.
        fresh: patterns of names of the network that `state` may lack; they keep the values they had.

    Raises:
        WeightsError: parameters are missing, unknown, or of another shape; the message counts and names them.
    """
    own = module.state_dict()
    absent = [name for name in own if name not in state]
    missing = _unlike(absent, tuple(fresh))
    beyond = [name for name in state if name not in own]
    strange = _unlike(beyond, tuple(unread))
    differ = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or strange or differ:
        raise WeightsError(
            f"{what} does not fit {type(module).__name__} of {len(own)} parameters: {len(missing)} missing {missing[:3]}, "
            f"{len(strange)} unknown {strange[:3]}, {len(differ)} of another shape {differ[:3]}. Give weights of this "
            "network, and the settings (detector.*) that they were trained with"
        )
    given = {name: state[name] for name in own if name in state}
    module.load_state_dict(given, strict=False)
    return Fit(len(given), tuple(beyond), tuple(absent))


def _unlike(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    return [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def safe_load(path: str | Path, *, what: str = "checkpoint") -> Any:
    """Read a `.pth`/`.ckpt` (weights only: nothing in it is run), `.safetensors`, or a `.zip` around one such file."""
    import torch

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {what} is missing")
    with open(path, "rb") as file:
        if wrong := download.unlike_weights(file.read(256)):
            raise WeightsError(f"{path}: {what} {wrong}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path, device="cpu")
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(_unzipped(path), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a parser makes of a hostile or broken file, the answer is one of these two
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path}: {what} was not loaded: reading it would run code of its own choosing ({asked[1]}). Plain "
                "weights need no code. Get the file from its publisher again and compare its sha256; if you trust its "
                "maker, convert it to .safetensors in a throw-away container and use that"
            ) from error
        raise WeightsError(
            f"{path}: {what} is damaged or of an unknown format; nothing in it was run ({type(error).__name__}: "
            f"{str(error).split('. In PyTorch')[0][:200]}). Remove and fetch it again, or compare its size and sha256 "
            "with the publisher's"
        ) from error


def _numbers() -> list[Any]:
    """What a single number of NumPy is read by, which training code leaves beside the parameters: a value, never code."""
    import numpy as np

    kinds = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)
    return [np.float64(0).__reduce__()[0], np.dtype, *(type(np.dtype(kind)) for kind in kinds)]


def _unzipped(path: Path) -> Path | io.BytesIO:
    """The only member of a plain archive, in memory: no name in the archive ever becomes a path; else `path`."""
    if path.suffix != ".zip" or not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if any(member.filename.endswith("/data.pkl") for member in members):
            return path  # PyTorch's own format is an archive as well
        if len(members) != 1:
            raise ValueError(f"an archive of {len(members)} files, expected one")
        if members[0].file_size > 20 * path.stat().st_size:
            raise ValueError(f"{members[0].file_size:,} bytes packed into {path.stat().st_size:,}: not weights")
        return io.BytesIO(archive.read(members[0]))
