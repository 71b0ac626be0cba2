"""A folder of synthetic clips, real and fake in equal parts, with its labels.

    ROOT/real/id0003/id0003_05.mp4      H.264 and AAC, 25 fps, 16 kHz
    ROOT/fake/id0003/id0003_02.mp4
    ROOT/labels.csv                     filename,label,kind,identity,seed,shift,seconds,audio_label,video_label,corpus

`identity` lists everyone a clip shows or borrows from, joined by `;`: a split that is disjoint in these is disjoint in
people. `shift` is the frames that the sound was moved by, + = late. `audio_label` and `video_label` are 1 where the sound, or
the picture, is forged by itself: neither of a genuine voice that does not belong to the picture. `corpus` is `synthetic`, so that
what is trained on such clips says so.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visavox.files import replacing
from visavox.media import write_video
from visavox.progress import progress
from visavox.splits.table import DRAWN
from visavox.synthetic.clips import render
from visavox.synthetic.face import FPS
from visavox.synthetic.fakes import FORGED_PICTURE, FORGED_SOUND, KINDS, forge
from visavox.synthetic.voice import RATE
from visavox.workers.pool import Died, run

REAL = "real"
CRF = 23  # libx264's own default


class Job(NamedTuple):
    """One clip to be made; everything in it follows from the data set's seed."""

    filename: str  # relative POSIX path
    kind: str  # REAL or one of KINDS
    person: int  # seed of the identity
    seed: int
    seconds: float
    donor: int  # seed of the identity whose voice audio_swapped borrows
    names: str  # the identities' names, ';'-joined


def make_dataset(
    root: Path,
    *,
    identities: int,
    clips_per_identity: int,
    seed: int = 0,
    seconds: tuple[float, float] = (3.0, 4.0),
    fake_share: float = 0.5,
    kinds: Sequence[str] = KINDS,
    groups: int | None = None,
    size: int = 256,
    workers: int = 2,
) -> Path:
    """Writes the clips and `labels.csv`, and returns the path of the latter.

    The bytes of every clip follow from `seed` and the clip's place alone, not from `workers`.

    Args:
        identities, clips_per_identity: how many people, and clips of each; equally many fakes for each, up to one.
        seconds: clips last between these two, fakes like reals.
        kinds: the kinds of fake, taken in turn.
        groups: identities fall into so many consecutive groups, and `audio_swapped` borrows the voice of somebody else
            of the same group, so that a split along the groups is disjoint in donors too. None: it borrows another
            utterance of the same person, and any split by identity is disjoint.
        size: pixels, width and height.
    """
    jobs = plan(identities, clips_per_identity, seed, seconds, fake_share, kinds, groups)
    root = Path(root)
    for job in jobs:
        (root / job.filename).parent.mkdir(parents=True, exist_ok=True)
    shifts: dict[str, int] = {}
    work = partial(_make, root=str(root), size=size)
    with progress("synthetic clips", len(jobs)) as step:
        done = run(jobs, _ready, work, workers=workers) if workers > 1 else ((job, work(None, job)) for job in jobs)
        for job, shift in done:
            if isinstance(shift, Died | str):
                reason = shift.reason if isinstance(shift, Died) else shift
                raise RuntimeError(f"{job.filename}: {reason}")
            shifts[job.filename] = shift
            step()
    return _write_labels(root / "labels.csv", jobs, shifts)


def plan(
    identities: int,
    clips_per_identity: int,
    seed: int,
    seconds: tuple[float, float],
    fake_share: float,
    kinds: Sequence[str],
    groups: int | None,
) -> list[Job]:
    """Which clips to make, in the order of their names within each identity."""
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"unknown kinds of fake {sorted(unknown)}; the kinds are {', '.join(KINDS)}")
    if groups is not None and identities < 2 * groups:
        raise ValueError(f"{identities} identities in {groups} groups: each group needs two, to borrow a voice from")
    jobs: list[Job] = []
    fakes = 0
    for i in range(identities):
        rng = np.random.default_rng([seed, i])
        wanted = round((i + 1) * clips_per_identity * fake_share) - fakes
        turns = [kinds[(fakes + k) % len(kinds)] for k in range(wanted)]
        fakes += wanted
        for j, kind in enumerate(rng.permutation(turns + [REAL] * (clips_per_identity - wanted))):
            donor = i if groups is None else _somebody_else(i, identities, groups, rng)
            name = f"id{i:04d}"
            people = f"{name};id{donor:04d}" if kind == "audio_swapped" and donor != i else name
            filename = f"{'real' if kind == REAL else 'fake'}/{name}/{name}_{j:02d}.mp4"
            duration = round(rng.uniform(*seconds) * FPS) / FPS
            take = int(rng.integers(2**31))
            jobs.append(Job(filename, str(kind), _person(seed, i), take, duration, _person(seed, donor), people))
    return jobs


def _person(seed: int, index: int) -> int:
    """The seed of a face and a voice: other data sets show other people."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _somebody_else(i: int, identities: int, groups: int, rng: np.random.Generator) -> int:
    group = i * groups // identities
    others = [k for k in range(identities) if k * groups // identities == group and k != i]
    return int(rng.choice(others))


def _ready() -> None:
    import cv2

    cv2.setNumThreads(1)  # the workers share the cores


def _make(_: None, job: Job, *, root: str, size: int) -> int | str:
    """Writes one clip; the frames its sound was moved by, or what went wrong."""
    try:
        if job.kind == REAL:
            clip, shift = render(job.person, job.seed, job.seconds, size), 0
        else:
            clip, shift, _donors = forge(job.kind, job.person, job.seed, job.seconds, size, donor=job.donor)
        write_video(Path(root) / job.filename, clip.frames, clip.audio, fps=FPS, sample_rate=RATE, crf=CRF)
    except (OSError, ValueError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    return shift


def _write_labels(path: Path, jobs: list[Job], shifts: dict[str, int]) -> Path:
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ["filename", "label", "kind", "identity", "seed", "shift", "seconds", "audio_label", "video_label"]
        writer.writerow([*columns, "corpus"])
        for job in sorted(jobs):
            label, of_sound, of_picture = (int(job.kind in kinds) for kinds in (KINDS, FORGED_SOUND, FORGED_PICTURE))
            facts = [job.filename, label, job.kind, job.names, job.seed, shifts[job.filename], job.seconds]
            writer.writerow([*facts, of_sound, of_picture, DRAWN])
    return path
