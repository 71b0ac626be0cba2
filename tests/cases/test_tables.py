"""Labels, splits and scores as people and programs write them: read as they are meant, or refused with file and line."""

import csv
import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.cases.cases import Case, held_by
from visavox.evaluation.calibration import main as calibrate
from visavox.evaluation.rows import ScoredRow
from visavox.evaluation.scores import ScoresError, join, read_labels
from visavox.evaluation.submission import describe_auc, write_submission
from visavox.report.__main__ import main as report
from visavox.splits.table import SplitError, label_map, read_split

NFC, NFD = "caf\u00e9", "cafe\u0301"
CLIPS = {f"{folder}/{i}.mp4": int(folder == "fake") for i in range(4) for folder in ("real", "fake")}
"""Scored files and what they are; of each name there are two, in two folders."""
PLAIN = "filename,label\n" + "".join(f"{name},{label}\n" for name, label in CLIPS.items())


def rows_of(names: dict[str, int]) -> list[ScoredRow]:
    """Scores that separate the classes but for one clip, so that every wrong match changes the AUC."""
    wrong = list(names)[0]
    return [
        ScoredRow(name, 0.3 + 0.4 * (label != (name == wrong)) + i / 100, "ok")
        for i, (name, label) in enumerate(names.items())
    ]


def found(folder: Path, text: str | bytes, names: dict[str, int] = CLIPS, **how) -> dict[str, int]:
    """Write labels and the scores of `names`; return what each file is labelled, by every way that labels are used."""
    labels, scores = folder / "labels.csv", folder / "scores.csv"
    labels.write_bytes(text if isinstance(text, bytes) else text.encode())
    rows = rows_of(names)
    write_submission(rows, scores)
    joined = join(scores, labels, **how)
    said = describe_auc(rows, read_labels(labels, **how), labels)
    assert f"over {len(joined)} files" in said or "not computed" in said, "eval and report join alike"
    return dict(zip(joined["filename"], joined["label"]))


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@held_by(
    Case("T1", "byte order mark", "labels are read as without it", "\ufeff" + PLAIN),
    Case(
        "T1", "UTF-16 as spreadsheets save Unicode text", "labels are read", changed(PLAIN, ",", "\t").encode("utf-16")
    ),
    Case("T2", "CRLF", "labels are read", changed(PLAIN, "\n", "\r\n")),
    Case("T2", "CR alone", "labels are read", changed(PLAIN, "\n", "\r")),
    Case("T2", "no line end after the last line", "labels are read", PLAIN.rstrip()),
    Case("T3", "tabs", "labels are read", changed(PLAIN, ",", "\t")),
    Case("T3", "semicolons", "labels are read", changed(PLAIN, ",", ";")),
    Case("T3", "a first line sep=;", "labels are read", "sep=;\r\n" + changed(PLAIN, ",", ";")),
    Case("T4", "upper case columns", "labels are read", changed(PLAIN, "filename,label", "FileName,LABEL")),
    Case("T4", "upper case names of files", "a name in another letter case fits if no other line does", PLAIN.upper()),
    Case("T5", "spaces around cells", "labels are read", changed(PLAIN, ",", " , ")),
    Case("T5", "empty lines and lines of commas", "left out", "\n \n" + changed(PLAIN, "\n", "\n\n,\n")),
    Case(
        "T6",
        "every cell in quotes",
        "labels are read",
        '"' + changed(changed(PLAIN, ",", '","'), "\n", '"\n"').rstrip('"'),
    ),
    Case("T7", "REAL and FAKE", "labels are read", changed(changed(PLAIN, ",0\n", ",REAL\n"), ",1\n", ",Fake\n")),
    Case("T7", "0.0 and 1.0", "labels are read", changed(changed(PLAIN, ",0\n", ",0.0\n"), ",1\n", ",1.0\n")),
    Case("T8", "absolute paths", "a path fits where the name is its end", changed(PLAIN, "\n", "\n/data/v1/")[:-9]),
    Case("T8", "paths of Windows", "labels are read", changed(changed(PLAIN, "/", "\\"), "\n", "\nC:\\v1\\")[:-6]),
    Case("T8", "names of bundles", "a bundle is the video that it was made of", changed(PLAIN, ".mp4", ".npz")),
    Case("T8", "names without suffix", "labels are read", changed(PLAIN, ".mp4", "")),
    Case(
        "T9",
        "further columns",
        "kept",
        changed(changed(PLAIN, "label\n", "label,id,x\n"), "0\n", "0,7,\n").replace(",1\n", ",1,8,y\n"),
    ),
    Case(
        "T9",
        "an index without a name",
        "left out",
        ",filename,label\n" + "".join(f"{i},{n},{v}\n" for i, (n, v) in enumerate(CLIPS.items())),
    ),
    Case(
        "T9",
        "columns in another order",
        "labels are read",
        "label,filename\n" + "".join(f"{v},{n}\n" for n, v in CLIPS.items()),
    ),
    Case("T10", "the same line twice", "counted once", PLAIN + "fake/0.mp4,1\n"),
)
def test_labels_are_read_as_they_are_meant(case: Case, tmp_path: Path):
    assert found(tmp_path, case.given) == CLIPS


