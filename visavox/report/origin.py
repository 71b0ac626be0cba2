"""Which code made a report."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from visavox.files import CHECKOUT


def here() -> dict[str, Any]:
    """Return the versions of the code that makes a report: visavox, python, commit."""

    try:
        release = version("visavox")
    except PackageNotFoundError:
        release = None
    return {"visavox": release, "python": platform.python_version(), "commit": commit_of(CHECKOUT)}


def commit_of(checkout: Path) -> str | None:
    """Return the commit of the code, with `+ changes` where files differ from it; None outside a git checkout."""
    if not (checkout / ".git").exists():
        return None

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(checkout), *words], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" + changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
