"""What the tests of Xception share."""

from pathlib import Path

from visavox import config as configuration
from visavox.config import Config

CONFIGS = Path(__file__).parents[3] / "configs"


def tiny(branch: str, *words: str) -> Config:
    return configuration.load(CONFIGS / f"xception_{branch}_tiny.json", words)
