"""FaceForensics++ (Rössler et al., 2019) and DeepFakeDetection, laid out as their download script does.

    ROOT/original_sequences/youtube/<c0|raw|c23|c40>/videos/071.mp4
    ROOT/manipulated_sequences/<method>/<compression>/videos/071_054.mp4     the video 071 with the face of 054
    ROOT/original_sequences/actors/..., manipulated_sequences/DeepFakeDetection/...   actor 01 as 01__scene.mp4, 01_02__...
    ROOT/**/{train,val,test}.json    pairs ["071", "054"]: both videos and both of their swaps
    ROOT/**/conversion_dict.json     "071": "<YouTube id> <sequence>"

With the conversion table people are YouTube videos: 22 of them gave several sequences, and for 7 the official split puts
these into two of its parts. The clips have no sound; `visavox ffpp-audio` puts it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Json
from visavox.splits.table import SPLITS, SplitError

PLACE = re.compile(
    r"(?:.*/)?(?:original_sequences/(?P<real>youtube|actors)|manipulated_sequences/(?P<method>\w+))"
    r"/(?P<quality>c0|raw|c23|c40)/videos/(?P<name>[^/]+)"
)
QUALITY = {"c0": "raw"}


def read(disk: Disk) -> Corpus:
    """Every method and compression that is on the disk, and what the splits promise of these."""
    splits = _splits(disk)
    youtube = {name: video for name, (video, _) in conversion_table(disk).items()}
    there = [(name, match) for name in disk.names() if (match := PLACE.fullmatch(_bare(name)))]
    if not there:
        raise SplitError(
            f"{disk.root or disk.bundle_root}: no original_sequences/youtube/c23/videos or the like below it"
        )
    promised = {name: match for name in _promised(there, splits) if (match := PLACE.fullmatch(name))}
    clips = [_clip(name, match, splits, youtube) for name, match in sorted({**promised, **dict(there)}.items())]
    notes = (
        [] if youtube else ["no conversion_dict.json below the root: 22 YouTube videos gave several of the 1,000 clips"]
    )
    notes += [] if splits else ["no splits/{train,val,test}.json below the root: there is no published split"]
    return Corpus("ffpp", clips, notes=notes)


def conversion_table(disk: Disk) -> dict[str, tuple[str, int]]:
    """Clip -> (YouTube id, which of its sequences), from conversion_dict.json; empty where there is none."""
    found = disk.find("conversion_dict.json")
    if not found:
        return {}
    table = Json(found[0])
    made = {}
    for name, cell in table.expect(dict, str).items():
        video, _, sequence = cell.rpartition(" ")
        if not video or not sequence.isdigit():
            raise SplitError(f"{table.where(name)}: {name} is {cell!r}; expected '<YouTube id> <sequence>'")
        made[name] = (video, int(sequence))
    return made


def _splits(disk: Disk) -> dict[str, tuple[str, str]]:
    """Clip -> (its partner, its split)."""
    made: dict[str, tuple[str, str]] = {}
    files = {split: file for split in SPLITS for file in disk.find(f"{split}.json")[:1]}
    for split, path in files.items():
        pairs = Json(path)
        for pair in pairs.expect(list, list):
            if len(pair) != 2 or not all(isinstance(name, str) and re.fullmatch(r"\d{3}", name) for name in pair):
                where = pairs.where(pair[0]) if pair and isinstance(pair[0], str) else path
                raise SplitError(f"{where}: {pair} is no pair of clips such as ['071', '054']")
            for name, partner in (pair, pair[::-1]):
                if name in made:
                    raise SplitError(f"{pairs.where(name)}: {name} is in {split} and before that in {made[name][1]}")
                made[name] = (partner, split)
    if files and len(files) < 3:
        raise SplitError(f"{path.parent}: has {', '.join(files)} and lacks the other split files; download all three")
    return made


def _promised(there: list[tuple[str, re.Match]], splits: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Paths that the splits promise in every folder of which something is here."""
    for folder, match in {str(PurePosixPath(name).parent): match for name, match in there}.items():
        if match["real"] == "youtube":
            yield from (f"{folder}/{name}" for name in splits)
        elif match["method"] not in (None, "DeepFakeDetection"):
            yield from (f"{folder}/{name}_{partner}" for name, (partner, _) in splits.items())


def _clip(name: str, match: re.Match, splits: Mapping[str, tuple[str, str]], youtube: Mapping[str, str]) -> Clip:
    fake = match["real"] is None
    actors = match["real"] == "actors" or match["method"] == "DeepFakeDetection"
    shown = match["name"].split("__")[0].split("_")
    if not all(re.fullmatch(r"\d+", part) for part in shown) or len(shown) != 1 + fake:
        raise SplitError(
            f"{name}: expected {'071_054' if fake else '071'} or, of actors, {'01_02' if fake else '01'}__scene"
        )
    people = [f"dfd:{part}" if actors else _person(part, youtube) for part in shown]
    split = "" if actors else splits.get(shown[0], ("", ""))[1]
    return Clip(
        filename=name,
        label=int(fake),
        source=people[0],
        donors=tuple(people[1:]),
        split=split,
        method=match["method"] or "real",
        category=match["real"] or ("actors" if actors else "youtube"),
        quality=QUALITY.get(match["quality"], match["quality"]),
        audio_label=0,
        video_label=int(fake),
    )


def _person(name: str, youtube: Mapping[str, str]) -> str:
    return f"youtube:{youtube[name]}" if name in youtube else f"ffpp:{name}"


def _bare(name: str) -> str:
    """A bundle of a.mp4 beside an a.avi is called a.mp4.npz; its clip is a."""
    return name.removesuffix(".mp4")


def sequence_frames(folder: Path, video: str, sequence: int) -> list[int]:
    """Frames of a downloaded YouTube video that became a clip, from its extracted_sequences/<sequence>.json."""
    frames = Json(folder / video / "extracted_sequences" / f"{sequence}.json")
    return list(chain(frames.expect(list, int)))
