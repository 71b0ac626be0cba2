"""Bundles -> run -> submission, on twelve synthetic clips: everything but skill."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import command

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.commands import evaluate as evaluation
from visavox.commands import scoring, train
from visavox.detectors import build
from visavox.evaluation.rows import ScoredRow
from visavox.evaluation.submission import describe_auc

ROOT = Path(__file__).parents[2]


def weights_of(run: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]


def test_a_run_leaves_what_its_docstring_says(run: Path):
    assert {"config.json", "metrics.csv", "best.ckpt", "test.json", "checkpoints", "tensorboard"} <= {
        p.name for p in run.iterdir()
    }
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    assert all(0 <= float(row["val/auc"]) <= 1 and float(row["train/loss"]) > 0 for row in rows)
    tested = json.loads((run / "test.json").read_text())
    assert 0 <= tested["test_auc"] <= 1 and tested["epochs"] == 3
    assert not list(run.rglob("*.part"))


def test_train_returns_the_auc_of_its_best_checkpoint_on_the_test_split(run: Path, data: Path):
    from sklearn.metrics import roc_auc_score

    from visavox.splits.table import read_split

    rows = read_split(data / "data/split.csv", data)
    rows = rows[rows["split"] == "test"]
    scores = build.load(run / "best.ckpt").score([Bundle.load(path, full=False) for path in rows["path"]])
    assert json.loads((run / "test.json").read_text())["test_auc"] == pytest.approx(
        roc_auc_score(rows["label"], scores)
    )


def test_resuming_needs_the_same_settings_and_starting_a_new_name(run: Path, data: Path, capsys):
    assert train.main(command(data, "first")) == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert train.main(command(data, "first", "--resume", "lr=0.5")) == 2
    assert "lr: 0.001 then, 0.5 now" in capsys.readouterr().err
    assert train.main(command(data, "unheard-of", "--resume")) == 2
    assert "no run to resume" in capsys.readouterr().err


def test_killed_and_resumed_ends_with_the_same_weights_bit_for_bit(run: Path, data: Path):
    last, there = data / "runs/killed/checkpoints/last.ckpt", data / "killed.there"
    program = (
        "import sys, time, train\n"
        "from pathlib import Path\n"
        "from visavox.training.callbacks import History\n"
        "write = History.on_train_epoch_end\n"
        "def held(self, trainer, module):\n"
        "    if trainer.current_epoch == 1: Path(sys.argv[1]).touch(); time.sleep(600)\n"
        "    write(self, trainer, module)\n"
        "History.on_train_epoch_end = held\n"
        "sys.exit(train.main(sys.argv[2:]))\n"
    )
    words = [sys.executable, "-c", program, str(there), *command(data, "killed", "num_workers=2")]
    running = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not there.is_file() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)  # at the end of the second epoch, before anything of it is written
    running.wait()
    assert torch.load(last, weights_only=True)["epoch"] == 0
    assert train.main(command(data, "killed", "num_workers=2", "--resume")) == 0
    assert torch.load(last, weights_only=True)["epoch"] == 2
    undisturbed, resumed = weights_of(run), weights_of(data / "runs/killed")
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
    assert (data / "runs/killed/metrics.csv").read_text() == (run / "metrics.csv").read_text()


def test_a_pretrained_start_is_loaded_or_refused(run: Path, data: Path, capsys):
    best = data / "runs/first/best.ckpt"
    assert train.main(command(data, "warm", "epoch=1", "lr=1e-12", "--pret-version", str(best))) == 0
    there = torch.load(best, weights_only=True)["state_dict"]
    here = weights_of(data / "runs/warm")
    name = "timesformer.transformer_layers.layers.0.ffns.0.layers.0.0.weight"
    assert torch.allclose(there[name], here[name], atol=1e-6)
    assert train.main(command(data, "lost", "--pret-version", "pretrain_1")) == 2
    said = capsys.readouterr().err
    assert "pretrain_1" in said and "timesformer_k400" in said


def test_cuda_without_a_gpu_is_an_error(data: Path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train.main([*command(data, "gpu")[:-1], "device=cuda"]) == 2
    assert "device=cuda, but torch sees no GPU" in capsys.readouterr().err


def test_online_logging_without_a_login_is_an_error_and_never_a_prompt(data: Path, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert train.main(command(data, "logged", "wandb=online")) == 2
    assert "wandb login" in capsys.readouterr().err


@pytest.fixture(scope="module")
def submission(run: Path, talking: Path, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("out") / "submission.csv"
    words = ["-input", str(talking), "-output", str(output), "--checkpoint", str(run / "best.ckpt"), "--workers", "1"]
    assert evaluation.main(words) == 0
    return output


def read(path: Path) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        assert next(reader) == ["filename", "probability"]
        return {name: float(value) for name, value in reader}


def details(path: Path) -> dict[str, dict]:
    lines = path.with_name(f"{path.stem}.details.jsonl").read_text().splitlines()
    return {row["filename"]: row for row in map(json.loads, lines)}


def test_one_sorted_row_per_video(submission: Path, talking: Path):
    scores = read(submission)
    assert list(scores) == sorted(path.relative_to(talking).as_posix() for path in talking.rglob("*.mp4"))
    assert all(0 < p < 1 for p in scores.values())
    assert {"decode", "detect", "sync", "score"} <= set(next(iter(details(submission).values()))["seconds"])
    assert not list(submission.parent.glob("*.part"))


def test_videos_and_their_bundles_score_alike_in_any_batch(submission: Path, data: Path, run: Path, tmp_path: Path):
    output = tmp_path / "bundles.csv"
    words = ["-input", str(data / "data/bundles"), "-output", str(output), "--checkpoint", str(run / "best.ckpt")]
    assert evaluation.main([*words, "submit_batch_size=5"]) == 0
    from_videos = {Path(name).with_suffix(".npz").as_posix(): p for name, p in read(submission).items()}
    from_bundles = read(output)
    assert from_bundles.keys() == from_videos.keys()
    assert all(from_bundles[name] == pytest.approx(p, abs=1e-6) for name, p in from_videos.items())


def test_auc_when_labels_are_given_and_the_reason_when_not(submission, talking, run, tmp_path: Path, capsys):
    from sklearn.metrics import roc_auc_score

    words = ["-input", str(talking), "-output", str(tmp_path / "s.csv"), "--checkpoint", str(run / "best.ckpt")]
    assert evaluation.main([*words, "--labels", str(talking / "labels.csv")]) == 0
    scores = read(submission)
    expected = roc_auc_score([name.startswith("fake") for name in scores], list(scores.values()))
    assert f"AUC: {expected:.4f} over 12 files" in capsys.readouterr().out
    assert describe_auc([], None).startswith("AUC: not computed, no labels")
    one_class = [ScoredRow("a", 0.5, "ok")]
    assert "needs both classes" in describe_auc(one_class, pd.DataFrame({"filename": ["a"], "label": [1]}))
    (tmp_path / "wrong.csv").write_text("filename,label\na.mp4,maybe\n")
    assert evaluation.main([*words, "--labels", str(tmp_path / "wrong.csv")]) == 2
    assert "wrong.csv:2: label is 'maybe'" in capsys.readouterr().err


def test_failures_get_the_prior_with_their_reason(talking: Path, run: Path, tmp_path: Path, make_bundle):
    videos = tmp_path / "in"
    videos.mkdir()
    shutil.copy(sorted(talking.rglob("*.mp4"))[0], videos / "good.mp4")
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("no video")
    other = configuration.load(ROOT / "configs/tiny.json", ["face_margin=0.3"])
    make_bundle(config=other).save(videos / "other.npz")
    with (videos / "objects.npz").open("wb") as file:
        np.savez(file, faces=np.array([Payload(tmp_path / "ran")], object))
    output = tmp_path / "s.csv"
    words = ["--input", str(videos), "--output", str(output), "--checkpoint", str(run / "best.ckpt")]
    assert evaluation.main([*words, "failure_prior=0.25", "--format", "dfdc"]) == 0
    assert output.read_text().splitlines()[0] == "filename,label"
    rows = details(output)
    assert {name: row["status"] for name, row in rows.items()} == {
        "good.mp4": "ok",
        "empty.mp4": "failed",
        "text.mp4": "failed",
        "other.npz": "failed",
        "objects.npz": "failed",
    }
    assert all(row["probability"] == 0.25 for name, row in rows.items() if name != "good.mp4")
    assert "face_margin: 0.3 there, 0.4 here" in rows["other.npz"]["reason"]
    assert len({row["reason"] for row in rows.values()}) == 5
    assert not (tmp_path / "ran").exists()


def test_a_score_that_is_no_number_is_a_failure_of_its_own_row(tmp_path: Path, make_bundle):
    class Broken:
        def score(self, bundles):
            return np.array([0.75, float("nan")])

    waiting = [scoring.Prepared(name, tmp_path, make_bundle(), "ok", "", [], {}) for name in ("a", "b")]
    rows = list(scoring.score_batch(Broken(), waiting, 0.5))
    assert [(row.status, row.probability) for row in rows] == [("ok", 0.75), ("failed", 0.5)]
    assert "score_precision=fp32" in rows[1].reason


def test_whatever_one_clip_raises_ends_its_own_row_alone(tmp_path: Path, make_bundle):
    import cv2

    class Fragile:
        device = torch.device("cpu")

        def score(self, bundles):
            for bundle in bundles:
                if bundle.notes == "odd":
                    raise cv2.error("assertion failed")
                if bundle.notes == "stop":
                    raise KeyboardInterrupt
            return np.full(len(bundles), 0.75)

    def rows_of(*notes: str) -> list[ScoredRow]:
        waiting = [
            scoring.Prepared(f"{i}", tmp_path, make_bundle(notes=note), "ok", "", [], {})
            for i, note in enumerate(notes)
        ]
        return list(scoring.score_batch(Fragile(), waiting, 0.5))

    for notes in (["odd"], ["", "odd", "", "", ""]):
        rows = rows_of(*notes)
        assert [row.filename for row in rows] == [str(i) for i in range(len(notes))]
        assert [row.status for row in rows] == ["failed" if note else "ok" for note in notes]
    assert "assertion failed" in rows[1].reason
    with pytest.raises(KeyboardInterrupt):
        rows_of("", "stop")


def test_an_interrupted_evaluation_continues(submission, talking, run, tmp_path: Path, monkeypatch):
    output = tmp_path / "s.csv"
    words = ["-input", str(talking), "-output", str(output), "--checkpoint", str(run / "best.ckpt"), "--workers", "1"]
    calls = 0

    def interrupted(*arguments):
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    original = scoring.score_batch
    monkeypatch.setattr(scoring, "score_batch", interrupted)
    assert evaluation.main([*words, "submit_batch_size=1"]) == 130
    assert not output.exists() and len((tmp_path / "s.details.jsonl.part").read_text().splitlines()) == 4
    calls = -100
    assert evaluation.main([*words, "submit_batch_size=1"]) == 0
    assert calls == -100 + 8 + 1  # eight videos were left; the last call scores nothing
    assert read(output) == pytest.approx(read(submission), abs=1e-6)


def test_a_checkpoint_with_a_payload_is_refused_and_does_not_run(talking: Path, tmp_path: Path, capsys):
    torch.save({"state_dict": Payload(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    words = ["-input", str(talking), "-output", str(tmp_path / "s.csv"), "--checkpoint", str(tmp_path / "evil.ckpt")]
    assert evaluation.main(words) == 2
    assert "evil.ckpt" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists() and not (tmp_path / "s.csv").exists()


def test_settings_of_the_network_cannot_be_changed_at_scoring(talking: Path, run: Path, tmp_path: Path, capsys):
    words = ["-input", str(talking), "-output", str(tmp_path / "s.csv"), "--checkpoint", str(run / "best.ckpt")]
    assert evaluation.main([*words, "frame_num=8"]) == 2
    said = capsys.readouterr().err
    assert "4" in said and "8" in said


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))
