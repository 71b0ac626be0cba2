"""Anyone's detector through `eval --detector`: whatever it does, every input has its row and its reason."""

import csv
import gzip
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from visavox.__main__ import main
from visavox.detectors.foreign import Foreign, ForeignError
from visavox.evaluation.rows import read_details
from visavox.evaluation.score_files import only
from visavox.evaluation.scores import ScoresError, join

WORST = """
import os, sys, time

def predict(path):
    print("noise" * 20_000)
    os.write(1, b"more noise")
    number = int(os.path.basename(path)[1:3])
    if number % 12:
        return number / 100
    {act}
"""
ACTS = {
    "raises": (
        "raise ValueError('no face here')",
        "predict raised ValueError: no face here (own.py line 10)",
        "INTERNAL",
    ),
    "hangs": ("time.sleep(1000)", "no score within", "TIMED_OUT"),
    "not a number": ("return float('nan')", "predict gave float nan", "BAD_SCORE"),
    "too large": ("return 1.5", "predict gave 1.5", "BAD_SCORE"),
    "text": ("return 'fake'", "predict gave str 'fake'", "BAD_SCORE"),
    "nothing": ("pass", "predict gave NoneType None", "BAD_SCORE"),
    "exits": ("sys.exit(3)", "ended with exit code 3", "WORKER_DIED"),
    "exits at once": ("os._exit(7)", "ended with exit code 7", "WORKER_DIED"),
    "crashes": ("os.kill(os.getpid(), 11)", "ended by signal SIGSEGV", "WORKER_DIED"),
    "asks for a terabyte": ("return float(len(bytearray(1 << 40)))", "predict raised MemoryError", "OUT_OF_MEMORY"),
    "eats memory": (
        "kept = []\n    while True: kept.append(os.urandom(1 << 24))",
        "predict raised MemoryError",
        "OUT_OF_MEMORY",
    ),
    "closes the channel": ("os.closerange(3, 100)\n    os._exit(0)", "ended with exit code 0", "WORKER_DIED"),
}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(36):
        (folder / f"c{i:02d}.mp4").write_bytes(bytes([i]))
    return folder


