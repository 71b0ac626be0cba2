"""Writing that leaves no half files, and names that are shown and never obeyed."""

import ast
import errno
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import visavox
from visavox.files import OBEYED, is_alive, replacing, shown, sweep
from visavox.logs import complain, say, set_up_logging


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


NAMES = {
    "\x1b[2J\x1b]0;owned\x07.mp4": "\\x1b[2J\\x1b]0;owned\\x07.mp4",
    "a\n  ok        forged.mp4": "a\\n  ok        forged.mp4",
    "a\r\x9b2Kb\x7f": "a\\r\\x9b2Kb\\x7f",
    "\u202e4pm.exe\u2066\u200f\u061c": "\\u202e4pm.exe\\u2066\\u200f\\u061c",
    "one\u2028two\u2029\x85": "one\\u2028two\\u2029\\x85",
    os.fsdecode(b"byte_\xff\xfe.mp4"): "byte_\\xff\\xfe.mp4",
    "half \ud83d": "half \\ud83d",
    "Ünïcödé – 顔 – وجه – \U0001f600.mp4": "Ünïcödé – 顔 – وجه – \U0001f600.mp4",
}
"""Names that terminals, logs and pages would obey, and how they are shown."""


@pytest.mark.parametrize(("name", "seen"), NAMES.items(), ids=range(len(NAMES)))
def test_a_name_is_shown_and_never_obeyed(name: str, seen: str, capsys):
    assert shown(name) == seen and shown(seen) == seen
    seen.encode()  # what is shown can be written anywhere
    complain("visavox eval", f"{name}: not a video")
    say(f"  failed    {shown(name)}: not a video")
    out, err = capsys.readouterr()
    assert out == f"  failed    {seen}: not a video\n"
    assert err.startswith("visavox eval: ") and all(line.startswith("  ") for line in err.splitlines()[1:])
    assert not OBEYED.search((out + err).replace("\n", ""))


def test_lines_of_ours_stay_lines_and_those_of_a_message_are_set_in(capsys):
    say("one\ntwo\x1b")
    complain("visavox train", ValueError("2 faults\n  - first\nok forged.mp4"))
    out, err = capsys.readouterr()
    assert out == "one\ntwo\\x1b\n"
    assert err == "visavox train: 2 faults\n  - first\n  ok forged.mp4\n"


def test_a_log_line_shows_names(capsys):
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        set_up_logging().warning("%s: odd", "\x1b[2Ja\n10:00:00 WARNING forged")
    finally:
        logging.basicConfig(handlers=handlers, level=level, force=True)
    line, forged = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING \\x1b[2Ja") and forged == "  10:00:00 WARNING forged: odd"


def test_nothing_of_the_package_prints_past_it():
    """`print` would hand a terminal whatever stands in a name: `visavox.logs.say` and `complain` are the ways out."""
    package = Path(visavox.__file__).parent
    calls = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert len(calls) == 1 and calls[0].startswith("logs.py:")
