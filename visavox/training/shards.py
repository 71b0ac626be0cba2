"""Bundles of a split in a few large files instead of many small ones: tar files as WebDataset reads them.

    visavox shards --split data/train_dev_test.csv --output SHARDS
    visavox train --data-version train_dev_test root_path=SHARDS

A shard holds bundles of one split, and whole groups of it: all clips of people that hang together, unless they are more than a
shard takes. Members are KEY.npz, the bundle as it was, and KEY.json, its row of the split. The split CSV beside them names
each bundle by shard, place and size, so that training reads any of them in any order: what it draws follows from seed and
epoch alone, and a run from shards equals one from single files bit for bit, on any number of processes.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from visavox.files import MEMBER, replacing
from visavox.splits.groups import group_of
from visavox.splits.table import SPLITS, SplitError, write_split

FOLDER = "shards"


def write_shards(rows: pd.DataFrame, output: Path, name: str, *, megabytes: float, seed: int) -> list[Path]:
    """Write OUTPUT/shards/NAME-SPLIT-NUMBER.tar and OUTPUT/data/NAME.csv, a root_path to train from; return the shards.

    The CSV is written last, its rows in the order of `rows`; shards of an earlier run that it does not name are removed.

    Args:
        rows: as `read_split` gives them.
        name: of the split CSV.
        megabytes: that a shard holds at most, unless a bundle alone is larger.
        seed: of the order of groups and of the clips in a shard.

    Raises:
        SplitError: the split is one of shards already.
        OSError: a bundle cannot be read, or a shard not written.
    """
    if any(map(MEMBER.fullmatch, rows["path"])):
        raise SplitError(f"{name}.csv names bundles in shards; give the split CSV that they were made of")
    groups = group_of(rows)
    sizes = np.array([os.path.getsize(path) for path in rows["path"]])
    table = table_of(output, name)
    table.unlink(missing_ok=True)  # what it names is about to change
    places, shards = [""] * len(rows), []
    for split in SPLITS:
        of_split = np.flatnonzero(rows["split"] == split)
        rng = np.random.default_rng((seed, SPLITS.index(split)))
        for number, clips in enumerate(_packed(of_split, groups, sizes, megabytes * 1e6, rng)):
            shard = output / FOLDER / f"{name}-{split}-{number:05d}.tar"
            for clip, place in zip(clips, _write(shard, rows.iloc[clips], clips), strict=True):
                places[clip] = f"{FOLDER}/{shard.name}/{place}"
            shards.append(shard)
    of_this_name = re.compile(rf"{re.escape(name)}-({'|'.join(SPLITS)})-\d+\.tar")
    for left in set((output / FOLDER).glob("*.tar")) - set(shards):
        if of_this_name.fullmatch(left.name):  # and not of another split, whose name begins so
            left.unlink()
    write_split(rows.drop(columns="path").assign(filepath=places), table, output, part=True)
    return shards


def table_of(output: Path, name: str) -> Path:
    """Return where the split CSV of shards stands."""
    return output / "data" / f"{name}.csv"


def _packed(
    clips: np.ndarray, groups: list[str], sizes: np.ndarray, most: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the clips of each shard: whole groups in a drawn order, as many as it holds; a larger group has some to itself."""
    members: dict[str, list[int]] = {}
    for clip in clips:
        members.setdefault(groups[clip], []).append(int(clip))
    shard: list[int] = []
    held = 0.0
    for group in rng.permutation(sorted(members)):
        whole = float(sizes[members[group]].sum())
        for clip in members[group]:
            first = clip == members[group][0]
            if shard and held + (whole if first else sizes[clip]) > most:
                yield rng.permutation(shard)
                shard, held = [], 0.0
            shard.append(clip)
            held += sizes[clip]
        if whole > most:
            yield rng.permutation(shard)
            shard, held = [], 0.0
    if shard:
        yield rng.permutation(shard)


def _write(shard: Path, rows: pd.DataFrame, numbers: np.ndarray) -> list[str]:
    """Write a shard and return the place of each bundle in it; equal rows and bundles give equal bytes."""
    places = []
    with replacing(shard) as beside, tarfile.open(beside, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (_, row) in zip(numbers, rows.iterrows(), strict=True):
            about = json.dumps({key: row[key] for key in rows.columns if key != "path"}, default=int).encode()
            with open(row["path"], "rb") as bundle:
                size = os.fstat(bundle.fileno()).st_size
                places.append(f"{number:08d}@{tar.offset + tarfile.BLOCKSIZE}+{size}.npz")
                tar.addfile(_member(f"{number:08d}.npz", size), bundle)
            tar.addfile(_member(f"{number:08d}.json", len(about)), io.BytesIO(about))
    return places


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member
