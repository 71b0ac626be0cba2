"""FaceForensics++ with its sound: every clip is given that of the YouTube video it was cut from.

    visavox ffpp-audio --root FaceForensics++ --output FaceForensics++_sound

FaceForensics++ is published without sound. Its download script's `-d original_youtube_videos` and `_info` bring the sources,

    ROOT/downloaded_videos/<YouTube id>/<YouTube id>.mp4
    ROOT/downloaded_videos[_info]/<YouTube id>/extracted_sequences/<sequence>.json    frames that became the clip

and conversion_dict.json says which clip is which. A fake keeps the sound of the video whose face was replaced. The picture is
copied packet by packet. OUTPUT is laid out as ROOT is, so crop.py and `visavox.corpora ffpp` read it in ROOT's place; clips
whose source is not there are counted and left out.
Exit codes: 0 done; 1 some clips have no sound; 2 wrong arguments or tables; 4 another run writes to OUTPUT; 5 the disk is full.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visavox import runs
from visavox.files import replacing
from visavox.logs import complain, say
from visavox.progress import progress

if TYPE_CHECKING:
    import numpy as np

RATE = 48000
SLACK = 0.2
"""Seconds by which clip and cut may differ in length before the tables are not believed."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    from visavox.media import MediaError
    from visavox.splits.table import SplitError, count_and_first

    lost = []
    try:
        cuts, names = find_cuts(arguments.root)
        arguments.output.mkdir(parents=True, exist_ok=True)
        with runs.holding(arguments.output), progress("sound", len(names)) as advance:
            for name, shown in names:
                try:
                    add_sound(arguments.root / name, arguments.output / name, cuts.get(shown))
                except (MediaError, SplitError) as error:
                    lost.append(f"{name} ({error})")
                advance()
            for table in [*arguments.root.rglob("conversion_dict.json"), *arguments.root.rglob("splits/*.json")]:
                with replacing(arguments.output / table.name) as beside:
                    shutil.copy(table, beside)
    except (SplitError, runs.LockedError, OSError) as error:
        complain("visavox ffpp-audio", error)
        return runs.exit_code(error)
    say(f"{arguments.output}: {len(names) - len(lost)} of {len(names)} clips have their sound")
    if lost:
        say(f"{len(lost)} have none: {count_and_first(lost)}", error=True)
    return int(bool(lost))


class Cut(NamedTuple):
    """Where a clip comes from."""

    video: Path
    first: int
    """Frame of the YouTube video that is the clip's first."""
    frames: int


def find_cuts(root: Path) -> tuple[dict[str, Cut], list[tuple[str, str]]]:
    """Clip id -> its cut, as far as tables and sources are there; and (path below the root, id of whom it shows) pairs."""
    from visavox.corpora import ffpp
    from visavox.corpora.disk import Disk
    from visavox.splits.table import SplitError

    disk = Disk(root, None)
    table = ffpp.conversion_table(disk)
    if not table:
        raise SplitError(
            f"{root}: no conversion_dict.json below it; it lies in the dataset folder of FaceForensics' code"
        )
    cuts = {}
    for name, (video, sequence) in table.items():
        source = root / "downloaded_videos" / video / f"{video}.mp4"
        for folder in (root / "downloaded_videos", root / "downloaded_videos_info"):
            if source.is_file() and (folder / video / "extracted_sequences" / f"{sequence}.json").is_file():
                frames = ffpp.sequence_frames(folder, video, sequence)
                cuts[name] = Cut(source, frames[0], len(frames))
    names = []
    for name in disk.videos:
        match = ffpp.PLACE.fullmatch(name.removesuffix(".mp4"))
        if match and match["real"] != "actors" and match["method"] != "DeepFakeDetection":
            names.append((name, match["name"].split("_")[0]))
    return cuts, names


def add_sound(clip: Path, output: Path, cut: Cut | None) -> None:
    """Write `clip` with the sound of its cut.

    Raises:
        SplitError: its source is not there, has no sound, or does not fit the clip.
    """
    from visavox.media import probe
    from visavox.media.mux import copy_with_sound
    from visavox.splits.table import SplitError

    if cut is None:
        raise SplitError("its YouTube video or its list of frames is not there")
    fps = probe(cut.video).fps or 25.0
    start, seconds = cut.first / fps, cut.frames / fps
    length = probe(clip).duration or seconds
    if abs(length - seconds) > SLACK:
        raise SplitError(
            f"lasts {length:.2f} s, its frames in {cut.video.name} {seconds:.2f} s: another version of it?"
        )
    sound = read_sound(cut.video, start, seconds)
    output.parent.mkdir(parents=True, exist_ok=True)
    copy_with_sound(clip, output, sound, RATE)


def read_sound(video: Path, start: float, seconds: float) -> np.ndarray:
    """Sound (N,) int16 mono at RATE of a part of a video, on the clock of its picture."""
    from visavox.media import open_video
    from visavox.splits.table import SplitError

    with open_video(video, fps=1, sample_rate=RATE, max_seconds=int(start + seconds) + 2) as source:
        for _ in source.frames():  # one a second: the sound is complete when the picture is
            pass
        sound = source.audio()
    if sound is None:
        raise SplitError(f"{video.name} has no sound")
    return sound[round(start * RATE) : round((start + seconds) * RATE)]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox ffpp-audio",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="FaceForensics++ as downloaded")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the same clips with sound")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
