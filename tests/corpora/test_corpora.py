"""Split CSVs: checked whole, made without anybody in two splits."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from visavox.corpora.__main__ import main
from visavox.corpora.folder import read_folder, split_table
from visavox.splits.protocols import assign_groups
from visavox.splits.table import COLUMNS, SplitError, describe, label_map, read_split, warnings

GOOD = [(f"{split}{i}", f"{split}{i}.npz", split, i % 2) for split in ("train", "val", "test") for i in range(4)]


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with the files of GOOD, empty: reading a split does not open them."""
    for _, name, _, _ in GOOD:
        (tmp_path / name).touch()
    return tmp_path


def write(root: Path, rows=GOOD, columns=COLUMNS, delimiter=",", prefix="") -> Path:
    path = root / "split.csv"
    lines = [delimiter.join(map(str, row)) for row in (columns, *rows)]
    path.write_text(prefix + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_good_split_is_read_as_it_stands(root):
    rows = read_split(write(root), root)
    assert list(rows["filename"]) == [name for name, *_ in GOOD]
    assert list(rows["label"]) == [label for *_, label in GOOD]
    assert rows["path"].iloc[0] == str((root / "train0.npz").resolve())
    assert list(rows.index) == list(range(2, 14)), "line numbers of the file"
    assert describe(rows) == "train 2 real 2 fake · val 2 real 2 fake · test 2 real 2 fake"
    assert warnings(rows) == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_byte_order_marks_and_blanks_are_understood(root, delimiter):
    rows = [(f" {a}", f"{b} ", c, f" {d}.0") for a, b, c, d in GOOD]
    read = read_split(write(root, rows, delimiter=delimiter, prefix="\ufeff"), root)
    pd.testing.assert_frame_equal(read, read_split(write(root), root))


def test_absolute_paths_and_further_columns_are_kept(root, tmp_path_factory):
    rows = [(a, root / b, c, ("real", "FAKE")[d], f"k{d}") for a, b, c, d in GOOD]
    read = read_split(write(root, rows, (*COLUMNS, "kind")), tmp_path_factory.mktemp("elsewhere"))
    assert list(read["kind"][:2]) == ["k0", "k1"]
    assert list(read["label"][:2]) == [0, 1]


def test_quoted_names_hold_the_delimiter(root):
    (root / "a, b.npz").touch()
    path = write(root)
    with path.open("a") as file:
        csv.writer(file).writerow(["a, b", "a, b.npz", "train", 1])
    assert read_split(path, root)["filepath"].iloc[-1] == "a, b.npz"


def test_all_faults_are_reported_at_once_with_their_lines(root):
    rows = [
        *GOOD[:4],  # lines 2 to 5: train
        ("a", "train1.npz", "test", 1),
        ("b", "./train0.npz", "train", 1),
        ("c", "gone.npz", "train", 1),
        ("d", "test0.npz", "dev", 1),
        ("e", "test1.npz", "test", "2"),
        ("f", "", "test", 0),
        ("g", "video.mp4", "test", 0),
        ("h", "val0.npz", "val", 0),
        ("i", "val2.npz", "val", "nan"),
    ]
    with pytest.raises(SplitError) as caught:
        read_split(write(root, rows), root)
    text = str(caught.value)
    assert "split.csv: 9 fault(s)" in text
    assert "filepath is empty (line 11)" in text
    assert "label is empty (line 14)" in text
    assert "split 'dev' is unknown (line 9); write train, val, test" in text
    assert "label '2' is unknown (line 10); write 0 for real, 1 for fake" in text
    assert "1 of 12 file paths are no bundles (.npz): video.mp4; run `python crop.py" in text
    assert "1 of 12 files are missing: gone.npz (line 8)" in text and f"root_path, here {root}" in text
    assert "train1.npz is listed in train and test (lines 3, 6); keep one line" in text
    assert "train0.npz is listed more than once, with different labels (lines 2, 7)" in text
    assert "the val split holds real clips only" in text


def test_many_faults_are_counted(root):
    rows = [*GOOD, *((f"x{i}", f"gone{i}.npz", "train", 0) for i in range(50))]
    with pytest.raises(SplitError, match=r"50 of 62 files are missing: gone0.npz, .*gone4.npz and 45 more \(lines 14,"):
        read_split(write(root, rows), root)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (GOOD, ("file", "filepath", "split", "label"), "column filename is missing"),
        (GOOD, ("filename", "filepath", "split", "Lable"), "column label is missing; is it 'lable'"),
        (GOOD, ("filename", "filepath", "label", "label"), "column label stands there twice"),
        ([*GOOD, ("a", "b", "train")], COLUMNS, "line 14: other than 4 cells"),
        ([*GOOD, ("a", "b, c", "train", 1)], COLUMNS, "line 14: other than 4 cells"),
        (GOOD[:4], COLUMNS, "the val split is empty"),
        ([], COLUMNS, "the train split is empty"),
    ],
)
def test_a_table_of_another_shape_is_refused(root, rows, columns, message):
    with pytest.raises(SplitError, match=message):
        read_split(write(root, rows, columns), root)


