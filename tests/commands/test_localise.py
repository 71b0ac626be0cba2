"""`visavox localise`: curves, segments, the challenge's files, planted stretches; what was done is not done again."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.commands import localise
from visavox.detectors.build import build
from visavox.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Bundle]) -> Path:
    """Three bundles of four seconds, one of them silent."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(3):
        rng, T = np.random.default_rng(seed), 100
        jpegs = [cv2.imencode(".jpg", image)[1] for image in rng.integers(0, 256, (T, 64, 64, 3), np.uint8)]
        members = {
            "boxes": np.tile(np.float32([10, 20, 110, 120]), (T, 1)),
            "landmarks": np.tile(np.float32([[20, 24], [44, 24], [32, 36], [24, 46], [40, 46]]), (T, 1, 1)),
            "det_score": np.full(T, np.float32("nan")),
            "times": (np.arange(T) / 25).astype(np.float32),
            "audio": rng.integers(-3000, 3000, 64000).astype(np.int16),
            "track": np.concatenate(jpegs),
            "track_offsets": np.cumsum([0, *map(len, jpegs)]),
        }
        if seed == 2:
            unknown = {"mdist": np.full(31, np.float32("nan")), "latency": np.float32("nan"), "conf": np.float32("nan")}
            members |= {"status": "no_audio", "audio": np.zeros(0, np.int16)} | unknown
        make_bundle(seed, **members).save(folder / f"{seed}.npz")
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Detectors with random weights: what they say is nonsense, how it is written down is not."""
    found = {}
    for name in ("xception_video_tiny", "anomaly_tiny", "tiny"):
        torch.manual_seed(0)
        detector = build(configuration.load(name, ["device=cpu"]))
        if name == "anomaly_tiny":
            detector.fitted.fill_(True)
        if name == "tiny":
            detector.latency.fitted.fill_(True)
        found[name] = tmp_path_factory.mktemp(name) / "best.ckpt"
        checkpoint.write(found[name], detector.config, detector.state_dict(), {})
    return found


def run(clips: Path, output: Path, *checkpoints: Path, words: tuple[str, ...] = ()) -> int:
    chosen = ["--checkpoint", *map(str, checkpoints)]
    return localise.main(["--input", str(clips), "--output", str(output), *chosen, "--workers", "1", *words])


def test_two_detectors_are_measured_on_planted_stretches(clips, checkpoints, tmp_path: Path, capsys):
    chosen = checkpoints["xception_video_tiny"], checkpoints["anomaly_tiny"]
    assert run(clips, tmp_path, *chosen, words=("--plant", "0.5")) == 0
    said = capsys.readouterr().out
    assert said.count("AP@0.5") == 2 and "chance" in said and "planted sound" in said
    for folder in sorted(path for path in tmp_path.iterdir() if path.is_dir()):
        rows = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
        by = {row["filename"]: row for row in rows}
        assert len(rows) == 9 and by["0.npz"]["planted"] is None
        ((start, end),) = by["0.npz#picture"]["planted"]
        assert round((end - start) * 25) == 12 or round((end - start) * 25) == 13
        assert by["2.npz#sound"]["status"] == "failed" and "without sound" in by["2.npz#sound"]["reason"]
        assert len(by["0.npz"]["fake"]) == 100 and set(by["0.npz"]["fake"]) != {0.5}
        numbers = json.loads((folder / "summary.json").read_text())
        assert numbers["lines"][0]["segments"] == 5 and numbers["lines"][-1]["name"] == "chance"
        assert (folder / "localisation.html").read_text().count("<figure>") == 5
        lines = (folder / "detection.txt").read_text().splitlines()
        assert len(lines) == 9 and all(len(line.split(";")) == 2 for line in lines)
        assert set(json.loads((folder / "segments.json").read_text())) == set(by)


def test_a_second_run_with_truth_reads_what_the_first_found(clips, checkpoints, tmp_path: Path, capsys, monkeypatch):
    assert run(clips, tmp_path, checkpoints["xception_video_tiny"]) == 0
    assert "3 clips" in capsys.readouterr().out
    truth = tmp_path / "truth.csv"
    truth.write_text(
        'filename,label,corpus,fake_segments\n0.mp4,1,a,"[[1.0, 1.5]]"\n1.mp4,0,b,\n2.mp4,1,b,"[[9, 9.5]]"\n'
    )
    monkeypatch.setattr(localise, "_row", None)  # whatever would be computed again fails
    before = (tmp_path / "curves.jsonl").read_bytes()
    assert run(clips, tmp_path, checkpoints["xception_video_tiny"], words=("--truth", str(truth))) == 0
    said = capsys.readouterr().out
    assert "corpus a" in said and "corpus b" in said and "begin after the seconds" in said
    assert (tmp_path / "curves.jsonl").read_bytes() == before


def test_a_detector_that_judges_the_whole_is_refused(clips, checkpoints, tmp_path: Path, capsys):
    assert run(clips, tmp_path, checkpoints["tiny"]) == 2
    assert "judges a clip as a whole" in capsys.readouterr().err
