"""Calibration from feedback: what is read, what is refused, what is reported, and that too-sure scores are drawn in."""

import json
from pathlib import Path

import numpy as np
import pytest

from visavox.evaluation import feedback
from visavox.evaluation.calibration import Calibration, CalibrationError, logit, main, sigmoid


def write(folder: Path, count: int = 200, checkpoint: str = "a" * 64, sharpness: float = 3.0) -> Path:
    """Feedback on scores whose log-odds are `sharpness` times too large."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    honest = rng.uniform(0.05, 0.95, count)
    labels = (rng.uniform(size=count) < honest).astype(int)
    for n, (label, p) in enumerate(zip(labels.tolist(), sigmoid(sharpness * logit(honest)).tolist())):
        row = {"label": label, "probability": p, "checkpoint": checkpoint, "said": "2026-01-01T00:00:00+00:00"}
        (folder / f"{checkpoint[:1]}{n:04}.json").write_text(json.dumps(row))
    return folder


def test_scores_that_are_too_sure_are_drawn_in_and_the_gain_is_measured_on_held_out_clips(tmp_path: Path, capsys):
    folder, output = write(tmp_path / "feedback"), tmp_path / "calibration.json"
    assert main(["--from-feedback", str(folder), "--output", str(output)]) == 0
    made = Calibration.load(output)
    assert 2 < made.parameters["T"] < 4.5 and made.checkpoint == "a" * 64 and len(made.clips) == 200
    said = capsys.readouterr().out.splitlines()
    before, after = (float(word) for word in said[0].split()[2:6:2])
    assert said[0].startswith("Brier score") and after < before - 0.01 and "held-out" in said[1]


def test_each_clip_is_calibrated_by_a_fit_that_has_not_seen_it(tmp_path: Path):
    found = feedback.read(write(tmp_path / "feedback"))
    calibrated = feedback.held_out(found, "temperature", "nll")
    turned = found._replace(labels=np.where(np.arange(len(found.labels)) == 7, 1 - found.labels, found.labels))
    assert np.isfinite(calibrated).all() and len(np.unique(calibrated / found.scores)) > 2
    assert not np.array_equal(feedback.held_out(turned, "temperature", "nll"), calibrated)


def test_what_is_no_feedback_and_what_is_too_little_is_refused(tmp_path: Path, capsys):
    with pytest.raises(CalibrationError, match="found none"):
        feedback.read(tmp_path)
    folder = write(tmp_path / "feedback", 12)
    assert main(["--from-feedback", str(folder), "--output", str(tmp_path / "c.json")]) == 2
    assert "10 of each are needed" in capsys.readouterr().err
    write(folder, 12, "b" * 64)
    with pytest.raises(CalibrationError, match="one checkpoint is needed, found aaaaaaaaaaaa, bbbbbbbbbbbb"):
        feedback.read(folder)
    assert len(feedback.read(folder, "b" * 64).labels) == 12
    (folder / "half.json").write_text('{"label": 1}')
    with pytest.raises(CalibrationError, match=r"half\.json: no feedback"):
        feedback.read(folder)


def test_scores_or_feedback_but_not_both(tmp_path: Path, capsys):
    for words in ([], ["scores.csv"], ["scores.csv", "--labels", "l.csv", "--from-feedback", str(tmp_path)]):
        with pytest.raises(SystemExit):
            main(words)
    assert "or --from-feedback DIR" in capsys.readouterr().err
