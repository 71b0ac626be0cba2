"""The five branches trained: what each stage leaves, resuming, starting from another run, and scores of the run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CHECKOUT

from visavox import config as configuration
from visavox.detectors import build
from visavox.detectors.fiveway.detector import FiveWayDetector
from visavox.detectors.fiveway.fusion import FEATURES, Fusion

CONFIG = CHECKOUT / "configs/fiveway_tiny.json"


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    """A finished run of one epoch a stage on `data`."""
    from visavox.commands import train

    assert train.main(words(data, "fiveway")) == 0
    return data / "runs/fiveway"


def words(data: Path, version: str, *more: str) -> list[str]:
    made = ["--data-version", "split", "--code-version", version, f"root_path={data}", f"runs_path={data / 'runs'}"]
    return [*made, "--config", str(CONFIG), "epoch=1", "detector.sync_epochs=1", "device=cpu", "patience=1", *more]


def test_training_leaves_each_stage_a_fusion_and_its_features(trained):
    assert all((trained / stage / "finished").is_file() for stage in ("tiny", "visual", "temporal", "audio", "sync"))
    fitted = Fusion.load(trained / "fusion.json")
    assert fitted["5way"].fitted_on.startswith("the validation split")
    table = pd.read_csv(trained / "features.csv")
    assert set(FEATURES) <= set(table) and set(table["split"]) == {"val", "test"}
    assert np.isfinite(table[list(FEATURES)].to_numpy()).all()
    report = json.loads((trained / "gate.json").read_text())
    assert not report["open"] and "36 would" in report["said"] and report["test"]["exits"] == 0
    assert report["test"]["seconds_per_clip"] == report["test"]["seconds_per_clip_with_gate"] > 0
    assert json.loads((trained / "test.json").read_text())["test_exited"] == 0
    detector = build.load(trained / "best.ckpt")
    assert detector.verdicts.fusion.heads == fitted.heads


def test_scores_of_the_run_are_those_of_its_features(trained, data):
    from visavox.bundle.trim import load_trimmed
    from visavox.detectors.fiveway.outputs import predictions

    detector = build.load(trained / "best.ckpt", ["detector.early_exit=false"])
    table = pd.read_csv(trained / "features.csv")
    wanted = predictions(detector.verdicts.fusion, table, "5way")
    found = detector.score([load_trimmed(path, detector.config) for path in table["path"]])
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_finished_branch_is_what_the_later_stages_start_from(trained):
    early, last = (
        torch.load(p, weights_only=True)["state_dict"] for p in (trained / "tiny/best.ckpt", trained / "best.ckpt")
    )
    names = [name for name in early if name.startswith("tiny.")]
    assert names and all(torch.equal(early[name], last[name]) for name in names)


def test_a_run_killed_between_stages_goes_on(data, trained):
    """Stopped after the audio branch: the finished ones are not trained again, and the end is that of an undisturbed run."""
    import shutil

    from visavox.commands import train

    again = data / "runs/again"
    shutil.copytree(trained, again)
    for path in [
        *again.glob("*.ckpt"),
        again / "fusion.json",
        again / "features.csv",
        again / "gate.json",
        again / "test.json",
    ]:
        path.unlink()
    shutil.rmtree(again / "sync"), shutil.rmtree(again / "checkpoints")
    before = (again / "tiny/best.ckpt").stat().st_mtime_ns
    assert train.main([*words(data, "again"), "--resume"]) == 0
    assert (again / "tiny/best.ckpt").stat().st_mtime_ns == before
    one, other = (torch.load(p / "best.ckpt", weights_only=True)["state_dict"] for p in (trained, again))
    assert all(torch.equal(one[name], other[name]) for name in one if name.startswith("sync."))


def test_training_starts_from_an_earlier_run_or_says_what_does_not_fit(trained):
    from visavox.weights import WeightsError

    config = configuration.load(CONFIG, ["device=cpu"])
    state = torch.load(trained / "best.ckpt", weights_only=True)
    made = FiveWayDetector(config, config.detector)
    made.start_from(state)
    assert torch.equal(made.visual.fc.weight, state["state_dict"]["visual.fc.weight"])
    other = configuration.load(CONFIG, ["detector.audio_width=4"])
    with pytest.raises(WeightsError, match="branch audio does not fit"):
        build.build(other).start_from(state)


def test_distillation_trains_tiny_without_labels(data, tmp_path):
    from visavox.commands import train
    from visavox.detectors.fiveway.tiny import LaDeDa9

    torch.manual_seed(0)
    torch.save(LaDeDa9(width=4).state_dict(), tmp_path / "teacher.pth")
    teach = [f"detector.teacher_weights={tmp_path / 'teacher.pth'}", "detector.teacher_width=4"]
    none = [f"detector.{stage}_epochs=0" for stage in ("visual", "temporal", "audio", "sync")]
    assert train.main([*words(data, "taught"), *teach, *none]) == 0
    history = pd.read_csv(data / "runs/taught/tiny/metrics.csv")
    assert history["train/loss"].notna().all() and "train/auc" not in history
    assert not any(
        "teacher" in name for name in torch.load(data / "runs/taught/best.ckpt", weights_only=True)["state_dict"]
    )


def test_odd_clips_get_a_row_each_and_the_head_is_named(trained, talking, tmp_path, capsys):
    """Without sound, without a face, a second long, and a plain one: through eval, as a submission would be."""
    from visavox import media
    from visavox.commands import evaluate
    from visavox.evaluation.rows import read_details

    with media.open_video(next((talking / "real").rglob("*.mp4")), sample_rate=16000) as video:
        frames = np.stack(list(video.frames()))
        sound = video.audio()
    assert len(frames) > 25
    folder = tmp_path / "videos"
    folder.mkdir()
    media.write_video(folder / "plain.mp4", frames, sound, fps=25, sample_rate=16000)
    media.write_video(folder / "second.mp4", frames[:25], sound[:16000], fps=25, sample_rate=16000)
    media.write_video(folder / "silent.mp4", frames, None, fps=25, sample_rate=16000)
    media.write_video(folder / "faceless.mp4", np.zeros_like(frames), sound, fps=25, sample_rate=16000)
    words = ["-input", str(folder), "-output", str(tmp_path / "submission.csv"), "--workers", "1", "device=cpu"]
    words += ["--checkpoint", str(trained / "best.ckpt"), "detector.early_exit=false"]
    assert evaluate.main(words) == 0
    rows = {row.filename: row for row in read_details(tmp_path / "submission.csv")}
    assert {name: row.status for name, row in rows.items()} == {
        "plain.mp4": "ok",
        "second.mp4": "ok",
        "silent.mp4": "no_audio",
        "faceless.mp4": "no_face",
    }
    assert set(rows["plain.mp4"].seconds) >= {f"score_{b}" for b in ("tiny", "visual", "temporal", "audio", "sync")}
    heads = {name: row.head for name, row in rows.items()}
    assert heads == {
        "plain.mp4": "5way",
        "second.mp4": "5way",
        "silent.mp4": "tiny+visual+temporal",
        "faceless.mp4": "audio",
    }
    assert all(f"judged by the head {row.head}" in row.notes and row.exited is False for row in rows.values())
    assert "score_audio" not in rows["silent.mp4"].seconds
    faceless = rows["faceless.mp4"]
    assert faceless.scored and faceless.code == "NO_FACE" and "score_tiny" not in faceless.seconds
    with media.open_video(folder / "faceless.mp4", sample_rate=16000) as video:
        assert len(list(video.frames())) > 0
        sound = video.audio()
    detector = build.load(trained / "best.ckpt")
    assert faceless.probability == pytest.approx(detector.score_sound(sound).probability, abs=1e-6)
    said = capsys.readouterr()
    assert "4 files: 4 scored (1 without audio, 1 without a face), 0 at the prior" in said.out
    assert "gate: 0 of 4 clips exited early" in said.out and "judged by its sound, head audio" in said.err


def test_score_judges_a_video_without_a_face_by_its_sound(trained, talking, tmp_path):
    """As the command `visavox score` and `visavox.score` do."""
    import visavox
    from visavox import media

    rng = np.random.default_rng(0)
    black, sound = np.zeros((30, 128, 128, 3), np.uint8), rng.integers(-3000, 3000, 19200).astype(np.int16)
    media.write_video(tmp_path / "faceless.mp4", black, sound, fps=25, sample_rate=16000)
    analysis = visavox.score(tmp_path / "faceless.mp4", trained / "best.ckpt", explain=True)
    assert "judged by the head audio" in analysis.notes and analysis.card.checkpoint
    assert analysis.verdict == "undetermined" and analysis.undecided.startswith("No face was found")
    media.write_video(tmp_path / "mute.mp4", black, None, fps=25, sample_rate=16000)
    with pytest.raises(ValueError, match="no face"):
        visavox.score(tmp_path / "mute.mp4", trained / "best.ckpt")
