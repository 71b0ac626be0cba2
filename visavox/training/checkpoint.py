"""Checkpoints: how they are written, read, and started from; nothing else opens one.

    checkpoint = read("runs/v1/best.ckpt")      # config, parameters and what is known about it
    write("pair.ckpt", config, state, about)    # of what was not trained by a Trainer
    detector.start_from(starting("xception_video_favceleb"))

A checkpoint of a Trainer holds more, to resume from; what is read here is the same in all of them: `hyper_parameters` with
`config` and `about` as plain values, and `state_dict`. Everything is read with weights_only=True: code in a file never runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visavox import config as configuration
from visavox.files import replacing, sha256_of
from visavox.weights import REGISTRY, WeightsError, resolve, safe_load

if TYPE_CHECKING:
    from torch import Tensor

    from visavox.config import Config


class Checkpoint(NamedTuple):
    """A detector as it lies on the disk."""

    config: Config
    """The configuration it was trained with."""
    state: dict[str, Tensor]
    """Its parameters and buffers."""
    about: dict[str, str]
    """What is known about it, in words: `trained_on`, `calibration`, `synthetic` (yes or no); empty in checkpoints of before."""


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint that training or `visavox fuse` wrote, on the CPU.

    Raises:
        WeightsError: the file is missing, damaged, or no checkpoint of Visavox; the message holds the cure.
        ConfigError: its configuration is none that this version knows.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such checkpoint; train.py writes RUNS_PATH/CODE_VERSION/best.ckpt")
    content = safe_load(path)
    if not _is_ours(content) or "state_dict" not in content:
        raise WeightsError(
            f"{path}: not a checkpoint of Visavox, it holds no config; give one that train.py wrote. Weights alone are "
            f"where training can start: `python train.py --pret-version {path}`"
        )
    held, state = content["hyper_parameters"], content["state_dict"]
    about = held.get("about", {})
    in_words = isinstance(about, dict) and all(isinstance(word, str) for fact in about.items() for word in fact)
    if not in_words or not isinstance(state, dict) or not all(map(_is_named_tensor, state.items())):
        raise WeightsError(
            f"{path}: damaged: its parameters or what it says of itself are not of the kind that train.py writes; take another "
            "checkpoint of its run, or train it again"
        )
    return Checkpoint(configuration.from_dict(held["config"], source=str(path)), state, dict(about))


def write(path: Path, config: Config, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a checkpoint that `read` reads: whole, or not at all."""
    held = {"config": config.model_dump(mode="json"), "about": dict(about)}
    save({"hyper_parameters": held, "state_dict": dict(state)}, path)


def is_synthetic(about: Mapping[str, str]) -> bool:
    """Return whether it was trained on drawn clips alone; of checkpoints that do not say it, the words of `trained_on` tell."""
    told = "yes" if "synthetic" in about.get("trained_on", "") else "no"
    return about.get("synthetic", told) == "yes"


def save(content: Mapping[str, Any], path: Path) -> None:
    """Write the content of a checkpoint beside and rename it, so that a process killed at any moment leaves a whole one."""
    import torch

    with replacing(path) as beside:
        torch.save(content, beside)


def starting(source: str | Path, fake_index: int | None = None) -> Any:
    """Read weights that training starts from, or that a fusion is made of, for `Detector.start_from`.

    Which of two classes means fake is a property of each file. It is known for checkpoints of ours (label 1) and for files of the
    registry, which are recognised by name or by their sha256; of any other file it has to be said.

    Args:
        source: a name of `visavox weights list`, or a path.
        fake_index: 0 or 1, the class that means fake in a file of other people that the registry does not know.

    Returns:
        What the file holds, as `safe_load` gives it; with `fake_index` beside the parameters where it is known.

    Raises:
        WeightsError: the file is missing or damaged, or `fake_index` contradicts what is known of it.
    """
    path = Path(source) if Path(source).is_file() else resolve(str(source))
    content = safe_load(path)
    known: int | None
    if _is_ours(content):
        known, where = 1, "a checkpoint of Visavox"
    elif str(source) in REGISTRY:
        known, where = REGISTRY[str(source)].fake_index, f"{source} of the registry"
    else:
        known, where = _known(path)
    if known is not None and fake_index not in (None, known):
        raise WeightsError(f"{path}: {where}, in which class {known} means fake, not {fake_index}; leave the index out")
    stated = fake_index if known is None else known
    if _is_ours(content) or stated is None or not isinstance(content, dict):
        return content
    wrapped = any(isinstance(value, dict) for value in content.values())
    return (content if wrapped else {"state_dict": content}) | {"fake_index": stated}


def _is_named_tensor(entry: tuple[Any, Any]) -> bool:
    import torch

    name, value = entry
    return isinstance(name, str) and isinstance(value, torch.Tensor)


def _is_ours(content: Any) -> bool:
    held = content.get("hyper_parameters") if isinstance(content, dict) else None
    return isinstance(held, dict) and "config" in held


def _known(path: Path) -> tuple[int | None, str]:
    """The index that means fake in a file whose size and sha256 the registry knows, and which entry that is."""
    likely = [entry for entry in REGISTRY.values() if entry.sha256 and entry.size == path.stat().st_size]
    found = sha256_of(path) if likely else ""
    entry = next((entry for entry in likely if entry.sha256 == found), None)
    return (entry.fake_index, f"{entry.name} of the registry") if entry else (None, "")
