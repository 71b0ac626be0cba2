"""Forged segments are read from every kind of table the corpora have, and what cannot be read is refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest

from visavox.localisation import submission
from visavox.localisation.metric import TruthError
from visavox.localisation.truth import of_clips, read_truth

METADATA = [
    {"file": "test/000001.mp4", "fake_periods": [[1.2, 1.8], [0.1, 0.5]], "split": "test"},
    {"file": "test/000002.mp4", "fake_periods": [], "split": "test"},
]


def test_all_forms_say_the_same(tmp_path: Path):
    forms = {
        "lavdf.json": json.dumps(METADATA),
        "av1m.json": json.dumps([{"file": e["file"], "fake_segments": e["fake_periods"]} for e in METADATA]),
        "plain.json": json.dumps({e["file"]: e["fake_periods"] for e in METADATA}),
        "rows.csv": "filename,start,end\ntest/000001.mp4,1.2,1.8\ntest/000001.mp4,0.1,0.5\ntest/000002.mp4,,\n",
        "split.csv": 'filename,filepath,split,label,fake_segments\ntest/000001.mp4,a.npz,test,1,"[[1.2, 1.8], [0.1, 0.5]]"\n'
        "test/000002.mp4,b.npz,test,0,\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        found = read_truth(tmp_path / name)
        assert found.segments["test/000001.mp4"].tolist() == [[0.1, 0.5], [1.2, 1.8]], name
        assert found.segments["test/000002.mp4"].shape == (0, 2), name


def test_bundles_of_videos_are_matched_and_fakes_without_seconds_are_left_out(tmp_path: Path):
    (tmp_path / "s.csv").write_text(
        'filename,label,corpus,fake_segments\na.mp4,1,one,\nb.mp4,0,one,\nc.mp4,1,two,"[[0, 1]]"\n'
    )
    labelled = read_truth(tmp_path / "s.csv")
    assert labelled.unknown == ("a.mp4",) and labelled.corpus["c.mp4"] == "two"
    known, missing = of_clips(labelled, ["x/b.npz", "x/c.npz", "x/a.npz"])
    assert set(known) == {"x/b.npz", "x/c.npz"} and missing == ["x/a.npz"]
    with pytest.raises(TruthError, match="none of the 1 clips"):
        of_clips(labelled, ["elsewhere.npz"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a.mp4": [[2, 1]]}', "from 2 to 1 s"),
        ('{"a.mp4": [[1]]}', "no pairs"),
        ('{"a.mp4": [["x", 2]]}', "no pairs"),
        ('{"a.mp4": [[0, 1e999]]}', "segment from"),
        ("[1, 2]", "neither"),
        ("{", "no JSON"),
    ],
)
def test_what_is_no_segment_is_refused(text: str, said: str, tmp_path: Path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(TruthError, match=said):
        read_truth(tmp_path / "t.json")


def test_the_two_files_of_the_challenge(tmp_path: Path):
    submission.write_detection({"b.mp4": 0.25, "a.mp4": 0.91284}, tmp_path / "d.txt")
    assert (tmp_path / "d.txt").read_text() == "a.mp4;0.91284\nb.mp4;0.25\n"
    submission.write_segments({"a.mp4": np.array([[0.9, 1.0, 2.5]]), "b.mp4": np.zeros((0, 3))}, tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text()) == {"a.mp4": [[0.9, 1.0, 2.5]], "b.mp4": []}
