"""Maps of where a network for pictures looks: a network that looks at one corner is found out, and a wrong map too."""

import cv2
import numpy as np
import pytest
import torch

from visavox.__main__ import main
from visavox.detectors.analysis import ModelCard
from visavox.detectors.judging import ModelError
from visavox.detectors.published import judge as judges
from visavox.detectors.published.fused import FusedJudge
from visavox.detectors.published.maps import CELLS, attributed, maps, tried
from visavox.detectors.published.pictures import PictureJudge
from visavox.preprocessing.picture_input import IMAGENET, PictureInput

pytest.importorskip("captum", reason="the extra `explain`")
pytestmark = pytest.mark.usefixtures("one_thread")
WANTED = PictureInput(112, "bilinear", *IMAGENET)


def corner(pictures: torch.Tensor) -> torch.Tensor:
    """A network whose logit is the contrast of the upper left quarter: (n, 3, S, S) -> (n,)."""
    part = pictures[:, :, :56, :56]
    return 6 * (part - part.mean((2, 3), keepdim=True)).abs().mean((1, 2, 3)) - 2


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)


def test_the_map_lies_where_the_network_looks_and_holds(picture: np.ndarray):
    given = WANTED(picture)
    cells = attributed(corner, given, fake=True)
    half = CELLS // 2
    assert cells.shape == (CELLS, CELLS) and cells.max() == pytest.approx(1) and cells.min() >= 0
    assert cells[:half, :half].sum() > 0.99 * cells.sum()
    found = tried(corner, given, cells, fake=True)
    assert found.holds and found.deletion < min(found.random_deletion) - 0.1
    assert found.insertion > max(found.random_insertion) + 0.1


def test_a_wrong_map_does_not_hold(picture: np.ndarray):
    given = WANTED(picture)
    wrong = np.ones((CELLS, CELLS), np.float32)
    wrong[: CELLS // 2, : CELLS // 2] = 0
    found = tried(corner, given, wrong, fake=True)
    assert not found.holds and found.deletion > max(found.random_deletion)


def test_pages_show_maps_with_their_figures(picture: np.ndarray, tmp_path, monkeypatch, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    made = FusedJudge("x", {"face": PictureJudge(ModelCard("corner", checkpoint="c"), corner, WANTED)}, {})
    monkeypatch.setattr(judges, "_opened", lambda model, device, threads: made)
    words = ["detect", str(tmp_path / "a.png"), "--model", "x", "--report", str(tmp_path / "out"), "--maps"]
    assert main(words) == 1
    page = (tmp_path / "out" / "a.png.html").read_text()
    assert "It holds: probability of what is said" in page and "data:image/png" in page
    [found] = maps(made, tmp_path / "a.png", made(tmp_path / "a.png"))
    assert found.branch == "face" and found.caption in page
    shown = cv2.imdecode(np.frombuffer(found.png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert shown.shape == picture.shape
    changed = np.abs(shown - picture[..., ::-1]).mean(2)  # cv2 writes BGR
    assert changed[:50, :50].mean() > 10 > 1 > changed[62:, 62:].mean()
    with pytest.raises(SystemExit):
        main(["detect", str(tmp_path / "a.png"), "--maps"])


def test_a_judge_without_pictures_has_no_map(tmp_path):
    with pytest.raises(ModelError, match="no part of it looks at single pictures"):
        list(maps(FusedJudge("x", {}, {}), tmp_path / "a.png", None))  # type: ignore[arg-type]


@pytest.mark.parametrize("fused", [False, True])
def test_an_xception_trained_here_has_maps_of_the_frames_it_scores(fused: bool, fresh_pair, make_bundle, tmp_path):
    from visavox.detectors import build
    from visavox.detectors.single import HouseJudge

    pair = build.load(fresh_pair, ["device=cpu"])
    scorer = pair if fused else pair.video.eval()
    bundle = make_bundle(4, config=scorer.config)
    bundle.save(tmp_path / "a.npz")
    judge = HouseJudge(scorer, None)
    analysis = judge(tmp_path / "a.npz")
    [found] = maps(judge, tmp_path / "a.npz", analysis)
    seconds, faces = pair.video.shown(bundle)
    with torch.inference_mode():
        p = torch.sigmoid(pair.video.frame_logits(torch.from_numpy(faces)).double()).numpy()
    loudest = int(p.argmax() if analysis.probability >= analysis.threshold else p.argmin())
    assert found.branch == "video" and found.second == seconds[loudest]
    assert found.probability == pytest.approx(p[loudest], abs=1e-5), "of this frame, before any calibration"
    assert found.cells.min() >= 0 and found.cells.max() == pytest.approx(1) and "random order" in found.caption
    image = cv2.imdecode(np.frombuffer(found.png, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[:2] == (pair.video.settings.size,) * 2
