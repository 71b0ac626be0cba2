"""What does it bring to keep bundles in shards: copied from object storage, and read in the order of training?

    python -m benchmarks.shards                       # 2,000 small bundles
    python -m benchmarks.shards --bundles 500 --config config.json

The storage is moto's server in a process of its own on this machine, without the milliseconds that a network adds to each file.
Reading is that of an epoch: every bundle once in a drawn order, out of the page cache, so that its processor time is compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.splits.table import read_split
from visavox.training.shards import write_shards

SERVER = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
import logging; logging.getLogger("werkzeug").setLevel(logging.ERROR)
server.start(); print(server.get_host_and_port()[1], flush=True); input()
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=int, default=2000)
    parser.add_argument("--config", default="tiny", help="whose blank bundle they all are (default tiny)")
    parser.add_argument("--megabytes", type=float, default=64.0, help="of a shard (default 64)")
    words = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        single, sharded = Path(folder, "single"), Path(folder, "sharded")
        rows = make(single, words.bundles, words.config)
        began = time.perf_counter()
        shards = write_shards(rows, sharded, "all", megabytes=words.megabytes, seed=0)
        size = sum(shard.stat().st_size for shard in shards)
        print(
            f"{len(rows)} bundles, {size / 1e6:.0f} MB, {len(shards)} shards written in {time.perf_counter() - began:.1f} s"
        )
        alike = {name: copied(root, Path(folder, "copy")) for name, root in (("files", single), ("shards", sharded))}
        report("copied from S3", len(rows), alike)
        in_shards = read_split(sharded / "data/all.csv", sharded, part=True)
        alike = {name: read(table) for name, table in (("files", rows), ("shards", in_shards))}
        report("read in a drawn order (processor time)", len(rows), alike)
    return 0


def make(root: Path, bundles: int, config: str) -> pd.DataFrame:
    """Write equal bundles of as many people, and return their split."""
    (root / "b").mkdir(parents=True)
    Bundle.blank(configuration.load(config)).save(root / "b/0.npz")
    for number in range(1, bundles):
        shutil.copy(root / "b/0.npz", root / f"b/{number}.npz")
    rows = pd.DataFrame({"filepath": [f"b/{number}.npz" for number in range(bundles)]})
    rows["filename"], rows["split"], rows["label"] = rows["filepath"], "train", np.arange(bundles) % 2
    rows["path"] = [str(root / path) for path in rows["filepath"]]
    return rows


def copied(root: Path, to: Path) -> float:
    """Return the seconds that s3fs takes to copy a folder from the storage, as many files at a time as it likes."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        import fsspec

        fs = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        fs.mkdir("bucket")
        fs.put(str(root), "bucket/", recursive=True)
        began = time.perf_counter()
        fs.get(f"bucket/{root.name}", str(to), recursive=True)
        took = time.perf_counter() - began
        server.kill()
    shutil.rmtree(to)
    return took


def read(rows: pd.DataFrame) -> float:
    """Return the processor seconds of every bundle once, in a drawn order, after a round that has filled the cache."""
    paths = np.random.default_rng(0).permutation(rows["path"])
    for path in paths:
        Bundle.load(path, full=False)
    began = time.process_time()
    for path in paths:
        Bundle.load(path, full=False)
    return time.process_time() - began


def report(what: str, bundles: int, seconds: dict[str, float]) -> None:
    load = os.getloadavg()[0]
    told = ", ".join(f"{name} {took:.2f} s ({bundles / took:.0f} bundles/s)" for name, took in seconds.items())
    print(f"{what}: {told}; {seconds['files'] / seconds['shards']:.2f} times as fast; load {load:.1f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
