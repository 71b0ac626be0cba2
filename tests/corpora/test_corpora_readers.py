"""Published corpora as they lie on the disk, and metadata that is damaged."""

import re

import pytest
from trees import Tree, fakeavceleb

from visavox.corpora.__main__ import CORPORA, main
from visavox.splits.table import read_split

UUIDS = ["0a1b", "2c3d", "4e5f", "6a7b"]


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path)


def dfdc(tree: Tree) -> dict[str, dict]:
    part = {}
    for k in range(4):
        part[f"real{k}.mp4"] = {"label": "REAL", "split": "train"} | ({"original": None} if k % 2 else {})
        part |= {f"fake{k}{j}.mp4": {"label": "FAKE", "split": "train", "original": f"real{k}.mp4"} for j in range(3)}
    for name in part:
        tree.video(f"dfdc_train_part_3/{name}")
    tree.json("dfdc_train_part_3/metadata.json", part)
    return part


def test_dfdc_groups_by_original(tree, capsys):
    dfdc(tree)
    tree.json("dfdc_train_part_4/metadata.json", {"x.mp4": {"label": "FAKE", "split": "train", "original": "gone.mp4"}})
    tree.video("dfdc_train_part_4/x.mp4")
    tree.text("test/labels.csv", "filename,label\naa.mp4,1\n")
    assert tree.make("dfdc") == 0
    rows = tree.rows()
    assert len(rows) == 17, "aa.mp4 has no bundle"
    assert rows.loc["dfdc_train_part_3/fake21.mp4", ["source", "label", "audio_label"]].tolist() == [
        "dfdc:real2",
        1,
        "",
    ]
    assert rows.groupby("source")["split"].nunique().eq(1).all() and rows["split"].nunique() == 3
    assert "1 originals of fakes are in no part that is here: dfdc:gone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"FAKE"', '"FALSE"', r"metadata.json:6: fake00.mp4: label 'FALSE' is unknown; expected REAL, FAKE"),
        ('"label": "FAKE",', '"label": "FAKE"', r"metadata.json:8: not valid JSON"),
        ('"fake01.mp4"', '"fake00.mp4"', r"metadata.json:11: 'fake00.mp4' stands there twice; keep one"),
        (' "label": "FAKE",', "", r"metadata.json:6: fake00.mp4 lacks 'label'; it has split, original"),
        ('"original": "real0.mp4"', '"original": null', r"metadata.json:6: fake00.mp4 is FAKE and has no original"),
    ],
)
def test_malformed_json_is_named_with_its_line(tree, capsys, old, new, message):
    dfdc(tree)
    path = tree.root / "dfdc_train_part_3/metadata.json"
    path.write_text(path.read_text().replace(old, new, 1))
    assert tree.make("dfdc") == 2
    assert re.search(message, capsys.readouterr().err)


def ffpp(tree: Tree, *, table: bool = True, qualities=("c23",)) -> None:
    """Five pairs; 000 and 002 are two sequences of one YouTube video, one in train and one in test."""
    pairs = {
        "train": [["000", "001"], ["004", "005"], ["008", "009"]],
        "val": [["006", "007"]],
        "test": [["002", "003"]],
    }
    for split, some in pairs.items():
        tree.json(f"dataset/splits/{split}.json", some)
        for a, b in some:
            for quality in qualities:
                for name in (a, b):
                    tree.video(f"original_sequences/youtube/{quality}/videos/{name}.mp4")
                for method in ("Deepfakes", "NeuralTextures"):
                    for name in (f"{a}_{b}", f"{b}_{a}"):
                        tree.video(f"manipulated_sequences/{method}/{quality}/videos/{name}.mp4")
    if table:
        videos = {f"{k:03d}": f"-b1Ua-k{k:04d} 0" for k in range(10)} | {"002": "-b1Ua-k0000 1"}
        tree.json("dataset/conversion_dict.json", videos)


