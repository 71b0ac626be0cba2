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


FAVC = "source,target1,target2,method,category,type,race,gender"

PUBLISHED, PANDAS, MIRROR = f"{FAVC},path,", f"{FAVC},path,Unnamed: 9", f"{FAVC},filename,path"


def fakeavceleb(tree: Tree, header: str = PUBLISHED, races: str = "Asian (East)", groups: int = 3) -> list[str]:
    """Three groups of two people, who borrow from each other inside their group; returns the lines of meta_data.csv."""
    lines = [header]
    for group in range(groups):
        race, gender = (races, "men") if group == 0 else ("African", ("men", "women")[group - 1])
        one, other = (f"id{10 * group + k:05d}" for k in (1, 2))
        for source, target in ((one, other), (other, one)):
            for file, target1, target2, method, category, kind in (
                ("00109.mp4", "-", "-", "real", "A", "RealVideo-RealAudio"),
                ("00109.mp4", "-", "-", "rtvc", "B", "RealVideo-FakeAudio"),
                (f"00109_{target}_wavtolip.mp4", target, "-", "wav2lip", "C", "FakeVideo-RealAudio"),
                ("00109_0_1.mp4", target, source, "faceswap-wav2lip", "D", "FakeVideo-FakeAudio"),
            ):
                folder = f"FakeAVCeleb/{kind}/{race}/{gender}/{source}"
                place = f"{file},{folder}"
                lines.append(f"{source},{target1},{target2},{method},{category},{kind},{race},{gender},{place}")
                tree.video(folder.removeprefix("FakeAVCeleb/") + f"/{file}")
    tree.text("meta_data.csv", "\n".join(lines) + "\n")
    return lines