@pytest.mark.parametrize(("content", "message"), [(b"", "column filename is missing"), (b"\xff\xfea", "not UTF-8")])
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "split.csv").write_bytes(content)
    with pytest.raises(SplitError, match=message):
        read_split(tmp_path / "split.csv", tmp_path)


def test_a_missing_csv_says_how_to_make_it(tmp_path):
    with pytest.raises(SplitError, match="none.csv: no such file; make it with `visavox corpora folder"):
        read_split(tmp_path / "none.csv", tmp_path)


@pytest.mark.parametrize(("keep", "message"), [(0, "is empty"), (1, "holds real clips only")])
def test_a_test_split_without_auc_is_a_warning(root, keep, message):
    rows = read_split(write(root, GOOD[: 8 + keep]), root)
    assert [message in warning for warning in warnings(rows)] == [True]


def test_the_same_file_through_a_link_is_found(root):
    (root / "alias.npz").symlink_to(root / "train0.npz")
    with pytest.raises(SplitError, match=r"train0.npz is listed in train and val \(lines 2, 14\)"):
        read_split(write(root, [*GOOD, ("a", "alias.npz", "val", 0)]), root)


def folder(*arguments) -> int:
    return main(["folder", *map(str, arguments)])


def test_an_identity_stays_in_one_split_real_and_fake(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [f"{label}/id{i:02d}/{k}.npz" for label in ("real", "fake") for i in range(20) for k in range(3)]
    tree(tmp_path / "data/bundles", *names)
    assert folder("--root", "data/bundles", "--output", "data/train_dev_test.csv") == 0
    rows = read_split("data/train_dev_test.csv", ".")
    assert len(rows) == 120 and rows["filepath"].str.startswith("data/bundles/").all()
    identity = rows["filepath"].str.split("/").str[3]
    assert rows.groupby(identity)["split"].nunique().eq(1).all()
    counts = rows.groupby(["split", "label"]).size()
    assert {split: counts[split].tolist() for split in ("train", "val", "test")} == {
        "train": [42, 42],
        "val": [9, 9],
        "test": [9, 9],
    }
    assert "train 42 real 42 fake · val 9 real 9 fake · test 9 real 9 fake · 20 groups" in capsys.readouterr().out


def test_the_draw_follows_from_the_seed_alone(tmp_path):
    tree(tmp_path / "b", *(f"{label}/{i}.npz" for label in ("real", "fake") for i in range(30)))
    texts = []
    for name, seed in (("1", 7), ("2", 7), ("3", 8)):
        assert folder("--root", tmp_path / "b", "--output", tmp_path / f"{name}.csv", "--seed", seed) == 0
        texts.append((tmp_path / f"{name}.csv").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_clips_of_one_name_stay_together_without_identities(tmp_path):
    rows = read_folder(tree(tmp_path, *(f"{label}/{i}.npz" for label in ("real", "fake") for i in range(9))))
    assert rows["group"].nunique() == 9
    rows = assign_groups(rows, val=0.2, test=0.2, seed=0)
    assert rows.groupby(rows["bundle"].str.split("/").str[1])["split"].nunique().eq(1).all()


def test_splits_above_real_and_fake_are_kept(tmp_path):
    names = [
        f"{split}/{label}/{i}.npz" for split in ("train", "val", "test") for label in ("real", "fake") for i in "ab"
    ]
    assert folder("--root", tree(tmp_path / "b", *names), "--output", tmp_path / "s.csv") == 0
    rows = read_split(tmp_path / "s.csv", tmp_path)
    assert (rows["filepath"].str.split("/").str[-3] == rows["split"]).all() and len(rows) == 12


def test_paths_start_where_training_looks(tmp_path, monkeypatch, tmp_path_factory):
    names = [f"{label}/{i}.npz" for label in ("real", "fake") for i in range(9)]
    tree(tmp_path / "big/data/bundles", *names)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert folder("--root", tmp_path / "big/data/bundles", "--output", tmp_path / "big/data/all.csv") == 0
    assert read_split(tmp_path / "big/data/all.csv", tmp_path / "big")["filepath"].str.startswith("data/").all()
    assert folder("--root", tmp_path / "big/data/bundles", "--output", "all.csv") == 0
    assert read_split("all.csv", ".")["filepath"].str.startswith("/").all(), "outside the root, absolute"


def test_file_names_come_from_the_manifest(tmp_path):
    tree(tmp_path, "real/a.mp4.npz", "real/b.npz", "fake/a.npz")
    (tmp_path / "manifest.jsonl").write_text(
        '{"input": "real/a.mp4", "bundle": "real/a.mp4.npz"}\n'
        '{"input": "fake/a.mov", "bundle": "fake/a.npz"}\n'
        '{"input": "fake/c.mov", "bundle": null}\n{"inp'
    )
    assert list(read_folder(tmp_path)["filename"]) == ["fake/a.mov", "real/a.mp4", "real/b.npz"]


def labelled(tmp_path: Path, lines: list[str]) -> Path:
    (tmp_path / "labels.csv").write_text("\n".join(["filename,label,kind,identity,seed", *lines]) + "\n")
    return tmp_path / "labels.csv"


def test_a_table_joins_clips_through_everyone_they_show(tmp_path):
    """c shows the face of one and the voice of another; their own clips must follow it."""
    identities = ["i0", "i1", "i0;i1", "i2", "i2;i3", "i3;i4", "i5", "i5"]
    lines = [f"{'fr'[i % 2]}/{i}.mp4,{i % 2},k{i % 2},{who},0" for i, who in enumerate(identities)]
    root = tree(tmp_path / "b", *(f"{'fr'[i % 2]}/{i}.npz" for i in range(8)))
    rows = read_folder(root, labels=labelled(tmp_path, lines)).sort_values("filename", key=lambda c: c.str[2:])
    groups = list(rows["group"])
    assert [groups.index(group) for group in groups] == [0, 0, 0, 3, 3, 3, 6, 6]
    assert list(rows["label"]) == [0, 1] * 4 and list(rows["kind"]) == ["k0", "k1"] * 4


def test_every_kind_of_fake_is_shared_out(tmp_path):
    rng = np.random.default_rng(0)
    lines, names = [], []
    for i in range(40):
        for k in range(8):
            kind = "real" if k < 4 else ("shift", "swap", "blend", "vocode")[int(rng.integers(4))]
            names.append(f"clips/{i}_{k}")
            lines.append(f"clips/{i}_{k}.mp4,{int(k >= 4)},{kind},id{i},0")
    root = tree(tmp_path / "data/b", *(f"{name}.npz" for name in names))
    output = tmp_path / "data/all.csv"
    labels = labelled(tmp_path, lines)
    assert folder("--root", root, "--output", output, "--labels", labels, "--val", 0.2, "--test", 0.2) == 0
    rows = read_split(output, tmp_path)
    assert rows.groupby("identity")["split"].nunique().eq(1).all()
    share = pd.crosstab(rows["kind"], rows["split"], normalize="index")
    assert (abs(share["test"] - 0.2) < 0.06).all() and (abs(share["val"] - 0.2) < 0.06).all()
    assert rows["filename"].iloc[0] == "clips/0_0.mp4"


def test_bundles_that_the_table_does_not_know_are_named(tmp_path):
    root = tree(tmp_path / "b", "a.npz", "b.npz", "c.npz")
    table = labelled(tmp_path, ["a.mp4,0,real,i0,0", "c.mp4,0,real,i0,0", "c.avi,0,real,i0,0"])
    with pytest.raises(SplitError, match=r"2 of 3 bundles have no line of their own: b.npz, c.npz"):
        read_folder(root, labels=table)


def test_videos_are_sent_to_crop_first(tmp_path, capsys):
    root = tree(tmp_path / "videos", "real/a.mp4", "fake/b.MOV", "fake/notes.txt")
    assert folder("--root", root, "--output", tmp_path / "s.csv") == 2
    text = capsys.readouterr().err
    assert (
        f"holds 2 videos and no bundles (.npz); run `python crop.py --input {root} --output {tmp_path}/bundles`" in text
    )
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["real/a.npz", "genuine/b.npz"], "1 of 2 bundles lie neither in real/ nor in fake/: genuine/b.npz"),
        (["real/a.npz", "train/fake/b.npz"], "1 bundles lie outside train, val, test, others inside: real/a.npz"),
        (["real/a/1.npz", "fake/a/1.npz", "fake/a/2.npz"], "3 clips hang together in 1 group.*--by file"),
        ([f"fake/{i}.npz" for i in range(9)], "the train split holds fake clips only"),
    ],
)
def test_trees_that_give_no_split_say_why_and_write_nothing(tmp_path, capsys, names, message):
    (tmp_path / "s.csv").write_text("earlier")
    assert folder("--root", tree(tmp_path / "b", *names), "--output", tmp_path / "s.csv") == 2
    assert re.search(message, capsys.readouterr().err)
    assert (tmp_path / "s.csv").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "s.csv"]