def test_ffpp_reads_pairs_methods_and_compressions(tree):
    ffpp(tree, table=False, qualities=("c23", "c40"))
    tree.video("manipulated_sequences/DeepFakeDetection/c23/videos/01_02__talking_against_wall__ABCDEFGH.mp4")
    tree.video("original_sequences/actors/c23/videos/01__talking_against_wall.mp4")
    assert tree.make("ffpp", "--protocol", "official", "--only", "quality=c23", "--only", "method=Deepfakes") == 0
    rows = tree.rows()
    assert rows.groupby(["split", "label"]).size().tolist() == [2, 2, 6, 6, 2, 2]
    fake = rows.loc["manipulated_sequences/Deepfakes/c23/videos/000_001.mp4"]
    assert fake[["source", "donors", "method", "quality"]].tolist() == ["ffpp:000", "ffpp:001", "Deepfakes", "c23"]
    assert tree.make("ffpp", "--test", "1", "--val", "0", "--only", "category=actors") == 0
    assert tree.rows()["source"].tolist() == ["dfd:01", "dfd:01"]


def test_ffpp_conversion_table_joins_the_sequences_of_one_video(tree, capsys):
    ffpp(tree)
    assert tree.make("ffpp", "--protocol", "official") == 2
    assert "youtube:-b1Ua-k0000 stands in two splits" in capsys.readouterr().err
    assert tree.make("ffpp", "--protocol", "partition") == 0
    rows = tree.rows()
    assert rows.groupby("split").size().to_dict() == {"train": 13, "val": 6, "test": 6}, "000 and its swaps leave train"


def test_ffpp_says_what_the_splits_promise(tree, capsys):
    ffpp(tree)
    for folder, suffix in ((tree.root, ".mp4"), (tree.bundles, ".npz")):
        (folder / f"manipulated_sequences/Deepfakes/c23/videos/004_005{suffix}").unlink()
    assert tree.make("ffpp", "--protocol", "partition") == 0
    said = capsys.readouterr().out
    assert "1 with neither video nor bundle: manipulated_sequences/Deepfakes/c23/videos/004_005" in said


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("splits/val.json", '[["006", "007"],\n ["000"', r"val.json:2: not valid JSON .* broke off"),
        (
            "splits/val.json",
            '[["006", "007"],\n ["000", "009"]]',
            r"val.json:2: 000 is in val and before that in train",
        ),
        ("splits/val.json", '[["006",\n "x"]]', r"val.json:1: \['006', 'x'\] is no pair"),
        ("conversion_dict.json", '{"000": "a 0",\n"001": "b"}', r"conversion_dict.json:2: 001 is 'b'; expected"),
    ],
)
def test_ffpp_tables_that_are_damaged(tree, capsys, name, text, message):
    ffpp(tree)
    tree.text(f"dataset/{name}", text)
    assert tree.make("ffpp") == 2
    assert re.search(message, capsys.readouterr().err)


def test_deepfaketimit_joins_the_two_faces_of_a_swap(tree, capsys):
    pairs = (("fadg0", "fram1"), ("mccs0", "mjar0"), ("faks0", "fjwb0"))
    for quality in ("lower_quality", "higher_quality"):
        for a, b in [pair[::way] for pair in pairs for way in (1, -1)]:
            tree.video(f"{quality}/{a}/sa1-video-{b}.avi")
            tree.video(f"{quality}/{a}-{b}/sx1-video-{b}.avi")
            (tree.root / f"{quality}/{a}/sa1.wav").touch()
    for who in {who for pair in pairs for who in pair}:
        tree.video(f"VidTIMIT/{who}/sa1.avi")
    assert tree.make("deepfaketimit", "--only", "quality=higher") == 0
    rows = tree.rows()
    assert len(rows) == 18 and rows["label"].sum() == 12
    assert rows.loc["higher_quality/fadg0-fram1/sx1-video-fram1.avi", ["source", "donors"]].tolist() == [
        "vidtimit:fadg0",
        "vidtimit:fram1",
    ]
    assert rows.loc["higher_quality/fadg0/sa1-video-fram1.avi", "donors"] == "vidtimit:fram1"
    assert "higher_quality has 12 videos, 320 were published" in capsys.readouterr().out
    tree.video("higher_quality/fadg0/film.avi")
    assert tree.make("deepfaketimit") == 2


