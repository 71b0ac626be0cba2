"""`visavox detect` and `visavox.detect`: a file, a verdict, its reasons; what cannot be judged says why and stops nothing."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import visavox
from visavox.__main__ import main
from visavox.commands.detect import describe
from visavox.detectors.analysis import Analysis
from visavox.detectors.fiveway.tiny import TinyLaDeDa
from visavox.detectors.published import MODELS, ModelError, open_judge, tiny_ladeda
from visavox.preprocessing.picture_input import PictureInput
from visavox.preprocessing.stills import Stills
from visavox.weights import REGISTRY, WeightsError

NAME = "tiny_ladeda_wildrf"


@pytest.fixture(scope="module")
def video(talking: Path) -> Path:
    return sorted(talking.rglob("*.mp4"))[0]


@pytest.fixture
def made_up_weights(tmp_path: Path, monkeypatch) -> Path:
    """A weights folder with a file of the registry's name, drawn at random, and a registry that knows its sum."""
    torch.manual_seed(3)
    folder = tmp_path / "weights"
    folder.mkdir()
    file = folder / REGISTRY[NAME].file
    torch.save(TinyLaDeDa().state_dict(), file)
    content = file.read_bytes()
    entry = replace(REGISTRY[NAME], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(REGISTRY, NAME, entry)
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(folder))
    return folder


def test_a_folder_gets_a_row_a_page_and_an_analysis_for_each_file(video: Path, made_up_weights, tmp_path: Path, capsys):
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "clip.mp4").write_bytes(video.read_bytes())
    (inputs / "torn.mp4").write_bytes(video.read_bytes()[:200])
    cv2.imwrite(str(inputs / "still.png"), np.full((90, 120, 3), 99, np.uint8))
    code = main(["detect", str(inputs), "--model", NAME, "--report", str(tmp_path / "out"), "--device", "cpu"])
    said = capsys.readouterr()
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["clip.mp4", "still.png", "torn.mp4"]
    assert rows["torn.mp4"]["status"] == "failed" and rows["torn.mp4"]["probability"] == "0.5"
    assert rows["torn.mp4"]["reason"] and not (tmp_path / "out" / "torn.mp4.html").exists()
    for name in ("clip.mp4", "still.png"):
        analysis = Analysis.from_json((tmp_path / "out" / f"{name}.json").read_text())
        assert analysis.probability == float(rows[name]["probability"])
        assert analysis.card.checkpoint == REGISTRY[NAME].sha256 == rows[name]["checkpoint"]
        page = (tmp_path / "out" / f"{name}.html").read_text()
        assert name in page and "Uncalibrated" in page and "http" not in page
    verdicts = {row["verdict"] for row in rows.values()}
    assert code == (1 if "fake" in verdicts else 2)  # the torn file has none
    assert "(uncalibrated)" in said.out and said.out.count("neither the face nor the voice") == 1


def test_pages_of_inputs_of_equal_names_are_apart_and_lie_in_the_report(made_up_weights, tmp_path: Path, monkeypatch):
    for folder in ("a/in", "b/in", "here"):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "still.png"), np.full((40, 40, 3), 99, np.uint8))
    monkeypatch.chdir(tmp_path / "here")
    inputs = ["../a/in", "../b/in", ".", "../a/in/still.png", str(tmp_path / "b/in/still.png")]
    main(["detect", *inputs, "--model", NAME, "--report", str(tmp_path / "out"), "--device", "cpu"])
    names = ["in/still.png", "2/in/still.png", "here/still.png", "still.png", "5/still.png"]
    with (tmp_path / "out" / "scores.csv").open() as file:
        assert [row["filename"] for row in csv.DictReader(file)] == names
    assert {page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html")} == {
        f"out/{n}.html" for n in names
    }


def test_the_score_is_the_mean_over_pictures_that_lie_along_the_video(video: Path, made_up_weights):
    analysis = visavox.detect(video, NAME, device="cpu")
    stills = Stills(video, 32)
    frames = dict(stills)
    with torch.inference_mode():
        network = tiny_ladeda.network(NAME)
        p = [torch.sigmoid(network(tiny_ladeda.INPUT(frame)[None]).double()).item() for frame in frames.values()]
    assert analysis.probability == pytest.approx(np.mean(p), abs=1e-9)
    assert [part.probability for part in analysis.timeline] == pytest.approx(p, abs=1e-6)
    assert analysis.timeline[0].start == 0 and analysis.timeline[-1].end == pytest.approx(stills.seconds, abs=1e-3)
    assert all(a.end == b.start for a, b in zip(analysis.timeline, analysis.timeline[1:]))


