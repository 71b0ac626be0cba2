"""Runs: killed, stopped, doubled, out of space, resumed with something else. Nothing is lost, nothing is half there."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CHECKOUT, TINY, command

from tests.cases.cases import Case, held_by
from visavox import runs
from visavox.bundle import Bundle
from visavox.commands import crop, train
from visavox.commands import evaluate as evaluation
from visavox.files import is_alive
from visavox.synthetic.dataset import make_dataset
from visavox.workers import pool

DURABILITY = (pytest.mark.durability,)
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


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen]]:
    """started(word, ...): a program in a process group of its own, ended with the test whatever happens."""
    running: list[subprocess.Popen] = []

    def start(*words: str, **how) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        how = {"cwd": CHECKOUT, "start_new_session": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
        running.append(subprocess.Popen([sys.executable, *words], env=environment, text=True, **how))
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(there: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


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


class Holder:
    """Another process that holds an output until it is told otherwise."""

    def __init__(self, started: Callable, output: Path):
        code = (
            "import sys\nfrom pathlib import Path\nfrom visavox import runs\n"
            "with runs.holding(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
        )
        self.process = started("-c", code, str(output), stdin=subprocess.PIPE)
        assert self.process.stdout.readline() == "held\n"


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
    Case("R9", "memory does not suffice for a batch", "it is halved until it does", 3),
    Case("R9", "memory does not suffice for a single clip", "its row says OUT_OF_MEMORY, the others are scored", 0),
)
def test_a_batch_that_is_too_large(case: Case, make_bundle, tmp_path: Path):
    sizes = []

    class Small:
        device = torch.device("cpu")

        def score(self, bundles):
            sizes.append(len(bundles))
            if len(bundles) > max(1, case.given) or (not case.given and bundles[0].notes == "large"):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return np.full(len(bundles), 0.25)

    waiting = [
        evaluation.Prepared(str(i), tmp_path, make_bundle(notes="large" if i == 2 else ""), "ok", "", [], {})
        for i in range(8)
    ]
    rows = list(evaluation._score(Small(), waiting, 0.5))
    if case.given:
        assert [row.status for row in rows] == ["ok"] * 8 and sizes == [8, 4, 2, 2, 4, 2, 2]
    else:
        assert [row.code for row in rows] == ["", "", "OUT_OF_MEMORY", "", "", "", "", ""]


def edited(data: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> list[str]:
    """Words to train on a changed split."""
    change(pd.read_csv(data / "data/split.csv")).to_csv(data / f"data/{name}.csv", index=False)
    words = command(data, name)
    return ["--data-version", name, *words[2:]]


def without(split: str, label: int | None = None, keep: int = 0) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        gone = (rows["split"] == split) & ((rows["label"] == label) if label is not None else True)
        return rows.drop(rows.index[gone][keep:])

    return change


@held_by(
    Case("R3", "no test split", "test_auc is null and says why", (without("test"), 0, "test split is empty")),
    Case("R3", "a test split of one class", "test_auc is null and says why", (without("test", 1), 0, "one class only")),
    Case("R3", "a validation split of one class", "refused before training", (without("val", 1), 2, "val")),
    Case("R3", "a validation split of three clips", "trained", (lambda rows: three(rows), 0, "")),
)
def test_splits_that_lack_something(case: Case, data: Path, run: Path, capsys):
    change, code, said = case.given
    name = f"split-{abs(hash(case.title))}"
    words = edited(data, name, change)
    assert train.main([*words, "epoch=1"]) == code
    out, err = capsys.readouterr()
    assert said in (out if code == 0 else err)
    if code:
        assert not (data / "runs" / name).exists()


def three(rows: pd.DataFrame) -> pd.DataFrame:
    """Three clips of validation, of both classes."""
    val = rows[rows["split"] == "val"]
    kept = [*val.index[val["label"] == 1][:1], *val.index[val["label"] == 0][:2]]
    return rows.drop(val.index.difference(kept))


@held_by(Case("R3", "the loss is no number", "stopped with the step named; no checkpoint holds it"))
def test_a_loss_that_is_no_number(case: Case, data: Path, run: Path, capsys, monkeypatch):
    from visavox.detectors.base import Detector

    step = Detector.training_step
    calls = 0

    def broken(self, batch, index):
        nonlocal calls
        calls += 1
        loss = step(self, batch, index)
        return loss * math.nan if calls == 3 else loss

    monkeypatch.setattr(Detector, "training_step", broken)
    assert train.main(command(data, "broken", "train_batch_size=1", "num_workers=0")) == 2
    assert "the loss of step 3 (epoch 0) is no finite number" in capsys.readouterr().err
    assert not list((data / "runs/broken").rglob("*.ckpt"))


@held_by(
    Case("R3", "resumed with another learning rate", "refused with both values", ["lr=0.5"]),
    Case("R3", "resumed with more epochs", "refused with both values", ["epoch=5"]),
    Case("R3", "resumed with fewer epochs", "refused with both values", ["epoch=2"]),
    Case("R3", "resumed with another seed", "refused with both values", ["seed=1"]),
)
def test_resumed_with_something_else(case: Case, data: Path, run: Path, capsys):
    before = (run / "best.ckpt").read_bytes()
    assert train.main(command(data, "first", "--resume", *case.given)) == 2
    name, value = case.given[0].split("=")
    said = capsys.readouterr().err
    assert f"{name}: " in said and f"{value} now" in said
    assert (run / "best.ckpt").read_bytes() == before


def of_another_run(last: Path) -> None:
    content = torch.load(last, weights_only=True)
    content["hyper_parameters"]["config"]["seed"] = 7
    torch.save(content, last)


def damaged(last: Path) -> None:
    last.write_bytes(last.read_bytes()[:1000])


@held_by(
    Case(
        "R3",
        "resumed from another run's checkpoint",
        "refused with both values",
        (of_another_run, [], "last.ckpt is of another run; .*: seed: 7 there, 100 now"),
    ),
    Case(
        "R3",
        "resumed from a damaged checkpoint",
        "refused with its name",
        (damaged, [], "last.ckpt: checkpoint is damaged"),
    ),
    Case(
        "R3",
        "resumed with other weights to start from",
        "refused with both values",
        (None, ["--pret-version", "runs/other/best.ckpt"], "--pret-version: none then, runs/other/best.ckpt now"),
    ),
    Case(
        "R3",
        "resumed on another split",
        "refused with both values",
        (None, ["split2"], "--data-version: split then, split2 now"),
    ),
)
def test_resumed_from_another_checkpoint(case: Case, data: Path, run: Path, tmp_path: Path, capsys):
    change, more, said = case.given
    shutil.copytree(run, tmp_path / "first")
    shutil.copy(data / "data/split.csv", data / "data/split2.csv")
    words = [*command(data, "first", "--resume"), f"runs_path={tmp_path}"]
    words = [word for word in words if word != f"runs_path={data / 'runs'}"]
    (tmp_path / "first/config.json").write_text(
        (run / "config.json").read_text().replace(str(data / "runs"), str(tmp_path))
    )
    last = tmp_path / "first/checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    content["hyper_parameters"]["config"]["runs_path"] = str(tmp_path)
    torch.save(content, last)
    if change:
        change(last)
    elif more == ["split2"]:
        words[words.index("split")] = "split2"
    else:
        words += more
    before = last.read_bytes()
    assert train.main(words) == 2
    assert re.search(f"(?s){said}", capsys.readouterr().err)
    assert last.read_bytes() == before


@held_by(Case("R3", "workers 0 and 2", "the same weights, bit for bit"))
def test_the_number_of_workers_changes_nothing(case: Case, data: Path, run: Path):
    assert train.main(command(data, "two-workers", "num_workers=2")) == 0
    one, two = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (run, data / "runs/two-workers")
    )
    assert json.loads((run / "config.json").read_text())["num_workers"] == 0
    assert all(torch.equal(one[name], two[name]) for name in one)


@held_by(Case("R3", "bundles moved to another root", "trained from there, as root_path says"))
def test_bundles_that_were_moved(case: Case, data: Path, run: Path, tmp_path: Path):
    shutil.copytree(data / "data", tmp_path / "elsewhere/data")
    words = [*command(data, "moved"), f"root_path={tmp_path / 'elsewhere'}", f"runs_path={tmp_path / 'runs'}"]
    assert train.main([word for word in words if word != f"root_path={data}"]) == 0
    assert (tmp_path / "runs/moved/metrics.csv").read_text() == (run / "metrics.csv").read_text()


@held_by(
    Case("R4", "eval on an empty folder", "exit code 2: holds no video", ("empty", 2, "holds no video")),
    Case("R4", "eval on a file that is not there", "exit code 2: no such file", ("gone", 2, "no such file or folder")),
    Case("R4", "eval on one file", "one row", ("one", 0, "1 files: 1 scored")),
    Case(
        "R4",
        "eval without a label for some",
        "AUC over the others, said",
        ("some", 0, "without a label"),
    ),
)
def test_eval_on_little(case: Case, data: Path, run: Path, tmp_path: Path, capsys):
    kind, code, said = case.given
    bundles = sorted((data / "data/bundles").rglob("*.npz"))
    (tmp_path / "in").mkdir()
    source, more = tmp_path / "in", []
    if kind == "gone":
        source = tmp_path / "nowhere"
    elif kind == "one":
        source = bundles[0]
    elif kind == "some":
        for i, path in enumerate((bundles[0], bundles[-1], bundles[1])):
            shutil.copy(path, source / f"{i}.npz")
        (tmp_path / "labels.csv").write_text("filename,label\n0.npz,0\n1.npz,1\n")
        more = ["--labels", str(tmp_path / "labels.csv")]
    words = ["-input", str(source), "-output", str(tmp_path / "s.csv"), "--checkpoint", str(run / "best.ckpt"), *more]
    assert evaluation.main(words) == code
    assert said in "".join(capsys.readouterr())
    assert (tmp_path / "s.csv").exists() == (code == 0)


@held_by(
    Case(
        "R6",
        "a task that kills each worker",
        "given up at its third try, the others done: WORKER_DIED",
        ("die", "WORKER_DIED"),
    ),
    Case("R5", "a task hangs", "given up after the time-out: TIMED_OUT", ("hang", "TIMED_OUT")),
)
def test_a_worker_is_lost(case: Case):
    task, code = case.given
    results = dict(pool.run(["a", task, "b"], _seven, _work, workers=1, timeout=2.0))
    assert results[task].code == code and results["a"] == results["b"] == 7


@held_by(Case("R5", "a worker is killed once", "its task is done by another one"))
def test_a_worker_is_killed_once(case: Case, tmp_path: Path):
    task = str(tmp_path / "mark")
    assert dict(pool.run(["a", task, "b"], _seven, _work, workers=1)) == {"a": 7, task: 7, "b": 7}


POISON = """
import os, signal, sys
from visavox.commands import crop
from visavox.preprocessing.pipeline import Preprocessor
whole = Preprocessor.__call__
def poisoned(self, path, **how):
    if "poison" in str(path): os.kill(os.getpid(), signal.SIGSEGV)
    return whole(self, path, **how)