def test_ravdess_is_real_and_split_by_actor(tree, capsys):
    for actor in (1, 2, 5, 11, 12):
        tree.video(f"Video_Speech_Actor_{actor:02d}/Actor_{actor:02d}/01-01-06-01-02-01-{actor:02d}.mp4")
        tree.video(f"Video_Speech_Actor_{actor:02d}/Actor_{actor:02d}/02-01-06-01-02-01-{actor:02d}.mp4")
    assert tree.make("ravdess", "--protocol", "official") == 0
    rows = tree.rows()
    assert rows["split"].tolist() == ["train", "train", "test", "val", "train"]
    assert rows["emotion"].unique().tolist() == ["fearful"] and rows["gender"].tolist()[:2] == ["men", "women"]
    said = capsys.readouterr().out
    assert "5 files of other modalities" in said and "warning: the train split holds real clips only" in said
    tree.video("Actor_01/01-01-09-01-02-01-01.mp4")
    assert tree.make("ravdess") == 2 and "emotion 09" in capsys.readouterr().err


def lavdf(tree: Tree) -> list[dict]:
    entries = []
    for k in range(6):
        split = ("train", "train", "train", "train", "dev", "test")[k]
        for j, (video, audio) in enumerate(((False, False), (True, False), (False, True), (True, True))):
            file = f"{split}/{10 * k + j:06d}.mp4"
            periods = [[0.5, 0.75]] if video or audio else []
            original = f"{split}/{10 * k:06d}.mp4" if j else None
            entry = {"file": file, "original": original, "split": split, "modify_video": video, "modify_audio": audio}
            entries.append(entry | {"n_fakes": len(periods), "fake_periods": periods, "duration": 4.1})
            tree.video(file)
    tree.json("metadata.min.json", entries)
    return entries


def test_lavdf_keeps_originals_and_their_segments(tree):
    lavdf(tree)
    assert tree.make("lavdf", "--protocol", "official") == 0
    rows = tree.rows()
    assert rows.loc["dev/000041.mp4", ["split", "source", "fake_segments", "category"]].tolist() == [
        "val",
        "lavdf:000040",
        "[[0.5, 0.75]]",
        "video",
    ]
    assert rows.loc["dev/000040.mp4", ["label", "fake_segments"]].tolist() == [0, "[]"]
    assert rows.groupby("split").size().to_dict() == {"train": 16, "val": 4, "test": 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "valid"}, "train/000001.mp4: split 'valid' is unknown; expected train, dev, test"),
        ({"fake_periods": []}, "train/000001.mp4 has 0 fake_periods, modified: True"),
        ({"file": "train/000000.mp4"}, r"train/000000.mp4 is listed twice, first at \S+:3; keep one"),
    ],
)
def test_lavdf_faults_have_lines(tree, capsys, change, message):
    entries = lavdf(tree)
    entries[1] |= change
    tree.json("metadata.min.json", entries)
    assert tree.make("lavdf") == 2
    assert re.search(rf"metadata.min.json:(13|14|15): {message}", capsys.readouterr().err)


@pytest.mark.parametrize("both", ["both_modified", "both-modified"])
def test_avdeepfake1m_shares_people_with_fakeavceleb(tree, both, tmp_path, capsys):
    kinds = {"real": "real", "fake_video_fake_audio": both, "real_video_fake_audio": "audio_modified"}
    for split, people in (("train", ("id00001", "id00040")), ("val", ("id00041",))):
        entries = []
        for who in people:
            for file, kind in kinds.items():
                name = f"{who}/21Uxsk56VDQ/00001/{file}.mp4"
                tree.video(f"{split}/{name}")
                segments = [] if kind == "real" else [[0.28, 0.53]]
                entries.append({"file": name, "original": None, "split": split, "modify_type": kind})
                entries[-1] |= {"fake_segments": segments, "audio_model": None if kind == "real" else "yourtts"}
        tree.json(f"{split}_metadata.json", entries)
    assert tree.make("avdeepfake1m", "--protocol", "official") == 0
    rows = tree.rows()
    fake = rows.loc["train/id00001/21Uxsk56VDQ/00001/fake_video_fake_audio.mp4"]
    assert fake[["source", "audio_label", "video_label", "category", "method", "fake_segments"]].tolist() == [
        *("voxceleb2:id00001", "1", "1", "both_modified", "yourtts", "[[0.28, 0.53]]")
    ]
    other = Tree(tmp_path / "favc")
    fakeavceleb(other)
    assert other.make("fakeavceleb", "--test", "0.999", "--val", "0") == 0
    capsys.readouterr()
    assert main(["concat", str(tree.output), str(other.output), "--output", str(tmp_path / "both.csv")]) == 0
    assert "voxceleb2:id00001 stands in two splits" in capsys.readouterr().out
    both_rows = read_split(tmp_path / "both.csv", ".", part=True)
    assert set(both_rows["corpus"]) == {"avdeepfake1m", "fakeavceleb"} and len(both_rows) == 33


