"""A trained detector as a folder that others can read without running anything of it: safetensors, JSON, a card in words.

    write(folder, checkpoint, card)       # model.safetensors, config.json, README.md
    read(folder)                          # -> Checkpoint, as `training.checkpoint.read` gives it

No pickle is written, and none is read: a folder without model.safetensors is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

from visavox import config as configuration
from visavox.config import ConfigError
from visavox.files import replacing
from visavox.training.checkpoint import Checkpoint
from visavox.weights import WeightsError, safe_load

FORMAT = "visavox-hub/1"
WEIGHTS, SETTINGS, CARD = "model.safetensors", "config.json", "README.md"


def write(folder: Path, checkpoint: Checkpoint, card: str) -> None:
    """Write the three files, each whole or not at all.

    Args:
        card: README.md, Markdown.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS) as beside:
        save_file({name: value.contiguous().clone() for name, value in checkpoint.state.items()}, beside)
    about = {"format": FORMAT, "config": checkpoint.config.model_dump(mode="json"), "about": checkpoint.about}
    with replacing(folder / SETTINGS) as beside:
        beside.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    with replacing(folder / CARD) as beside:
        beside.write_text(card, encoding="utf-8")


def read(folder: Path) -> Checkpoint:
    """Read a folder that `write` wrote.

    Raises:
        WeightsError: a file is missing or damaged, or the folder is of another format.
        ConfigError: its configuration is none that this version knows.
    """
    missing = [name for name in (WEIGHTS, SETTINGS) if not (folder / name).is_file()]
    if missing:
        raise WeightsError(f"{folder}: {' and '.join(missing)} missing; `visavox export CKPT --hub DIR` writes them")
    try:
        held = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        known = held["format"]
    except (ValueError, KeyError, TypeError):
        known = None
    if known != FORMAT:
        raise WeightsError(f"{folder / SETTINGS}: format is {known!r}, expected {FORMAT!r}; export it again")
    about = held.get("about")
    if not isinstance(held.get("config"), dict) or not isinstance(about, dict):
        raise ConfigError(f"{folder / SETTINGS}: holds no configuration; export it again")
    state = safe_load(folder / WEIGHTS)
    return Checkpoint(
        configuration.from_dict(held["config"], source=str(folder / SETTINGS)),
        state,
        {str(key): str(value) for key, value in about.items()},
    )
