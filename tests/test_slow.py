"""What takes minutes: run with `make test-slow`."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from visavox import config as configuration
from visavox.commands import crop, train

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The demo's clips, bundles and split."""
    from examples import common

    root = tmp_path_factory.mktemp("demo")
    labels = common.make_clips(root, seed=0, workers=2)
    common.crop_clips(root, workers=2)
    common.make_split(root, labels, seed=0)
    return root


def test_shuffled_training_labels_teach_nothing(demo: Path):
    """Mean test AUC over five shuffles within 0.5 ± 0.1: nothing leaks from the test clips into training."""
    split = pd.read_csv(demo / "data/demo.csv")
    aucs = []
    for seed in range(5):
        shuffled = split.copy()
        for part in ("train", "val"):
            rows = shuffled["split"] == part
            shuffled.loc[rows, "label"] = np.random.default_rng(seed).permutation(shuffled.loc[rows, "label"])
        shuffled.to_csv(demo / f"data/shuffled{seed}.csv", index=False)
        words = [f"root_path={demo}", f"runs_path={demo / 'shuffled'}", f"seed={seed}", "device=cpu", "epoch=8"]
        settings = configuration.load(ROOT / "configs/tiny.json", words)
        metrics = train.train(settings, data_version=f"shuffled{seed}", code_version=str(seed))
        aucs.append(metrics["test_auc"])
    print("test AUC with shuffled labels:", [round(auc, 3) for auc in aucs])
    assert abs(np.mean(aucs) - 0.5) <= 0.1


def test_crop_killed_ten_times_at_random_ends_with_the_same_bundles(talking: Path, tmp_path: Path):
    words = ["--input", str(talking), "--workers", "2", "--config", "configs/tiny.json", "--output"]
    assert crop.main([*words[:-2], str(ROOT / "configs/tiny.json"), "--output", str(tmp_path / "whole")]) == 0
    command = [sys.executable, "crop.py", *words, str(tmp_path / "killed")]
    rng = random.Random(0)
    for _ in range(10):
        running = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.8, 2.2))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    whole = sorted((tmp_path / "whole").rglob("*.npz"))
    assert len(whole) == 12
    for path in whole:
        assert (tmp_path / "killed" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    assert not list((tmp_path / "killed").rglob("*.part*"))


def test_train_killed_twice_at_random_ends_with_the_same_weights(demo: Path):
    words = [
        "train.py",
        "--config",
        "configs/tiny.json",
        "--data-version",
        "demo",
        f"root_path={demo}",
        "epoch=6",
        "device=cpu",
    ]
    runs = demo / "kill"
    whole = [sys.executable, *words, "--code-version", "whole", f"runs_path={runs}"]
    assert subprocess.run(whole, cwd=ROOT, capture_output=True).returncode == 0
    command = [sys.executable, *words, "--code-version", "killed", f"runs_path={runs}"]
    rng = random.Random(1)
    for _ in range(2):
        resume = ["--resume"] if (runs / "killed/config.json").is_file() else []
        running = subprocess.Popen([*command, *resume], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(8, 14))
        running.kill()
        running.wait()
    assert subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True).returncode == 0
    a, b = (torch.load(runs / name / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "killed"))
    assert a["epoch"] == b["epoch"] == 5
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])


def test_the_full_size_model_takes_three_steps_on_real_bundles(talking: Path, tmp_path: Path):
    """config.json's network, 16 faces and 16 mel images of 224 pixels, fp32 on the CPU: about 12 GiB."""
    words = ["face_detector=haar", "sync=correlation", "face_threshold=0.5"]
    bundles = tmp_path / "data/bundles"
    assert crop.main(["--input", str(talking), "--output", str(bundles), "--workers", "2", *words]) == 0
    files = sorted(bundles.rglob("*.npz"))
    rows = [(p.name, str(p), int(p.relative_to(bundles).parts[0] == "fake")) for p in files]
    table = pd.DataFrame(rows, columns=["filename", "filepath", "label"])
    table["split"] = ""
    for label in (0, 1):
        table.loc[table.index[table["label"] == label], "split"] = ["train"] * 3 + ["val", "test", "test"]
    table.to_csv(tmp_path / "data/full.csv", index=False)
    settings = configuration.load(
        ROOT / "config.json",
        [*words, f"root_path={tmp_path}", f"runs_path={tmp_path}", "epoch=1", "num_workers=0", "device=cpu"],
    )
    metrics = train.train(settings, data_version="full", code_version="full")
    state = torch.load(tmp_path / "full/checkpoints/last.ckpt", weights_only=True)
    assert state["global_step"] == 3
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values() if value.is_floating_point())
    assert 0 <= metrics["test_auc"] <= 1