def test_shares_must_leave_something_to_train_on(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        folder("--root", tmp_path, "--output", tmp_path / "s.csv", "--val", 0.5, "--test", 0.5)
    assert caught.value.code == 2 and "--val 0.5 --test 0.5" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = "import sys; from visavox.corpora.__main__ import main\ntry: main(['folder', '--help'])\nfinally: print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--relative-to" in ran.stdout
    assert not {"pandas", "numpy", "torch"} & set(ran.stdout.split())


def test_labels_of_sound_and_picture_are_taken_from_the_table(tmp_path):
    """As the table means them: here 1 is real; what it does not say stays empty."""
    root = tree(tmp_path / "b", "a.npz", "b.npz", "c.npz")
    table = tmp_path / "labels.csv"
    table.write_text("filename,label,audio_label,video_label\na.mp4,0,1,0\nb.mp4,1,,1\nc.mp4,0,0,\n")
    rows = split_table(read_folder(root, labels=table, label_map=label_map("1=real,0=fake")), root, tmp_path)
    assert rows[["label", "audio_label", "video_label"]].to_numpy().tolist() == [
        [1, "0", "1"],
        [0, "", "0"],
        [1, "1", ""],
    ]
    table.write_text("filename,label,audio_label\na.mp4,0,maybe\nb.mp4,1,\nc.mp4,0,\n")
    with pytest.raises(SplitError, match=r"audio_label 'maybe' is unknown \(line 2\)"):
        read_folder(root, labels=table)