@held_by(
    Case(
        "T11",
        "bare names that two folders have",
        "nobody is labelled, and it is said why",
        "filename,label\n0.mp4,1\n1.mp4,1\n2.mp4,0\n3.mp4,0\n",
    ),
    Case(
        "T11",
        "the other folder's labels",
        "no clip takes the label of its namesake",
        "filename,label\n" + "".join(f"other/{i}.mp4,0\n" for i in range(4)),
    ),
    Case("T11", "labels of other videos of these names", "a.avi is not a.mp4", changed(PLAIN, ".mp4", ".avi")),
)
def test_nothing_is_matched_to_the_wrong_clip(case: Case, tmp_path: Path):
    with pytest.raises(ScoresError, match="names none of the 8 scored files"):
        found(tmp_path, case.given)


@held_by(
    Case("T12", "names in the other Unicode form", "labels are read", (NFD, NFC)),
    Case("T12", "names in the other Unicode form, decomposed", "labels are read", (NFC, NFD)),
)
def test_accents_in_either_form(case: Case, tmp_path: Path):
    scored, written = case.given
    names = {f"{scored}/{i}.mp4": i % 2 for i in range(4)}
    text = "filename,label\n" + "".join(f"{written}/{i}.mp4,{i % 2}\n" for i in range(4))
    assert found(tmp_path, text, names) == names


def test_namesakes_in_two_folders_keep_their_own_labels(tmp_path: Path):
    some = {name: label for name, label in CLIPS.items() if name != "real/2.mp4"}
    text = "filename,label\n" + "".join(f"{name},{label}\n" for name, label in some.items())
    assert found(tmp_path, text) == some, "real/2.mp4 does not take the label of fake/2.mp4"


@held_by(
    Case(
        "T13",
        "true and false",
        "refused: which of them is fake is not known",
        (changed(PLAIN, ",0\n", ",false\n"), r"labels.csv:2: label is 'false', expected one of .*--label-map"),
    ),
    Case(
        "T13",
        "a label that nobody knows",
        "refused with its line",
        (changed(PLAIN, "real/1.mp4,0", "real/1.mp4,maybe"), r"labels.csv:4: label is 'maybe'"),
    ),
    Case(
        "T13",
        "no label",
        "refused with its line",
        (changed(PLAIN, "fake/1.mp4,1", "fake/1.mp4,"), r"labels.csv:5: label is ''"),
    ),
    Case(
        "T13",
        "no file name",
        "refused with its line",
        (changed(PLAIN, "fake/1.mp4,1", ",1"), r"labels.csv:5: filename is empty"),
    ),
    Case(
        "T14",
        "another label for the same file",
        "refused with both lines",
        (PLAIN + "fake/0.mp4,0\n", r"labels.csv:10: fake/0.mp4 has another line, 3, with other cells"),
    ),
    Case(
        "T15",
        "a column is missing",
        "refused with what is there",
        (changed(PLAIN, "label\n", "lable\n"), r"labels.csv: 1 fault.*\n.*column label is missing; is it 'lable'"),
    ),
    Case(
        "T15",
        "a column twice",
        "refused",
        (changed(PLAIN, "filename,", "label,filename,").replace("mp4", "mp4,"), r"column label stands there twice"),
    ),
    Case(
        "T15",
        "a line with a cell too many",
        "refused with its line",
        (changed(PLAIN, "fake/1.mp4,1", "fake/1,5.mp4,1"), r"line 5: other than 2 cells; quote"),
    ),
    Case(
        "T15",
        "cells that spaces separate",
        "refused",
        (changed(PLAIN, ",", " "), r"column filename is missing(?s:.*)commas, semicolons or tabs"),
    ),
    Case(
        "T15",
        "a quote that does not end",
        "refused with its line",
        (changed(PLAIN, "real/3", '"real/3'), r"labels.csv:9: .*check its quotes"),
    ),
    Case("T16", "an empty file", "refused", ("", r"column filename is missing; the file has none")),
    Case("T16", "a header alone", "refused", ("filename,label\n", "labels.csv: has no rows")),
    Case(
        "T16",
        "Latin-1",
        "refused",
        (changed(PLAIN, "real/0", "r\u00e9al/0").encode("latin-1"), r"labels.csv: not UTF-8"),
    ),
    Case("T16", "a picture", "refused", (b"\x89PNG\r\n\x1a\n\0\0", "labels.csv: not UTF-8")),
    Case("T16", "binary data", "refused with its line", (PLAIN + "\0\0", "labels.csv:10: holds binary data")),
)
def test_what_is_not_understood_is_refused_with_file_and_line(case: Case, tmp_path: Path):
    text, message = case.given
    with pytest.raises(ScoresError, match=message):
        found(tmp_path, text)


