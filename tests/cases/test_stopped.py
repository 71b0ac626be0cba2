"""Runs that are stopped, killed or doubled: no orphan, no half file, and one run at a time on an output."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from conftest import TINY, command

from tests.cases.cases import Case, held_by
from tests.cases.programs import Holder, started, wait_for
from visavox import runs
from visavox.commands import crop, train
from visavox.commands import evaluate as evaluation
from visavox.files import is_alive

__all__ = ["started"]  # a fixture

SLOWLY = """
import sys, time
from pathlib import Path
from visavox.workers import pool

def start(): return Path(sys.argv[1])

def work(folder, task):
    import os
    (folder / f"{os.getpid()}.busy").touch()
    time.sleep(600)

if __name__ == "__main__":
    for _ in pool.run(range(4), start, work, workers=2): pass
"""
"""A program whose two workers are busy until somebody ends them."""


def held_up(folder: Path) -> str:
    """A program that crops as `visavox crop` does, whose workers then wait, each in the middle of writing its bundle."""
    program = folder / "held_up.py"
    program.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from visavox import bundle\n"
        "from visavox.commands import crop\n"
        "def slow(file, made):\n"
        "    file.write(b'half a bundle'); file.flush()\n"
        f"    Path({str(folder)!r}, f'{{os.getpid()}}.busy').touch()\n"
        "    time.sleep(600)\n"
        "bundle.schema._write_npz = slow\n"
        "if __name__ == '__main__': sys.exit(crop.main(sys.argv[1:]))\n"
    )
    return str(program)


def busy(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.busy")]


@held_by(
    Case("R2", "the parent of busy workers is killed", "they end within 5 s", signal.SIGKILL),
    Case("R7", "SIGTERM to the parent of busy workers", "they end within 5 s", signal.SIGTERM),
)
def test_no_worker_outlives_its_parent(case: Case, tmp_path: Path, started):
    program = tmp_path / "slowly.py"
    program.write_text(SLOWLY)
    parent = started(str(program), str(tmp_path))
    wait_for(lambda: len(busy(tmp_path)) == 2)
    parent.send_signal(case.given)
    parent.wait()
    wait_for(lambda: not any(map(is_alive, busy(tmp_path))), seconds=5)


@held_by(
    Case("R7", "SIGTERM while crop is busy", "exit code 143, no half file, no lock, no orphan", (signal.SIGTERM, 143)),
    Case("R7", "Ctrl-C while crop is busy", "exit code 130, no half file, no lock, no orphan", (signal.SIGINT, 130)),
    Case("R2", "crop is killed", "no orphan, no lock; the next run sweeps what was half written", (signal.SIGKILL, -9)),
)
def test_crop_is_stopped(case: Case, talking: Path, tmp_path: Path, started):
    number, code = case.given
    output = tmp_path / "out"
    videos = [str(path) for path in sorted(talking.rglob("*.mp4"))[:2]]
    (tmp_path / "in").mkdir()
    for path in videos:
        shutil.copy(path, tmp_path / "in")
    words = ["--input", str(tmp_path / "in"), "--output", str(output), "--workers", "2", *TINY]
    running = started(held_up(tmp_path), *words)
    wait_for(lambda: len(busy(tmp_path)) == 2)
    assert list(output.rglob("*.part"))
    if number == signal.SIGKILL:
        running.send_signal(number)
    else:
        os.killpg(running.pid, number)  # as a terminal or a service manager does: to all of them
    said, _ = running.communicate(timeout=60)
    assert running.returncode == code
    wait_for(lambda: not any(map(is_alive, busy(tmp_path))), seconds=5)
    if number != signal.SIGKILL:
        assert "run the same command again" in said and "Traceback" not in said
        assert not list(output.rglob("*.part")) and not (output / runs.LOCK).exists()
    assert not list(output.rglob("*.npz"))
    assert crop.main(words) == 0
    assert len(list(output.rglob("*.npz"))) == 2 and not list(output.rglob("*.part"))
    assert not (output / runs.LOCK).exists()


@held_by(
    Case("R7", "SIGTERM while training", "exit code 143; the last finished epoch is kept", (signal.SIGTERM, 143)),
    Case("R7", "Ctrl-C while training", "exit code 130; the last finished epoch is kept", (signal.SIGINT, 130)),
)
def test_training_is_stopped(case: Case, data: Path, run: Path, tmp_path: Path, started):
    number, code = case.given
    program = tmp_path / "held.py"
    program.write_text(
        "import sys, time, train\n"
        "from pathlib import Path\n"
        "from visavox.training.callbacks import History\n"
        "write = History.on_train_epoch_end\n"
        "def held(self, trainer, module):\n"
        f"    if trainer.current_epoch == 1: Path({str(tmp_path)!r}, 'there').touch(); time.sleep(600)\n"
        "    write(self, trainer, module)\n"
        "History.on_train_epoch_end = held\n"
        "sys.exit(train.main(sys.argv[1:]))\n"
    )
    name = f"stopped-{code}"
    running = started(str(program), *command(data, name))
    wait_for((tmp_path / "there").exists)
    os.killpg(running.pid, number)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == code, said
    assert "--resume continues from the last finished epoch" in said and "Traceback" not in said
    folder = data / "runs" / name
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 0
    assert not [path for path in folder.rglob("*") if ".part" in path.name or path.name == runs.LOCK]


@held_by(
    Case("R4", "two crops on one output", "the second ends with exit code 4 and says who holds it", "crop"),
    Case("R4", "two trainings of one name", "the second ends with exit code 4 and says who holds it", "train"),
    Case("R4", "two evaluations into one file", "the second ends with exit code 4 and says who holds it", "eval"),
)
def test_two_runs_on_one_output(case: Case, request, talking: Path, tmp_path: Path, started, capsys):
    if case.given == "crop":
        output, main = tmp_path / "out", crop.main
        output.mkdir()
        words = ["--input", str(talking), "--output", str(output), *TINY]
    elif case.given == "train":
        data = request.getfixturevalue("data")
        output, main = data / "runs/doubled", train.main
        output.mkdir(parents=True)
        words = command(data, "doubled")
    else:
        output, main = tmp_path / "s.csv", evaluation.main
        checkpoint = request.getfixturevalue("run") / "best.ckpt"
        words = ["-input", str(talking), "-output", str(output), "--checkpoint", str(checkpoint)]
    holder = Holder(started, output).process
    assert main(words) == 4
    assert f"{output}: locked by pid {holder.pid} on " in capsys.readouterr().err
    assert not list(output.rglob("*.json*")) if output.is_dir() else not output.exists()
    holder.kill()  # what was killed holds nothing
    holder.wait()
    with runs.holding(output):
        pass
    assert not [path for path in (*output.parent.iterdir(), *output.glob("*")) if path.name.endswith(runs.LOCK)]


def test_a_lock_needs_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What would free some, such as the service's clearing away, starts as well."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with runs.holding(tmp_path), pytest.raises(runs.LockedError), runs.holding(tmp_path):
        pass


def test_a_lock_that_was_let_go_is_held_by_one_alone(tmp_path: Path, started):
    """The file goes with its lock: who opened it before holds nothing and has to look again."""
    with runs.holding(tmp_path):
        pass
    first = Holder(started, tmp_path)
    with pytest.raises(runs.LockedError), runs.holding(tmp_path):
        pass
    first.process.communicate("")
    with runs.holding(tmp_path):
        assert (tmp_path / runs.LOCK).read_text().startswith(f"pid {os.getpid()} on ")
