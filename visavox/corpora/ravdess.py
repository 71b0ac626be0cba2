"""RAVDESS (Livingstone and Russo, 2018): ROOT/**/Actor_NN/MM-VC-EE-II-SS-RR-AA.mp4, 24 actors, all real.

MM 01 picture and sound, 02 picture, 03 sound; VC 01 speech, 02 song; EE emotion; II intensity; SS statement; RR repetition;
AA actor, odd male. Only 01 is read: 02 is the same recording without its sound. The emotion goes to the column `emotion`.
The published split by actor is 2D3MF's.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath

from visavox.config.td3mf import EMOTIONS
from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.splits.table import SplitError

VOCAL = {"01": "speech", "02": "song"}
TEST_ACTORS = {"05", "10", "16", "19"}
VAL_ACTORS = {"11", "13", "18", "22"}


def read(disk: Disk) -> Corpus:
    """The recordings that are on the disk: their names are the metadata."""
    clips, silent = [], 0
    for name in disk.names():
        stem = PurePosixPath(name).name.removesuffix(".mp4")
        found = clip(name, stem)
        if stem.startswith("01-"):
            clips.append(found)
        else:
            silent += 1
    notes = ["RAVDESS is all real: concat it with a corpus that has fakes"]
    if silent:
        notes.append(f"{silent} files of other modalities are left out, only 01 has picture and sound")
    actors = Counter(clip.source for clip in clips)
    if len(actors) < 24:
        notes.append(f"{len(actors)} of 24 actors are here")
    return Corpus("ravdess", clips, notes=notes)


def clip(name: str, stem: str) -> Clip:
    """Return what the seven numbers say of a recording.

    Args:
        name: path below the root.
        stem: the numbers, MM-VC-EE-II-SS-RR-AA.

    Raises:
        SplitError: they are none of RAVDESS.
    """
    fields = stem.split("-")
    if not re.fullmatch(r"0[123](-\d\d){6}", stem):
        raise SplitError(f"{name}: expected seven numbers such as 01-01-06-01-02-01-12")
    _, vocal, emotion, _, _, _, actor = fields
    if not 1 <= int(emotion) <= len(EMOTIONS) or not 1 <= int(actor) <= 24 or vocal not in VOCAL:
        raise SplitError(f"{name}: emotion {emotion}, actor {actor} or vocal channel {vocal} is unknown")
    return Clip(
        filename=name,
        label=0,
        source=f"ravdess:{actor}",
        split="test" if actor in TEST_ACTORS else "val" if actor in VAL_ACTORS else "train",
        emotion=EMOTIONS[int(emotion) - 1],
        quality=VOCAL[vocal],
        gender="men" if int(actor) % 2 else "women",
        audio_label=0,
        video_label=0,
    )
