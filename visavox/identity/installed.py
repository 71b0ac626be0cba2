"""Trained networks that lie in packages of other people: found where they are installed, and nothing of those packages is run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from visavox.weights import WeightsError


def file_of(package: str, name: str, cure: str) -> Path:
    """Return where a file of an installed package lies.

    Args:
        package: its import name; it is not imported.
        name: path below the package's folder.
        cure: what to type where it is not there.

    Raises:
        WeightsError: the package is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (path := Path(folder, name)).is_file():
            return path
    what = f"lacks {name}" if folders else "is not installed"
    raise WeightsError(f"{package} {what}: {cure}")
