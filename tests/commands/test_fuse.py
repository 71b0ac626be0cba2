"""Stacking of any detectors' scores, the fusion of trained branches anew, and the way out for a pickle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from visavox.commands import fuse
from visavox.detectors.fiveway.fusion import Fusion
from visavox.evaluation.metrics import auc

CLIPS = 240


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Scores of two detectors that see one kind of fake each, and a split CSV: val and test."""
    rng = np.random.default_rng(0)
    labels = np.arange(CLIPS) % 2
    kind = np.arange(CLIPS) // 2 % 2
    names = [f"clip{i:03d}.mp4" for i in range(CLIPS)]
    people = rng.permutation(np.repeat(np.arange(CLIPS // 4), 4))
    for name, sees in (("face", 0), ("voice", 1)):
        p = expit(rng.normal(0, 1, CLIPS) + 3 * ((labels == 1) & (kind == sees)))
        pd.DataFrame({"filename": names, "probability": p}).to_csv(tmp_path / f"{name}.csv", index=False)
    split = np.where(people % 2, "val", "test")
    table = {"filename": names, "label": labels, "split": split, "source": [f"id{k}" for k in people]}
    pd.DataFrame(table).to_csv(tmp_path / "split.csv", index=False)
    return tmp_path


def words(files: Path, *more: str) -> list[str]:
    scores = [f"--score={name}={files / f'{name}.csv'}" for name in ("face", "voice")]
    return [*scores, *more]


def test_two_detectors_are_worth_more_than_each(files, capsys):
    fit = words(files, "--labels", str(files / "split.csv"), "--output", str(files / "fusion.json"))
    assert fuse.main(fit) == 0
    said = capsys.readouterr().out
    assert "face+voice: AUC 0." in said and "split val; left out: " in said
    fitted = Fusion.load(files / "fusion.json")
    assert {head.name for head in fitted.heads} == {"face+voice", "face", "voice"}
    assert "split.csv split val" in fitted["face"].fitted_on

    assert fuse.main(words(files, "--apply", str(files / "fusion.json"), "--output", str(files / "fused.csv"))) == 0
    assert f"face+voice: {CLIPS} rows" in capsys.readouterr().out
    split = pd.read_csv(files / "split.csv")
    test = (split["split"] == "test").to_numpy()
    values = {
        n: auc(split["label"][test], pd.read_csv(files / f"{n}.csv")["probability"][test]) for n in ("face", "voice")
    }
    fused = pd.read_csv(files / "fused.csv")
    assert auc(split["label"][test], fused["probability"][test]) > max(values.values()) + 0.1


def test_a_file_that_one_detector_did_not_score_is_judged_by_the_other(files, capsys):
    table = pd.read_csv(files / "voice.csv")
    rows = [{"filename": n, "probability": p, "status": "ok"} for n, p in zip(table["filename"], table["probability"])]
    rows[0]["status"] = rows[1]["status"] = "failed"
    rows.pop(2)
    pd.DataFrame(rows).to_csv(files / "voice.csv", index=False)
    both = pd.read_csv(files / "face.csv").assign(status="ok")
    both.loc[1, "status"] = "no_face"
    both.to_csv(files / "face.csv", index=False)
    assert fuse.main(words(files, "--labels", str(files / "split.csv"), "--output", str(files / "fusion.json"))) == 0
    apply = words(files, "--apply", str(files / "fusion.json"), "--output", str(files / "fused.csv"), "--prior", "0.3")
    assert fuse.main(apply) == 0
    fused = pd.read_csv(files / "fused.csv", keep_default_na=False).set_index("filename")
    assert fused.loc["clip000.mp4", "head"] == fused.loc["clip002.mp4", "head"] == "face"
    assert fused.loc["clip001.mp4", ["probability", "head"]].tolist() == [0.3, ""]
    assert "prior: 1 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--score", "novalue"], "write NAME=FILE"),
        (["--score", "face=x.csv"], "stands there twice"),
        (["--split", "train"], "no scored clip belongs to it"),
    ],
)
def test_wrong_words_say_what_to_write(files, capsys, more, message):
    assert fuse.main(words(files, "--labels", str(files / "split.csv"), "--output", "x.json", *more)) == 2
    assert message in capsys.readouterr().err


def test_a_name_the_fusion_does_not_know_is_refused(files, capsys):
    assert fuse.main(words(files, "--labels", str(files / "split.csv"), "--output", str(files / "f.json"))) == 0
    other = ["--score", f"other={files / 'face.csv'}", "--apply", str(files / "f.json"), "--output", "x.csv"]
    assert fuse.main(other) == 2
    assert "the fusion knows face, voice" in capsys.readouterr().err


def test_a_pickle_is_not_read_and_what_is_printed_turns_it_into_json(tmp_path, capsys):
    """The printed program, run by whoever trusts the file, gives a fusion with scikit-learn's own decisions."""
    joblib = pytest.importorskip("joblib")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    names = ["tiny_prob_mean", "audio_prob_fake"]
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(50, 2)), rng.integers(0, 2, 50)
    model = Pipeline([("scale", StandardScaler()), ("fit", LogisticRegression())]).fit(rows, labels)
    path = tmp_path / "calibrated.joblib"
    joblib.dump({"model": model, "feature_cols": names, "temperature": 0.5}, path)
    assert fuse.main(["--from-sklearn", str(path)]) == 0
    program = capsys.readouterr().out
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    head = Fusion.from_json(done.stdout).heads[0]
    assert head.features == tuple(names) and head.branches == ("tiny", "audio") and head.temperature == 0.5
    np.testing.assert_allclose(head.raw(rows), model.decision_function(rows), atol=1e-12)


def test_the_pair_of_xceptions_keeps_its_words(capsys):
    assert fuse.main(["--video", "nowhere.ckpt", "--audio", "nowhere.ckpt", "--output", "x.ckpt"]) == 2
    assert "nowhere.ckpt" in capsys.readouterr().err


def test_branches_of_a_trained_detector_are_fused_anew(make_bundle, tmp_path, capsys):
    import torch
    from conftest import CHECKOUT

    from visavox import config as configuration
    from visavox.detectors import build
    from visavox.training import checkpoint

    config = configuration.load(CHECKOUT / "configs/fiveway_tiny.json", [f"root_path={tmp_path}", "device=cpu"])
    (tmp_path / "data").mkdir()
    lines = ["filename,filepath,split,label,source"]
    for i in range(8):
        make_bundle(i, config).save(tmp_path / f"{i}.npz")
        lines.append(f"{i}.mp4,{i}.npz,{'val' if i < 6 else 'test'},{i % 2},id{i}")
    (tmp_path / "data/split.csv").write_text("\n".join(lines) + "\n")
    torch.manual_seed(0)
    checkpoint.write(tmp_path / "branches.ckpt", config, build.build(config).state_dict(), {})
    asked = ["--branches", str(tmp_path / "branches.ckpt"), "--data-version", "split"]
    assert fuse.main([*asked, "--output", str(tmp_path / "again.ckpt")]) == 0
    said = capsys.readouterr().out
    assert "5way: AUC" in said and "the gate stays shut" in said
    detector = build.load(tmp_path / "again.ckpt")
    assert "split.csv val: 6 clips" in detector.verdicts.fusion["5way"].fitted_on
    written = json.loads((tmp_path / "again.json").read_text())
    assert len(written["heads"]) == len(detector.verdicts.fusion.heads) == 31
    assert fuse.main([*asked, "--split", "train", "--output", str(tmp_path / "x.ckpt")]) == 2
    assert "no clip with split=train" in capsys.readouterr().err