def test_kodf_is_read_from_its_own_tables(tree):
    reals, fakes = ["영상ID,UUID,인물성별,촬영장소"], ["영상ID,타겟영상,타겟UUID,소스UUID,변조모델,촬영시작,인물성별"]
    for who, donor in zip(UUIDS, [UUIDS[1], UUIDS[0], UUIDS[3], UUIDS[2]]):
        reals.append(f"{who}_1.mp4,{who},남,실내")
        fakes.append(f"{who}_{donor}_2_0001.mp4,{who}_1.mp4,{who},{donor},fsgan,2020,남")
        tree.video(f"원천데이터/train_원본/{who}/{who}_1.mp4")
        tree.video(f"원천데이터/train_변조/fsgan/{who}/{who}_{donor}_2_0001.mp4")
    for name, lines in (("원본영상", reals), ("변조영상", fakes)):
        tree.text(f"라벨링데이터/train_meta_data/{name}_training_메타데이터.csv", "\ufeff" + "\n".join(lines))
    assert tree.make("kodf", "--val", "0", "--test", "0.5") == 0
    rows = tree.rows()
    assert len(rows) == 8
    fake = rows.loc["원천데이터/train_변조/fsgan/0a1b/0a1b_2c3d_2_0001.mp4"]
    assert fake[["source", "donors", "method", "gender", "label"]].tolist() == [
        "kodf:0a1b",
        "kodf:2c3d",
        "fsgan",
        "men",
        1,
    ]
    assert rows.groupby("source")["split"].nunique().eq(1).all()


@pytest.mark.parametrize(("real", "words"), [("0", []), ("1", ["--label-map", "1=real,0=fake"])])
def test_tmc_labels_may_point_either_way(tree, real, words):
    fake = {"0": "1", "1": "0"}[real]
    tree.text("labels.csv", "filename,label\n" + "".join(f"{k}.mp4,{fake if k % 2 else real}\n" for k in range(9)))
    for k in range(9):
        tree.video(f"videos/{k}.mp4")
    assert tree.make("tmc", *words) == 0
    assert tree.rows().sort_index()["label"].tolist() == [0, 1] * 4 + [0]


def test_a_label_map_that_is_none_says_how(tree, capsys):
    tree.text("labels.csv", "filename,label\n0.mp4,spoof\n")
    tree.video("0.mp4")
    assert tree.make("tmc", "--label-map", "1:real") == 2
    assert "write what each label means, for example 1=real,0=fake" in capsys.readouterr().err
    assert tree.make("tmc") == 2
    assert "labels.csv:2: label 'spoof' is unknown" in capsys.readouterr().err
    assert tree.make("tmc", "--label-map", "bonafide=real,spoof=fake", "--test", "1", "--val", "0") == 0


def asvspoof(tree: Tree) -> None:
    folder = "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm."
    for end, part, speaker in (("train.trn", "train", 79), ("dev.trl", "dev", 69), ("eval.trl", "eval", 39)):
        names = [f"LA_{part[0].upper()}_{k}" for k in range(3)]
        attacks = ["- - bonafide", "- A01 spoof", "- A06 spoof"]
        lines = [f"LA_00{speaker} {name} {rest}" for name, rest in zip(names, attacks)]
        tree.text(f"{folder}{end}.txt", "\n".join(lines) + "\n")
        for name in names[:2]:
            tree.video(f"ASVspoof2019_LA_{part}/flac/{name}.flac", bundle=False)


