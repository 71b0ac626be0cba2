"""Disks that are full and folders that may not be written: said at once, nothing is half there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT, TINY

from tests.cases.cases import Case, held_by
from tests.cases.programs import started
from visavox.commands import crop
from visavox.commands import evaluate as evaluation

__all__ = ["started"]  # a fixture

DURABILITY = (pytest.mark.durability,)


def full_disk(folder: Path) -> str:
    """A program that crops onto a disk with room for the manifest and half a bundle (ENOSPC from the system's own words)."""
    program = folder / "full.py"
    program.write_text(
        "import errno, os, sys\n"
        "from visavox import bundle\n"
        "from visavox.commands import crop\n"
        "def full(file, made):\n"
        "    file.write(b'half a bundle')\n"
        "    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "bundle.schema._write_npz = full\n"
        "if __name__ == '__main__': sys.exit(crop.main(sys.argv[1:]))\n"
    )
    return str(program)


@held_by(
    Case("R1", "the disk is full while crop writes", "exit code 5 at once, nothing half written; the next run goes on")
)
def test_a_full_disk_stops_crop(case: Case, talking: Path, tmp_path: Path, started):
    words = ["--input", str(talking), "--output", str(tmp_path / "out"), "--workers", "1", *TINY]
    said, _ = (running := started(full_disk(tmp_path), *words)).communicate(timeout=120)
    assert running.returncode == 5, said
    assert "No space left on device" in said and "free some space" in said and "Traceback" not in said
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "manifest.jsonl"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.getuid() != 0, reason="mounts a small disk, which root may")
@held_by(Case("R1", "a disk of 100 kB", "exit code 5, no bundle, no half file", marks=DURABILITY))
def test_a_disk_that_is_full_indeed(case: Case, talking: Path, tmp_path: Path):
    place = tmp_path / "small"
    place.mkdir()
    words = [
        sys.executable,
        "crop.py",
        "--input",
        str(talking),
        "--output",
        str(place / "out"),
        "--workers",
        "1",
        *TINY,
    ]
    script = 'mount -t tmpfs -o size=100k none "$0" && "$@"; code=$?; find "$0" -type f; exit $code'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(place), *words],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 5, done.stderr
    assert [Path(line).name for line in done.stdout.split()] in ([], ["manifest.jsonl"])


@held_by(
    Case("R1", "an output folder that is a file", "exit code 2, with its name", "file"),
    Case("R1", "an output below a file", "exit code 2, with its name", "below"),
)
def test_an_output_that_cannot_be(case: Case, talking: Path, tmp_path: Path, capsys):
    (tmp_path / "taken").write_text("here already")
    output = tmp_path / "taken" if case.given == "file" else tmp_path / "taken/out"
    assert crop.main(["--input", str(talking), "--output", str(output), *TINY]) == 2
    assert "taken" in capsys.readouterr().err and (tmp_path / "taken").read_text() == "here already"


@held_by(
    Case("R1", "an output folder that may not be written", "exit code 2, says so; nothing is left", "crop"),
    Case("R1", "a folder of scores that may not be written", "exit code 2, says so; nothing is left", "eval"),
)
def test_a_folder_that_is_read_only(case: Case, request, talking: Path, tmp_path: Path, capsys, monkeypatch):
    """Root may write anywhere, so the system's refusal is given in its place where the tests run as root."""
    folder = tmp_path / "shut"
    folder.mkdir()
    folder.chmod(0o500)
    if os.getuid() == 0:
        opened = os.open

        def refusing(path, flags, *more, **how):
            if str(path).startswith(str(folder)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return opened(path, flags, *more, **how)

        monkeypatch.setattr(os, "open", refusing)
    if case.given == "crop":
        code = crop.main(["--input", str(talking), "--output", str(folder), "--workers", "1", *TINY])
    else:
        checkpoint = request.getfixturevalue("run") / "best.ckpt"
        words = ["-input", str(talking), "-output", str(folder / "s.csv"), "--checkpoint", str(checkpoint)]
        code = evaluation.main(words)
    folder.chmod(0o700)
    assert code == 2
    said = capsys.readouterr().err
    assert "Permission denied" in said and str(folder) in said and "Traceback" not in said
    assert list(folder.iterdir()) == []
