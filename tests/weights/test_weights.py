"""The registry on a loopback server that can resume, cannot, breaks off, lies, or is not there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from visavox import weights
from visavox.weights import REGISTRY, Entry, download, store
from visavox.weights import __main__ as command

BODY = np.random.default_rng(7).integers(0, 256, 1_500_000, dtype=np.uint8).tobytes()
SUM = hashlib.sha256(BODY).hexdigest()
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SUM}\nsize {len(BODY)}\n".encode()
HTML = b"<!DOCTYPE html><html><body>Sign in to download</body></html>"
ROOT = Path(__file__).parents[2]


class Handler(BaseHTTPRequestHandler):
    """/plain ignores ranges; /cut breaks off amid a first request; the other paths are as they are called."""

    def do_GET(self):
        server = self.server
        server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        body, kind, status, start = BODY, "application/octet-stream", 200, 0
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/wrong":
            body = BODY[:-1] + bytes([BODY[-1] ^ 1])
        if self.path in ("/html", "/html-as-binary"):
            body, kind = HTML, "text/html; charset=utf-8" if self.path == "/html" else kind
        if self.path == "/lfs":
            body = LFS
        if self.path == "/slow":
            time.sleep(0.5)
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if asked and self.path != "/plain" and condition in (None, server.etag):
            status, start = 206, int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", server.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        end = len(body)
        if self.path in ("/cut", "/plain") and not server.broken:
            server.broken, end = True, len(body) // 2
        self.wfile.write(body[start:end])
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.seen, server.broken, server.etag = [], False, '"one"'
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("VISAVOX_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    store._say_unverified.cache_clear()
    return tmp_path / "weights"


@pytest.fixture
def register(monkeypatch, folder):
    def add(*urls: str, **fields) -> Entry:
        known = {
            "size": len(BODY),
            "sha256": SUM,
            "licence": "MIT",
            "labels": "none",
            "input": "any",
            "purpose": "test",
        }
        entry = Entry(name="toy", file="toy.pth", urls=urls, **(known | fields))
        monkeypatch.setitem(REGISTRY, "toy", entry)
        return entry

    return add


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_first_use_fetches_and_the_second_does_not(server, register, folder):
    register(f"{server.url}/file")
    assert weights.resolve("toy").read_bytes() == BODY
    assert weights.resolve("toy") == folder / "toy.pth"
    assert len(server.seen) == 1
    assert left_in(folder) == {"toy.pth"}


def test_a_broken_connection_continues_at_its_last_byte(server, register, folder):
    register(f"{server.url}/cut")
    assert weights.fetch("toy").read_bytes() == BODY
    assert server.seen == [("/cut", None, None), ("/cut", f"bytes={len(BODY) // 2}-", '"one"')]
    assert left_in(folder) == {"toy.pth"}


def test_a_server_without_ranges_is_read_from_the_start(server, register):
    register(f"{server.url}/plain")
    assert weights.fetch("toy").read_bytes() == BODY
    assert [seen[1] for seen in server.seen] == [None, f"bytes={len(BODY) // 2}-"]


def test_a_later_process_resumes_a_pinned_file_from_another_mirror(server, register, folder):
    register(f"{server.url}/file")
    folder.mkdir()
    (folder / "toy.pth.part").write_bytes(BODY[:1000])
    assert weights.fetch("toy").read_bytes() == BODY
    assert server.seen == [("/file", "bytes=1000-", None)]


def test_an_unverified_file_resumes_only_while_the_source_is_unchanged(server, register, folder, caplog):
    entry = register(f"{server.url}/file", sha256=None, size=None)
    folder.mkdir()
    part = folder / "toy.pth.part"
    part.write_bytes(b"old bytes")
    (folder / "toy.pth.part.json").write_text(f'{{"url": "{entry.urls[0]}", "validator": "\\"zero\\""}}')
    assert weights.fetch("toy").read_bytes() == BODY
    assert server.seen == [("/file", "bytes=9-", '"zero"')]
    assert "unverified" in caplog.text
    assert SUM in caplog.text
    assert weights.fingerprint("toy") == SUM


def test_a_file_without_a_known_sum_is_trusted_on_first_use_and_held_to_it(server, register, folder, caplog, capsys):
    wrong = hashlib.sha256(BODY[:-1] + bytes([BODY[-1] ^ 1])).hexdigest()
    entry = register(f"{server.url}/file", sha256=None, size=None)
    assert weights.fetch("toy").read_bytes() == BODY and SUM in caplog.text
    note = folder / ".toy.pth.first-use"
    assert note.read_text().split()[0] == SUM == store.first_seen(entry)
    assert command.main(["list", "toy"]) == 0 and SUM in capsys.readouterr().out
    (folder / "toy.pth").unlink()
    assert weights.fetch("toy").read_bytes() == BODY  # the same bytes again
    (folder / "toy.pth").unlink()
    register(f"{server.url}/wrong", sha256=None, size=None)  # the publisher, or somebody in between, gives other bytes
    with pytest.raises(weights.WeightsError) as caught:
        weights.fetch("toy")
    assert SUM in str(caught.value) and wrong in str(caught.value) and note.name in str(caught.value)
    assert left_in(folder) == set()
    register(f"{server.url}/wrong", f"{server.url}/file", sha256=None, size=None)  # a mirror that has the trusted ones
    assert weights.fetch("toy").read_bytes() == BODY
    (folder / "toy.pth").write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    assert command.main(["verify", "toy"]) == 1 and "WRONG" in capsys.readouterr().out
    note.unlink()  # as the message says to somebody who wants the other file
    store._say_unverified.cache_clear()
    assert weights.resolve("toy") and note.read_text().split()[0] == wrong and wrong in caplog.text


def test_a_stale_part_is_found_out_and_fetched_anew(server, register, folder):
    register(f"{server.url}/file")
    folder.mkdir()
    (folder / "toy.pth.part").write_bytes(b"x" * 1000)
    assert weights.fetch("toy").read_bytes() == BODY
    assert [seen[1] for seen in server.seen] == ["bytes=1000-", None]


def test_the_next_mirror_is_asked_after_404_and_after_wrong_bytes(server, register):
    register(f"{server.url}/missing", f"{server.url}/wrong", f"{server.url}/file")
    assert weights.fetch("toy").read_bytes() == BODY
    assert [seen[0] for seen in server.seen] == ["/missing", "/wrong", "/file"]


def test_wrong_bytes_are_removed_and_both_sums_told(server, register, folder):
    register(f"{server.url}/wrong")
    with pytest.raises(weights.WeightsError) as caught:
        weights.fetch("toy")
    wrong = hashlib.sha256(BODY[:-1] + bytes([BODY[-1] ^ 1])).hexdigest()
    assert wrong in str(caught.value)
    assert f"expected {SUM}" in str(caught.value)
    assert left_in(folder) == set()


@pytest.mark.parametrize("fields", [{}, {"size": None, "sha256": None}])
@pytest.mark.parametrize(
    ("path", "word"), [("/html", "web page"), ("/html-as-binary", "web page"), ("/lfs", "Git-LFS")]
)
def test_a_page_or_a_pointer_is_not_taken_for_weights(server, register, folder, path, word, fields):
    register(server.url + path, **fields)
    with pytest.raises(weights.WeightsError, match=word):
        weights.fetch("toy")
    assert not (folder / "toy.pth").exists()


def test_a_dead_host_is_tried_three_times(register, monkeypatch):
    asked = []
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *a, **k: asked.append(1) or _refuse())
    register("https://nowhere.invalid/file")
    with pytest.raises(weights.WeightsError, match=r"no connection"):
        weights.fetch("toy")
    assert len(asked) == 3


def _refuse():
    raise download.urllib.error.URLError("refused")


@pytest.mark.parametrize("switch", ["VISAVOX_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_exactly_what_to_put_where(server, register, folder, monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    entry = register(f"{server.url}/file")
    with pytest.raises(weights.WeightsError) as caught:
        weights.resolve("toy")
    for fact in (entry.file, str(folder), entry.urls[0], "1,500,000", SUM):
        assert fact in str(caught.value)
    assert server.seen == []


def test_a_manual_entry_is_never_asked_for(server, register):
    register(f"{server.url}/file", manual=True)
    with pytest.raises(weights.WeightsError, match="by hand"):
        weights.fetch("toy")
    assert server.seen == []


def test_from_dir_copies_only_what_is_right(register, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    register("https://example.org/published%20name.bin".replace("%20", "_"))
    usb = tmp_path / "usb"
    usb.mkdir()
    with pytest.raises(weights.WeightsError, match="holds none of toy.pth, published_name.bin"):
        weights.fetch("toy", from_dir=usb)
    (usb / "published_name.bin").write_bytes(BODY[:-1])
    with pytest.raises(weights.WeightsError, match="1,499,999 bytes, expected 1,500,000"):
        weights.fetch("toy", from_dir=usb)
    (usb / "published_name.bin").write_bytes(BODY)
    assert weights.fetch("toy", from_dir=usb).read_bytes() == BODY
    assert left_in(folder) == {"toy.pth"}


def test_a_published_prefix_is_held_to(server, register):
    register(f"{server.url}/file", sha256=None, sha256_prefix=SUM[:8])
    assert weights.fetch("toy").exists()
    register(f"{server.url}/file", sha256=None, sha256_prefix="00000000")
    with pytest.raises(weights.WeightsError, match="begins with 00000000"):
        weights.resolve("toy")


def test_a_file_changed_in_the_folder_is_refused(register, folder):
    register("https://example.org/f")
    folder.mkdir()
    (folder / "toy.pth").write_bytes(BODY)
    assert weights.resolve("toy") == folder / "toy.pth"
    (folder / "toy.pth").write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    with pytest.raises(weights.WeightsError, match="sha256"):
        weights.resolve("toy")
    (folder / "toy.pth").write_bytes(LFS)
    with pytest.raises(weights.WeightsError, match="git lfs pull"):
        weights.resolve("toy")


def test_an_unchanged_file_is_not_hashed_again(register, folder, monkeypatch):
    register("https://example.org/f")
    folder.mkdir()
    (folder / "toy.pth").write_bytes(BODY)
    weights.resolve("toy")
    monkeypatch.setattr(store.hashlib, "file_digest", None)
    assert weights.resolve("toy") == folder / "toy.pth"


def test_a_folder_marked_read_only_is_used_and_left_as_it_is(register, folder):
    register("https://example.org/f")
    folder.mkdir()
    (folder / "toy.pth").write_bytes(BODY)
    folder.chmod(0o555)
    assert weights.resolve("toy") == folder / "toy.pth"
    assert [path.name for path in folder.iterdir()] == ["toy.pth"]
    folder.chmod(0o755)


def in_process(entry: Entry, code: str, **env: str) -> subprocess.Popen:
    script = f"""
        import sys
        from visavox import weights
        from visavox.weights.registry import REGISTRY, Entry
        REGISTRY["toy"] = {entry!r}
        {code}
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | env
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_two_processes_one_downloads_and_both_get_the_file(server, register, folder):
    entry = register(f"{server.url}/slow")
    both = [in_process(entry, 'print(weights.resolve("toy"))') for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [out.strip() for out, _ in outputs] == [str(folder / "toy.pth")] * 2
    assert all(err == "" for _, err in outputs)  # no bar where stderr is no terminal
    assert len(server.seen) == 1


def test_a_full_disk_is_told_and_the_rest_comes_later(server, register, folder):
    entry = register(f"{server.url}/file")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))"
    process = in_process(entry, f"{limit}; from visavox.weights.__main__ import main; sys.exit(main(['fetch', 'toy']))")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no room in" in err
    assert "Traceback" not in err
    assert weights.fetch("toy").read_bytes() == BODY
    assert int(server.seen[-1][1].removeprefix("bytes=").rstrip("-")) > 500_000