def test_exit_codes_are_those_of_a_search_for_fakes(video: Path, made_up_weights, monkeypatch, capsys):
    for bias, code in ((50.0, 1), (-50.0, 0)):
        state = TinyLaDeDa().state_dict() | {"fc.bias": torch.tensor([bias]), "fc.weight": torch.zeros(1, 8)}
        file = made_up_weights / REGISTRY[NAME].file
        torch.save(state, file)
        entry = replace(REGISTRY[NAME], size=None, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        monkeypatch.setitem(REGISTRY, NAME, entry)
        assert main(["detect", str(video), "--device", "cpu", "--json", "--model", NAME]) == code
        answer = json.loads(capsys.readouterr().out)
        assert answer["verdict"] == ("fake" if code else "real") and answer["seconds"] > 0


def test_a_checkpoint_of_ours_is_a_model_and_takes_no_pictures(video: Path, run: Path, tmp_path: Path, capsys):
    best = str(run / "best.ckpt")
    assert visavox.detect(video, best, device="cpu").probability == pytest.approx(visavox.score(video, best), abs=1e-6)
    cv2.imwrite(str(tmp_path / "still.png"), np.zeros((64, 64, 3), np.uint8))
    assert main(["detect", str(tmp_path / "still.png"), "--model", best, "--device", "cpu"]) == 2
    assert "judges videos" in capsys.readouterr().out
    analysis = visavox.detect(video, best, device="cpu")
    for drawn in (True, False):
        one = replace(analysis, card=replace(analysis.card, synthetic=drawn))
        assert any("demo model, trained on synthetic clips" in line for line in describe("a.mp4", one)) == drawn


def test_without_weights_and_network_it_says_what_to_put_where(video: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    assert main(["detect", str(video), "--model", NAME]) == 2
    said = capsys.readouterr().err
    assert REGISTRY[NAME].file in said and str(tmp_path / "none") in said and REGISTRY[NAME].sha256 in said
    with pytest.raises(WeightsError, match="By hand"):
        visavox.detect(video, NAME)


def test_an_unknown_model_names_the_nearest(video: Path):
    with pytest.raises(ModelError, match=f"did you mean {NAME}"):
        open_judge("tiny_ladeda_wildfr")


def test_models_are_listed_with_licence_figures_and_what_was_verified(capsys):
    assert main(["detect", "--models"]) == 0
    said = capsys.readouterr().out
    for model in MODELS.values():
        assert all(part in said for part in (model.name, model.licence, model.reported, model.verified, *model.weights))


def test_a_picture_becomes_what_torchvision_would_make_of_it(video: Path):
    """The published transforms: Resize((256, 256)), ToTensor, Normalize."""
    from PIL import Image
    from torchvision import transforms

    wanted = tiny_ladeda.INPUT
    published = transforms.Compose(
        [transforms.Resize((256, 256)), transforms.ToTensor(), transforms.Normalize(wanted.mean, wanted.std)]
    )
    for _, frame in list(Stills(video, 4)):
        torch.testing.assert_close(wanted(frame), published(Image.fromarray(frame)), atol=1e-6, rtol=0)
    assert PictureInput(8, "bicubic", (0.5,) * 3, (0.5,) * 3)(np.zeros((8, 8, 3), np.uint8)).min() == -1


def test_stills_of_a_short_video_repeat_no_frame(video: Path):
    stills = [frame for _, frame in Stills(video, 10_000)]
    assert 0 < len(stills) < 100 and all(a is not b for a, b in zip(stills, stills[1:]))


@pytest.mark.data
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["each fourth", "all"])
def test_shared_clips_get_a_row_each(every: int, clips: Path, weights_dir: Path, tmp_path: Path, monkeypatch, capsys):
    """The one trained forensic network at hand; no accuracy is claimed from it."""
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(weights_dir))
    with (clips / "clips.csv").open() as table:
        names = [row["file"] for row in csv.DictReader(table)]
    assert len(names) == 36
    for name in names[::every]:
        (tmp_path / Path(name).name).symlink_to(clips / name)
    code = main(["detect", str(tmp_path), "--model", NAME, "--json", "--device", "cpu"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(names[::every]) and code == 1
    assert all(0 < answer["probability"] < 1 and answer["timeline"] and answer["seconds"] < 60 for answer in answers)
