"""Calibration recovers what was planted, keeps the order, refuses what it must not be used on, and says when it is a guess."""

import json
from pathlib import Path

import numpy as np
import pytest
from measured import evaluate

from visavox.evaluation.calibration import (
    Calibration,
    CalibrationError,
    apply_to_rows,
    fit,
    logit,
    main,
    shift_prior,
    sigmoid,
)
from visavox.evaluation.rows import ScoredRow
from visavox.evaluation.submission import write_submission


def meant(seed: int = 0, clips: int = 20_000, prior: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits that mean what they say: real N(-1.5, 3), fake N(1.5, 3) in the variance-3 normal model."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(clips) < prior).astype(int)
    logits = np.where(labels == 1, 1.5, -1.5) + np.sqrt(3) * rng.normal(size=clips)  # log-likelihood ratio = logit
    return labels, logits + np.log(prior / (1 - prior))


@pytest.mark.parametrize("planted", [0.25, 0.8, 3.0])
@pytest.mark.parametrize("objective", ["nll", "brier"])
def test_a_planted_temperature_is_recovered(planted: float, objective: str):
    labels, logits = meant()
    scores = sigmoid(logits * planted)
    found = fit(labels, scores, "temperature", objective=objective)
    own = fit(labels, sigmoid(logits), "temperature", objective=objective).parameters["T"]
    assert own == pytest.approx(1, rel=0.03)
    assert found.parameters["T"] == pytest.approx(planted, rel=0.02)
    assert found.parameters["T"] == pytest.approx(planted * own, rel=1e-4)
    before, after = evaluate(labels, scores), evaluate(labels, found(scores))
    assert after["ece"] < 0.35 * before["ece"] and after["brier"] < before["brier"]
    assert after["auc"] == pytest.approx(before["auc"], abs=1e-12)
    assert found.warnings == ()


def test_platt_recovers_slope_and_offset_and_isotonic_calibrates():
    labels, logits = meant(1)
    scores = sigmoid((logits + 0.7) / 0.5)
    platt = fit(labels, scores, "platt")
    assert platt.parameters["a"] == pytest.approx(0.5, rel=0.03)
    assert platt.parameters["b"] == pytest.approx(-0.7, abs=0.04)
    isotonic = fit(labels, scores, "isotonic")
    fresh_labels, fresh_logits = meant(2)
    fresh = sigmoid((fresh_logits + 0.7) / 0.5)
    for made in (platt, isotonic):
        assert evaluate(fresh_labels, made(fresh))["ece"] < 0.02 < 0.1 < evaluate(fresh_labels, fresh)["ece"]
        assert (np.diff(made(np.sort(fresh))) >= 0).all()


def test_the_prior_is_shifted_to_where_the_scores_are_used():
    labels, logits = meant(3)
    rare_labels, rare_logits = meant(4, prior=0.1)
    made = fit(labels, sigmoid(logits), "temperature", target_prior=0.1)
    as_scored = sigmoid(rare_logits - np.log(0.1 / 0.9))  # by a detector that was trained on halves
    assert evaluate(rare_labels, made(as_scored))["ece"] < 0.01 < evaluate(rare_labels, as_scored)["ece"]
    assert shift_prior(np.array([0.5]), 0.5, 0.1) == pytest.approx([0.1])
    assert shift_prior(shift_prior(np.array([0.3]), 0.5, 0.1), 0.1, 0.5) == pytest.approx([0.3])
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        fit(labels, sigmoid(logits), target_prior=1.5)


def test_a_parameter_at_its_bound_and_few_clips_are_said():
    separable = fit(np.array([0] * 11 + [1] * 151), np.append(np.full(11, 0.4), np.full(151, 0.6)))
    assert "lower bound" in separable.warnings[0] and "11 real and 151 fake" in separable.warnings[1]
    assert separable.parameters["T"] == pytest.approx(1e-4)
    labels, logits = meant(5, clips=500)
    turned = fit(labels, sigmoid(-logits))
    assert "upper bound" in turned.warnings[0]
    assert "turns the order" in fit(labels, sigmoid(-logits), "platt").warnings[0]
    assert "bound 0 and 1" in fit(labels, sigmoid(logits), "isotonic").warnings[0]
    with pytest.raises(CalibrationError, match="both classes"):
        fit(np.ones(9), np.full(9, 0.5))


def test_scores_of_0_and_1_stay_where_they_are():
    labels, logits = meant(6, clips=400)
    made = fit(labels, sigmoid(logits * 2))
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert made(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, 0.5, 1], abs=1e-6)


