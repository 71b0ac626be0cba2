"""What the examples share: synthetic clips, their bundles, and splits that keep people apart.

    ROOT/videos/{real,fake}/PERSON/*.mp4, ROOT/videos/labels.csv
    ROOT/data/bundles/, ROOT/data/NAME.csv
    ROOT/runs/NAME/

What is there already is not made again. Clips of another seed or number are refused, not taken for those that are asked for.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.synthetic.fakes import KINDS

if TYPE_CHECKING:
    from visavox.config import Config
    from visavox.preprocessing.manifest import ManifestRow
    from visavox.synthetic.dataset import Job

IDENTITIES = 48
CLIPS_PER_IDENTITY = 12
SECONDS = (2.4, 3.4)
VAL_SHARE, TEST_SHARE = 1 / 8, 1 / 6
CONFIG = Path("configs/tiny.json")
"""How clips are cropped: every tiny configuration prepares them alike."""
VIDEOS, BUNDLES, SPLIT = "videos", "data/bundles", "demo"


def arguments(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return the parser of `python -m examples.NAME` with the options that all examples have: output, seed, workers."""
    parser = argparse.ArgumentParser(
        prog=f"examples.{name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything (default demo)")
    parser.add_argument("--seed", type=int, default=0, help="of the clips, the split and the training (default 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser


def make_clips(
    root: Path,
    *,
    seed: int,
    workers: int,
    identities: int = IDENTITIES,
    clips_per_identity: int = CLIPS_PER_IDENTITY,
    seconds: tuple[float, float] = SECONDS,
    kinds: Sequence[str] = KINDS,
    fake_share: float = 0.5,
) -> Path:
    """Render the clips below `root` and return the path of their labels.

    Raises:
        SystemExit: `root` holds clips of another seed, number or length.
    """
    from visavox.synthetic.dataset import make_dataset, plan

    labels = root / VIDEOS / "labels.csv"
    if labels.is_file():
        require_same(labels, plan(identities, clips_per_identity, seed, seconds, fake_share, kinds, None), seed)
        return labels
    return make_dataset(
        root / VIDEOS,
        identities=identities,
        clips_per_identity=clips_per_identity,
        seconds=seconds,
        seed=seed,
        kinds=kinds,
        fake_share=fake_share,
        workers=workers,
    )


def require_same(labels: Path, jobs: "list[Job]", seed: int) -> None:
    """Refuse a folder whose clips are not those of a plan."""
    import pandas as pd

    wanted = {(job.filename, job.kind, job.seed, job.seconds) for job in jobs}
    there = pd.read_csv(labels)
    found = set(zip(there["filename"], there["kind"], there["seed"], there["seconds"]))
    if found != wanted:
        raise SystemExit(
            f"{labels.parent} holds {len(found)} clips, of which {len(found & wanted)} are of the {len(wanted)} that seed {seed} "
            "makes here; give another --output, or the --seed that they were made with"
        )


def crop_clips(root: Path, *, workers: int) -> "list[ManifestRow]":
    """Crop the clips below `root` to bundles."""
    from visavox import config
    from visavox.commands import crop
    from visavox.files import find_inputs

    inputs = find_inputs(root / VIDEOS)
    return crop.crop_folder(inputs, root / BUNDLES, config.load(CONFIG), workers=workers)


def make_bundles(
    root: Path, took: dict[str, float], *, seed: int, workers: int, **clips: Any
) -> "tuple[Path, list[ManifestRow]]":
    """Render the clips below `root` and crop them, two stages of `took`; return their labels and the rows of their bundles.

    Args:
        clips: number, length and kinds, as of `make_clips`.
    """
    with stage("clips", took):
        labels = make_clips(root, seed=seed, workers=workers, **clips)
    with stage("crop", took):
        return labels, crop_clips(root, workers=workers)


def make_split(
    root: Path, labels: Path, *, seed: int, name: str = SPLIT, val: float = VAL_SHARE, test: float = TEST_SHARE
) -> Any:
    """Write the split NAME and return it as a table; identities are disjoint between train, val and test."""
    import pandas as pd

    from visavox.corpora.__main__ import main as make

    path = split_path(root, name)
    shares = ["--val", str(val), "--test", str(test), "--seed", str(seed)]
    if make(["folder", "--root", str(root / BUNDLES), "--output", str(path), "--labels", str(labels), *shares]):
        raise RuntimeError("no split could be made")
    return pd.read_csv(path)


def split_path(root: Path, name: str = SPLIT) -> Path:
    return root / "data" / f"{name}.csv"


def test_rows(split: Any) -> Any:
    return split[split["split"] == "test"]


def settings(config: Path, root: Path, seed: int, words: Sequence[str] = ()) -> "Config":
    """Return a configuration whose data and runs lie below `root`; `words` are settings (key=value) in place of its own."""
    from visavox import config as configuration

    own = [f"root_path={root}", f"runs_path={root / 'runs'}", f"seed={seed}", "device=cpu"]
    return configuration.load(config, [*own, *words])


@contextmanager
def stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Say on stderr what begins, and note how long it took."""
    print(f"== {name}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
