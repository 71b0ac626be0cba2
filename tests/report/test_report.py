"""Reports, comparisons and the cross-corpus matrix: numbers that agree with their sources, pages that load nothing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError
from sklearn.metrics import roc_auc_score

from visavox.config import Config
from visavox.evaluation.calibration import Calibration
from visavox.evaluation.rows import ScoredRow, read_details
from visavox.evaluation.scores import ScoresError, join, of_split
from visavox.report.__main__ import main
from visavox.report.again import differences, measured_again
from visavox.report.analysis import gate_of
from visavox.report.compare import compare, matrix
from visavox.report.origin import commit_of
from visavox.report.page import render
from visavox.report.thumbnails import thumbnail
from visavox.report.write import report_run, write_report
from visavox.splits.table import label_map

QUICK = ["--resamples", "100"]


def table(seed: int = 0, clips: int = 240, skill: float = 1.5) -> pd.DataFrame:
    """Scored clips of 24 people and two methods, test and train, with an awkward name among them."""
    rng = np.random.default_rng(seed)
    labels = np.tile([0, 1], clips // 2)
    names = [f"clips/{i:03d}.mp4" for i in range(clips)]
    names[1] = 'clips/<b>"&.mp4'
    return pd.DataFrame(
        {
            "filename": names,
            "probability": 1
            / (1 + np.exp(-(skill * (labels - 0.5) + np.random.default_rng(seed + 9).normal(size=clips)))),
            "label": labels,
            "status": ["failed" if i == 7 else "ok" for i in range(clips)],
            "seconds": [{"decode": 0.1, "total": 0.3, "score": 0.05}] * clips,
            "split": np.where(np.arange(clips) < 40, "train", "test"),
            "identity": [f"id{i // 10:02d}" for i in range(clips)],
            "method": np.where(labels == 1, np.where(rng.random(clips) < 0.5, "swap", "lips"), "real"),
            "gender": np.where(np.arange(clips) // 10 % 2, "women", "men"),
            "corpus": np.where(np.arange(clips) % 4 < 2, "A", "B"),
        }
    )


class Page(HTMLParser):
    """What a page loads, and what a reader who cannot see it misses."""

    def __init__(self, text: str):
        super().__init__()
        self.sources: list[str] = []
        self.images_without_text = self.cells_without_scope = 0
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.sources += [given[name] for name in ("src", "href", "srcset", "data") if given.get(name)]
        self.images_without_text += tag == "img" and not given.get("alt")
        self.cells_without_scope += tag == "th" and "scope" not in given


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(table(), folder, title="A <title>", labels=table(), threshold=0.4, resamples=100)
    return folder


def test_the_page_stands_alone_and_can_be_read_aloud(report: Path):
    text = (report / "report.html").read_text()
    page = Page(text)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in page.sources)
    assert "url(" not in text and "@import" not in text and "script" not in page.tags
    assert page.images_without_text == 0 and page.cells_without_scope == 0
    assert {"main", "h1", "caption", "figcaption", "nav"} <= page.tags and '<html lang="en">' in text
    assert "A &lt;title&gt;" in text and "<b>" not in text


def test_whatever_stands_in_a_table_is_text_on_the_page(tmp_path: Path):
    evil = "<script>alert(1)</script>&\"'"
    rows = table(clips=80).assign(split="test")
    rows["method"] = np.where(rows["label"] == 1, evil, "real")
    rows["identity"] = [f"{evil}{i // 10}" for i in range(len(rows))]
    rows["filename"] = [f"{evil}{i}.mp4" for i in range(len(rows))]
    numbers = write_report(
        rows, tmp_path, title=evil, resamples=20, provenance={"scores": evil, "config": {evil: evil}}
    )
    text = (tmp_path / "report.html").read_text()
    assert "script" not in Page(text).tags and "alert(1)" in text
    assert numbers["breakdowns"]["method"]["values"][evil]["n_fake"] == 40
    with pytest.raises(UndefinedError):  # a number that is missing is a fault, not an empty cell
        render("t", {name: value for name, value in numbers.items() if name != "confusion"}, {}, [])


def test_numbers_are_those_of_the_test_split(report: Path):
    rows = table()
    test = rows[rows["split"] == "test"]
    numbers = json.loads((report / "report.json").read_text())
    auc = numbers["overall"]["metrics"]["auc"]
    assert auc["value"] == pytest.approx(roc_auc_score(test["label"], test["probability"]), abs=1e-12)
    assert auc["low"] < auc["value"] < auc["high"]
    assert (numbers["overall"]["n_real"], numbers["overall"]["n_fake"], numbers["overall"]["groups"]) == (100, 100, 20)
    assert numbers["provenance"]["rows"] == "split test; left out: 40 train"
    assert sum(numbers["confusion"].values()) == 200
    called = (test["probability"] >= 0.4) & (test["label"] == 1)
    assert numbers["confusion"]["fake_called_fake"] == called.sum()
    assert numbers["threshold"] == {"value": 0.4, "source": "given"}


def test_parts_are_measured_against_the_right_real_clips(report: Path):
    rows = table()
    test = rows[rows["split"] == "test"]
    parts = json.loads((report / "report.json").read_text())["breakdowns"]
    assert set(parts) == {"corpus", "method", "gender"}
    assert set(parts["method"]["values"]) == {"lips", "swap"}  # real clips are no method
    lips = test[(test["method"] == "lips") | (test["label"] == 0)]
    found = parts["method"]["values"]["lips"]
    assert found["against"] == "all real clips" and found["n_real"] == 100
    assert found["metrics"]["auc"]["value"] == pytest.approx(
        roc_auc_score(lips["label"], lips["probability"]), abs=1e-12
    )
    women = test[test["gender"] == "women"]
    found = parts["gender"]["values"]["women"]
    assert found["against"] == "real clips of the same value"
    assert found["metrics"]["auc"]["value"] == pytest.approx(
        roc_auc_score(women["label"], women["probability"]), abs=1e-12
    )
    each = [part["metrics"]["auc"]["value"] for part in parts["gender"]["values"].values()]
    assert parts["gender"]["macro"]["auc"] == pytest.approx(np.mean(each))


def test_files_beside_the_page(report: Path):
    names = {path.name for path in report.iterdir()}
    figures = {"roc", "precision_recall", "reliability", "risk_coverage", "scores", "auc_by_part"}
    assert names == {"report.html", "report.json", "scores.csv"} | {f"{name}.png" for name in figures}
    for name in figures:
        assert cv2.imread(str(report / f"{name}.png")).shape[0] > 200
    scores = pd.read_csv(report / "scores.csv")
    assert list(scores)[:3] == ["filename", "probability", "label"] and len(scores) == 200
    assert json.loads(scores["seconds"][0]) == {"decode": 0.1, "total": 0.3, "score": 0.05}
    stages = {row["stage"]: row for row in json.loads((report / "report.json").read_text())["run_time"]}
    assert stages["decode"]["sum"] == pytest.approx(20) and stages["total"]["p95"] == pytest.approx(0.3)


def test_run_times_are_made_again_from_the_rows(report: Path, tmp_path: Path):
    rows = join(report / "scores.csv", None)
    written, numbers = measured_again(rows, report / "report.json")
    assert numbers["run_time"] == written["run_time"] and not differences(written, numbers)
    rows["seconds"] = [{} for _ in range(len(rows))]  # a report of before, whose rows hold none
    assert not differences(written, measured_again(rows, report / "report.json")[1])
    (tmp_path / "s.csv").write_text("filename,probability,label,seconds\na,0.5,1,0.25\nb,0.1,0,\n")
    assert list(join(tmp_path / "s.csv", None)["seconds"]) == [{"total": 0.25}, {}]
    (tmp_path / "s.csv").write_text("filename,probability,label,seconds\na,0.5,1,soon\nb,0.1,0,\n")
    with pytest.raises(ScoresError, match="expected a number or stages"):
        join(tmp_path / "s.csv", None)


def test_what_exited_is_read_from_a_report_as_it_was_written(tmp_path: Path):
    cells = [("a", 0.1, 0, True), ("b", 0.9, 1, False), ("c", 0.2, 0, False), ("d", 0.5, 1, "")]
    pd.DataFrame(cells, columns=["filename", "probability", "label", "exited"]).to_csv(
        tmp_path / "scores.csv", index=False
    )
    rows = join(tmp_path / "scores.csv", None)
    found = {"clips": 3, "exited": 1 / 3, "exited_real": 0.5, "exited_fake": 0.0}
    assert gate_of(rows) == pytest.approx(found)
    assert gate_of(rows[3:]) == {"clips": 0, "exited": None, "exited_real": None, "exited_fake": None}


def test_worst_errors_are_the_worst_with_their_faces(report: Path, tmp_path: Path, make_bundle):
    worst = json.loads((report / "report.json").read_text())["worst_errors"]
    test = table().query("split == 'test'")
    assert [row["label"] for row in worst] == [1] * 6 + [0] * 6
    assert worst[0]["probability"] == test["probability"][test["label"] == 1].min()
    assert worst[6]["probability"] == test["probability"][test["label"] == 0].max()
    make_bundle().save(tmp_path / "a.npz")
    image = cv2.imdecode(np.frombuffer(thumbnail(tmp_path / "a.npz"), np.uint8), 1)
    assert image.shape == (128, 128, 3)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert thumbnail(tmp_path / "broken.mp4") is None and thumbnail(None) is None


def test_what_weakens_the_numbers_is_said(tmp_path: Path):
    leaky = table().assign(protocol="compat")
    leaky.loc[0, "identity"] = leaky["identity"].iloc[-1]
    fitted = Calibration("none", {}, 0.3, 5, 5, warnings=("a guess",), clips=("clips/100.mp4",))
    turned = leaky.assign(probability=1 - leaky["probability"])
    numbers = write_report(turned, tmp_path, labels=turned, calibration=fitted, resamples=100)
    stamps, said = " | ".join(numbers["provenance"]["stamps"]), " | ".join(numbers["warnings"])
    assert "protocol compat" in stamps and "identity leak: id23 stands in two splits" in stamps
    assert "calibration: a guess" in stamps and "1 of these clips were used to fit" in stamps
    assert "turned round" in said and "could not be scored" not in said  # clip 7 is a train clip
    assert numbers["threshold"]["value"] == 0.3
    text = (tmp_path / "report.html").read_text()
    assert "protocol compat" in text and "identity leak" in text
    alone = write_report(table().drop(columns="identity"), tmp_path, split="all", resamples=50)["warnings"]
    assert any("no identity column" in text for text in alone) and any("1 of 240 clips" in text for text in alone)


def test_one_class_gives_a_report_without_what_needs_two(tmp_path: Path):
    numbers = write_report(table().query("label == 1"), tmp_path, resamples=50)
    assert numbers["overall"]["metrics"]["auc"] == {"value": None, "low": None, "high": None}
    assert any("only one class" in text for text in numbers["warnings"])
    assert not (tmp_path / "roc.png").exists() and (tmp_path / "report.html").is_file()


def test_a_run_of_eval_is_reported_with_its_origin(tmp_path: Path, tiny_config: Config, capsys):
    rows = table().query("split == 'test'")
    rows.drop(columns=["probability", "status", "seconds"]).to_csv(tmp_path / "labels.csv", index=False)
    scored = [
        ScoredRow(row.filename.replace(".mp4", ".npz"), row.probability, "ok", raw=row.probability / 2)
        for row in rows.itertuples()
    ]
    made = report_run(
        scored,
        tmp_path / "labels.csv",
        tmp_path / "r",
        inputs={},
        config=tiny_config,
        calibration=None,
        checkpoint="abc",
    )
    assert made["provenance"]["checkpoint_sha256"] == "abc" and made["provenance"]["config"]["frame_num"] == 4
    assert len(made["provenance"]["labels_sha256"]) == 64 and len(made["provenance"]["prep_hash"]) == 16
    assert made["overall"]["n_fake"] == 100  # bundles are found by the names of their videos
    kept = pd.read_csv(tmp_path / "r/scores.csv")
    assert kept["raw"].to_numpy() == pytest.approx(kept["probability"].to_numpy() / 2)
    assert re.search(r"auc +0\.\d{4}  \[", capsys.readouterr().out)


def test_commit_is_known_only_in_a_checkout(tmp_path: Path):
    assert commit_of(tmp_path) is None
    assert re.fullmatch(r"[0-9a-f]{40}( \+ changes)?", commit_of(Path(__file__).parents[2]) or "0" * 40)


def save(rows: pd.DataFrame, scores: Path, labels: Path) -> None:
    rows[["filename", "probability"]].to_csv(scores, index=False)
    rows.drop(columns=["probability", "status", "seconds"]).to_csv(labels, index=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """good.csv and poor.csv of the same clips, labels.csv."""
    save(table(skill=0.3), tmp_path / "poor.csv", tmp_path / "labels.csv")
    save(table(skill=3), tmp_path / "good.csv", tmp_path / "labels.csv")
    return tmp_path


def test_commands(files: Path, capsys):
    labels = ["--labels", str(files / "labels.csv"), *QUICK]
    good, poor = str(files / "good.csv"), str(files / "poor.csv")
    assert main(["make", good, "--output", str(files / "r"), *labels]) == 0
    again = [str(files / "r/scores.csv"), "--output", str(files / "again"), *QUICK]
    assert main(["make", *again]) == 0  # a report's scores need no labels
    first, second = (json.loads((files / name / "report.json").read_text()) for name in ("r", "again"))
    assert first["overall"]["metrics"]["auc"]["value"] == pytest.approx(second["overall"]["metrics"]["auc"]["value"])
    assert main(["compare", poor, good, "--output", str(files / "c.json"), *labels]) == 0
    found = json.loads((files / "c.json").read_text())
    assert found["clips"] == 200 and found["group_column"] == "identity"
    assert found["delong"]["low"] > 0 and found["paired_bootstrap"]["auc"]["low"] > 0
    assert main(["matrix", f"ours={good}", poor, "--output", str(files / "m"), *labels]) == 0
    cells = pd.read_csv(files / "m/matrix.csv").set_index(["detector", "corpus"])["value"]
    assert cells["ours", "average"] == pytest.approx((cells["ours", "A"] + cells["ours", "B"]) / 2)
    assert set(cells.index.get_level_values(0)) == {"ours", "poor"}
    assert "<table>" in (files / "m/matrix.html").read_text()
    assert main(["make", str(files / "absent.csv"), "--output", str(files / "r"), *labels]) == 2
    assert "absent.csv: no such file" in capsys.readouterr().err


def test_scores_and_labels_that_say_real_are_turned_round(files: Path):
    there = join(files / "good.csv", files / "labels.csv")
    labels = pd.read_csv(files / "labels.csv")
    labels.assign(label=1 - labels["label"]).to_csv(files / "turned.csv", index=False)
    scores = pd.read_csv(files / "good.csv")
    scores.assign(probability=1 - scores["probability"]).to_csv(files / "real.csv", index=False)
    known = label_map("0=fake,1=real")
    back = join(files / "real.csv", files / "turned.csv", label_map=known, scores_of="real")
    assert (back["label"] == there["label"]).all()
    assert back["probability"].to_numpy() == pytest.approx(there["probability"].to_numpy())


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ("name,probability\na,0.5\n", "filename,label\na,1\n", "column filename is missing"),
        ("filename,probability\na,1.5\n", "filename,label\na,1\n", r"s.csv:2: probability is '1.5'"),
        ("filename,probability\na,0.5\na,0.5\n", "filename,label\na,1\n", "a has two rows"),
        ("filename,probability\na,0.5\n", "filename,label\nb,1\n", "names none of the 1 scored files"),
        ("filename,probability\na,0.5\n", "filename,label\na,maybe\n", r"l.csv:2: label is 'maybe'"),
        ("filename,probability\n", "filename,label\na,1\n", "has no rows"),
    ],
)
def test_faulty_files_are_named(scores: str, labels: str, message: str, tmp_path: Path):
    (tmp_path / "s.csv").write_text(scores)
    (tmp_path / "l.csv").write_text(labels)
    with pytest.raises(ScoresError, match=message):
        join(tmp_path / "s.csv", tmp_path / "l.csv")


def test_names_are_matched_only_where_they_are_unique(tmp_path: Path):
    (tmp_path / "s.csv").write_text("filename,probability\nx/a.npz,0.1\nclip.mp4,0.2\nz/b.mp4,0.3\n")
    (tmp_path / "l.csv").write_text("filename,label\nx/a.mp4,1\ny/a.mp4,0\nreal/clip.mp4,0\n1/b.mp4,1\n2/b.mp4,0\n")
    rows = join(tmp_path / "s.csv", tmp_path / "l.csv")
    assert dict(zip(rows["filename"], rows["label"])) == {"x/a.npz": 1, "clip.mp4": 0}


def test_comparison_and_split_refuse_what_does_not_fit():
    rows = table()
    with pytest.raises(ScoresError, match="disagree about the label of clips/000.mp4"):
        compare(rows, rows.assign(label=1 - rows["label"]), resamples=10)
    with pytest.raises(ScoresError, match="no clip in common"):
        compare(rows, rows.assign(filename=rows["filename"] + "x"), resamples=10)
    with pytest.raises(ScoresError, match="no scored clip belongs to it"):
        of_split(rows, "val")
    with pytest.raises(ScoresError, match="no column corpus"):
        matrix({"ours": rows.drop(columns="corpus")})


def test_eval_writes_the_report_and_applies_the_calibration(
    tiny_config: Config, make_bundle, tmp_path: Path, capsys, monkeypatch
):
    import torch

    from visavox import logs
    from visavox.commands import evaluate as evaluation
    from visavox.detectors import build
    from visavox.files import sha256_of

    monkeypatch.setattr(logs, "set_up_logging", lambda: None)  # its handler would outlive the captured stream
    bundles = [make_bundle(i) for i in range(6)]
    for i, bundle in enumerate(bundles):
        bundle.save(tmp_path / f"in{i}.npz")
    torch.manual_seed(0)
    detector = build.build(tiny_config)
    detector.fit_inputs(bundles)
    checkpoint = tmp_path / "best.ckpt"
    torch.save({"state_dict": detector.state_dict(), "hyper_parameters": dict(detector.hparams)}, checkpoint)
    lines = [f"in{i}.mp4,{i % 2},id{i % 3}" for i in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,label,identity", *lines]) + "\n")
    Calibration("temperature", {"T": 0.5}, 0.4, 50, 50, checkpoint=sha256_of(checkpoint)).save(tmp_path / "c.json")
    words = ["-input", str(tmp_path), "--checkpoint", str(checkpoint), "--workers", "1"]
    labels = ["--labels", str(tmp_path / "labels.csv")]
    assert evaluation.main([*words, "-output", str(tmp_path / "raw.csv")]) == 0
    calibrated = [
        "-output",
        str(tmp_path / "s.csv"),
        "--report",
        str(tmp_path / "r"),
        "--calibration",
        str(tmp_path / "c.json"),
    ]
    assert evaluation.main([*words, *labels, *calibrated]) == 0
    raw, made = (pd.read_csv(tmp_path / name)["probability"].to_numpy() for name in ("raw.csv", "s.csv"))
    assert made / (1 - made) == pytest.approx((raw / (1 - raw)) ** 2, rel=1e-4)
    both = list(read_details(tmp_path / "s.csv"))
    assert [row.raw for row in both] == pytest.approx(raw) and [row.probability for row in both] == pytest.approx(made)
    assert all(row.identity.checkpoint == sha256_of(checkpoint) for row in both)
    assert all(row.raw is None for row in read_details(tmp_path / "raw.csv"))
    numbers = json.loads((tmp_path / "r/report.json").read_text())
    assert numbers["provenance"]["checkpoint_sha256"] == sha256_of(checkpoint)
    assert numbers["threshold"]["value"] == 0.4 and numbers["statuses"] == {"ok": 6}
    assert {"score", "load"} <= {row["stage"] for row in numbers["run_time"]}
    turned = [line.replace(",0,", ",bonafide,").replace(",1,", ",0,").replace(",bonafide,", ",1,") for line in lines]
    (tmp_path / "turned.csv").write_text("\n".join(["filename,label,identity", *turned]) + "\n")
    words_of_turned = ["--labels", str(tmp_path / "turned.csv"), "--label-map", "1=real,0=fake"]
    capsys.readouterr()
    assert evaluation.main([*words, "-output", str(tmp_path / "raw.csv"), *labels]) == 0
    said = capsys.readouterr().out
    assert evaluation.main([*words, "-output", str(tmp_path / "raw.csv"), *words_of_turned]) == 0
    assert capsys.readouterr().out == said and "AUC: " in said
    assert evaluation.main([*words, *words_of_turned, *calibrated]) == 0
    assert json.loads((tmp_path / "r/report.json").read_text())["overall"] == numbers["overall"]
    with pytest.raises(SystemExit):
        evaluation.main([*words, *calibrated])
    assert "--report needs --labels" in capsys.readouterr().err