def test_asvspoof_is_read_by_its_protocols(tree, capsys):
    from visavox.corpora import asvspoof2019
    from visavox.corpora.disk import Disk

    asvspoof(tree)
    clips = asvspoof2019.read(Disk(tree.root, None)).clips
    assert [clip.split for clip in clips] == ["val"] * 3 + ["test"] * 3 + ["train"] * 3
    assert [clip.label for clip in clips[:3]] == [0, 1, 1] and clips[1].method == "A01" and clips[1].audio_label == 1
    assert clips[-1].source == "asvspoof2019:LA_0079"
    assert (tree.root / clips[0].filename).is_file()
    assert main(["asvspoof2019", "--root", str(tree.root), "--protocol", "official"]) == 0
    said = capsys.readouterr().out
    assert "9 clips in the metadata, 6 of their videos on disk" in said and "speakers: train 1, val 1, test 1" in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("LA_0079 LA_T_7 - A01", "train.trn.txt:4: 4 fields, expected SPEAKER"),
        ("LA_0079 LA_T_7 - A01 genuine", "label 'genuine' is unknown; expected bonafide, spoof"),
        ("LA_0079 LA_T_7 - - spoof", "bona fide has -, spoof has A01"),
        ("LA_0079 LA_T_0 - - bonafide", "LA_T_0.flac is listed twice, first at"),
    ],
)
def test_asvspoof_faults_have_lines(tree, capsys, line, message):
    asvspoof(tree)
    path = tree.root / "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt"
    path.write_text(path.read_text() + line + "\n")
    assert main(["asvspoof2019", "--root", str(tree.root)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("corpus", CORPORA)
def test_an_empty_folder_says_what_is_expected(corpus, tree, capsys):
    tree.root.mkdir()
    tree.bundles.mkdir()
    assert tree.make(corpus) == 2
    assert re.search(r"corpus: no |one CSV|no clip is left", capsys.readouterr().err)
    assert main([corpus, "--root", str(tree.root / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_ffpp_clips_get_the_sound_of_their_youtube_video(tree, capsys):
    """The clip is frames 30 to 79 of a source with a beep from frame 40 to 45: it beeps in its own frames 10 to 15."""
    import numpy as np

    from visavox.corpora.ffpp_audio import main as add_sound
    from visavox.media import open_video, write_video

    rng = np.random.default_rng(0)
    pictures = [np.full((64, 64, 3), 2 * k, np.uint8) + rng.integers(0, 9, (64, 64, 3), np.uint8) for k in range(100)]
    beep = np.zeros(4 * 16000, np.int16)
    beep[int(40 / 25 * 16000) : int(45 / 25 * 16000)] = 12000 * np.sin(np.arange(3200) * 2 * np.pi * 440 / 16000)
    source = tree.root / "downloaded_videos/-b1Ua-k0000/-b1Ua-k0000.mp4"
    fake = tree.root / "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4"
    for path in (source, fake):
        path.parent.mkdir(parents=True)
    write_video(source, pictures, beep)
    write_video(fake, pictures[30:80])
    tree.json("downloaded_videos_info/-b1Ua-k0000/extracted_sequences/1.json", list(range(30, 80)))
    tree.json("conversion_dict.json", {"000": "-b1Ua-k0000 1", "001": "-b1Ua-k0001 0"})
    tree.video("manipulated_sequences/Deepfakes/c23/videos/001_000.mp4", bundle=False)
    output = tree.root.parent / "sound"
    assert add_sound(["--root", str(tree.root), "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert "1 of 2 clips have their sound" in said.out and "videos/001_000.mp4 (its YouTube video or" in said.err
    with open_video(output / fake.relative_to(tree.root)) as silent, open_video(fake) as before:
        assert all(np.array_equal(a, b) for a, b in zip(silent.frames(), before.frames(), strict=True))
        sound = np.abs(silent.audio().astype(float))
    loud = np.flatnonzero(sound > 6000)[[0, -1]] / 16000 * 25
    assert abs(loud - [10, 15]).max() < 0.5, "frames"
    assert (output / "conversion_dict.json").is_file()
