"""`visavox score` and `import visavox`: one file, one verdict, the same number that eval writes."""

import csv
import json
from pathlib import Path

import pytest

import visavox
from visavox.__main__ import main
from visavox.detectors.analysis import Analysis


@pytest.fixture(scope="module")
def video(talking: Path) -> Path:
    return sorted(talking.rglob("*.mp4"))[0]


def test_one_video_has_the_score_that_eval_gives_it(video: Path, run: Path, tmp_path: Path, capsys):
    words = ["--checkpoint", str(run / "best.ckpt")]
    assert main(["eval", "-input", str(video), "-output", str(tmp_path / "s.csv"), *words, "device=cpu"]) == 0
    with (tmp_path / "s.csv").open() as file:
        expected = float(next(csv.DictReader(file))["probability"])
    capsys.readouterr()
    assert main(["score", str(video), *words, "--json", "--set", "device=cpu"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.pop("file") == str(video)
    assert Analysis.from_json(json.dumps(answer)).probability == pytest.approx(expected, abs=1e-6)
    assert visavox.score(video, run / "best.ckpt") == pytest.approx(expected, abs=1e-6)
    assert visavox.score(video, run / "best.ckpt", explain=True).verdict == answer["verdict"]


def test_a_file_without_a_score_says_why_and_stops_nothing(video: Path, run: Path, tmp_path: Path, capsys):
    (tmp_path / "text.mp4").write_text("not a video")
    assert main(["score", str(tmp_path / "text.mp4"), str(video), "--checkpoint", str(run / "best.ckpt")]) == 1
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert "text.mp4: failed," in first and "P(fake)" in second


def test_without_a_checkpoint_nothing_is_scored(video: Path, tmp_path: Path, capsys):
    assert main(["score", str(video), "--checkpoint", str(tmp_path / "none.ckpt")]) == 2
    assert "no such checkpoint" in capsys.readouterr().err


def test_a_preprocessor_takes_a_name_a_file_or_settings(video: Path, tiny_config):
    bundles = [visavox.preprocessor(config)(video) for config in ("tiny", tiny_config)]
    assert bundles[0].prep_hash == bundles[1].prep_hash and bundles[0].status == "ok"
