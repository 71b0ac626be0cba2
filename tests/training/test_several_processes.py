"""A training by two processes on the CPU (gloo) is the training by one with the same clips in each step."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import CHECKOUT, command

TWO = ["devices=2", "strategy=ddp", "train_batch_size=2"]  # of each process, so that a step sees four clips as in `run`


def train(*words: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    program = [sys.executable, *launcher, str(CHECKOUT / "train.py"), *words]
    return subprocess.run(program, cwd=CHECKOUT, capture_output=True, text=True, timeout=400, check=False)


def history(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "metrics.csv").set_index("epoch")


def alike(run: Path, other: Path) -> None:
    """Losses of every epoch and the AUC are equal, and so is what a scorer would load."""
    mine, its = history(run), history(other)
    for name in ("train/loss", "val/loss", "val/auc"):
        assert mine[name].tolist() == pytest.approx(its[name].tolist(), abs=2e-5), name
    tested, others = (json.loads((folder / "test.json").read_text()) for folder in (run, other))
    assert tested["test_auc"] == others["test_auc"] and tested["n_test"] == others["n_test"] == 4
    weights, its_weights = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (run, other)
    )
    for name, value in weights.items():
        assert torch.allclose(value.float(), its_weights[name].float(), atol=1e-3), name


def test_two_processes_train_as_one_does(run: Path, data: Path):
    done = train(*command(data, "two", *TWO))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"test_auc"') == 1  # one of them speaks
    alike(data / "runs/two", run)


@pytest.mark.slow
def test_torchrun_starts_them_as_well(run: Path, data: Path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = train(*command(data, "torchrun", *TWO), launcher=launcher)
    assert done.returncode == 0, done.stderr
    alike(data / "runs/torchrun", run)


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_as_undisturbed(run: Path, data: Path):
    assert train(*command(data, "undisturbed", *TWO)).returncode == 0
    words = command(data, "disturbed", *TWO)
    running = subprocess.Popen([sys.executable, "train.py", *words], cwd=CHECKOUT, start_new_session=True)
    last, deadline = data / "runs/disturbed/checkpoints/last.ckpt", time.monotonic() + 300
    while not last.is_file() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert last.is_file()
    if not (data / "runs/disturbed/test.json").is_file():
        assert train(*words, "--resume").returncode == 0
    weights, others = (
        torch.load(data / f"runs/{name}/checkpoints/last.ckpt", weights_only=True)
        for name in ("undisturbed", "disturbed")
    )
    assert weights["epoch"] == others["epoch"] == 2
    assert all(torch.equal(value, others["state_dict"][name]) for name, value in weights["state_dict"].items())
    assert history(data / "runs/undisturbed").equals(history(data / "runs/disturbed"))