def test_what_true_means_can_be_said(tmp_path: Path):
    text = changed(changed(PLAIN, ",0\n", ",TRUE\n"), ",1\n", ",FALSE\n")
    assert found(tmp_path, text, label_map=label_map("true=real,false=fake")) == CLIPS


def test_a_path_beside_an_ambiguous_name_tells_the_clips_apart(tmp_path: Path):
    lines = [f"{Path(name).name},data/bundles/{name[:-4]}.npz,test,{label}" for name, label in CLIPS.items()]
    assert found(tmp_path, "\n".join(["filename,filepath,split,label", *lines])) == CLIPS


@held_by(
    Case(
        "T17", "decimal commas", "scores are read", ("filename;probability\nreal/0.mp4;0,25\nfake/0.mp4;0,75\n", None)
    ),
    Case("T17", "DFDC's column label", "scores are read", ("filename,label\nreal/0.mp4,0.25\nfake/0.mp4,0.75\n", None)),
    Case(
        "T17",
        "a score above one",
        "refused with its line",
        ("filename,probability\n\nreal/0.mp4,0.25\nfake/0.mp4,75\n", "scores.csv:4: probability is '75'"),
    ),
    Case(
        "T17",
        "no score",
        "refused with its line",
        ("filename,probability\nreal/0.mp4,nan\nfake/0.mp4,0.75\n", "scores.csv:2: probability is 'nan'"),
    ),
    Case(
        "T17",
        "two scores of one file",
        "refused with its line",
        ("filename,probability\nreal/0.mp4,0.5\nreal/0.mp4,0.75\n", "scores.csv:3: real/0.mp4 has two rows"),
    ),
)
def test_scores(case: Case, tmp_path: Path):
    text, message = case.given
    (tmp_path / "scores.csv").write_text(text)
    (tmp_path / "labels.csv").write_text(PLAIN)
    if message:
        with pytest.raises(ScoresError, match=message):
            join(tmp_path / "scores.csv", tmp_path / "labels.csv")
        return
    rows = join(tmp_path / "scores.csv", tmp_path / "labels.csv")
    assert rows[["probability", "label"]].to_numpy().tolist() == [[0.25, 0], [0.75, 1]]


def test_a_reports_scores_may_be_labels_and_bring_no_scores_of_their_own(tmp_path: Path):
    (tmp_path / "scores.csv").write_text("filename,probability\nreal/0.mp4,0.25\nfake/0.mp4,0.75\n")
    (tmp_path / "old.csv").write_text("filename,probability,raw,label\nreal/0.mp4,0.9,0.9,0\nfake/0.mp4,0.1,0.1,1\n")
    assert join(tmp_path / "scores.csv", tmp_path / "old.csv")["probability"].tolist() == [0.25, 0.75]


SPLIT = "filename,filepath,split,label\n" + "".join(
    f"{split}{i}.mp4,b/{split}{i}.npz,{split},{i % 2}\n" for split in ("train", "val", "test") for i in range(4)
)

SHOUTED = re.sub(r"B/\w+.NPZ", lambda path: path[0].lower(), SPLIT.upper())
"""The same with everything but the paths in capitals."""


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """The files that SPLIT names, empty: reading a split does not open them."""
    (tmp_path / "b").mkdir()
    for line in SPLIT.splitlines()[1:]:
        (tmp_path / line.split(",")[1]).touch()
    return tmp_path


