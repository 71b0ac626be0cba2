"""2D3MF's unified layout, one corpus at a time: 2D3MF_Dataset/NAME/{video/STEM.mp4, audio/STEM.wav}; ROOT is .../NAME.

NAME is DeepfakeTIMIT, DFDC, FakeAVCeleb, Forensics++ or RAVDESS. STEM ends in -0 for real and -1 for fake; clips of RAVDESS are
all real and need no ending. Who is shown, and who lent a face or a voice, is read from the rest of STEM as the corpus writes it:

    Forensics++     071-0, 071_054-1                     clips of FaceForensics++, target before source
    FakeAVCeleb     00010-id00076-id01234-wavtolip-1     every idNNNNN that stands in it, the first is shown
    DeepfakeTIMIT   fadg0-sa1-video-fram1-1              every VidTIMIT id, the first is shown
    RAVDESS         01-01-06-01-02-01-12[-0]             actor and emotion
    DFDC            aagfhgtpmv-1                         nobody; metadata.json below ROOT joins a fake to its original

The published split shares DFDC and FaceForensics++ out by file; here clips that share anybody stay together, as in every
corpus. The sound beside the videos is joined to them by `visavox join-audio`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from visavox.corpora import ravdess
from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Json
from visavox.splits.table import SplitError

NAMES = {
    "deepfaketimit": "deepfaketimit",
    "dfdc": "dfdc",
    "fakeavceleb": "fakeavceleb",
    "forensics++": "ffpp",
    "faceforensics++": "ffpp",
    "ravdess": "ravdess",
}
"""The folder in small letters -> the corpus as its own reader calls it."""
TIMIT = re.compile(r"[fm][a-z]{3}\d")
"""A speaker of TIMIT and VidTIMIT: sex, initials, a digit that keeps equal ones apart."""


def read(disk: Disk, metadata: Path | None = None) -> Corpus:
    """The clips below video/, or, without a root, those whose bundles are there.

    Args:
        metadata: DFDC's, in place of those below the root.
    """
    root = disk.root or disk.bundle_root
    name = NAMES.get(root.resolve().name.lower()) if root else None
    if root is None or name is None:
        raise SplitError(
            f"{root}: no folder of 2D3MF_Dataset; those are named DeepfakeTIMIT, DFDC, FakeAVCeleb, Forensics++ or RAVDESS"
        )
    stems = [name for name in disk.names() if PurePosixPath(name).parent.name == "video"]
    if not stems:
        raise SplitError(f"{root}: no videos in video/; the layout is NAME/video/*.mp4 and NAME/audio/*.wav")
    originals = _originals([metadata] if metadata else disk.find("metadata.json")) if name == "dfdc" else {}
    clips = [_clip(stem, name, originals) for stem in stems]
    notes = []
    if name == "dfdc" and not originals:
        notes.append("without a metadata.json nothing says which clips are of one original: each counts as its own")
    if not any(clip.label for clip in clips):
        notes.append("all clips are real: concat it with a corpus that has fakes")
    return Corpus(name, clips, notes=notes)


def _clip(name: str, corpus: str, originals: Mapping[str, str]) -> Clip:
    stem = PurePosixPath(name).name.removesuffix(".mp4")
    bare, _, ending = stem.rpartition("-")
    if corpus == "ravdess":
        return ravdess.clip(name, bare if stem.count("-") == 7 and ending == "0" else stem)
    if ending not in ("0", "1"):
        raise SplitError(f"{name}: expected a name that ends in -0 (real) or -1 (fake)")
    people = _people(bare, corpus, originals)
    if not people:
        raise SplitError(f"{name}: names nobody whom {corpus} knows; see `visavox corpora unified --help`")
    label = int(ending)
    return Clip(
        filename=name,
        label=label,
        source=people[0],
        donors=tuple(people[1:]),
        method="" if label else "real",
        audio_label=0 if not label or corpus in ("ffpp", "deepfaketimit") else None,
        video_label=label if not label or corpus in ("ffpp", "deepfaketimit") else None,
    )


def _people(bare: str, corpus: str, originals: Mapping[str, str]) -> list[str]:
    """Whom a clip shows, then who lent something, under the names that the corpus's own reader gives them."""
    if corpus == "ffpp":
        numbers = bare.split("_")
        return [f"ffpp:{n}" for n in numbers] if all(re.fullmatch(r"\d{3}", n) for n in numbers) else []
    if corpus == "fakeavceleb":
        return [f"voxceleb2:{found}" for found in dict.fromkeys(re.findall(r"id\d{5}", bare))]
    if corpus == "deepfaketimit":
        return [f"vidtimit:{part}" for part in dict.fromkeys(bare.split("-")) if TIMIT.fullmatch(part)]
    first = bare.split("-")[0]
    return [f"dfdc:{originals.get(first, first)}"]


def _originals(tables: list[Path]) -> dict[str, str]:
    """Clip of DFDC -> the original it was made of, without suffixes."""
    found = {}
    for path in tables:
        for name, entry in Json(path).expect(dict, dict).items():
            original = entry.get("original")
            if isinstance(original, str) and original:
                found[name.removesuffix(".mp4")] = original.removesuffix(".mp4")
    return found
