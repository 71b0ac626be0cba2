"""ASVspoof 2019 LA (Wang et al., 2020): sound alone, with the protocols of its countermeasures.

ROOT/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{train.trn,dev.trl,eval.trl}.txt, a line for each utterance
`SPEAKER UTTERANCE - ATTACK LABEL` (ATTACK A01 to A19, or - where it is bona fide; LABEL bonafide or spoof), and
ROOT/ASVspoof2019_LA_{train,dev,eval}/flac/UTTERANCE.flac. Speakers of the three parts are different people.

There is no face in it, so there are no bundles: `visavox pretrain-audio --root ROOT` trains on it.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import no_duplicates
from visavox.splits.table import SplitError

SUFFIXES = frozenset({".flac"})
"""Files that are the corpus; others are not looked for."""
PARTS = {"train.trn": ("train", "train"), "dev.trl": ("dev", "val"), "eval.trl": ("eval", "test")}
"""End of the protocol's name -> folder's, split."""
LABEL = {"bonafide": 0, "spoof": 1}


def read(disk: Disk) -> Corpus:
    """Every utterance that the protocols below the root list.

    Raises:
        SplitError: no protocol is there, or a line is not in its form; with file and line.
    """
    protocols = disk.find("ASVspoof2019.LA.cm.*.txt")
    if not protocols:
        raise SplitError(
            f"{disk.root or disk.bundle_root}: no ASVspoof2019.LA.cm.{{train.trn,dev.trl,eval.trl}}.txt below it; ROOT is "
            "the folder LA as downloaded"
        )
    listed = [pair for protocol in protocols for pair in _lines(protocol)]
    no_duplicates((clip.filename, where) for clip, where in listed)
    clips = [clip for clip, _ in listed]
    notes = ["sound alone: `visavox pretrain-audio` trains on it, `visavox train` cannot"]
    speakers = {split: {clip.source for clip in clips if clip.split == split} for split in ("train", "val", "test")}
    notes.append(f"speakers: {', '.join(f'{split} {len(names)}' for split, names in speakers.items() if names)}")
    return Corpus("asvspoof2019", clips, key=lambda name: PurePosixPath(name).name, notes=notes)


def _lines(protocol: Path) -> list[tuple[Clip, str]]:
    """The utterances of one protocol, each with the place that lists it."""
    part = re.fullmatch(r"ASVspoof2019\.LA\.cm\.(train\.trn|dev\.trl|eval\.trl)\.txt", protocol.name)
    if not part:
        raise SplitError(f"{protocol}: expected a name that ends in {', '.join(f'{end}.txt' for end in PARTS)}")
    folder, split = PARTS[part[1]]
    try:
        lines = protocol.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SplitError(f"{protocol}: not UTF-8 ({error})") from None
    return [
        (_clip(line, f"{protocol}:{number}", folder, split), f"{protocol}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _clip(line: str, where: str, folder: str, split: str) -> Clip:
    fields = line.split()
    if len(fields) != 5:
        raise SplitError(f"{where}: {len(fields)} fields, expected SPEAKER UTTERANCE - ATTACK LABEL")
    speaker, utterance, _, attack, label = fields
    if label not in LABEL:
        raise SplitError(f"{where}: label {label!r} is unknown; expected {', '.join(LABEL)}")
    if (attack == "-") != (label == "bonafide") or not re.fullmatch(r"-|A\d\d", attack):
        raise SplitError(f"{where}: attack {attack!r} with label {label}; bona fide has -, spoof has A01 to A19")
    return Clip(
        filename=f"ASVspoof2019_LA_{folder}/flac/{utterance}.flac",
        label=LABEL[label],
        source=f"asvspoof2019:{speaker}",
        split=split,
        method="real" if attack == "-" else attack,
        audio_label=LABEL[label],
    )