@held_by(
    Case(
        "T18",
        "upper case, semicolons, CRLF, a byte order mark",
        "the split is read",
        ("\ufeff" + SHOUTED.replace(",", ";").replace("\n", "\r\n"), None),
    ),
    Case("T18", "paths of Windows", "the split is read", (SPLIT.replace("/", "\\"), None)),
    Case(
        "T18",
        "REAL and FAKE in quotes",
        "the split is read",
        (SPLIT.replace(",0\n", ',"REAL"\n').replace(",1\n", ',"FAKE"\n'), None),
    ),
    Case(
        "T18",
        "true and false",
        "refused with every line",
        (SPLIT.replace(",0\n", ",false\n"), r"label 'false' is unknown \(lines 2, 4, 6, 8, 10 and 1 more\); write 0"),
    ),
    Case(
        "T18",
        "a file in two splits",
        "refused with both lines",
        (SPLIT + "x,b\\train0.npz,test,0\n", r"listed in train and test \(lines 2, 14\)"),
    ),
    Case(
        "T18",
        "a bundle that is not there",
        "refused with its line",
        (SPLIT + "x,b/gone.npz,test,0\n", r"1 of 13 files are missing: b/gone.npz \(line 14\)"),
    ),
)
def test_splits(case: Case, bundles: Path):
    text, message = case.given
    path = bundles / "split.csv"
    path.write_bytes(SPLIT.encode())
    plain = read_split(path, bundles)
    path.write_bytes(text.encode())
    if message:
        with pytest.raises(SplitError, match=message):
            read_split(path, bundles)
        return
    pd.testing.assert_frame_equal(
        read_split(path, bundles)[["split", "label", "path"]], plain[["split", "label", "path"]]
    )


def test_a_bundle_whose_accents_are_stored_in_the_other_form_is_found(bundles: Path):
    (bundles / f"b/{NFD}.npz").touch()
    (bundles / "split.csv").write_text(SPLIT + f"x,b/{NFC}.npz,train,0\n")
    assert Path(read_split(bundles / "split.csv", bundles)["path"].iloc[-1]).is_file()


def test_eval_report_compare_and_calibration_see_the_same_labels(tmp_path: Path, capsys):
    """Bundles whose videos the labels name by absolute path, with another case and in another order."""
    names = {f"{folder}/{i:02}.npz": int(folder == "fake") for i in range(40) for folder in ("real", "fake")}
    rng = np.random.default_rng(0)
    rows = [
        ScoredRow(name, float(np.clip(rng.normal(0.4 + 0.2 * label, 0.2), 0, 1)), "ok") for name, label in names.items()
    ]
    write_submission(rows, tmp_path / "s.csv")
    lines = [["SPLIT", "Label", "FileName"]]
    lines += [
        ["val", ("REAL", "FAKE")[label], f"D:\\v\\{name[:-4]}.MP4".replace("/", "\\")] for name, label in names.items()
    ]
    with (tmp_path / "labels.csv").open("w", encoding="utf-16", newline="") as file:
        csv.writer(file, delimiter=";").writerows(lines)
    labels = ["--labels", str(tmp_path / "labels.csv")]
    said = describe_auc(rows, read_labels(tmp_path / "labels.csv"))
    assert "over 80 files" in said
    auc = float(said.split()[1])
    scores = str(tmp_path / "s.csv")
    assert report(["make", scores, *labels, "--output", str(tmp_path / "r"), "--resamples", "20"]) == 0
    numbers = json.loads((tmp_path / "r/report.json").read_text())
    assert numbers["overall"]["metrics"]["auc"]["value"] == pytest.approx(auc, abs=1e-4)
    assert report(["compare", scores, scores, *labels, "--resamples", "20", "--output", str(tmp_path / "c.json")]) == 0
    assert json.loads((tmp_path / "c.json").read_text())["paired_bootstrap"]["auc"]["a"] == pytest.approx(auc, abs=1e-4)
    assert calibrate([scores, *labels]) == 0
    assert json.loads((tmp_path / "calibration.json").read_text())["n_fake"] == 40
    assert "left out" not in capsys.readouterr().err


@held_by(
    Case("T19", "a million rows", "read and joined in a minute", 1_000_000, (pytest.mark.durability,)),
    Case("T19", "a hundred thousand rows", "read and joined in seconds", 100_000),
)
def test_many_rows(case: Case, tmp_path: Path, record_property):
    names = [f"part{i % 50}/clip{i:07}" for i in range(case.given)]
    with (tmp_path / "scores.csv").open("w") as file:
        file.write("filename,probability\n" + "".join(f"{name}.npz,0.{i % 997:03}\n" for i, name in enumerate(names)))
    with (tmp_path / "labels.csv").open("w") as file:
        file.write(
            "filename,label,identity\n" + "".join(f"/data/{n}.mp4,{i % 2},id{i % 997}\n" for i, n in enumerate(names))
        )
    start = time.process_time()
    rows = join(tmp_path / "scores.csv", tmp_path / "labels.csv")
    seconds = time.process_time() - start
    record_property("seconds", seconds)
    assert len(rows) == case.given and rows["label"].tolist() == [i % 2 for i in range(case.given)]
    assert seconds < 60e-6 * case.given, f"{seconds:.1f} s"
