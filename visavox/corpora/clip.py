"""What every corpus's reader gives: clips with the same facts, under the same names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

FACTS = (
    *("corpus", "protocol", "source", "donors", "method", "category", "quality", "race", "gender"),
    *("fake_segments", "audio_label", "video_label", "emotion", "content"),
)
"""Columns that every corpus shares, behind those of every split CSV; empty where a corpus does not say."""


class Clip(NamedTuple):
    """One video that a corpus promises, and what it says about it."""

    filename: str
    """Path below the root, or a name that the corpus's `key` finds there."""
    label: int
    """0 real, 1 fake."""
    source: str
    """Whom the clip shows, as `namespace:id`; one namespace for corpora that are made of the same people."""
    donors: tuple[str, ...] = ()
    """Further identities whose face, motion or voice went into it."""
    split: str = ""
    """train, val or test as published, or ""."""
    method: str = "real"
    category: str = ""
    quality: str = ""
    race: str = ""
    gender: str = ""
    fake_segments: Sequence[Sequence[float]] | None = None
    """(start, end) seconds of what is fake; None where the corpus does not say."""
    audio_label: int | None = None
    video_label: int | None = None
    emotion: str = ""
    """One of `visavox.config.td3mf.EMOTIONS`, or ""."""


@dataclass
class Corpus:
    """The clips of a corpus as its own metadata lists them."""

    name: str
    clips: list[Clip]
    key: Callable[[str], str] = str
    """Path without suffix, on disk or in the metadata -> what both have in common."""
    notes: list[str] = field(default_factory=list)
    """What the user should know about this corpus, in words."""


def clip_table(corpus: Corpus) -> pd.DataFrame:
    """One row per clip: the cells of a split CSV that are known before its bundle and its split are, all but label text."""
    rows = pd.DataFrame([clip._asdict() for clip in corpus.clips], columns=list(Clip._fields))
    rows["corpus"] = corpus.name
    rows["donors"] = [
        ";".join(dict.fromkeys(name for name in clip.donors if name != clip.source)) for clip in corpus.clips
    ]
    rows["fake_segments"] = ["" if part is None else json.dumps(part) for part in rows["fake_segments"]]
    for column in ("audio_label", "video_label"):
        rows[column] = ["" if getattr(clip, column) is None else str(getattr(clip, column)) for clip in corpus.clips]
    rows["content"] = ""
    return rows
