"""IDForge v1 (Xu et al., 2024): ROOT/KIND/idNN/idNN_SS/*.mp4 and ROOT/{train,val,test}.csv.

The lists have one path below ROOT a line and no header. KIND is `pristine` or what was forged, in eleven folders of the part
`main`. Layout and names as in the authors' repository (xyyandxyy/IDForge: README.md, IDForge_v1/val.csv); that the lists may
lie beside the folders, and which labels sound and picture have, as in SCLBD/DeepfakeBench-MM
(preprocess/idforge_preprocessor.py). idNN is the celebrity whose face is shown, SS one of their videos. Of shuffled sound
(`audiomismatch`) nobody says whose it is; it is a recording, and labelled real by itself. Nor does anybody name the stand-ins
whose bodies the swapped faces sit on.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import no_duplicates
from visavox.splits.table import SPLITS, SplitError

KINDS = {  # folder -> video_label, audio_label
    "face_audiomismatch_textmismatch": (1, 0),
    "face_rvc_textmismatch": (1, 1),
    "face_tts": (1, 1),
    "face_tts_textgen": (1, 1),
    "lip_audiomismatch_textmismatch": (1, 0),
    "lip_rvc_textmismatch": (1, 1),
    "lip_tts_textgen": (1, 1),
    "pristine": (0, 0),
    "rvc_textmismatch": (0, 1),
    "tts_textgen": (0, 1),
    "tts_textmismatch": (0, 1),
}
SWAPS = ("infoswap", "roop", "simswap")
"""What swapped the face, as the end of a file's name says."""


def read(disk: Disk, metadata: Path | None = None) -> Corpus:
    """Every file that the lists name.

    Args:
        metadata: one list in place of train.csv, val.csv and test.csv; its name says which split it is.
    """
    found = [metadata] if metadata else [path for split in SPLITS for path in disk.find(f"{split}.csv")]
    if not found:
        raise SplitError(
            f"{disk.root or disk.bundle_root}: no train.csv, val.csv or test.csv below it; they come from the authors' repository"
        )
    listed = [pair for path in found for pair in _list(path)]
    no_duplicates((clip.filename, where) for clip, where in listed)
    notes = ["IDForge names neither the stand-ins below swapped faces nor whose sound was shuffled in"]
    return Corpus("idforge", [clip for clip, _ in listed], notes=notes)


def _list(path: Path) -> list[tuple[Clip, str]]:
    if path.stem not in SPLITS:
        raise SplitError(f"{path}: is it train, val or test? Name the list so")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SplitError(f"{path}: not UTF-8 ({error}); download it again") from None
    return [
        (_clip(line.strip().replace("\\", "/"), path.stem, where := f"{path}:{number}"), where)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _clip(name: str, split: str, where: str) -> Clip:
    parts = PurePosixPath(name).parts
    if len(parts) != 4 or parts[0] not in KINDS or not re.fullmatch(r"id\d+", parts[1]):
        raise SplitError(
            f"{where}: {name!r} is not KIND/idNN/idNN_SS/FILE.mp4; another corpus's list? KIND is one of {', '.join(KINDS)}"
        )
    kind, person, _, file = parts
    video, audio = KINDS[kind]
    swap = next((each for each in SWAPS if PurePosixPath(file).stem.endswith(f"_{each}")), "")
    return Clip(
        filename=name,
        label=max(video, audio),
        source=f"idforge:{person}",
        split=split,
        method="real" if kind == "pristine" else f"{kind}+{swap}" if swap else kind,
        category=kind,
        audio_label=audio,
        video_label=video,
    )
