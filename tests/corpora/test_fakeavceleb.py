"""FakeAVCeleb's table in its forms, its published split, and what is damaged."""

import json
import re

import pytest
from trees import MIRROR, PANDAS, PUBLISHED, Tree, fakeavceleb

from visavox.corpora.__main__ import main
from visavox.corpora.clip import FACTS
from visavox.splits.table import COLUMNS


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize("header", [PUBLISHED, PANDAS, MIRROR])
def test_fakeavceleb_reads_all_three_forms_of_its_table_alike(tree, header, capsys):
    fakeavceleb(tree, header)
    assert tree.make("fakeavceleb") == 0
    rows = tree.rows()
    assert list(rows.columns) == [*COLUMNS[1:], *FACTS, "path"] and len(rows) == 24
    fake = rows.loc["FakeVideo-FakeAudio/Asian (East)/men/id00001/00109_0_1.mp4"]
    assert fake[["source", "donors", "method", "category"]].tolist() == [
        "voxceleb2:id00001",
        "voxceleb2:id00002",
        "faceswap-wav2lip",
        "D",
    ]
    assert fake[["label", "video_label", "audio_label", "race", "gender"]].tolist() == [
        1,
        "1",
        "1",
        "Asian (East)",
        "men",
    ]
    assert rows.loc[
        rows["category"] == "B", ["label", "video_label", "audio_label"]
    ].drop_duplicates().values.tolist() == [[1, "0", "1"]]
    assert rows.groupby("race")["split"].nunique().loc["Asian (East)"] == 1 and set(rows["protocol"]) == {"group_out"}
    assert "24 clips in the metadata, 24 of their videos on disk\n3 connected groups" in capsys.readouterr().out


def test_fakeavceleb_folders_with_underscores_are_the_same_folders(tree):
    fakeavceleb(tree, races="Asian (East)")
    for folder in [*tree.root.rglob("Asian (East)"), *tree.bundles.rglob("Asian (East)")]:
        folder.rename(folder.with_name("Asian_East"))
    assert tree.make("fakeavceleb") == 0
    assert "RealVideo-RealAudio/Asian_East/men/id00001/00109.mp4" in tree.rows().index


def test_what_the_metadata_promises_and_the_disk_lacks_is_said_and_left_out(tree, capsys):
    fakeavceleb(tree)
    videos = sorted(tree.root.rglob("*.mp4"))
    videos[0].unlink()
    tree.bundles.joinpath(videos[0].relative_to(tree.root)).with_suffix(".npz").unlink()
    lost = videos[1].relative_to(tree.root)
    (tree.bundles / lost).with_suffix(".npz").unlink()
    row = {"input": str(lost), "bundle": None, "status": "no_face"}
    (tree.bundles / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    tree.video("RealVideo-RealAudio/African/men/id00011/00200.mp4")
    assert tree.make("fakeavceleb") == 0
    said = capsys.readouterr().out
    assert "24 clips in the metadata, 23 of their videos on disk" in said
    assert f"1 with neither video nor bundle: FakeAVCeleb/{videos[0].relative_to(tree.root)}" in said
    assert f"1 without bundle (1 no_face): {lost}" in said
    assert "1 videos that the metadata does not know: RealVideo-RealAudio/African/men/id00011/00200.mp4" in said
    assert len(tree.rows()) == 22


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: [lines[0].replace("method,", "how,"), *lines[1:]],
            r":1: lacks the column\(s\) method; it has source",
        ),
        (
            lambda lines: [*lines[:2], lines[2] + ",", *lines[3:]],
            ":3: 11 cells, the header has 10; it ends with a comma",
        ),
        (lambda lines: [*lines[:4], lines[1]], r":5: \S+/id00001/00109 is listed twice, first at \S+:2; keep one"),
        (
            lambda lines: [lines[0], lines[1].replace("RealVideo-RealAudio,", "TrueVideo,")],
            ":2: type 'TrueVideo' is unknown; expected RealVideo-RealAudio, ",
        ),
        (
            lambda lines: [lines[0], lines[1].replace(",A,", ",D,")],
            ":2: category 'D', but type RealVideo-RealAudio is A",
        ),
        (lambda lines: [lines[0], lines[1].replace("id00001,-", "bob,-")], ":2: 'bob' is no identity such as id00076"),
        (lambda lines: [lines[0], lines[3].replace("wav2lip,C", "-,C")], ":2: method '-' of a FakeVideo-RealAudio"),
        (lambda lines: [lines[0][:-1], *(line.rpartition(",")[0] for line in lines[1:])], ":2: lacks the folder"),
        (lambda lines: [lines[0], '"' + lines[1]], "unexpected end of data; check its quotes"),
    ],
)
def test_malformed_metadata_is_named_with_its_line(tree, capsys, change, message):
    lines = change(fakeavceleb(tree))
    path = tree.text("meta_data.csv", "\n".join(lines) + "\n")
    assert tree.make("fakeavceleb") == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and str(path) in said and not tree.output.exists()


def test_fakeavceleb_takes_a_published_split_and_marks_it_where_it_leaks(tree, capsys):
    """The list has no leading folder and another spelling; its sources are disjoint, its donors are not."""
    lines = [line.split(",") for line in fakeavceleb(tree)[1:]]
    split = {"id00001": "test", "id00011": "dev"}
    listed = [f"{cells[9].split('/', 1)[1].replace(' (East)', '_East')}/{cells[8]},{cells[0]}" for cells in lines]
    rows = [f"{path},{split.get(source, 'train')}" for path, source in (line.split(",") for line in listed)]
    path = tree.text("published.csv", "\n".join(["path,split", *rows]))
    assert tree.make("fakeavceleb", "--published", path, "--protocol", "official") == 2
    assert re.search(r"voxceleb2:id0000\d stands in two splits", capsys.readouterr().err)
    assert tree.make("fakeavceleb", "--published", path, "--protocol", "compat") == 0
    assert "2 of 2 test clips with a faked picture (100.0%) borrow" in capsys.readouterr().out
    assert set(tree.rows()["protocol"]) == {"compat"} and len(tree.rows()) == 24
    assert tree.make("fakeavceleb", "--published", path, "--protocol", "partition") == 0
    assert "test keeps A 1 of 1, B 1 of 1, C 0 of 1, D 0 of 1" in capsys.readouterr().out


def test_without_output_nothing_is_written(tree, capsys):
    fakeavceleb(tree)
    assert main(["fakeavceleb", "--root", str(tree.root)]) == 0
    assert "3 connected groups" in capsys.readouterr().out and not tree.output.exists()
