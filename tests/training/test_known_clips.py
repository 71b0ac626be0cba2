"""What training leaves of its clips beside the checkpoint, and what a verdict says of a clip that is unlike them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from visavox import config as configuration
from visavox.bundle.trim import load_trimmed
from visavox.commands import train
from visavox.detectors import build
from visavox.detectors.novelty import Known, alike, beside
from visavox.detectors.single import HouseJudge
from visavox.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIGS = Path(__file__).parents[2] / "configs"
CLIPS = 24


@pytest.fixture(params=["tiny", "xception_video_tiny"])
def run(request, make_bundle, tmp_path: Path) -> SimpleNamespace:
    """The folder of a run that has ended, its checkpoint's weights drawn by seed, and the table of its clips."""
    config = configuration.load(CONFIGS / f"{request.param}.json")
    torch.manual_seed(5)
    detector = build.build(config)
    paths = [tmp_path / f"{i}.npz" for i in range(CLIPS)]
    bundles = [make_bundle(i, config=config) for i in range(CLIPS)]
    for path, bundle in zip(paths, bundles):
        bundle.save(path)
    detector.fit_inputs(bundles)
    checkpoint.write(tmp_path / "best.ckpt", config, detector.state_dict(), {"trained_on": "noise"})
    rows = pd.DataFrame({"split": "train", "label": [i % 2 for i in range(CLIPS)], "path": list(map(str, paths))})
    data = SimpleNamespace(rows=rows, config=config, classes=None)
    return SimpleNamespace(folder=tmp_path, data=data, config=config, paths=paths)


def test_a_clip_is_measured_against_those_of_training(run, make_bundle):
    train._leave_known(run.folder, run.data, torch.device("cpu"))
    first = beside(run.folder / "best.ckpt").read_bytes()
    train._leave_known(run.folder, run.data, torch.device("cpu"))
    assert beside(run.folder / "best.ckpt").read_bytes() == first, "the same, as often as it is made"

    detector = build.load(run.folder / "best.ckpt", ["device=cpu"])
    judge = HouseJudge(detector, None)
    known = judge.explain(load_trimmed(run.paths[3], run.config)).novelty
    bundle = make_bundle(99, config=run.config)
    white = cv2.imencode(".jpg", np.full((16, 16, 3), 255, np.uint8))[1]
    flat = replace(
        bundle,
        faces=np.full_like(bundle.faces, 255),
        mdist=bundle.mdist + 500,
        track=np.tile(white, bundle.track_frames),
        track_offsets=np.arange(bundle.track_frames + 1) * len(white),
    )
    strange = judge.explain(flat).novelty
    assert known.n == strange.n == CLIPS and known.known == f"trained on {run.folder.name}'s training clips"
    assert strange.quantile == 1.0 and strange.novel and not known.novel and strange.distance > known.distance
    assert [each.novelty.n for each in judge.explain_all([bundle, flat], [None, None])] == [CLIPS, CLIPS]


def test_features_of_another_checkpoint_and_of_few_clips_say_nothing(run):
    train._leave_known(run.folder, run.data, torch.device("cpu"))
    assert build.load(run.folder / "best.ckpt").known is not None
    found = checkpoint.read(run.folder / "best.ckpt")
    checkpoint.write(run.folder / "best.ckpt", found.config, found.state, {"trained_on": "something else"})
    detector = build.load(run.folder / "best.ckpt", ["device=cpu"])
    assert detector.known is None
    assert HouseJudge(detector, None).explain(load_trimmed(run.paths[0], run.config)).novelty is None
    beside(run.folder / "best.ckpt").unlink()
    for part in (run.data.rows[:19], run.data.rows.assign(split="val")):
        train._leave_known(run.folder, SimpleNamespace(rows=part, config=run.config, classes=None), torch.device("cpu"))
        assert not beside(run.folder / "best.ckpt").exists()
    real = run.config.model_copy(update={"train_on": "real"})
    train._leave_known(run.folder, SimpleNamespace(rows=run.data.rows, config=real, classes=None), torch.device("cpu"))
    assert not beside(run.folder / "best.ckpt").exists(), "twelve real clips are too few"


def test_clips_that_lack_a_branch_are_left_out(run, monkeypatch):
    widths = iter([5, *[8] * 22, 5])
    monkeypatch.setattr(
        "visavox.detectors.novelty.Features.vector", property(lambda self: np.ones(next(widths), np.float32))
    )
    train._leave_known(run.folder, run.data, torch.device("cpu"))
    assert Known.load(beside(run.folder / "best.ckpt")).vectors.shape == (22, 8)
    assert [len(vector) for vector in alike([None, np.zeros(2), np.zeros(3), np.zeros(3)])] == [3, 3]
    assert alike([None]) == []