def test_file_and_back(tmp_path: Path):
    labels, logits = meant(7, clips=300)
    for method in ("temperature", "platt", "isotonic", "none"):
        made = fit(labels, sigmoid(logits), method, clips=["b.mp4", "a.mp4"], checkpoint="abc")
        made.save(tmp_path / "calibration.json")
        assert Calibration.load(tmp_path / "calibration.json") == made
        assert made.clips == ("a.mp4", "b.mp4")
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(CalibrationError, match="no such file"):
        Calibration.load(tmp_path / "none.json")
    for text in ("{", "{}", '{"method": "magic"}', '"text"'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(CalibrationError, match="not a calibration"):
            Calibration.load(tmp_path / "bad.json")


def test_rows_of_eval_failures_stay_and_other_checkpoints_are_refused():
    made = Calibration("temperature", {"T": 2.0}, 0.5, 50, 50, checkpoint="abc")
    rows = [ScoredRow("a", 0.9, "ok"), ScoredRow("b", 0.25, "failed"), ScoredRow("c", 0.1, "no_audio")]
    scored, failed, silent = apply_to_rows(rows, made)
    assert (scored.probability, scored.raw) == (pytest.approx(0.75), 0.9)  # odds 9 -> 3
    assert failed == rows[1] and silent.raw == 0.1
    made.require("abc")
    with pytest.raises(CalibrationError, match="fitted for checkpoint abc"):
        made.require("other")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """all.csv with scores, split.csv with 100 val and 100 test clips; the test clips would give quite another T."""
    labels, logits = meant(8, clips=200)
    lines, split = ["filename,probability"], ["filename,split,label"]
    for i, (label, z) in enumerate(zip(labels, logits)):
        val = i < 100
        lines.append(f"{i}.mp4,{sigmoid(z * (2.0 if val else 0.1)):.17g}")
        split.append(f"{i}.mp4,{'val' if val else 'test'},{label}")
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "split.csv").write_text("\n".join(split) + "\n")
    return tmp_path


def test_only_validation_clips_are_used(files: Path, capsys):
    words = [str(files / "all.csv"), "--labels", str(files / "split.csv")]
    assert main(words) == 0
    made = json.loads((files / "calibration.json").read_text())
    assert made["n_real"] + made["n_fake"] == 100 and set(made["clips"]) == {f"{i}.mp4" for i in range(100)}
    labels, logits = meant(8, clips=200)
    assert made["parameters"]["T"] == pytest.approx(
        fit(labels[:100], sigmoid(2 * logits[:100])).parameters["T"], rel=1e-4
    )
    table = (files / "split.csv").read_text()
    (files / "split.csv").write_text(table.replace("val", "test"))
    assert main(words) == 2
    assert "none of its clips is a val clip" in capsys.readouterr().err
    (files / "split.csv").write_text("filename,label\n0.mp4,1\n")
    assert main(words) == 2
    assert "lacks the column split" in capsys.readouterr().err


def as_eval_leaves_them(files: Path, calibration: Calibration, old: bool = False) -> Path:
    """all.csv again, calibrated, with the details file that eval.py writes; `old` as it was before it held both scores."""
    lines = (files / "all.csv").read_text().splitlines()[1:]
    plain = [ScoredRow(name, float(p), "ok") for name, p in (line.split(",") for line in lines)]
    rows = apply_to_rows(plain, calibration)
    write_submission(rows, files / "calibrated.csv")
    text = "".join(json.dumps(row.to_json()) + "\n" for row in (plain if old else rows))
    (files / "calibrated.details.jsonl").write_text(text)
    return files / "calibrated.csv"


def test_calibrated_scores_are_refused_and_the_raw_ones_beside_them_used_when_asked(files: Path, capsys):
    words = ["--labels", str(files / "split.csv")]
    assert main([str(files / "all.csv"), *words]) == 0
    plain = json.loads((files / "calibration.json").read_text())
    (files / "calibration.json").unlink()
    calibrated = as_eval_leaves_them(files, Calibration("temperature", {"T": 3.0}, 0.5, 50, 50))
    assert main([str(calibrated), *words]) == 2
    said = capsys.readouterr().err
    assert "100 of 100 val clips have calibrated scores already, such as 0.mp4" in said and "--raw" in said
    assert not (files / "calibration.json").exists()
    assert main([str(calibrated), *words, "--raw"]) == 0
    again = json.loads((files / "calibration.json").read_text())
    assert again["parameters"]["T"] == pytest.approx(plain["parameters"]["T"], rel=1e-6)
    assert main([str(files / "all.csv"), *words, "--raw"]) == 2
    assert "100 of 100 val clips have no raw score" in capsys.readouterr().err


def test_calibrated_scores_of_an_earlier_version_are_seen_by_their_details(files: Path, capsys):
    words = ["--labels", str(files / "split.csv")]
    calibrated = as_eval_leaves_them(files, Calibration("temperature", {"T": 3.0}, 0.5, 50, 50), old=True)
    assert main([str(calibrated), *words]) == 2
    assert "score them again without --calibration" in capsys.readouterr().err
    same = as_eval_leaves_them(files, Calibration("none", {}, 0.5, 50, 50), old=True)
    assert main([str(same), *words]) == 0  # nine digits of a score are the score
