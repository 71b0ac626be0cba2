"""Writing that leaves no half files."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visavox.files import is_alive, replacing, sweep


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "made" / "a.txt"
    with replacing(path) as beside:
        beside.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(ZeroDivisionError), replacing(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "one"
    assert os.listdir(path.parent) == ["a.txt"]


def test_what_cannot_be_written_is_named_with_a_cure(tmp_path: Path):
    with (
        pytest.raises(OSError, match=r"a\.txt could not be written \(No space left.*free some space") as caught,
        replacing(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError, match="other.txt"), replacing(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_text()


def test_what_a_killed_process_left_is_swept_away_and_nothing_else(tmp_path: Path):
    code = (
        "import sys, time; from visavox.files import replacing\n"
        "with replacing(sys.argv[1]) as b: b.write_text('x'); print(flush=True); time.sleep(60)"
    )
    running = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.npz")], stdout=subprocess.PIPE)
    running.stdout.readline()
    (tmp_path / f"mine.npz.{os.getpid()}.part").write_text("still being written")
    (tmp_path / "notes.part").write_text("no number: not ours")
    sweep(tmp_path)
    assert len(os.listdir(tmp_path)) == 3
    running.kill()
    deadline = time.monotonic() + 30
    while is_alive(running.pid) and time.monotonic() < deadline:  # killed, and not collected yet: a zombie
        time.sleep(0.01)
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([f"mine.npz.{os.getpid()}.part", "notes.part"])
    running.wait()
