"""DeepfakeTIMIT (Korshunov and Marcel, 2018): ROOT/{lower,higher}_quality/<folder>/<sentence>-video-<who>.avi.

The folder names the person shown, alone or as `<target>-<source>`; the file the person whose face was put on. 640 fakes of 32
people of VidTIMIT, sound genuine. The real videos are VidTIMIT's and not part of it: put them, as videos, below
ROOT/VidTIMIT/<person>/ and they are read too.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from visavox.corpora.clip import Clip, Corpus
from visavox.corpora.disk import Disk
from visavox.splits.table import SplitError

FAKE = re.compile(
    r"(?:.*/)?(?P<quality>lower|higher)_quality/(?P<folder>[a-z]\w{4}(?:-[a-z]\w{4})?)/\w+-video-(?P<who>\w{5})"
)
REAL = re.compile(r"(?:.*/)?vidtimit\w*/(?P<who>[a-z]\w{4})/.+", re.IGNORECASE)
PER_QUALITY = 320


def read(disk: Disk) -> Corpus:
    """What is on the disk: the corpus has no list of its files."""
    clips = []
    for name in disk.names():
        bare = name.removesuffix(".avi")
        if fake := FAKE.fullmatch(bare):
            first, *others = (f"vidtimit:{who}" for who in [*fake["folder"].split("-"), fake["who"]])
            clips.append(
                Clip(
                    filename=name,
                    label=1,
                    source=first,
                    donors=tuple(others),
                    method="faceswap-gan",
                    quality=fake["quality"],
                    audio_label=0,
                    video_label=1,
                )
            )
        elif real := REAL.fullmatch(bare):
            clips.append(Clip(filename=name, label=0, source=f"vidtimit:{real['who']}", audio_label=0, video_label=0))
        elif "_quality" in PurePosixPath(name).parent.as_posix():
            raise SplitError(
                f"{name}: expected higher_quality/fadg0/sa1-video-fram1.avi or higher_quality/fadg0-fram1/..."
            )
    fakes = [clip for clip in clips if clip.label]
    notes = [
        f"{quality}_quality has {n} videos, {PER_QUALITY} were published"
        for quality in ("lower", "higher")
        if (n := sum(clip.quality == quality for clip in fakes)) != PER_QUALITY
    ]
    if len(fakes) == len(clips):
        notes.append("no real clips: VidTIMIT's belong below ROOT/VidTIMIT/<person>/, or concat with another corpus")
    return Corpus("deepfaketimit", clips, notes=notes)
