"""Every corpus in its own layout, from its videos to a report: crop.py, split CSV, train.py, eval.py --report.

The videos are synthetic, four of each of three people, and the bundles are shared by content: crop.py finds in its place what
it has made of the same bytes elsewhere, and keeps it. FakeAVCeleb's road is in test_corpora_splits.py.
"""

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY

from visavox.bundle import read_stamp
from visavox.corpora.__main__ import main as make_split
from visavox.corpora.ffpp_audio import main as add_sound
from visavox.files import sha256_of

PEOPLE = range(3)
SHARES = ["--val", "0.34", "--test", "0.33"]


class Miniature:
    """A corpus as downloaded, made of the videos of `talking`, and the bundles of those that are cropped already."""

    def __init__(self, root: Path, talking: Path, cropped: dict[str, Path]):
        self.root, self.talking, self.cropped = root / "corpus", talking, cropped
        self.bundles = root / "data/bundles"
        with (talking / "labels.csv").open(newline="") as file:
            clips = [(row["identity"], Path(row["filename"])) for row in csv.DictReader(file)]
        self.clips = {
            (person, kind): iter([path for who, path in clips if who == f"id{person:04d}" and path.parts[0] == kind])
            for person in PEOPLE
            for kind in ("real", "fake")
        }

    def video(self, name: str, person: int, kind: str) -> str:
        """Put the next real or fake clip of a person under a name of the corpus; returns the name."""
        self.link(self.talking / next(self.clips[person, kind]), name)
        return name

    def link(self, clip: Path, name: str) -> None:
        places = [(clip, self.root / name)]
        if bundle := self.cropped.get(sha256_of(clip)):
            places.append((bundle, (self.bundles / name).with_suffix(".npz")))
        for source, place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, place)

    def text(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def json(self, name: str, value: object) -> None:
        self.text(name, json.dumps(value))


def dfdc(made: Miniature) -> list[str]:
    part = {}
    for person in PEOPLE:
        for take in "ab":
            original, fake = f"{take}orig{person}.mp4", f"{take}fake{person}.mp4"
            part[original] = {"label": "REAL", "split": "train", "original": None}
            part[fake] = {"label": "FAKE", "split": "train", "original": original}
    for name, entry in part.items():
        made.video(f"dfdc_train_part_7/{name}", int(name[5]), entry["label"].lower())
    made.json("dfdc_train_part_7/metadata.json", part)
    return SHARES


def ffpp(made: Miniature) -> list[str]:
    """Clips without sound, which `visavox.corpora.ffpp_audio` fetches from the YouTube videos they were cut from."""
    from visavox.media import open_video, write_video

    table = {}
    for person, split in zip(PEOPLE, ("train", "val", "test")):
        one, other = f"{2 * person:03d}", f"{2 * person + 1:03d}"
        made.json(f"dataset/splits/{split}.json", [[one, other]])
        for name, kind in ((one, "real"), (f"{one}_{other}", "fake")):
            folder = "original_sequences/youtube" if kind == "real" else "manipulated_sequences/Deepfakes"
            with open_video(made.talking / next(made.clips[person, kind])) as video:
                pictures, sound = list(video.frames())[:40], video.audio()
            place = made.root / folder / "c23/videos" / f"{name}.mp4"
            place.parent.mkdir(parents=True, exist_ok=True)
            write_video(place, pictures)
            if kind == "real":
                table[one] = f"-b1Ua-k000{person} 0"
                source = made.root / f"downloaded_videos/-b1Ua-k000{person}/-b1Ua-k000{person}.mp4"
                source.parent.mkdir(parents=True)
                write_video(source, pictures, sound)
                sequence = f"downloaded_videos_info/-b1Ua-k000{person}/extracted_sequences/0.json"
                made.json(sequence, list(range(len(pictures))))
    made.json("dataset/conversion_dict.json", table)
    heard = made.root.with_name("corpus_with_sound")
    assert add_sound(["--root", str(made.root), "--output", str(heard)]) == 0
    made.root = heard
    return ["--protocol", "official"]


def ravdess(made: Miniature) -> list[str]:
    for person, actor in zip(PEOPLE, ("01", "11", "05")):
        for take in ("01", "02"):
            made.video(f"Video_Speech_Actor_{actor}/Actor_{actor}/01-01-06-01-02-{take}-{actor}.mp4", person, "real")
    return ["--protocol", "official"]


def deepfaketimit(made: Miniature) -> list[str]:
    for person, (shown, face) in enumerate((("fadg0", "fram1"), ("mccs0", "mjar0"), ("faks0", "fjwb0"))):
        made.video(f"higher_quality/{shown}-{face}/sx1-video-{face}.avi", person, "fake")
        made.video(f"higher_quality/{shown}/sa1-video-{face}.avi", person, "fake")
    return SHARES


def lavdf(made: Miniature) -> list[str]:
    entries = []
    for person, split in zip(PEOPLE, ("train", "dev", "test")):
        for take in range(2):
            original, fake = (f"{split}/{100 * person + 10 * take + k:06d}.mp4" for k in range(2))
            made.video(original, person, "real")
            made.video(fake, person, "fake")
            common = {"split": split, "modify_video": False, "duration": 1.8}
            real = {"file": original, "original": None, "modify_audio": False, "n_fakes": 0, "fake_periods": []}
            made_of = {"file": fake, "original": original, "modify_audio": True, "n_fakes": 1}
            entries += [real | common, made_of | common | {"fake_periods": [[0.5, 0.9]]}]
    made.json("metadata.json", entries)
    return ["--protocol", "official"]


def avdeepfake1m(made: Miniature) -> list[str]:
    for person, split in zip(PEOPLE, ("train", "val", "val")):
        path = made.root / f"{split}_metadata.json"
        entries = json.loads(path.read_text()) if path.is_file() else []
        for take in ("00001", "00002"):
            for file, modify in (("real", "real"), ("fake_video_fake_audio", "both_modified")):
                kind = "real" if modify == "real" else "fake"
                name = f"id0000{person}/21Uxsk56VDQ/{take}/{file}.mp4"
                made.video(f"{split}/{name}", person, kind)
                entry = {"file": name, "original": None, "split": split, "modify_type": modify}
                segments = [[0.28, 0.53]] if kind == "fake" else []
                entries.append(entry | {"fake_segments": segments, "audio_model": "yourtts", "video_model": "diff2lip"})
        made.json(path.name, entries)
    return SHARES


def kodf(made: Miniature) -> list[str]:
    reals, fakes = ["영상ID,UUID,인물성별,촬영장소"], ["영상ID,타겟영상,타겟UUID,소스UUID,변조모델,촬영시작,인물성별"]
    for person, (who, donor) in enumerate((("0a1b", "2c3d"), ("4e5f", "6a7b"), ("8c9d", "0e1f"))):
        for take in (1, 2):
            real, fake = f"{who}_{take}.mp4", f"{who}_{donor}_{take}_0001.mp4"
            made.video(f"원천데이터/train_원본/{who}/{real}", person, "real")
            made.video(f"원천데이터/train_변조/fsgan/{who}/{fake}", person, "fake")
            reals.append(f"{real},{who},여,실내")
            fakes.append(f"{fake},{real},{who},{donor},fsgan,2020,여")
    for name, lines in (("원본영상", reals), ("변조영상", fakes)):
        made.text(f"라벨링데이터/train_meta_data/{name}_training_메타데이터.csv", "\ufeff" + "\n".join(lines) + "\n")
    return SHARES


def tmc(made: Miniature) -> list[str]:
    lines = ["filename,label"]
    for person in PEOPLE:
        for take in range(4):
            name = f"{person}{take}a7f0.mp4"
            made.video(f"videos/{name}", person, ("fake", "real")[take % 2])
            lines.append(f"{name},{take % 2}")  # here 1 is real
    made.text("labels.csv", "\n".join(lines) + "\n")
    return [*SHARES, "--label-map", "1=real,0=fake"]


def folder(made: Miniature) -> list[str]:
    for person in PEOPLE:
        for take in range(4):
            kind = ("real", "fake")[take % 2]
            made.video(f"{kind}/person{person}/{take}.mp4", person, kind)
    return SHARES


@pytest.fixture
def miniature(talking: Path, data: Path, tmp_path: Path) -> Callable[[str], Miniature]:
    """miniature(name): an empty one below `tmp_path`."""
    cropped = {read_stamp(path).source_sha256: path for path in (data / "data/bundles").rglob("*.npz")}
    return lambda name: Miniature(tmp_path / name, talking, cropped)


def crop_and_list(made: Miniature, corpus: Callable[[Miniature], list[str]], output: Path) -> list[dict]:
    """Crop a miniature and write its split CSV; the rows of crop.py's manifest."""
    from visavox.commands import crop

    words = corpus(made)
    assert crop.main(["--input", str(made.root), "--output", str(made.bundles), "--workers", "1", *TINY]) == 0
    name = corpus.__name__
    roots = (
        ["--root", str(made.bundles)]
        if name == "folder"
        else ["--root", str(made.root), "--bundles", str(made.bundles)]
    )
    assert make_split([name, *roots, "--output", str(output), *words]) == 0
    return [json.loads(line) for line in (made.bundles / "manifest.jsonl").read_text().splitlines()]


def train_and_report(root: Path, bundles: Path) -> dict:
    """Train on ROOT/data/split.csv for an epoch, score BUNDLES, and return the report's numbers."""
    from visavox.commands import evaluate as evaluation
    from visavox.commands import train

    paths = [f"root_path={root}", f"runs_path={root / 'runs'}"]
    sizes = ["epoch=1", "train_batch_size=4", "device=cpu", "detector.num_layers=1"]
    assert train.main(["--data-version", "split", "--code-version", "v", *TINY, *paths, *sizes]) == 0
    words = ["-input", str(bundles), "-output", str(root / "scores.csv"), "--workers", "1"]
    words += ["--checkpoint", str(root / "runs/v/best.ckpt"), "--labels", str(root / "data/split.csv")]
    assert evaluation.main([*words, "--report", str(root / "report")]) == 0
    page = (root / "report/report.html").read_text()
    assert "<html" in page and not re.search(r'(src|href)="(?!data:|#)', page), "loads nothing from elsewhere"
    return json.loads((root / "report/report.json").read_text())


def check_report(numbers: dict, split: Path) -> pd.DataFrame:
    """The report is about the test clips of the split CSV, all of them, and trusts their grouping."""
    rows = pd.read_csv(split, dtype=str, keep_default_na=False)
    test = rows[rows["split"] == "test"]
    assert set(rows["split"]) == {"train", "val", "test"}
    counts = (numbers["overall"]["n_real"], numbers["overall"]["n_fake"])
    assert counts == ((test["label"] == "0").sum(), (test["label"] == "1").sum()) and min(counts) > 0
    assert numbers["overall"]["metrics"]["auc"]["value"] is not None and numbers["provenance"]["stamps"] == []
    return rows


@pytest.mark.parametrize("corpus", [dfdc, lavdf, avdeepfake1m, kodf, tmc, folder])
def test_from_a_corpus_to_its_report(corpus, miniature, tmp_path: Path):
    made = miniature(corpus.__name__)
    split = tmp_path / corpus.__name__ / "data/split.csv"
    cropped = crop_and_list(made, corpus, split)
    assert len(cropped) == 12 and all(row["status"] == "ok" and row["kept"] for row in cropped)
    rows = check_report(train_and_report(tmp_path / corpus.__name__, made.bundles), split)
    assert len(rows) == 12 and (rows["label"] == "1").sum() == 6


def test_from_faceforensics_without_sound_to_its_report(miniature, tmp_path: Path):
    made = miniature("ffpp")
    split = tmp_path / "ffpp/data/split.csv"
    cropped = crop_and_list(made, ffpp, split)
    assert [row["status"] for row in cropped] == ["ok"] * 6, "not no_audio"
    rows = check_report(train_and_report(tmp_path / "ffpp", made.bundles), split)
    assert rows["source"].str.startswith("youtube:-b1Ua-k").all() and set(rows["protocol"]) == {"official"}


def test_two_corpora_that_lack_a_class_each_make_one_report(miniature, tmp_path: Path, capsys):
    """RAVDESS has no fakes; DeepfakeTIMIT has no reals."""
    tables = []
    for corpus in (ravdess, deepfaketimit):
        made = miniature(corpus.__name__)
        made.bundles = tmp_path / "bundles" / corpus.__name__
        tables.append(tmp_path / f"data/{corpus.__name__}.csv")
        assert all(row["kept"] for row in crop_and_list(made, corpus, tables[-1]))
    assert "warning: the train split holds" in capsys.readouterr().out
    split = tmp_path / "data/split.csv"
    assert make_split(["concat", *map(str, tables), "--output", str(split)]) == 0
    numbers = train_and_report(tmp_path, tmp_path / "bundles")
    rows = check_report(numbers, split)
    assert rows.groupby("corpus")["label"].unique().map(list).to_dict() == {"deepfaketimit": ["1"], "ravdess": ["0"]}
    assert set(numbers["breakdowns"]["method"]["values"]) == {"faceswap-gan"}
