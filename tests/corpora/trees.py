"""Miniature corpora in their own layouts, for the tests of their readers."""

import json
from pathlib import Path

import pandas as pd

from visavox.corpora.__main__ import main
from visavox.splits.table import read_split


class Tree:
    """A corpus as downloaded, and the bundles of its videos: empty files, since reading a split opens none."""

    def __init__(self, root: Path):
        self.root, self.bundles, self.output = root / "corpus", root / "bundles", root / "data" / "split.csv"

    def video(self, name: str, *, bundle: bool = True) -> None:
        for path in [self.root / name] + [(self.bundles / name).with_suffix(".npz")] * bundle:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def text(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def json(self, name: str, value: object) -> Path:
        return self.text(name, json.dumps(value, indent=1))

    def make(self, corpus: str, *more: str) -> int:
        words = ["--root", self.root, "--bundles", self.bundles, "--output", self.output, *more]
        return main([corpus, *map(str, words)])

    def rows(self) -> pd.DataFrame:
        return read_split(self.output, self.output.parent.parent, part=True).set_index("filename")