def rows_of(path: Path) -> dict[str, float]:
    with path.open() as file:
        return {row["filename"]: float(row["probability"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("act", ACTS)
def test_every_input_has_its_row_and_the_reason(act: str, inputs: Path, tmp_path: Path):
    code, reason, name = ACTS[act]
    own = tmp_path / "own.py"
    own.write_text(WORST.replace("{act}", code))
    output = tmp_path / "s.csv"
    words = ["--detector", str(own), "-input", str(inputs), "-output", str(output), "--memory", "0.5"]
    assert main(["eval", *words, "--timeout", "1" if act == "hangs" else "60"]) == 0
    rows = rows_of(output)
    assert len(rows) == 36 and all(rows[f"c{i:02d}.mp4"] == pytest.approx(i / 100) for i in range(36) if i % 12)
    lost = [row for row in read_details(output) if not row.scored]
    assert [row.filename for row in lost] == ["c00.mp4", "c12.mp4", "c24.mp4"]
    assert all(reason in row.reason and row.code == name and row.probability == 0.5 for row in lost), lost


def test_what_it_started_ends_with_it(tmp_path: Path):
    own = tmp_path / "own.py"
    own.write_text(
        "import subprocess, time, pathlib\n"
        "def predict(path):\n"
        "    child = subprocess.Popen(['sleep', '1000'])\n"
        "    pathlib.Path(path).write_text(str(child.pid))\n"
        "    time.sleep(1000)\n"
    )
    with Foreign(own, timeout=1.5) as detector, pytest.raises(ForeignError, match="no score within 1.5 s"):
        detector.predict(tmp_path / "pid")
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while not _ended(pid) and time.monotonic() < deadline:  # it was killed; the kernel takes it down when it has time
        time.sleep(0.02)
    assert _ended(pid)


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1", "neither predict"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("def predict(:", "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_refused_before_the_first_clip(
    text: str, reason: str, inputs, tmp_path, capsys
):
    (tmp_path / "own.py").write_text(text)
    words = ["--detector", str(tmp_path / "own.py"), "-input", str(inputs), "-output", str(tmp_path / "s.csv")]
    assert main(["eval", *words]) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "s.csv").exists()


def test_a_detector_of_bundles_sees_bundles_and_gets_a_report(talking: Path, tmp_path: Path, capsys):
    own = tmp_path / "own.py"
    own.write_text("def predict_bundle(bundle):\n    return float(bundle.faces.mean()) / 255\n")
    report = tmp_path / "report"
    words = ["--detector", str(own), "-input", str(talking), "-output", str(tmp_path / "s.csv"), "--workers", "1"]
    labels = ["--labels", str(talking / "labels.csv"), "--report", str(report)]
    settings = ["face_detector=haar", "sync=correlation", "device=cpu", "frame_size=64"]
    assert main(["eval", *words, *labels, *settings]) == 0
    numbers = json.loads((report / "report.json").read_text())
    assert numbers["provenance"]["detector"] == "own.py" and numbers["provenance"]["prep_hash"]
    values = rows_of(tmp_path / "s.csv")
    assert len(values) == 12 and len(set(values.values())) == 12 and all(0.1 < value < 0.9 for value in values.values())
    capsys.readouterr()
    assert main(["report", "--from", str(report / "scores.csv")]) == 0
    assert "all as in report.json" in capsys.readouterr().out


def test_numbers_that_do_not_follow_from_the_rows_are_found(tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    names = [f"{i}.mp4" for i in range(60)]
    pd.DataFrame({"filename": names, "probability": rng.random(60)}).to_csv(tmp_path / "s.csv", index=False)
    labels = pd.DataFrame({"filename": names, "label": [0, 1] * 30, "identity": [f"p{i // 4}" for i in range(60)]})
    labels.to_csv(tmp_path / "l.csv", index=False)
    words = ["--scores", str(tmp_path / "s.csv"), "--labels", str(tmp_path / "l.csv"), "--resamples", "100"]
    assert main(["report", *words, "--output", str(tmp_path / "r")]) == 0
    rows = tmp_path / "r" / "scores.csv"
    assert main(["report", "--from", str(rows)]) == 0
    table = pd.read_csv(rows)
    table.loc[0, "probability"] = 1.0
    table.to_csv(rows, index=False)
    assert main(["report", "--from", str(rows)]) == 1
    assert "differs: overall.metrics.auc.value" in capsys.readouterr().out
    (tmp_path / "r" / "report.json").unlink()
    assert main(["report", "--from", str(rows)]) == 0
    assert "no report.json" in capsys.readouterr().out


def test_score_files_of_others_are_read(tmp_path: Path):
    labels = tmp_path / "labels.csv"
    labels.write_text("filename,label\n000001.mp4,1\n000002.mp4,0\n")
    forms = {
        "tmc.csv": "filename,probability\n000001.mp4,0.9\n000002.mp4,0.25\n",
        "dfdc.csv": "filename,label\n000001.mp4,0.9\n000002.mp4,0.25\n",
        "prediction.txt": "000001.mp4;0.9\n000002.mp4;0.25\n",
        "named.csv": "video,score\n000001.mp4,0.9\n000002.mp4,0.25\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        for path in (tmp_path / name, tmp_path / f"{name}.gz"):
            rows = join(path, labels)
            assert rows["probability"].tolist() == [0.9, 0.25] and rows["label"].tolist() == [1, 0], path
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(forms["tmc.csv"].encode())[:-9])
    with pytest.raises(ScoresError, match="compression is damaged"):
        join(tmp_path / "torn.csv.gz", labels)
    (tmp_path / "none.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(ScoresError, match="column filename is missing"):
        join(tmp_path / "none.csv", labels)


def matrix_of_detectors(path: Path) -> pd.DataFrame:
    """In the form of deepsafe-bench's predictions_*.csv.gz; detector `b` was not run on pictures."""
    rng = np.random.default_rng(1)
    n = 120
    table = pd.DataFrame({"id": [f"clip_{i:05d}" for i in range(n)], "modality": ["video", "images"] * (n // 2)})
    table["label"] = np.where(rng.random(n) < 0.5, "real", "fake")
    table["generator"] = np.where(
        table["label"] == "real", np.where(rng.random(n) < 0.5, "lavdf", "other"), "lavdf_both"
    )
    table["ensemble_score"], table["ensemble_verdict"], table["prob_b"] = rng.random(n), "real", rng.random(n)
    table.loc[table["modality"] == "images", "prob_b"] = np.nan
    table.to_csv(path, index=False, compression="gzip")
    return table


def test_a_matrix_of_detectors_is_measured_by_column_and_part(tmp_path: Path, caplog):
    path = tmp_path / "predictions_small.csv.gz"
    table = matrix_of_detectors(path)
    lav = table[table["generator"].str.startswith("lavdf")]
    rows = join(path, None, where=["generator=lavdf*"])
    expected = roc_auc_score(lav["label"] == "fake", lav["ensemble_score"])
    assert roc_auc_score(rows["label"], rows["probability"]) == pytest.approx(expected, abs=1e-12) and len(rows) == len(
        lav
    )
    assert len(join(path, None, column="b")) == 60 and "60 of 120 rows have no prob_b" in caplog.text
    between = join(
        path,
        None,
        column="prob_b",
        where=["label=real", "generator=lavdf|other"],
        label_column="generator",
        label_map={"lavdf": 0, "other": 1},
    )
    reals = table[(table["label"] == "real") & table["prob_b"].notna()]
    assert roc_auc_score(between["label"], between["probability"]) == pytest.approx(
        roc_auc_score(reals["generator"] == "other", reals["prob_b"]), abs=1e-12
    )
    with pytest.raises(ScoresError, match="has no column c nor prob_c"):
        join(path, None, column="c")
    for condition in ("generator", "nothing=1", "generator=none"):
        with pytest.raises(ScoresError, match="--where"):
            only(rows, [condition], path, ScoresError)


OWN = {
    "files": """
import cv2, os

def predict(path):
    assert path.endswith(".mkv") or "/clips" in path, path
    video = cv2.VideoCapture(path)
    bright = [video.read()[1].mean() for _ in range(5)]
    return sum(bright) / 5 / 255
""",
    "bundles": "def predict_bundle(bundle):\n    return float(bundle.faces.mean()) / 255\n",
}


@pytest.mark.parametrize("takes", OWN)
def test_anyone_s_detector_is_measured_on_perturbed_videos(takes: str, talking: Path, tmp_path: Path, capsys):
    (tmp_path / "clips").mkdir()
    labels = pd.read_csv(talking / "labels.csv").groupby("label").head(1)
    for name in labels["filename"]:
        target = tmp_path / "clips" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((talking / name).read_bytes())
    labels.to_csv(tmp_path / "labels.csv", index=False)
    (tmp_path / "own.py").write_text(OWN[takes])
    words = ["--detector", str(tmp_path / "own.py"), "-input", str(tmp_path / "clips")]
    words += ["-output", str(tmp_path / "s.csv"), "--labels", str(tmp_path / "labels.csv"), "--workers", "1"]
    words += ["--robustness", str(tmp_path / "grid"), "--kinds", "contrast,gain", "--levels", "1,5"]
    words += ["face_detector=haar", "sync=correlation", "device=cpu", "frame_size=64", "max_clip_len=1.4"]
    assert main(["eval", *words]) == 0
    assert "mean relative drop over 4 cells" in capsys.readouterr().out
    clean, mild, dark, quiet = (
        rows_of(tmp_path / path) for path in ("s.csv", "grid/contrast-1.csv", "grid/contrast-5.csv", "grid/gain-5.csv")
    )
    for name in clean:
        assert mild[name] == pytest.approx(0.85 * clean[name], rel=0.05), (mild, clean)
        assert dark[name] == pytest.approx(0.35 * clean[name], rel=0.05)
        assert quiet[name] == pytest.approx(clean[name], rel=0.02)
    assert not list((tmp_path / "grid").glob(".videos-*"))
    scored = (tmp_path / "grid/gain-5.csv").stat().st_mtime_ns
    assert main(["eval", *words]) == 0
    assert (tmp_path / "grid/gain-5.csv").stat().st_mtime_ns == scored
    if takes == "files":  # of which another length is written: what was found of the first says nothing
        assert main(["eval", *words, "max_clip_len=0.6"]) == 0
        assert (tmp_path / "grid/gain-5.csv").stat().st_mtime_ns != scored


def test_what_a_detector_writes_to_stderr_is_not_kept_but_for_its_end(tmp_path: Path):
    """20 MB of it fill no disk and hold nobody up; of a file without a name it would all be there."""
    file = tmp_path / "own.py"
    file.write_text(
        "import os, stat\n"
        "def predict(path):\n"
        "    for _ in range(20): os.write(2, b'noise' * 200_000)\n"
        "    if path.endswith('last'): os.write(2, b'\\nthe end\\n'); os._exit(3)\n"
        "    return float(stat.S_ISFIFO(os.fstat(2).st_mode))\n"
    )
    with Foreign(file, timeout=30) as detector:
        assert detector.predict(Path("first")) == 1.0
        assert len(detector._errors._kept) <= 4096
        with pytest.raises(ForeignError, match="exit code 3: the end"):
            detector.predict(Path("last"))
