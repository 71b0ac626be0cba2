"""IDForge and Mega-MMDF, read from miniature trees in their own layouts."""

import pytest
from trees import Tree

from visavox.corpora.__main__ import main
from visavox.corpora.idforge import KINDS
from visavox.splits.table import read_split

VIDEOS = {
    "pristine": "{0}_scene_0010-0.mp4",
    "lip_tts_textgen": "{0}_scene_0010-13_fake.mp4",
    "face_tts": "{0}_scene_0006_1_simswap.mp4",
}


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path)


def idforge(tree: Tree) -> dict[str, list[str]]:
    """Four people with a clip of every kind; the lists by split."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for person, split in (("id01", "train"), ("id02", "train"), ("id03", "val"), ("id04", "test")):
        for kind in KINDS:
            name = f"{kind}/{person}/{person}_00/{VIDEOS.get(kind, '{0}_scene_0002.mp3.mp4').format(person)}"
            tree.video(name)
            lists[split].append(name)
    for split, names in lists.items():
        tree.text(f"{split}.csv", "\n".join(names) + "\n")
    return lists


def test_idforge_is_read_from_its_lists(tree, capsys):
    idforge(tree)
    assert tree.make("idforge", "--protocol", "official") == 0
    assert "nobody in two of its parts" in capsys.readouterr().out
    rows = tree.rows()
    assert len(rows) == 44 and rows.groupby("split").size().to_dict() == {"train": 22, "val": 11, "test": 11}
    swapped = rows.loc["face_tts/id01/id01_00/id01_scene_0006_1_simswap.mp4"]
    assert swapped[["label", "source", "method", "video_label", "audio_label", "split"]].tolist() == [
        *(1, "idforge:id01", "face_tts+simswap", "1", "1", "train")
    ]
    shuffled = rows.loc["lip_audiomismatch_textmismatch/id03/id03_00/id03_scene_0002.mp3.mp4"]
    assert shuffled[["label", "video_label", "audio_label"]].tolist() == [1, "1", "0"]
    real = rows.loc["pristine/id04/id04_00/id04_scene_0010-0.mp4"]
    assert real[["label", "method", "video_label", "audio_label"]].tolist() == [0, "real", "0", "0"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("puppet/id01/id01_00/a.mp4", "train.csv:1: 'puppet/id01/id01_00/a.mp4' is not KIND/idNN"),
        ("pristine/someone/x/a.mp4", "train.csv:1: 'pristine/someone/x/a.mp4' is not KIND/idNN"),
        ("file,label", "train.csv:1: 'file,label' is not KIND/idNN"),
        ("pristine/id02/id02_00/id02_scene_0010-0.mp4", "is listed twice, first at"),
    ],
)
def test_idforge_faults_have_lines(tree, capsys, line, message):
    lists = idforge(tree)
    tree.text("train.csv", "\n".join([line, *lists["train"]]))
    assert tree.make("idforge") == 2
    assert message in capsys.readouterr().err


def megammdf(tree: Tree) -> dict[str, dict]:
    """Six clips of each kind; attributes by path."""
    attributes: dict[str, dict] = {}
    for split, numbers in (("train", range(4)), ("val", range(4, 5)), ("test", range(5, 6))):
        names = [f"Mega-MMDF/{kind}/part/{i:05d}.mp4" for i in numbers for kind in ("RARV", "RAFV", "FARV", "FAFV")]
        for name in names:
            tree.video(name.removeprefix("Mega-MMDF/"))
            attributes[name] = {"partial_fake_segments": [0.5, 1.25]} if "FAFV" in name else {}
        tree.json(f"{split}.json", names)
    tree.json("attributes.json", attributes)
    return attributes


def test_megammdf_is_read_from_its_lists(tree, capsys):
    megammdf(tree)
    assert tree.make("megammdf", "--protocol", "official") == 0
    said = capsys.readouterr().out
    assert "24 clips in the metadata, 24 of their videos on disk" in said and "names nobody" in said
    rows = tree.rows()
    assert rows.groupby("split").size().to_dict() == {"train": 16, "val": 4, "test": 4}
    columns = ["label", "video_label", "audio_label", "category", "fake_segments", "source"]
    assert rows.loc["FAFV/part/00004.mp4", columns].tolist() == [
        *(1, "1", "1", "FAFV", "[[0.5, 1.25]]", "megammdf:FAFV/part/00004.mp4")
    ]
    assert rows.loc["RAFV/part/00005.mp4", columns[:5]].tolist() == [1, "1", "0", "RAFV", ""]
    assert rows.loc["FARV/part/00000.mp4", columns[:5]].tolist() == [1, "0", "1", "FARV", ""]
    assert rows.loc["RARV/part/00000.mp4", columns[:5]].tolist() == [0, "0", "0", "RARV", "[]"]


def test_megammdf_without_attributes_knows_no_seconds(tree, capsys):
    megammdf(tree)
    (tree.root / "attributes.json").unlink()
    assert tree.make("megammdf") == 0
    assert "no attributes.json" in capsys.readouterr().out
    assert set(tree.rows()["fake_segments"]) == {"", "[]"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.json", ["Mega-MMDF/other/1.mp4"], r"has to name one of RARV, RAFV, FARV, FAFV, found 0"),
        ("train.json", ["Mega-MMDF/RARV/FAFV/1.mp4"], "found 2"),
        ("train.json", {"a": 1}, "expected a JSON list"),
        ("attributes.json", {"Mega-MMDF/FAFV/part/00000.mp4": {"partial_fake_segments": 3}}, "expected [start, end]"),
    ],
)
def test_megammdf_faults_have_places(tree, capsys, name, value, message):
    megammdf(tree)
    tree.json(name, value)
    assert tree.make("megammdf") == 2
    said = capsys.readouterr().err
    assert message in said and "train.json:" in said


def test_groups_of_a_corpus_that_names_nobody_join_its_clips(tree, capsys):
    """Two clips that one face joins, and a third by its voice, are one group; whoever the table does not know stays alone."""
    megammdf(tree)
    rows = [
        "filename,identity",
        "RARV/part/00000.mp4,a:face 1",
        "FAFV/part/00001.mp4,a:face 1;a:voice 1",
        "RAFV/part/00002.mp4,a:voice 1",
    ]
    table = tree.text("../groups.csv", "\n".join(rows) + "\nsomewhere/else.mp4,a:face 9\n")
    assert tree.make("megammdf", "--groups", str(table), "--val", "0.3", "--test", "0.3") == 0
    said = capsys.readouterr().out
    assert (
        "22 connected groups, none of them in two splits" in said
        and "3 of 24 clips" in said
        and "1 line fits no clip" in said
    )
    joined = tree.rows().loc[["RARV/part/00000.mp4", "FAFV/part/00001.mp4", "RAFV/part/00002.mp4"]]
    assert joined["split"].nunique() == 1
    assert joined["donors"].tolist() == ["a:face 1", "a:face 1;a:voice 1", "a:voice 1"]
    assert main(["megammdf", "--root", str(tree.root), "--groups", str(tree.root / "none.csv")]) == 2


def test_groups_join_the_clips_of_a_folder(tmp_path, capsys):
    for name in ("real/a/1", "real/b/1", "fake/c/1", "real/d/1", "fake/d/1", "real/e/1"):
        bundle = tmp_path / f"bundles/{name}.npz"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.touch()
    (tmp_path / "groups.csv").write_text("filename,identity\nreal/a/1.mp4,x:face 1\nfake/c/1.mp4,x:face 1\n")
    words = ["--root", tmp_path / "bundles", "--output", tmp_path / "data/s.csv", "--val", 0.3, "--test", 0.3]
    assert main(["folder", *map(str, words)]) == 0 and "5 groups" in capsys.readouterr().out
    assert main(["folder", *map(str, words), "--groups", str(tmp_path / "groups.csv")]) == 0
    said = capsys.readouterr().out
    assert "4 groups" in said and "2 of 6 clips share" in said
    rows = read_split(tmp_path / "data/s.csv", tmp_path, part=True).set_index("filepath")
    assert rows.loc["bundles/real/a/1.npz", "split"] == rows.loc["bundles/fake/c/1.npz", "split"]
