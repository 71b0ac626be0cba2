"""Inputs and outputs on a storage that speaks S3: bundles, rows and scores are those of folders."""

import argparse
import csv
import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import BACKBONES, TINY

from tests.storage.s3_server import SECRET, storage
from visavox import remote
from visavox.__main__ import main
from visavox.commands import crop, evaluate, features, merge, perturb
from visavox.detectors.td3mf.features import Features, Stamp
from visavox.errors import code_of
from visavox.files import host
from visavox.remote import RemoteError, Store, place, scratch

__all__ = ["storage"]  # a fixture


@pytest.mark.parametrize(
    "text, path, url",
    [
        ("s3://bucket/a b/c.mp4", "s3:/bucket/a b/c.mp4", "s3://bucket/a b/c.mp4"),
        ("gs://bucket", "gs:/bucket", "gs://bucket"),
        ("file:///data/x", "/data/x", "/data/x"),
        ("data/x", "data/x", "data/x"),
        ("s3:/bucket", "s3:/bucket", "s3://bucket"),
    ],
)
def test_an_address_is_a_path(text: str, path: str, url: str):
    assert str(place(text)) == path and remote.url_of(place(text)) == url
    assert remote.is_remote(place(text)) == (":" in path)


@pytest.mark.parametrize(
    "text, said",
    [
        ("s3://me:password@bucket/x", "credentials come from the environment"),
        ("s3:///x", "the bucket alone"),
        ("ftp://host/x", "no storage that is known"),
    ],
)
def test_what_is_no_address_is_refused(text: str, said: str):
    with pytest.raises(argparse.ArgumentTypeError, match=said) as caught:
        place(text)
    assert "password" not in str(caught.value)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert crop.main(["--input", "s3://bucket/in", "--output", str(tmp_path / "out"), *TINY]) == 2
    assert "pip install 'visavox[remote]'" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert merge.main(["s3://bucket/in"]) == 2 and "pip install 'visavox[remote]'" in capsys.readouterr().err


def test_files_come_go_and_leave_nothing(storage, tmp_path: Path):
    store, folder = Store(tmp_path / "scratch"), place("s3://bucket/small")
    with store.publishing(folder, ["a/b.npz"]) as here:
        (here / "a/b.npz").write_bytes(b"one")
        (here / "a/.hidden.mp4").write_bytes(b"hidden")
    assert {name: remote.url_of(path) for name, path in remote.find_inputs(folder, {".npz", ".mp4"}).items()} == {
        "a/b.npz": "s3://bucket/small/a/b.npz"
    }
    with store.fetched(folder / "a/b.npz") as here:
        assert here.name == "b.npz" and here.read_bytes() == b"one" and os.fspath(tmp_path) in str(here)
    assert remote.sha256_of(folder / "a/b.npz") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    with pytest.raises(KeyError), store.publishing(folder, ["a/b.npz"]) as here:
        assert (here / "a/b.npz").read_bytes() == b"one"
        (here / "a/b.npz").write_bytes(b"two")
        raise KeyError
    assert storage.cat("bucket/small/a/b.npz") == b"one"
    with store.standing_in(folder, ["*.jsonl"]) as here:
        assert not list(here.iterdir())
        (here / "rows.jsonl").write_text("1\n")
    with store.standing_in(folder, ["*.jsonl"]) as here:
        assert (here / "rows.jsonl").read_text() == "1\n"
        (here / "rows.jsonl").unlink()
    assert storage.find("bucket/small") == ["bucket/small/a/.hidden.mp4", "bucket/small/a/b.npz"]
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [".lock"]


