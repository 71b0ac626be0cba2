"""LAV-DF (Cai et al., 2022): ROOT/{train,dev,test}/000001.mp4, ROOT/metadata.json or metadata.min.json.

[{"file": "test/000001.mp4", "original": null, "split": "test", "modify_video": false, "modify_audio": false,
"fake_periods": [[1.2, 1.8]], ...}, ...]. People are not named: an original and its fakes stay together.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.corpora.metadata import Json, no_duplicates
from visavox.splits.table import SplitError

SPLIT_NAMES = {"train": "train", "dev": "val", "test": "test"}
FLAGS = {True: 1, False: 0}


def read(disk: Disk, metadata: Path | None = None) -> Corpus:
    """Every file that the metadata lists.

    Args:
        metadata: the JSON; by default metadata.json below the root, else metadata.min.json.
    """
    found = [metadata] if metadata else disk.find("metadata.json") or disk.find("metadata.min.json")
    if not found:
        raise SplitError(f"{disk.root or disk.bundle_root}: no metadata.json or metadata.min.json below it")
    listing = Json(found[0])
    clips = []
    for entry in listing.expect(list, dict):
        name = listing.cell(entry, "file", "file")
        video = listing.cell(entry, "modify_video", name, FLAGS)
        audio = listing.cell(entry, "modify_audio", name, FLAGS)
        periods = listing.cell(entry, "fake_periods", name)
        if bool(periods) != bool(video or audio):
            raise SplitError(
                f"{listing.where(name)}: {name} has {len(periods)} fake_periods, modified: {bool(video or audio)}"
            )
        clips.append(
            Clip(
                filename=name,
                label=max(video, audio),
                source=f"lavdf:{PurePosixPath(entry.get('original') or name).stem}",  # numbers run on over the splits
                split=listing.cell(entry, "split", name, SPLIT_NAMES),
                method="wav2lip" if video else "sv2tts" if audio else "real",
                category=("real", "audio", "video", "both")[2 * video + audio],
                fake_segments=periods,
                audio_label=audio,
                video_label=video,
            )
        )
    no_duplicates((clip.filename, listing) for clip in clips)
    return Corpus("lavdf", clips, notes=["LAV-DF names nobody: groups are an original and its fakes"])
