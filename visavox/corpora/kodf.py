"""KoDF (Kwon et al., 2021), as AI-Hub ships it: videos anywhere below ROOT, found by their names, and its tables.

    원본영상_<training|validation|test>_메타데이터.csv    영상ID, UUID, 인물성별, ...                              real videos
    변조영상_<training|validation|test>_메타데이터.csv    영상ID, 타겟영상, 타겟UUID, 소스UUID, 변조모델, 인물성별, ...   fakes

A UUID is a person. The sound is genuine but for audio-driven fakes, of which that is not said; fsgan clips have none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Line, no_duplicates, read_table
from visavox.splits.table import SplitError

REAL, FAKE = "원본영상", "변조영상"
VIDEO, PERSON, TARGET, SOURCE, MODEL, GENDER = "영상ID", "UUID", "타겟UUID", "소스UUID", "변조모델", "인물성별"
SPLIT_NAMES = {"training": "train", "validation": "val", "test": "test"}
GENDERS = {"남": "men", "남자": "men", "남성": "men", "여": "women", "여자": "women", "여성": "women"}


def read(disk: Disk) -> Corpus:
    """Every video that the tables list."""
    tables = [(path, name) for path in disk.find("*.csv") if "메타데이터" in (name := _composed(path.name))]
    if not tables:
        raise SplitError(
            f"{disk.root}: no {REAL}_training_메타데이터.csv or the like below it; unpack the metadata archives"
        )
    listed: list[tuple[Clip, Line]] = []
    for path, name in tables:
        if not name.startswith((REAL, FAKE)):
            raise SplitError(f"{path}: its name starts with neither {REAL} (real) nor {FAKE} (fake)")
        listed += (_reals if name.startswith(REAL) else _fakes)(path, _split(name))
    no_duplicates((clip.filename, line.where) for clip, line in listed)
    return Corpus("kodf", [clip for clip, _ in listed], key=lambda name: PurePosixPath(name).name)


def _reals(path: Path, split: str) -> Iterator[tuple[Clip, Line]]:
    for line in read_table(path, (VIDEO, PERSON, GENDER)):
        yield (
            Clip(
                filename=line[VIDEO],
                label=0,
                source=f"kodf:{line[PERSON]}",
                split=split,
                gender=GENDERS.get(line[GENDER], line[GENDER]),
                audio_label=0,
                video_label=0,
            ),
            line,
        )


def _fakes(path: Path, split: str) -> Iterator[tuple[Clip, Line]]:
    for line in read_table(path, (VIDEO, TARGET, SOURCE, MODEL, GENDER)):
        yield (
            Clip(
                filename=line[VIDEO],
                label=1,
                source=f"kodf:{line[TARGET]}",
                donors=(f"kodf:{line[SOURCE]}",) if line[SOURCE] not in ("", "-") else (),
                split=split,
                method=line[MODEL],
                gender=GENDERS.get(line[GENDER], line[GENDER]),
                audio_label=None if "audio" in line[MODEL] else 0,
                video_label=1,
            ),
            line,
        )


def _split(name: str) -> str:
    return next((split for word, split in SPLIT_NAMES.items() if word in name), "")


def _composed(name: str) -> str:
    """macOS unpacks Hangul in pieces."""
    return unicodedata.normalize("NFC", name)