def test_too_little_space_is_said_before_the_download(server, register, folder, monkeypatch):
    register(f"{server.url}/file")
    usage = download.shutil.disk_usage("/")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(weights.WeightsError, match="no room .* 1,500,000 more bytes are needed, 1,000 are free"):
        weights.fetch("toy")


def test_exit_codes(register, folder, capsys):
    register("https://example.org/f")
    assert command.main(["verify"]) == 0  # nothing is here, nothing is wrong
    assert command.main(["verify", "toy"]) == 1
    assert command.main(["path", "toy"]) == 1
    assert command.main(["fetch", "toy", "--offline"]) == 1
    assert command.main(["fetch", "tyo"]) == 2
    assert "did you mean toy?" in capsys.readouterr().err
    folder.mkdir()
    (folder / "toy.pth").write_bytes(BODY)
    assert command.main(["verify", "toy"]) == 0
    assert command.main(["path", "toy"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "toy.pth")
    stat = (folder / "toy.pth").stat()
    (folder / "toy.pth").write_bytes(b"x" + BODY[1:])
    os.utime(folder / "toy.pth", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert command.main(["verify"]) == 1  # hashed again, though size and time are the old ones
    assert "WRONG" in capsys.readouterr().out


def test_list_prints_every_entry_and_what_is_unverified(folder, capsys):
    assert command.main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in REGISTRY)
    assert "unverified" in out
    assert command.main(["list", "syncnet_v2"]) == 0
    assert "robots.ox.ac.uk" in capsys.readouterr().out


def test_the_registry_is_whole():
    assert all(entry.name == name for name, entry in REGISTRY.items())
    assert len({entry.file for entry in REGISTRY.values()}) == len(REGISTRY)
    for entry in REGISTRY.values():
        assert all(url.startswith("https://") for url in entry.urls)
        assert entry.sha256 is None or len(entry.sha256) == 64


def test_help_imports_nothing_heavy():
    program = [sys.executable, "-X", "importtime", "-m", "visavox.weights", "--help"]
    run = subprocess.run(program, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0
    assert "--from-dir" in run.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines() if "|" in line}
    assert "visavox" in imported
    assert not imported & {"torch", "numpy", "pandas", "cv2", "av", "pydantic", "pytorch_lightning", "sklearn"}


def test_a_payload_does_not_run(tmp_path):
    import torch

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    for number, new_format in enumerate((True, False)):
        path = tmp_path / f"{number}.ckpt"
        torch.save({"w": torch.zeros(2), "x": Payload()}, path, _use_new_zipfile_serialization=new_format)
        with pytest.raises(weights.WeightsError, match=r"would run code of its own choosing \(posix.system\)"):
            weights.safe_load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", [b"", b"text, no weights", LFS, HTML])
def test_what_is_no_checkpoint_is_said_so(tmp_path, damage):
    path = tmp_path / "x.pth"
    path.write_bytes(damage)
    with pytest.raises(weights.WeightsError, match=r"x\.pth: .*(damaged|pointer|web page)"):
        weights.safe_load(path)


def test_parameters_come_out_of_every_wrapping(tmp_path, register, folder):
    import torch
    from safetensors.torch import save_file

    w = {"a.weight": torch.arange(4.0), "a.bias": torch.ones(1)}
    torch.save({"state_dict": {f"module.{key}": value for key, value in w.items()}, "epoch": 3}, tmp_path / "w.pth")
    save_file(w, tmp_path / "w.safetensors")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.write(tmp_path / "w.pth", "../../evil.pth")  # its name never becomes a path
    for suffix in ("pth", "safetensors", "zip"):
        found = weights.parameters(weights.safe_load(tmp_path / f"w.{suffix}"))
        assert list(found) == list(w) or suffix == "safetensors"
        assert all(torch.equal(found[key], w[key]) for key in w)
    data = (tmp_path / "w.pth").read_bytes()
    register("https://example.org/f", size=len(data), sha256=hashlib.sha256(data).hexdigest())
    folder.mkdir()
    (folder / "toy.pth").write_bytes(data)
    assert list(weights.state_dict("toy")) == list(w)
    with pytest.raises(weights.WeightsError, match="no tensors"):
        weights.parameters({"a": 1, "b": torch.ones(1)})


def test_an_archive_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.pth", bytes(10_000_000))
    with pytest.raises(weights.WeightsError, match="not weights"):
        weights.safe_load(tmp_path / "w.zip")


@pytest.mark.data
def test_the_trained_detector_is_the_registered_one(monkeypatch):
    data = os.environ.get("VISAVOX_TEST_DATA")
    if not data:
        pytest.skip("VISAVOX_TEST_DATA names no folder")
    monkeypatch.setenv("VISAVOX_WEIGHTS", f"{data}/weights")
    assert len(weights.state_dict("retinaface_mobilenet0.25")) == 300


def test_every_entry_says_which_class_means_fake_or_that_it_knows_none():
    for entry in weights.REGISTRY.values():
        if entry.fake_index is None:
            assert entry.labels.startswith("none"), entry.name
        else:
            assert f"{entry.fake_index} = fake" in entry.labels and f"{1 - entry.fake_index} = real" in entry.labels
