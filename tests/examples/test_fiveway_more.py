"""`python -m examples.fiveway --gate` on made bundles: the gate lets clips out, says what that saves, changes no other score."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from examples import common, fiveway, fiveway_more
from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.detectors import build
from visavox.detectors.fiveway.detector import FiveWayDetector
from visavox.detectors.fiveway.fusion import FEATURES
from visavox.detectors.fiveway.gate import exact_interval
from visavox.synthetic.dataset import plan

PEOPLE, CLIPS = 10, 3


@pytest.fixture(scope="module")
def detector(make_bundle: Callable[..., Bundle], one_thread: None) -> FiveWayDetector:
    """Random branches, and a fusion fitted on random features."""
    torch.manual_seed(0)
    config = configuration.load(fiveway.CONFIG, ["device=cpu"])
    made = build.build(config)
    assert isinstance(made, FiveWayDetector)
    rng, labels = np.random.default_rng(0), np.arange(80) % 2
    row = made.eval().examine(make_bundle(0, config)).row
    table = {name: rng.normal(row[name] + 0.2 * labels, 0.5) for name in FEATURES}
    made.fit_fusion(table, labels, np.arange(80) // 2 % 20, "random numbers")
    return made


@pytest.fixture
def root(
    detector: FiveWayDetector, make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where the clips of the gate's set are already cropped, and the run is `detector`."""
    jobs = plan(PEOPLE, CLIPS, 0, (1.0, 1.0), 2 / 3, ("face_blended",), None)
    rows = [[job.filename, int(job.kind != "real"), job.kind, job.names] for job in jobs]
    for i, job in enumerate(jobs):
        path = tmp_path / "gate" / common.BUNDLES / Path(job.filename).with_suffix(".npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        make_bundle(i, detector.config).save(path)
    table = tmp_path / "gate" / common.VIDEOS / "labels.csv"
    table.parent.mkdir()
    pd.DataFrame(rows, columns=["filename", "label", "kind", "identity"]).to_csv(table, index=False)
    monkeypatch.setattr(common, "make_clips", lambda *_, **__: table)
    monkeypatch.setattr(common, "crop_clips", lambda *_, **__: [])
    monkeypatch.setattr(fiveway_more, "finished", lambda _: detector)
    return tmp_path


def test_the_gate_saves_seconds_and_changes_no_score_of_a_clip_that_stays(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = fiveway_more.gate(root, people=PEOPLE, clips=CLIPS, recall=0.5)
    assert found["open"] and "16 fake validation clips, asked for 0.5" in found["said"]
    assert (found["val_people"], found["test_people"], found["test_clips"], found["test_fakes"]) == (8, 2, 6, 4)
    recall, low, high = found["test_recall"]
    assert [round(value, 4) for value in exact_interval(round(recall * 4), 4)] == [low, high]
    out = round(found["test_exits"] * 6)
    assert found["stayed_equal"] == 6 - out and 0 < out < 6
    without, with_ = found["seconds_of_exited"]
    assert with_ < without / 2 and found["seconds_with"] < found["seconds_without"]
    assert json.loads((root / "gate.json").read_text()) == found
    fiveway_more.print_gate(found, root)
    said = capsys.readouterr().out
    assert "on 6 clips of 2 other people" in said and f"the {6 - out} clips that stay have equal scores" in said


def test_a_score_that_the_gate_changed_is_an_error(
    root: Path, detector: FiveWayDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine = detector.examine

    def changing(*clip: Any, early_exit: bool | None = None) -> Any:
        judged = examine(*clip, early_exit=early_exit)
        return replace(judged, logit=judged.logit + 1e-12 * bool(early_exit and not judged.exited))

    monkeypatch.setattr(detector, "examine", changing)
    with pytest.raises(AssertionError, match="the gate changed the scores of"):
        fiveway_more.gate(root, people=PEOPLE, clips=CLIPS, recall=0.5)


def test_what_is_missing_is_said(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = fiveway_more.clips_of(root / "gate")
    Path(rows["path"][3]).unlink()
    with pytest.raises(
        SystemExit, match=f"1 of {len(rows)} clips gave no bundle, the first .*{Path(rows['path'][3]).name}"
    ):
        fiveway_more.clips_of(root / "gate")
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="no finished run; `python -m examples.fiveway --output"):
        fiveway_more.finished(tmp_path)