Preprocessor.__call__ = poisoned
if __name__ == "__main__": sys.exit(crop.main(sys.argv[1:]))
"""
"""A program that crops as `visavox crop` does, but that one video makes the decoder crash."""


@held_by(
    Case(
        "R6",
        "a video that crashes each worker of crop",
        "failed at its third try, the others have their bundles",
        marks=DURABILITY,
    )
)
def test_a_video_that_crashes_its_worker(case: Case, talking: Path, tmp_path: Path, started):
    (tmp_path / "in").mkdir()
    for name, path in zip(("a.mp4", "poison.mp4", "z.mp4"), sorted(talking.rglob("*.mp4"))):
        shutil.copy(path, tmp_path / "in" / name)
    (tmp_path / "poison.py").write_text(POISON)
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--workers", "2", *TINY]
    said, _ = (running := started(str(tmp_path / "poison.py"), *words)).communicate(timeout=300)
    assert running.returncode == 1, said
    rows = {row["input"]: row for row in map(json.loads, (tmp_path / "out/manifest.jsonl").read_text().splitlines())}
    assert {name: row["status"] for name, row in rows.items()} == {"a.mp4": "ok", "poison.mp4": "failed", "z.mp4": "ok"}
    assert rows["poison.mp4"]["code"] == "WORKER_DIED" and "SIGSEGV (3 workers ended" in rows["poison.mp4"]["reason"]


def _seven() -> int:
    return 7


def _work(state: int, task: str) -> int:
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hang":
        time.sleep(60)
    if task.endswith("mark") and not Path(task).exists():
        Path(task).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return state


@held_by(
    Case("R1", "an output folder that is a file", "exit code 2, with its name", "file"),
    Case("R1", "an output below a file", "exit code 2, with its name", "below"),
)
def test_an_output_that_cannot_be(case: Case, talking: Path, tmp_path: Path, capsys):
    (tmp_path / "taken").write_text("here already")
    output = tmp_path / "taken" if case.given == "file" else tmp_path / "taken/out"
    assert crop.main(["--input", str(talking), "--output", str(output), *TINY]) == 2
    assert "taken" in capsys.readouterr().err and (tmp_path / "taken").read_text() == "here already"


def killed_again_and_again(words: list[str], times: int, done: Callable[[], bool]) -> int:
    """Start a program again and again, until it is done, and kill all of it after a random while; return how often."""
    rng, kills = np.random.default_rng(7), 0
    for _ in range(times):
        if done():
            break
        running = subprocess.Popen(
            [sys.executable, *words],
            cwd=CHECKOUT,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with suppress(subprocess.TimeoutExpired):
            running.wait(float(rng.uniform(2.0, 7.0)))
        kills += running.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    return kills


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".part" in path.name or path.name.endswith(runs.LOCK)]


@held_by(
    Case(
        "R2",
        "crop killed fifty times over twenty clips",
        "bundles equal those of an undisturbed run, byte for byte",
        50,
        DURABILITY,
    )
)
def test_crop_killed_again_and_again(case: Case, tmp_path_factory, tmp_path: Path):
    talking, undisturbed = tmp_path_factory.mktemp("twenty"), tmp_path_factory.mktemp("undisturbed")
    make_dataset(talking, identities=5, clips_per_identity=4, seed=6, seconds=(1.6, 2.0), workers=2)
    assert crop.main(["--input", str(talking), "--output", str(undisturbed), "--workers", "2", *TINY]) == 0
    words = ["--input", str(talking), "--output", str(tmp_path), "--workers", "2", *TINY]
    whole = {path.relative_to(undisturbed): path for path in undisturbed.rglob("*.npz")}
    assert len(whole) == 20
    kills, bundles = 0, 0
    for _ in range(case.given // 10):  # a folder is done after some ten kills: begin anew
        shutil.rmtree(tmp_path)
        kills += killed_again_and_again(
            ["crop.py", *words], 10, lambda: len(list(tmp_path.rglob("*.npz"))) == len(whole)
        )
        made = list(tmp_path.rglob("*.npz"))
        assert all(Bundle.load(path).track_frames for path in made)  # whole, every one
        bundles += len(made)
        assert crop.main(words) == 0
        assert not half_written(tmp_path)
        assert all((tmp_path / name).read_bytes() == path.read_bytes() for name, path in whole.items())
    print(f"{case.title}: {kills} kills, {bundles} bundles found whole between them")
    assert kills >= case.given - 5


@held_by(Case("R3", "training killed ten times", "the same weights and history, bit for bit", 10, DURABILITY))
def test_training_killed_again_and_again(case: Case, data: Path, run: Path, started):
    words = command(data, "again-and-again", "num_workers=2")
    folder = data / "runs/again-and-again"
    rng = np.random.default_rng(7)
    for n in range(case.given):
        (folder / runs.LOCK).unlink(
            missing_ok=True
        )  # of the run that was killed; the next one says by it that it has begun
        running = started("train.py", *words, *(["--resume"] if n else []))
        there = folder / "config.json" if not n else folder / runs.LOCK
        wait_for(lambda there=there, running=running: there.is_file() or running.poll() is not None)
        with suppress(subprocess.TimeoutExpired):
            running.wait(float(rng.uniform(0, 1.5)))
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert train.main([*words, "--resume"]) == 0
    assert not half_written(folder)
    one, two = (torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (run, folder))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (folder / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


@held_by(Case("R2", "eval killed twenty times", "the rows of an undisturbed run", 20, DURABILITY))
def test_eval_killed_again_and_again(case: Case, talking: Path, run: Path, tmp_path: Path):
    def words(name: str) -> list[str]:
        output = ["-output", str(tmp_path / name), "--checkpoint", str(run / "best.ckpt")]
        return ["-input", str(talking), *output, "--workers", "2"]

    assert evaluation.main(words("whole.csv")) == 0
    killed_again_and_again(["eval.py", *words("killed.csv")], case.given, (tmp_path / "killed.csv").exists)
    assert evaluation.main(words("killed.csv")) == 0
    assert (tmp_path / "killed.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert not half_written(tmp_path)


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