def test_rows_are_there_while_a_run_goes_on(storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch, "KEEP_UP", 0.05)
    with pytest.raises(KeyboardInterrupt), Store(tmp_path).standing_in(place("s3://bucket/rows"), []) as here:
        (here / "rows.jsonl.part").write_text("1\n")
        (here / f"rows.csv.{host()}.1.part").write_text("half")
        deadline = time.monotonic() + 20
        while not storage.exists("bucket/rows/rows.jsonl.part"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (here / "rows.jsonl.part").write_text("1\n2\n")
        raise KeyboardInterrupt
    assert storage.find("bucket/rows") == ["bucket/rows/rows.jsonl.part"]
    assert storage.cat("bucket/rows/rows.jsonl.part") == b"1\n2\n"


def test_the_mark_of_a_share_is_put_before_its_rows(storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put: list[str] = []
    monkeypatch.setattr(scratch, "put", lambda here, path: put.append(here.name))
    with Store(tmp_path).standing_in(place("s3://bucket/order"), []) as here:
        for name in (*"abcdefgh", "m.jsonl.begun", *"stuvwxyz"):  # in which order a folder gives them is the system's
            (here / name).write_text("" if "begun" in name else "row")
    assert put[0] == "m.jsonl.begun" and sorted(put[1:]) == [*"abcdefghstuvwxyz"]


def test_no_more_is_fetched_than_there_is_room_for(storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in "ab":
        storage.pipe(f"bucket/room/{name}", bytes(600))
    a, b = (place(f"s3://bucket/room/{name}") for name in "ab")
    store, order = Store(tmp_path, gigabytes=1e-6), []

    def second() -> None:
        with store.fetched(b):
            order.append("b fetched")

    waiting = threading.Thread(target=second)
    with store.fetched(a):
        waiting.start()
        waiting.join(1.0)
        order.append("a done")
    waiting.join(20)
    assert order == ["a done", "b fetched"]

    left = tmp_path / f"{host()}.{2**22 + 1}.killed"  # no process has so high a number
    left.mkdir()
    (left / ".claim").write_bytes(bytes(900))
    with store.fetched(b):
        assert not left.exists()

    with pytest.raises(RemoteError, match=r"room/a: 0.00 GB, and --scratch-gb allows 1e-07; give more"):
        Store(tmp_path, gigabytes=1e-7).fetched(a).__enter__()
    monkeypatch.setattr(scratch, "WAIT", 0.3)
    with store.fetched(a), pytest.raises(RemoteError, match=r"b: no room for .* within 0.3 s: .* use fewer workers"):
        store.fetched(b).__enter__()
    monkeypatch.setattr(scratch, "MARGIN", 1 << 60)
    with pytest.raises(RemoteError, match="no room"):
        store.fetched(a).__enter__()


@pytest.fixture(scope="module")
def videos(storage, talking: Path) -> Path:
    """Three clips, one that the storage refuses, one that breaks off, one that is no video; here, and in s3://bucket/videos."""
    paths = sorted(talking.rglob("*.mp4"))[::5]
    for path in (*paths, paths[0].with_name("refused.mp4"), paths[0].with_name("cut.mp4")):
        source = path if path in paths else paths[0]
        storage.put_file(str(source), f"bucket/videos/{path.relative_to(talking).as_posix()}")
    storage.pipe("bucket/videos/text.mp4", b"no video\n" * 99)
    return paths[0].parents[1]


def rows(text: str) -> dict[str, dict]:
    found = map(json.loads, text.splitlines())
    return {row["input"]: {key: value for key, value in row.items() if key != "seconds"} for row in found}


def test_bundles_are_those_of_a_folder(
    storage, videos: Path, talking: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture
):
    words = ["--input", "s3://bucket/videos", "--output", "s3://bucket/bundles", "--workers", "1"]
    words += [*TINY, "--scratch", str(tmp_path / "scratch")]
    assert crop.main(words) == 1
    said = "".join(capfd.readouterr())
    assert "s3://bucket/bundles/manifest.jsonl" in said and SECRET not in said
    found = rows(storage.cat("bucket/bundles/manifest.jsonl").decode())
    expected = rows((data / "data/bundles/manifest.jsonl").read_text())
    good = [name for name in found if name in expected]
    assert len(good) == 3 and [found[name] for name in good] == [expected[name] for name in good]
    for name in good:
        bundle = found[name]["bundle"]
        assert storage.cat(f"bucket/bundles/{bundle}") == (data / "data/bundles" / bundle).read_bytes()
    (refused,), (cut,) = ([row for name, row in found.items() if part in name] for part in ("refused", "cut"))
    assert refused["code"] == "STORAGE_FAILED" and "refuses" in refused["reason"] and "s3://" in refused["reason"]
    assert cut["code"] == "STORAGE_FAILED"
    assert found["text.mp4"]["code"] == "NOT_A_VIDEO"
    assert found["text.mp4"]["reason"].startswith("s3://bucket/videos/text.mp4: ")
    assert len(storage.find("bucket/bundles")) == 4
    before = {path: storage.info(path)["ETag"] for path in storage.find("bucket/bundles")}

    assert crop.main(words) == 1
    again = rows(storage.cat("bucket/bundles/manifest.jsonl").decode())
    assert all(again[name].get("kept") for name in good) and {**again[good[0]], "kept": 0} == {
        **found[good[0]],
        "kept": 0,
    }
    after = {path: storage.info(path) for path in storage.find("bucket/bundles")}
    assert {path: about["ETag"] for path, about in after.items() if ".npz" in path} == {
        path: tag for path, tag in before.items() if ".npz" in path
    }
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [".lock"]


def test_a_missing_bucket_ends_the_run_and_a_missing_output_each_row(storage, videos: Path, tmp_path: Path, capfd):
    words = ["--workers", "1", *TINY, "--scratch", str(tmp_path)]
    assert crop.main(["--input", "s3://nowhere/videos", "--output", "s3://bucket/x", *words]) == 2
    assert "s3://nowhere/videos: no such bucket" in capfd.readouterr().err
    assert crop.main(["--input", "s3://bucket/videos", "--output", "s3://nowhere/x", *words]) == 2
    assert "s3://nowhere: no such bucket" in capfd.readouterr().err


@pytest.mark.durability
def test_scores_are_those_of_a_folder(storage, videos: Path, talking: Path, run: Path, tmp_path: Path):
    """A run that was interrupted goes on from the rows that the storage holds."""
    words = [
        "--checkpoint",
        str(run / "best.ckpt"),
        "--workers",
        "1",
        "submit_batch_size=1",
        "--scratch",
        str(tmp_path / "s"),
    ]
    assert evaluate.main(["--input", str(talking), "--output", str(tmp_path / "all.csv"), *words]) == 0
    assert evaluate.main(["--input", "s3://bucket/videos", "--output", "s3://bucket/scores/a.csv", *words]) == 0
    assert storage.find("bucket/scores") == ["bucket/scores/a.csv", "bucket/scores/a.details.jsonl"]
    expected = dict(csv.reader((tmp_path / "all.csv").open()))
    found = dict(csv.reader(storage.cat("bucket/scores/a.csv").decode().splitlines()))
    same = [name for name in found if name in expected and name != "filename"]
    assert len(found) == 7 and len(same) == 3 and all(found[name] == expected[name] for name in same)
    details = storage.cat("bucket/scores/a.details.jsonl")
    marked = details.replace(b'"notes": []', b'"notes": ["of an earlier run"]')
    storage.pipe("bucket/scores/b.details.jsonl.part", marked[: len(marked) * 4 // 5])
    assert evaluate.main(["--input", "s3://bucket/videos", "--output", "s3://bucket/scores/b.csv", *words]) == 0
    resumed = storage.cat("bucket/scores/b.details.jsonl")
    assert storage.cat("bucket/scores/b.csv") == storage.cat("bucket/scores/a.csv")
    assert 0 < resumed.count(b"of an earlier run") < 6 and not storage.exists("bucket/scores/b.details.jsonl.part")


@pytest.mark.durability
def test_features_and_perturbed_videos_are_those_of_a_folder(
    storage, videos: Path, talking: Path, data: Path, tmp_path: Path
):
    bundle = next((data / "data/bundles/real").rglob("*.npz"))
    storage.put_file(str(bundle), f"bucket/one/{bundle.name}")
    words = [*BACKBONES, *TINY, "--scratch", str(tmp_path / "scratch")]
    assert features.main([*words, "--input", str(bundle), "--output", str(tmp_path / "f")]) == 0
    for status in ("done", "kept"):
        assert features.main([*words, "--input", "s3://bucket/one", "--output", "s3://bucket/f"]) == 0
        assert f",{status}," in storage.cat("bucket/f/features.csv").decode()
    assert storage.cat(f"bucket/f/{bundle.name}") == (tmp_path / "f" / bundle.name).read_bytes()

    clip = next(talking.rglob("*.mp4"))
    storage.put_file(str(clip), f"bucket/clip/{clip.name}")
    words = ["--kinds", "gain", "--levels", "3", "--seconds", "0.4", "--scratch", str(tmp_path / "scratch")]
    assert perturb.main([*words, "--input", str(clip), "--output", str(tmp_path / "p")]) == 0
    for shard in ("0/2", "1/2"):
        assert perturb.main([*words, "--input", "s3://bucket/clip", "--output", "s3://bucket/p", "--shard", shard]) == 0
    assert merge.main(["s3://bucket/p"]) == 0
    for name in ("effects.csv", f"gain-3/{clip.name}"):
        assert storage.cat(f"bucket/p/{name}") == (tmp_path / "p" / name).read_bytes()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [".lock"]


def test_nothing_imports_a_library_of_a_storage_that_is_not_asked_for():
    code = (
        "import sys, visavox.commands.crop, visavox.commands.evaluate; assert not {'fsspec', 's3fs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_full_disk_is_no_fault_of_the_storage(storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    storage.pipe("bucket/parts/a.mp4", bytes(500))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "get_file", full)  # what the library caches is what is asked
    with pytest.raises(OSError, match="No space left") as caught:
        Store(tmp_path).fetched(place("s3://bucket/parts/a.mp4")).__enter__()
    assert code_of(caught.value) == "NO_SPACE"


def test_folders_that_a_console_makes_are_no_files(storage, tmp_path: Path):
    for key in ("console/", "console/deep/", "console/deep/a.mp4"):
        storage.call_s3("put_object", Bucket="bucket", Key=key, Body=b"")
    assert list(remote.find_inputs(place("s3://bucket/console"))) == ["deep/a.mp4"]
    with Store(tmp_path).standing_in(place("s3://bucket/console"), ["*"]) as here:
        assert not list(here.iterdir())


def test_scratch_is_swept_and_room_counted_by_what_is_to_come(storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    left = tmp_path / f"{host()}.{2**22 + 1}.killed"
    left.mkdir()
    store = Store(tmp_path)
    with store.publishing(place("s3://bucket/swept"), []):
        assert not left.exists()
    storage.pipe("bucket/claims/a", bytes(600))
    storage.pipe("bucket/claims/b", bytes(600))
    monkeypatch.setattr(scratch, "WAIT", 0.3)
    monkeypatch.setattr(scratch, "MARGIN", 0)
    with store.fetched(place("s3://bucket/claims/a")):
        monkeypatch.setattr(scratch.shutil, "disk_usage", lambda root: SimpleNamespace(free=700))
        with store.fetched(place("s3://bucket/claims/b")):  # a has come: the 700 bytes are free
            pass

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    (tmp_path / f"visavox-{mine + 1}").mkdir()
    with pytest.raises(RemoteError, match="is somebody else's; give --scratch DIR"):
        Store().fetched(place("s3://bucket/claims/a")).__enter__()


def test_a_share_on_a_storage_is_marked_until_it_is_done(storage, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/text.mp4").write_text("no video\n" * 99)
    words = [
        "--input",
        str(tmp_path / "in"),
        "--output",
        "s3://bucket/share",
        "--workers",
        "1",
        "--shard",
        "0/1",
        *TINY,
    ]
    storage.pipe("bucket/share/manifest.0-of-1.jsonl", b"")
    storage.pipe("bucket/share/manifest.0-of-1.jsonl.begun", b"")
    assert merge.main(["s3://bucket/share"]) == 2 and "were stopped" in capsys.readouterr().err
    assert crop.main(words) == merge.main(["s3://bucket/share"]) == 1
    assert [path.rpartition("/")[2] for path in storage.find("bucket/share")] == [
        "manifest.0-of-1.jsonl",
        "manifest.jsonl",
    ]


def test_features_of_two_kinds_are_not_merged(storage, tmp_path: Path, capsys: pytest.CaptureFixture):
    stamp = Stamp("seen", "1", "heard", "2", 4, "p", "none")
    for name, each in (("a", stamp), ("b", replace(stamp, steps=5))):
        Features(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32), each, name).save(tmp_path / f"{name}.npz")
        storage.put_file(str(tmp_path / f"{name}.npz"), f"bucket/kinds/{name}.npz")
        table = f"filename,status,seconds,reason,steps,sound\n{name}.npz,done,1,,2,1\n"
        storage.pipe(f"bucket/kinds/features.{'ab'.index(name)}-of-2.csv", table.encode())
    assert merge.main(["s3://bucket/kinds"]) == 2 and not storage.exists("bucket/kinds/features.csv")
    assert "s3://bucket/kinds mixes features of 2 kinds, e.g. s3://bucket/kinds/a.npz and" in capsys.readouterr().err
    storage.rm("bucket/kinds/b.npz")
    assert merge.main(["s3://bucket/kinds"]) == 0


def test_anyones_detector_is_given_a_file_of_this_machine(storage, tmp_path: Path):
    """And an output with brackets in its name goes on from the rows that are there."""
    for number in range(3):
        storage.pipe(f"bucket/any/{number}.mp4", bytes(number))
    own = tmp_path / "own.py"
    own.write_text("import os\ndef predict(path):\n    return os.path.getsize(path) / 10\n")
    words = ["--input", "s3://bucket/any", "--output", "s3://bucket/found/s[1].csv", "--detector", str(own)]
    assert evaluate.main([*words, "--scratch", str(tmp_path / "s")]) == 0
    found = storage.cat_file("bucket/found/s[1].csv").decode().splitlines()
    assert found == ["filename,probability", "0.mp4,0", "1.mp4,0.1", "2.mp4,0.2"]
    part = storage.cat_file("bucket/found/s[1].details.jsonl").replace(b'"notes": []', b'"notes": ["of before"]')
    storage.pipe_file("bucket/found/s[1].details.jsonl.part", part)
    assert evaluate.main([*words, "--scratch", str(tmp_path / "s")]) == 0
    assert storage.cat_file("bucket/found/s[1].details.jsonl").count(b"of before") == 3
    assert len(storage.find("bucket/found")) == 2


def test_addresses_are_refused_where_nothing_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["fakes", "x.csv", "--output", "s3://bucket/x"], ["shards", "--split=x", "--output=gs://bucket/x"]):
        assert main(words) == 2 and "no address of a storage is taken here" in capsys.readouterr().err
    given = ["eval", "--input", "s3://bucket/any", "--output"]
    for words, said in (
        ([*given, "s3://bucket"], "name the CSV in it"),
        ([*given, "s.csv", "--labels", "l.csv", "--report", "s3://bucket/r"], "has to lie on this machine"),
        (
            ["eval", "--input", "in", "--output", "s.csv", "--labels", "l.csv", "--report", "r", "--shard", "0/2"],
            "are of all shares",
        ),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
