"""Judges together: log-odds add up, what is missing is said, and a calibration is applied to what it was fitted for alone."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from visavox.__main__ import main
from visavox.detectors.analysis import NO_FACE, NOTHING, UNCALIBRATED, Analysis, Branch, ModelCard
from visavox.detectors.fiveway.tiny import TinyLaDeDa
from visavox.detectors.novelty import Known
from visavox.detectors.published import judge, open_judge, tiny_ladeda
from visavox.detectors.published.calibrated import CalibratedJudge, Fitted, stored
from visavox.detectors.published.catalogue import calibration_of
from visavox.detectors.published.fused import FusedJudge
from visavox.detectors.published.pictures import PictureJudge
from visavox.detectors.single import branches_of
from visavox.evaluation.calibration import CalibrationError, fit
from visavox.preprocessing.pipeline import CropError
from visavox.progress import Stopwatch
from visavox.weights import WeightsError


class Says:
    """A judge that says what it was told to, or raises it."""

    def __init__(self, name: str, answer: object, checkpoint: str = "c") -> None:
        self.name, self.answer = name, answer
        self.card = ModelCard(name, checkpoint=checkpoint)

    def __call__(self, path, *, watch=None, ended=None) -> Analysis:
        answer = self.answer(path) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        branch = Branch(self.name, answer, 1.0, 0.5)
        return Analysis.of(
            answer if answer is not None else 0.5,
            card=self.card,
            branches=[branch],
            undecided="" if answer is not None else NOTHING,
        )


def odds(p: float) -> float:
    return math.log(p / (1 - p))


def test_log_odds_are_averaged_and_the_ledger_adds_up():
    analysis = FusedJudge("x", {"face": Says("a", 0.9), "voice": Says("b", 0.4)}, {"sync": "no weights"})("clip.mp4")
    expected = (odds(0.9) + odds(0.4)) / 2
    assert odds(analysis.probability) == pytest.approx(expected)
    assert sum(line.log_odds for line in analysis.ledger) == pytest.approx(expected)
    assert {each.without: each.probability for each in analysis.counterfactuals} == pytest.approx(
        {"face": 0.4, "voice": 0.9}
    )
    assert [(part.what, part.why) for part in analysis.degraded] == [("sync", "no weights")]
    assert [branch.weight for branch in analysis.branches] == [0.5, 0.5, 0] and analysis.calibrated is None
    assert Analysis.from_json(analysis.to_json()) == analysis


def test_a_missing_modality_leaves_its_branch_out_and_says_so():
    judges = {
        "face": Says("a", CropError("no_face", "nobody to be seen")),
        "voice": Says("b", 0.7),
        "sync": Says("c", None),
    }
    ended: list[str] = []
    analysis = FusedJudge("x", judges, {})("clip.mp4", ended=lambda name, seconds: ended.append(name))
    assert analysis.probability == pytest.approx(0.7) and {part.what for part in analysis.degraded} == {"face", "sync"}
    assert analysis.degraded[0].why == "nobody to be seen" and analysis.counterfactuals[0].probability is None
    assert analysis.verdict == "undetermined" and analysis.undecided == NO_FACE
    assert ended == ["voice", "sync"]
    with pytest.raises(CropError, match="face: nobody to be seen"):
        FusedJudge("x", {"face": judges["face"]}, {})("clip.mp4")
    alone, both = (
        FusedJudge("x", some, {})("c").card.checkpoint
        for some in ({"b": Says("b", 0.7)}, {"b": Says("b", 0.7), "c": Says("c", 0.2)})
    )
    assert alone != both  # a calibration of one does not fit the other


def test_branches_that_only_rank_give_no_verdict_together_either():
    class Ranks(Says):
        def __call__(self, path, **how) -> Analysis:
            return replace(super().__call__(path, **how), verdict="undetermined", undecided=UNCALIBRATED)

    lost = {"face": "no weights", "voice": "no weights"}
    alone = FusedJudge("x", {"sync": Ranks("c", 0.3)}, lost)("clip.mp4")
    assert (
        alone.verdict == "undetermined" and alone.undecided == UNCALIBRATED and alone.probability == pytest.approx(0.3)
    )
    beside = FusedJudge("x", {"sync": Ranks("c", 0.3), "face": Says("a", 0.1)}, {})("clip.mp4")
    assert beside.verdict == "real" and not beside.undecided


def test_seconds_of_a_branch_are_its_own_on_a_stopwatch_that_all_share(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 40, 3), 90, np.uint8))
    watch = Stopwatch()
    watch.seconds["models"] = 100.0  # what was booked before
    made = PictureJudge(ModelCard("tiny"), lambda images: images.mean((1, 2, 3)), tiny_ladeda.INPUT)
    assert 0 < made(tmp_path / "a.png", watch=watch).branches[0].seconds < 100


def test_branches_are_named_before_any_clip_is_judged():
    fused = FusedJudge("x", {"face": Says("a", 0.9), "voice": Says("b", 0.4)}, {"sync": "no weights"})
    assert branches_of(fused) == [branch.name for branch in fused("clip.mp4").branches] == ["face", "voice", "sync"]
    fitted = Fitted("x", "clips", "2026-01-01", fit(np.array([0, 1] * 20), np.linspace(0.1, 0.9, 40), "platt"))
    assert branches_of(CalibratedJudge(fused, fitted)) == ["face", "voice", "sync"]
    assert branches_of(Says("a", 0.9)) == ["a"]


def test_certainty_of_one_branch_stays_finite():
    analysis = FusedJudge("x", {"a": Says("a", 1.0), "b": Says("b", 0.5)}, {})("clip.mp4")
    assert analysis.probability == pytest.approx(1 / (1 + math.exp(-odds(1 - 1e-6) / 2)))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch) -> Path:
    """Forty pictures in real/ and fake/, whose brightness is the score of a judge that is too sure."""
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    rng = np.random.default_rng(0)
    for label, kind in enumerate(("real", "fake")):
        (tmp_path / "our clips" / kind).mkdir(parents=True)
        for i in range(40):
            p = 1 / (1 + np.exp(-6 * rng.normal(label - 0.5, 1)))
            cv2.imwrite(
                str(tmp_path / "our clips" / kind / f"{i:02d}.png"),
                np.full((32, 32, 3), max(1, round(255 * p)), np.uint8),
            )
    (tmp_path / "our clips" / "fake" / "torn.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "our clips" / "real" / "dark.png"), np.zeros((32, 32, 3), np.uint8))

    def brightness(path: Path) -> float | Exception | None:
        picture = cv2.imread(str(path))
        if picture is not None and not picture.any():
            return None
        return float(np.clip(picture.mean() / 255, 0.01, 0.99)) if picture is not None else ValueError("torn")

    monkeypatch.setattr(
        judge, "_opened", lambda model, device, threads: Says("bright", brightness, checkpoint="d" * 64)
    )
    return tmp_path / "our clips"


def test_a_model_is_calibrated_on_a_folder_and_says_on_which(clips: Path, capsys):
    raw = open_judge("bright")
    assert main(["calibrate", "--on", str(clips), "--model", "bright"]) == 0
    said = capsys.readouterr()
    assert (
        "torn.png" in said.err
        and f"real/dark.png: {NOTHING}" in said.err
        and "40 real, 40 fake" in said.out
        and str(calibration_of("bright")) in said.out
    )
    assert main(["detect", str(clips / "real"), "--model", "bright", "--json"]) in (0, 1)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fitted = stored("bright")
    known = fitted.calibration
    for answer in answers:
        if answer["file"] == "dark.png":
            assert answer["verdict"] == "undetermined"
            continue
        before = raw(clips / "real" / answer["file"]).probability
        assert odds(answer["probability"]) == pytest.approx(
            known.parameters["a"] * odds(before) + known.parameters["b"], abs=1e-6
        )
        assert answer["calibrated"] == {"on": "our clips", "n": 80, "date": fitted.date}
        assert sum(line["log_odds"] for line in answer["ledger"]) == pytest.approx(
            odds(answer["probability"]), abs=1e-6
        )
        assert answer["verdict"] == ("fake" if answer["probability"] >= known.threshold else "real")
    assert 0 < known.parameters["a"] < 0.5  # it was far too sure
    again = open_judge("bright")
    assert isinstance(again, CalibratedJudge) and again.card.checkpoint == "d" * 64


def test_a_calibration_of_other_weights_is_not_applied(clips: Path, monkeypatch):
    made = fit(np.array([0, 1] * 40), np.linspace(0.1, 0.9, 80), "platt", checkpoint="e" * 64)
    Fitted("bright", "other clips", "2026-01-01", made).save()
    analysis = open_judge("bright")(next((clips / "real").iterdir()))
    assert analysis.calibrated is None and "was not applied" in analysis.notes[-1]
    calibration_of("bright").write_text("{}")
    with pytest.raises(CalibrationError, match="no calibration of a model"):
        open_judge("bright")


def test_a_checkpoint_is_known_by_its_place_however_that_is_written(clips: Path, monkeypatch):
    (clips / "a.ckpt").write_bytes(b"weights")
    monkeypatch.chdir(clips)
    places = {calibration_of(model) for model in ("a.ckpt", "./a.ckpt", str(clips / "a.ckpt"))}
    assert len(places) == 1 and calibration_of("b.ckpt") not in places


def test_both_classes_are_needed(clips: Path, capsys):
    assert main(["calibrate", "--on", str(clips / "real"), "--model", "bright"]) == 2
    assert "both classes are needed" in capsys.readouterr().err


def test_the_default_model_names_what_every_branch_lacks(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    monkeypatch.setattr(judge, "DEFAULT", judge.DEFAULT | {"face": "gend_pe_l"})
    with pytest.raises(WeightsError, match="none of the branches") as error:
        open_judge("default")
    said = str(error.value)
    assert "gend_pe_l.safetensors" in said and "voice:" in said and "sync:" in said


def test_a_clip_unlike_those_that_were_calibrated_on_is_told(tmp_path: Path, monkeypatch, capsys):
    """Pictures of one kind of noise are known; a plain one lies beyond all of them, another of the kind within."""
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    rng = np.random.default_rng(0)
    for i in range(60):
        kind = "fake" if i % 2 else "real"
        (tmp_path / "known" / kind).mkdir(parents=True, exist_ok=True)
        noise = rng.normal(120 + 10 * (i % 2), 30, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "known" / kind / f"{i:02d}.png"), noise)
    cv2.imwrite(str(tmp_path / "plain.png"), np.zeros((64, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "alike.png"), rng.normal(125, 30, (64, 64, 3)).clip(0, 255).astype(np.uint8))
    torch.manual_seed(0)
    network = TinyLaDeDa("right_diag").eval()
    made = PictureJudge(ModelCard("tiny", checkpoint="c"), network, tiny_ladeda.INPUT)
    monkeypatch.setattr(judge, "_opened", lambda model, device, threads: made)
    assert open_judge("tiny")(tmp_path / "plain.png").novelty is None  # nothing is known yet
    assert main(["calibrate", "--on", str(tmp_path / "known"), "--model", "tiny"]) == 0
    plain, alike = (open_judge("tiny")(tmp_path / f"{name}.png").novelty for name in ("plain", "alike"))
    assert plain.quantile == 1 and plain.novel and plain.n == 60 and plain.known == "calibrated on known"
    assert alike.quantile < 0.99 and not alike.novel and alike.distance < plain.distance
    capsys.readouterr()
    assert main(["detect", str(tmp_path / "plain.png"), "--model", "tiny", "--report", str(tmp_path / "out")]) in (0, 1)
    assert "unlike what it knows: farther out than 100.0 % of 60 clips" in capsys.readouterr().out
    assert "Unlike what the detector knows" in (tmp_path / "out" / "plain.png.html").read_text()


def test_quantiles_of_novelty_are_those_of_the_known_clips_among_themselves():
    rng = np.random.default_rng(1)
    known = Known.of(rng.normal(size=(800, 3)), "x", "c")
    found = [known.novelty(vector.astype(np.float32)).quantile for vector in rng.normal(size=(800, 3))]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05) and np.mean(np.array(found) > 0.9) == pytest.approx(
        0.1, abs=0.05
    )
    assert known.novelty(None) is None and known.novelty(np.zeros(4, np.float32)) is None
    assert Known.of(rng.normal(size=(5, 3)), "x", "c").novelty(np.zeros(3, np.float32)) is None  # too few


def test_a_service_judges_anew_what_it_judged_before_a_calibration(tmp_path: Path, monkeypatch):
    from visavox.service.settings import Settings

    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path))
    (tmp_path / "a.ckpt").write_bytes(b"weights")
    settings = Settings(checkpoint=tmp_path / "a.ckpt", folder=tmp_path / "service")
    assert settings.calibration() == ""
    made = fit(np.array([0, 1] * 20), np.tile([0.2, 0.3, 0.6, 0.9], 10), "platt")
    Fitted(str(tmp_path / "a.ckpt"), "clips", "2026-01-01", made).save()
    first = settings.calibration()
    Fitted(str(tmp_path / "a.ckpt"), "more clips", "2026-01-02", made).save()
    assert len(first) == 64 and settings.calibration() not in ("", first)  # the key of a result holds it
