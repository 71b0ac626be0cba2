"""Training from shards is training from single files: the same clips, the same order, the same weights."""

import json
import os
import signal
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import command

from tests.cases.programs import started
from visavox.bundle import Bundle, BundleError, read_stamp
from visavox.commands import shards, train
from visavox.splits.groups import group_of
from visavox.splits.table import read_split
from visavox.training.data_module import EpochSampler
from visavox.training.shards import write_shards

__all__ = ["started"]  # a fixture


@pytest.fixture(scope="module")
def root(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles of `data` in shards of at most 1 MB, a root_path."""
    output = tmp_path_factory.mktemp("shards")
    words = ["--split", str(data / "data/split.csv"), "--root", str(data), "--output", str(output)]
    assert shards.main([*words, "--megabytes", "1"]) == 0
    return output


def members(path: Path) -> list[tuple[dict, bytes]]:
    """What a shard holds, as WebDataset reads it: the row and the bundle of each clip."""
    web = pytest.importorskip("webdataset", reason="needs webdataset, which the shards are compared with")
    return [(json.loads(each["json"]), each["npz"]) for each in web.WebDataset(str(path), shardshuffle=False)]


def test_webdataset_reads_every_bundle_once_with_its_row(root: Path, data: Path):
    rows = read_split(data / "data/split.csv", data)
    found = [member for path in sorted((root / "shards").iterdir()) for member in members(path)]
    assert len(found) == len(rows) == 12
    expected = {row["filepath"]: row for _, row in rows.iterrows()}
    for about, bundle in found:
        row = expected.pop(about["filepath"])
        assert about == {key: row[key] for key in rows.columns if key != "path"}
        assert bundle == Path(row["path"]).read_bytes()


def test_no_shard_crosses_a_split_and_no_group_a_shard(make_bundle: Callable[..., Bundle], tmp_path: Path):
    """Sixty people of one to seven clips, in an order that mixes them; one of them has more than a shard takes."""
    rng = np.random.default_rng(3)
    make_bundle().save(tmp_path / "one.npz")
    size = (tmp_path / "one.npz").stat().st_size
    people = [person for person in range(60) for _ in range(25 if person == 7 else rng.integers(1, 8))]
    rows = pd.DataFrame({"source": [f"p{person}" for person in people], "label": rng.integers(0, 2, len(people))})
    rows["split"] = [("train", "train", "val", "test")[person % 4] for person in people]
    rows["filepath"] = [f"b/{n}.npz" for n in range(len(rows))]
    rows = rows.sample(frac=1, random_state=1, ignore_index=True)
    rows["filename"], rows["path"] = rows["filepath"], [str(tmp_path / path) for path in rows["filepath"]]
    (tmp_path / "b").mkdir()
    for path in rows["path"]:
        os.link(tmp_path / "one.npz", path)
    how = {"name": "s", "megabytes": 12.5 * size / 1e6}
    paths = write_shards(rows, tmp_path / "out", **how, seed=5)
    made = pd.read_csv(tmp_path / "out/data/s.csv", dtype=str)
    assert list(made["filename"]) == list(rows["filename"])
    shard = made["filepath"].str.rpartition("/")[0]
    assert set(shard) == {f"shards/{path.name}" for path in paths} and len(paths) > 15
    assert (made.groupby(shard)["split"].nunique() == 1).all()
    assert shard.value_counts().max() == 12
    large = made["source"] == "p7"
    homes = shard[~large].groupby(np.array(group_of(rows))[~large]).nunique()
    assert (homes == 1).all() and set(shard[large]).isdisjoint(shard[~large])

    before = {path: path.read_bytes() for path in paths}
    again = write_shards(rows, tmp_path / "out", **how, seed=5)
    assert {path: path.read_bytes() for path in again} == before
    other = write_shards(rows, tmp_path / "out", **how, seed=6)
    assert [path.read_bytes() for path in other] != list(before.values())
    assert set((tmp_path / "out/shards").iterdir()) == set(other)


def test_a_bundle_in_a_shard_is_the_bundle(root: Path, data: Path):
    rows, single = (
        read_split(folder / f"data/{name}.csv", folder) for folder, name in ((root, "split"), (data, "split"))
    )
    for here, there in zip(rows["path"], single["path"], strict=True):
        assert ".tar/" in here and read_stamp(here) == read_stamp(there)
        for how in ({}, {"full": False, "mapped": True}):
            one, other = Bundle.load(here, **how), Bundle.load(there, **how)
            np.testing.assert_array_equal(one.faces, other.faces)
            np.testing.assert_array_equal(one.mel_3cs, other.mel_3cs)
    path = rows["path"].iloc[0]
    for wrong in (path.replace("@", "@1"), path.replace("/0", "/1"), path.replace("+", "+1")):
        with pytest.raises(BundleError, match="the split is of other shards: `visavox shards` makes both"):
            Bundle.load(wrong)
    with pytest.raises(FileNotFoundError, match="no such bundle"):
        Bundle.load(path.replace(".tar", "-none.tar"))


def test_a_shard_that_is_gone_or_cut_is_named(root: Path, tmp_path: Path):
    table = pd.read_csv(root / "data/split.csv")
    shard = Path(table["filepath"][0]).parent.name
    (tmp_path / "shards").mkdir()
    for path in (root / "shards").iterdir():
        if path.name != shard:
            (tmp_path / "shards" / path.name).symlink_to(path)
    with pytest.raises(ValueError, match=shard):
        read_split(root / "data/split.csv", tmp_path)
    (tmp_path / "shards" / shard).write_bytes((root / "shards" / shard).read_bytes()[:700])
    with pytest.raises(ValueError, match="files are missing"):
        read_split(root / "data/split.csv", tmp_path)


@pytest.mark.parametrize("world", [1, 2])
def test_each_clip_once_per_epoch_and_as_many_for_each_process(root: Path, world: int):
    rows = read_split(root / "data/split.csv", root)
    train_rows = rows[rows["split"] == "train"]
    assert len(train_rows) % world == 0
    samplers = [
        EpochSampler(train_rows["label"], seed=1, balance=False, rank=rank, world=world) for rank in range(world)
    ]
    for epoch in range(3):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        drawn = [[train_rows["path"].iloc[index] for index, _ in sampler] for sampler in samplers]
        assert len({len(paths) for paths in drawn}) == 1
        assert Counter(path for paths in drawn for path in paths) == Counter(train_rows["path"])


@pytest.mark.slow
def test_a_killed_training_from_shards_ends_as_one_from_files(root: Path, data: Path, run: Path, started: Callable):
    """`run` is an undisturbed training from single files."""
    words = [
        word.replace(f"root_path={data}", f"root_path={root}") for word in command(data, "sharded", "num_workers=1")
    ]
    folder = data / "runs/sharded"
    running = started("train.py", *words)
    deadline = time.monotonic() + 200
    while not (folder / "checkpoints/last.ckpt").is_file():
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert train.main([*words, "--resume"]) == 0
    one, two = (torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (folder, run))
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert (folder / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


def test_equal_shards_hold_no_clock(root: Path):
    for path in (root / "shards").iterdir():
        with tarfile.open(path) as tar:
            assert {(each.mtime, each.uid, each.gname) for each in tar} == {(0, 0, "")}


def test_other_splits_and_their_own_one_are_left_alone(data: Path, tmp_path: Path, capsys):
    """Shards of a split whose name begins as this one's stay; a split CSV is never taken for the shards' own."""
    split, words = data / "data/split.csv", ["--root", str(data), "--output", str(tmp_path)]
    for name in ("a", "a-b"):
        (tmp_path / f"{name}.csv").write_bytes(split.read_bytes())
        assert shards.main(["--split", str(tmp_path / f"{name}.csv"), *words]) == 0
    there = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    (tmp_path / "shards/a-train-00099.tar").write_bytes(b"of an earlier run")
    assert shards.main(["--split", str(tmp_path / "a.csv"), *words]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()} == there
    assert len(read_split(tmp_path / "data/a-b.csv", tmp_path)) == 12

    kept = (tmp_path / "data/a.csv").read_bytes()
    for output, said in ((tmp_path, "give --output another folder"), (tmp_path / "x", "names bundles in shards; give")):
        words = ["--split", str(tmp_path / "data/a.csv"), "--root", str(tmp_path), "--output", str(output)]
        assert shards.main(words) == 2 and said in capsys.readouterr().err
    assert (tmp_path / "data/a.csv").read_bytes() == kept
