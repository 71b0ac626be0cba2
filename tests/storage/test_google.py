"""Inputs and outputs on a storage that speaks Google's protocol, an emulator on this machine: as from folder to folder.

Left out where `gcsfs` or the emulator is missing: pip install gcsfs gcp-storage-emulator.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import TINY

from visavox.commands import crop, merge

pytest.importorskip("gcsfs", reason="needs gcsfs, which reads gs://")
emulator = pytest.importorskip("gcp_storage_emulator.server", reason="needs gcp-storage-emulator")


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    """The file system of a storage with an empty bucket, `bucket`, which programs that are started find, too."""
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server._api._httpd.server_port}")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it would ask for the kind of bucket, by gRPC
        fs = fsspec.filesystem("gs", use_listings_cache=False)
        yield fs
        fs.clear_instance_cache()
    server.stop()


def test_bundles_are_those_of_a_folder(storage, talking: Path, data: Path, tmp_path: Path, capfd):
    path = min(talking.rglob("*.mp4"))
    name = path.relative_to(talking).as_posix()
    storage.put_file(str(path), f"bucket/videos/{name}")
    storage.pipe_file("bucket/videos/text.mp4", b"no video\n" * 99)
    words = ["--input", "gs://bucket/videos", "--output", "gs://bucket/bundles", "--workers", "1", "--shard", "0/1"]
    for kept in (None, True):
        assert crop.main([*words, *TINY, "--scratch", str(tmp_path)]) == merge.main(["gs://bucket/bundles"]) == 1
        rows = map(json.loads, storage.cat_file("bucket/bundles/manifest.jsonl").decode().splitlines())
        made, text = sorted(rows, key=lambda row: row["status"], reverse=True)
        assert (made["input"], made["status"], made.get("kept")) == (name, "ok", kept)
        assert text["code"] == "NOT_A_VIDEO" and text["reason"].startswith("gs://bucket/videos/text.mp4: ")
        there = storage.cat_file(f"bucket/bundles/{made['bundle']}")
        assert there == (data / "data/bundles" / made["bundle"]).read_bytes()
    assert len(storage.find("bucket/bundles")) == 3 and [each.name for each in tmp_path.iterdir()] == [".lock"]
    assert crop.main(["--input", "gs://nowhere/videos", "--output", "gs://bucket/x", *TINY]) == 2
    assert "gs://nowhere/videos: no such bucket" in "".join(capfd.readouterr())
