"""Splits that one can trust: who hangs together, what each protocol keeps, what training refuses; one corpus from end to end."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from visavox.corpora.__main__ import main
from visavox.splits.groups import Others, borrowed, components, find_leak, group_of, homes
from visavox.splits.protocols import share_out
from visavox.splits.table import LABELS, SplitError, label_map, labels_of, read_split

SHARES = {"val": 0.2, "test": 0.2, "seed": 0}


def table(*clips: tuple[str, str, str], **columns: list) -> pd.DataFrame:
    """Clips as (source, donors, published split); every second one is fake."""
    rows = pd.DataFrame(clips, columns=["source", "donors", "split"])
    rows["filename"] = [f"{i}.mp4" for i in range(len(rows))]
    rows["label"] = np.arange(len(rows)) % 2
    empty = dict.fromkeys(("content", "race", "gender", "category", "video_label"), "")
    return rows.assign(**empty | columns)


def people(rows: pd.DataFrame, split: str) -> set[str]:
    there = rows[rows["split"] == split]
    return {name for column in ("source", "donors") for cell in there[column] for name in cell.split(";") if name}


def test_components_are_those_of_a_graph_search():
    rng = np.random.default_rng(0)
    members = [[str(name) for name in rng.integers(0, 90, rng.integers(1, 4))] for _ in range(60)]
    found = components(members)
    near = {i: {j for j in range(60) if set(members[i]) & set(members[j])} for i in range(60)}
    for i in range(60):
        reached, todo = {i}, [i]
        while todo:
            todo += (fresh := near[todo.pop()] - reached)
            reached |= fresh
        assert {j for j in range(60) if found[j] == found[i]} == reached
    assert len(set(found)) > 5


def test_a_copy_under_another_name_joins_two_groups():
    rows = table(("a", "", ""), ("b", "", ""), ("c", "", ""), content=["x", "x", ""])
    assert group_of(rows)[0] == group_of(rows)[1] != group_of(rows)[2]


def test_a_leak_has_two_files_and_the_id_they_share():
    rows = table(("a", "b", "train"), ("c", "", "train"), ("d", "c", "val"), ("e", "b;x", "test"), ("f", "", "test"))
    leak = find_leak(rows)
    assert leak[:3] == ("b", ("0.mp4", "3.mp4"), ("train", "test")), "train and test before train and val"
    assert (leak.test_clips, leak.of_test_clips, leak.identities) == (1, 2, 2)
    assert "b stands in two splits, in 0.mp4 (train) and 3.mp4 (test)" in str(leak)
    assert find_leak(rows.assign(source="", donors="")) is None
    assert find_leak(rows.drop(columns=["source", "donors", "content"])) is None


def test_the_share_that_borrows_counts_donors_of_fakes_with_a_faked_picture():
    clips = [
        ("a", "b", "train"),
        ("c", "b", "test"),
        ("d", "", "test"),
        ("e", "f", "test"),
        ("g", "a", "test"),
        ("h", "a", "test"),
    ]
    rows = table(*clips, label=[1, 1, 0, 1, 1, 1], video_label=["1", "1", "0", "1", "1", "0"])
    assert borrowed(rows) == (2, 3), "c and g of c, e, g; only the sound of h is fake"


def test_an_identity_lives_where_most_of_its_own_clips_are():
    own = [("a", "", "train"), ("a", "b", "val"), ("b", "", "test"), ("c", "z;y", "train"), ("c", "z", "train")]
    found = homes(table(*own, ("d", "z", "val")))
    assert found == {"a": "val", "b": "test", "c": "train", "d": "val", "y": "train", "z": "train"}, "ties: val"


@pytest.fixture
def corpus() -> pd.DataFrame:
    """Twelve groups of four people who borrow from each other in a ring, each with a real clip and a fake."""
    clips = [
        (f"{g}:{k}", donor, "train")
        for g in range(12)
        for k in range(4)
        for donor in ("", f"{g}:{(k + 1) % 4}")
    ]  # fmt: skip
    return table(*clips, race=[str(g % 3) for g in range(12) for _ in range(8)])


@pytest.mark.parametrize("protocol", ["group_out", "kfold", "partition"])
def test_nobody_crosses(corpus, protocol):
    rows, _ = share_out(corpus.assign(split=""), protocol, **SHARES)
    assert find_leak(rows) is None and set(rows["split"]) == {"train", "val", "test"}
    assert not people(rows, "train") & people(rows, "test")
    assert set(rows["protocol"]) == {protocol} and len(rows) == len(corpus) or protocol == "partition"


def test_group_out_and_kfold_drop_nothing_and_folds_cover_every_clip_once(corpus):
    rows, said = share_out(corpus.assign(split=""), "group_out", **SHARES)
    sizes = rows.groupby("split").size() / len(corpus)
    assert abs(sizes - pd.Series({"train": 0.6, "val": 0.2, "test": 0.2})).max() < 1 / 12, "as near as whole groups get"
    assert said == ["12 connected groups, none of them in two splits"]
    tests = []
    for fold in range(4):
        rows, _ = share_out(corpus, "kfold", **SHARES, folds=4, fold=fold)
        assert len(rows) == len(corpus) and set(rows["split"]) == {"train", "val", "test"}
        tests += list(rows.loc[rows["split"] == "test", "filename"])
    assert sorted(tests) == sorted(corpus["filename"])
    again, _ = share_out(corpus, "kfold", **SHARES, folds=4, fold=3)
    pd.testing.assert_frame_equal(rows, again)


def test_folds_share_out_every_kind_alike_and_are_never_empty(corpus):
    rows, _ = share_out(corpus.assign(kind=np.where(corpus["label"] == 0, "real", "swap")), "kfold", **SHARES, folds=4)
    share = rows.groupby("split")["label"].mean()
    assert (share - 0.5).abs().max() < 1e-9, "each group holds as many fakes as reals"
    assert rows.groupby("split").size().to_dict() == {"train": 48, "val": 24, "test": 24}
    lone = table(*[("a", "", "")] * 40, *[(str(i), "", "") for i in range(4)])
    for fold in range(5):
        rows, _ = share_out(lone, "kfold", **SHARES, folds=5, fold=fold)
        assert set(rows["split"]) == {"train", "val", "test"}


def test_partition_drops_what_crosses_and_says_how_many(corpus):
    rows, said = share_out(corpus.assign(split=""), "partition", **SHARES)
    assert (rows["label"] == 0).sum() == 48, "a clip that shows one person cannot cross"
    lost = 48 - (rows["label"] == 1).sum()
    assert lost > 10
    assert said == [
        "identities drawn, 30/9/9 in train/val/test",
        f"{lost} of 96 clips cross between them and are dropped; of those with a faked picture {lost} of 48",
    ]
    again, _ = share_out(corpus.assign(split=""), "partition", **SHARES)
    pd.testing.assert_frame_equal(rows, again)


def test_a_published_split_is_official_only_without_a_leak(corpus):
    groups = corpus["source"].str.split(":").str[0].astype(int)
    honest = corpus.assign(split=[("train", "val", "test")[g % 3] for g in groups])
    rows, said = share_out(honest, "official", **SHARES)
    assert len(rows) == 96 and said == ["published split, nobody in two of its parts"]
    leaky = corpus.assign(split=["test" if source.endswith(":0") else "train" for source in corpus["source"]])
    with pytest.raises(
        SplitError, match=r"leaks: 0:0 stands in two splits, in 7.mp4 \(train\) and 0.mp4 \(test\).*--protocol"
    ):
        share_out(leaky, "official", **SHARES)
    rows, said = share_out(leaky, "compat", **SHARES)
    assert set(rows["protocol"]) == {"compat"} and len(rows) == 96
    assert "12 of 12 test clips with a faked picture (100.0%) borrow" in said[1]
    rows, _ = share_out(leaky, "partition", **SHARES)
    assert len(rows) == 72 and find_leak(rows) is None, "of each ring two of eight clips cross"


def test_protocols_that_do_not_fit_say_which_does(corpus):
    none = corpus.assign(split="")
    for protocol in ("official", "compat"):
        with pytest.raises(SplitError, match="needs a published split.*use --protocol group_out"):
            share_out(none, protocol, **SHARES)
    with pytest.raises(SplitError, match="12 connected group.* do not fill 20 folds"):
        share_out(none, "kfold", **SHARES, folds=20)
    with pytest.raises(SplitError, match="no kind of clip has 9 clips for 9 folds; use --folds 5 or fewer"):
        share_out(table(*[(str(i), "", "") for i in range(10)]), "kfold", **SHARES, folds=9)
    with pytest.raises(SplitError, match="at least 3 folds"):
        share_out(none, "kfold", **SHARES, folds=4, fold=4)
    one = table(*[("a", "b", ""), ("b", "c", "")] * 4)
    with pytest.raises(SplitError, match="in 1 group.*--protocol partition"):
        share_out(one, "group_out", **SHARES)
    some = corpus.assign(split=[""] * 8 + ["train"] * 40 + ["test"] * 48)
    rows, said = share_out(some, "official", **SHARES)
    assert len(rows) == 88 and said[0] == "8 clips have no published split and are left out"


def test_label_maps():
    assert label_map("1=real,0=fake")["1"] == 0 == label_map(" bonafide = real, spoof=FAKE")["bonafide"]
    assert label_map("1=real,0=fake")["0.0"] == 1 == label_map("bonafide=real,spoof=fake")["spoof"]
    assert label_map(None) == label_map("") == LABELS
    for text in ("1", "1=true", "=real"):
        with pytest.raises(SplitError, match="for example 1=real,0=fake"):
            label_map(text)


# From the corpus to the results -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def favc(talking: Path, tmp_path_factory) -> Path:
    """`talking` laid out as FakeAVCeleb and cropped: corpus/ and data/bundles/ below the folder that is returned."""
    from conftest import TINY

    from visavox.commands import crop

    root = tmp_path_factory.mktemp("favc")
    lines = ["source,target1,target2,method,category,type,race,gender,path,"]
    with (talking / "labels.csv").open(newline="") as file:
        for row in list(csv.DictReader(file))[::2]:  # one real and one fake of each person
            source = row["identity"].replace("id", "id0")
            kind = {"real": "RealVideo-RealAudio", "face_blended": "FakeVideo-RealAudio"}.get(
                row["kind"], "RealVideo-FakeAudio"
            )
            category = {"RealVideo-RealAudio": "A", "RealVideo-FakeAudio": "B", "FakeVideo-RealAudio": "C"}[kind]
            folder = f"{kind}/African/men/{source}"
            name = Path(row["filename"]).name
            lines.append(f"{source},-,-,{row['kind']},{category},{kind},African,men,{name},FakeAVCeleb/{folder}")
            (root / "corpus" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(talking / row["filename"], root / "corpus" / folder / name)
    (root / "corpus/meta_data.csv").write_text("\n".join(lines) + "\n")
    words = ["--input", str(root / "corpus"), "--output", str(root / "data/bundles"), "--workers", "1", *TINY]
    assert crop.main(words) == 0
    return root


def make(favc: Path, name: str, *more: str) -> Path:
    output = favc / f"data/{name}.csv"
    words = ["--root", str(favc / "corpus"), "--bundles", str(favc / "data/bundles"), "--output", str(output)]
    assert main(["fakeavceleb", *words, "--val", "0.33", "--test", "0.33", *more]) == 0
    return output


def words_for(favc: Path, version: str, *more: str) -> list[str]:
    from conftest import TINY

    sizes = ["epoch=1", "train_batch_size=4", "device=cpu", "detector.num_layers=1"]
    paths = [f"root_path={favc}", f"runs_path={favc / 'runs'}"]
    return ["--data-version", version, "--code-version", version, *TINY, *paths, *sizes, *more]


def test_from_a_corpus_to_results(favc):
    from visavox.commands import evaluate as evaluation
    from visavox.commands import train

    rows = read_split(make(favc, "honest"), favc)
    assert len(rows) == 6 and rows.groupby("source")["split"].nunique().eq(1).all()
    assert rows["filepath"].str.startswith("data/bundles/").all() and rows["content"].nunique() == 6
    assert train.main(words_for(favc, "honest")) == 0
    results = json.loads((favc / "runs/honest/test.json").read_text())
    assert results["split_protocol"] == ["group_out"] and results["leak"] is None
    words = [
        "-input",
        str(favc / "data/bundles"),
        "-output",
        str(favc / "scores.csv"),
        "--report",
        str(favc / "report"),
    ]
    words += ["--checkpoint", str(favc / "runs/honest/best.ckpt"), "--labels", str(favc / "data/honest.csv")]
    assert evaluation.main(words) == 0
    report = json.loads((favc / "report/report.json").read_text())
    assert (favc / "report/report.html").is_file() and "method" in json.dumps(report)


def test_training_refuses_a_leak_unless_told_and_then_says_so(favc, capsys):
    from visavox.commands import train

    rows = pd.read_csv(make(favc, "leaky"), dtype=str, keep_default_na=False)
    a, b = (rows.index[(rows["split"] == split) & (rows["label"] == "1")][0] for split in ("train", "test"))
    rows.loc[b, "donors"] = rows.loc[a, "source"]
    rows.assign(protocol="compat").to_csv(favc / "data/leaky.csv", index=False)
    assert train.main(words_for(favc, "leaky")) == 2
    said = capsys.readouterr().err
    assert f"{rows.loc[a, 'source']} stands in two splits, in " in said and f"{rows.loc[b, 'filename']} (test)" in said
    assert "--allow-leaks" in said
    assert not (favc / "runs/leaky").exists(), "the name is still free"
    assert train.main(words_for(favc, "leaky", "--allow-leaks")) == 0
    results = json.loads((favc / "runs/leaky/test.json").read_text())
    assert results["split_protocol"] == ["compat"] and rows.loc[a, "source"] in results["leak"]


# FakeAVCeleb's and DFDC's own lists -----------------------------------------------------------------------------------


@pytest.fixture
def listed(data_dir: Path) -> list[str]:
    path = data_dir / "meta/fakeavceleb_files.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return ["fakeavceleb", "--metadata", str(path), "--protocol"]


@pytest.mark.data
def test_fakeavceleb_is_ten_components(listed, capsys):
    assert main([*listed, "group_out"]) == 0
    said = capsys.readouterr().out
    assert "21544 clips in the metadata" in said and "10 connected groups" in said


@pytest.mark.data
def test_the_published_fakeavceleb_split_leaks(listed, capsys):
    assert main([*listed, "official"]) == 2
    refused = capsys.readouterr().err
    assert (
        "voxceleb2:id00166 stands in two splits, in FakeAVCeleb/RealVideo-RealAudio/African/men/id00166/00010.mp4"
        in refused
    )
    assert main([*listed, "compat"]) == 0
    assert "6193 of 6365 test clips with a faked picture (97.3%) borrow" in capsys.readouterr().out


@pytest.mark.data
def test_partition_of_fakeavceleb(listed, capsys):
    assert main([*listed, "partition"]) == 0
    said = capsys.readouterr().out
    assert "314/35/151 in train/val/test" in said and "faked picture 11349 of 20544" in said
    assert "train keeps A 314 of 314, B 314 of 314, C 3904 of 6023, D 3517 of 6729" in said
    assert "test keeps A 151 of 151, B 151 of 151, C 1005 of 3007, D 662 of 3358" in said


@pytest.mark.data
def test_a_part_of_dfdc(data_dir, capsys):
    path = data_dir / "meta/dfdc_part_3_metadata.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert main(["dfdc", "--metadata", str(path)]) == 0
    said = capsys.readouterr().out
    assert "1455 clips in the metadata" in said and "219 connected groups" in said


def test_a_stage_learns_of_the_sound_or_the_picture_where_the_split_says_what_they_are(tmp_path):
    """Where it does not, of the clip as a whole; a label that means nothing is refused with its line."""
    (tmp_path / "a.npz").touch()
    for i in range(4):
        (tmp_path / f"{i}.npz").touch()
    lines = [
        "0.mp4,0.npz,train,0,,",
        "1.mp4,1.npz,train,1,0,1",
        "2.mp4,2.npz,train,1,,fake",
        "3.mp4,3.npz,train,1,1.0,-",
    ]
    path = tmp_path / "s.csv"
    path.write_text("\n".join(["filename,filepath,split,label,audio_label,video_label", *lines]) + "\n")
    rows = read_split(path, tmp_path, part=True)
    assert labels_of(rows, "label").tolist() == [0, 1, 1, 1]
    assert labels_of(rows, "audio_label").tolist() == [0, 0, 1, 1]
    assert labels_of(rows, "video_label").tolist() == [0, 1, 1, 1]
    assert labels_of(rows.drop(columns="audio_label"), "audio_label").tolist() == [0, 1, 1, 1]
    path.write_text(path.read_text().replace(",1,0,1", ",1,2,1"))
    with pytest.raises(
        SplitError, match=r"audio_label '2' is unknown \(line 3\); write 0 for real, 1 for fake, nothing"
    ):
        read_split(path, tmp_path, part=True)


def test_clips_of_other_groups_are_found_without_listing_them():
    rng = np.random.default_rng(0)
    for clips in (0, 1, 2, 40):
        groups = [str(group) for group in rng.integers(0, 5, clips)]
        others = Others(groups)
        for group in (*groups, "nobody's"):
            listed = [place for place, other in enumerate(groups) if other != group]
            assert others.count(group) == len(listed)
            assert [others.place(group, number) for number in range(len(listed))] == listed
