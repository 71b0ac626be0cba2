"""What is measured of each clip, and how well it separates the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from visavox.bundle import Bundle
from visavox.bundle.trim import silence, trimmed
from visavox.evaluation.intervals import estimate
from visavox.features.speech import ON, Gate, speech
from visavox.progress import progress

if TYPE_CHECKING:
    from visavox.bundle.trim import Ends


LIMIT = 0.6


PROBE_LIMIT = 0.75
"""For the random encoders, which hear and see true artefacts of forgery too."""


LEVEL = 0.99


LEAST_CLIPS = 5
"""Of each class; with fewer nothing is flagged, whatever it is."""


WITHIN = "_within"
"""Ends the name of a measure that is compared within each identity."""
LEAST_PEOPLE = 8
"""Identities with clips of both classes; of n all lean the same way by chance in 2 of 2^n cases, 0.8 % of 8."""


class Finding(NamedTuple):
    """How well one measure alone tells real from fake."""

    name: str
    auc: float
    """Of the measure as it stands; below 0.5 means that fakes have less of it."""
    low: float
    high: float
    real: str
    """Median of the real clips, or their commonest value."""
    fake: str
    n_real: int
    n_fake: int
    flagged: bool


def audit_split(
    path: Path,
    root: Path,
    *,
    videos: Path | None = None,
    trim: Ends = "none",
    split: str = "all",
    limit: float = LIMIT,
    probes: bool = True,
    group: str | None = None,
    gate: Gate = "energy",
) -> list[Finding]:
    """Audit the clips of a split CSV, most telling measure first.

    Args:
        root: folder that relative file paths of the CSV start from.
        videos: folder of the source videos, found by the CSV's `filename`; None leaves out what only they tell.
        trim: `trim_silence` as the detector would see the clips.
        split: train, val, test or all.
        group: column of identities; None looks for one.
        gate: what tells speech from silence.
    """
    from visavox.audit.probes import Probes
    from visavox.evaluation.scores import groups_of
    from visavox.splits.table import read_split

    rows = read_split(path, root, part=True)  # a set of one split alone is audited too
    rows = rows if split == "all" else rows[rows["split"] == split]
    encoders = Probes() if probes else None
    measured: list[dict[str, Any]] = []
    with progress("auditing", len(rows)) as advance:
        for row in rows.itertuples():
            whole = Bundle.load(row.path)
            bundle = trimmed(whole, trim, gate=gate)
            values = of_bundle(bundle, gate) | {"start": float(whole.times[0])}  # no detector sees where it was cut
            if videos:
                values |= of_video(videos / row.filename)
            if encoders:
                encoders.see(bundle)
            measured.append(values)
            advance()
    labels = rows["label"].to_numpy()
    groups, _ = groups_of(rows, group)
    found = judge(measured, labels, groups, limit=limit)
    if encoders:
        scores = encoders.scores(labels, groups)
        told = [dict(zip(scores, values)) for values in zip(*scores.values())]
        found += judge(told, labels, groups, limit=max(limit, PROBE_LIMIT))
    return sorted(found, key=lambda finding: -abs(finding.auc - 0.5))


def of_bundle(bundle: Bundle, gate: Gate = "energy") -> dict[str, float | None]:
    """What a bundle tells; None where it does not. `gate` says what counts as speech."""

    rate, sound = bundle.sample_rate, bundle.sound
    values: dict[str, float | None] = {
        "has_audio": float(len(sound) > 0),
        "duration": bundle.track_frames / float(bundle.fps),
        "start": float(bundle.times[0]),
        "face_size": float(np.median(np.ptp(bundle.boxes.reshape(-1, 2, 2), axis=1).mean(1))),
        "first_frame": float(bundle.faces[0].mean()),
        "brightness": float(bundle.faces.mean()),
        "detail": detail(bundle.faces),
        "detection": round(float(np.nanmean(bundle.det_score)), 3) if np.isfinite(bundle.det_score).any() else None,
    }
    if not len(sound):
        return values
    quiet = silence(sound, rate)
    audible = np.flatnonzero(np.abs(sound.astype(np.int32)) > 1)
    level = np.sqrt(np.square(sound, dtype=np.float64).mean())
    return values | {
        "leading_silence": quiet.leading,
        "trailing_silence": quiet.trailing,
        **({} if gate == "energy" else _of_speech(sound, rate, gate)),
        "leading_zeros": round((audible[0] if len(audible) else len(sound)) / rate, 2),
        "loudness": 20 * float(np.log10(max(level, 1) / 32768)),
        "peak": 20 * float(np.log10(max(np.abs(sound.astype(np.int32)).max(), 1) / 32768)),
        "treble": treble(bundle.mel_3cs),
    }


def treble(mel: np.ndarray) -> float:
    """How much quieter the highest sixteenth of the mel bins is than the lower half: medians in dB of (3, F, M).

    Codecs and resampling take it away; on real clips it says whether a class was encoded once more than the other.
    """
    level, F = mel[0].astype(np.float32), mel.shape[1]
    return round(float(np.median(level[-max(1, F // 16) :]) - np.median(level[: F // 2])), 1)


def detail(faces: np.ndarray) -> float:
    """How sharp faces (N, S, S, 3) uint8 are: standard deviation of their Laplacian over grey levels in dB, median of all.

    Encoders and resizing take it away; within one person it says whether a class was encoded or shrunk once more than the other.
    """
    spread = [float(cv2.Laplacian(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std()) for face in faces]
    return round(20 * float(np.log10(max(float(np.median(spread)), 1e-3))), 2)


def _of_speech(sound: np.ndarray, rate: int, gate: Gate) -> dict[str, float | None]:
    """What a network that hears speech adds to loudness."""
    around = silence(sound, rate, gate)
    share = float((speech(sound, rate, gate) >= ON).mean())
    return {"before_speech": around.leading, "after_speech": around.trailing, "speech_share": share}


def of_video(path: Path) -> dict[str, Any]:
    """What a media file declares; nothing where it cannot be read."""
    from visavox.media import LIMITS, MediaError, probe
    from visavox.media.container import open_container, open_regular

    try:
        info = probe(path)
        with open_regular(str(path)) as file, open_container(str(path), file, LIMITS) as container:
            tags = {name: value for name, value in container.metadata.items() if name not in ("creation_time", "title")}
    except MediaError as error:
        raise ValueError(f"{path}: {error}; --videos is the folder that the CSV's filename starts from") from None
    seconds = info.duration or None
    return {
        "fps": info.fps,
        "pixels": float(info.width * info.height),
        "bit_rate": path.stat().st_size * 8e-3 / seconds if seconds else None,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "file_duration": seconds,
        "codec": f"{info.video_codec}/{info.audio_codec}, {info.pixel_format}",
        "container": info.container,
        "tags": ", ".join(f"{name}={value}" for name, value in sorted(tags.items())) or "none",
    }


def judge(
    measured: Sequence[dict[str, Any]], labels: np.ndarray, groups: np.ndarray | None, *, limit: float = LIMIT
) -> list[Finding]:
    """A finding for every measure that varies: AUC with interval, and whether it is a red flag."""
    found = []
    for name in dict.fromkeys(key for values in measured for key in values):
        cells = [values.get(name) for values in measured]
        known = np.array([cell is not None for cell in cells])
        there = [cell for cell in cells if cell is not None]
        if len(set(there)) < 2 or len(set(labels[known])) < 2:
            continue
        whose = None if groups is None else groups[known]
        words = isinstance(there[0], str)
        numbers = told_by_words(there, labels[known], whose) if words else np.array(there, np.float64)
        found.append(_finding(name, there, numbers, labels[known], whose, limit, either_way=not words))
        if words or whose is None or name.endswith("_probe"):
            continue
        apart, both = within(numbers, labels[known], whose)
        if len(set(whose[both])) >= LEAST_PEOPLE and len(set(apart[both])) > 1:
            one = _finding(
                name + WITHIN, apart[both], apart[both], labels[known][both], whose[both], limit, either_way=True
            )
            found.append(one)
    return found


def within(numbers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (N,) less the mean over all clips of their identity, and whose identity has both classes, (N,) bool.

    What people differ in anyway is gone then: where fakes are made of the same people's real clips, an encoder that one class
    alone went through shows far more clearly. The mean is of all clips, not of two classes' means: where a person has one real
    clip and many fakes, a skewed measure that says nothing would else lean one way.
    """
    member = np.unique(groups, return_inverse=True)[1]
    fakes, clips = np.bincount(member, labels), np.bincount(member)
    both = (fakes > 0) & (fakes < clips)
    mean = np.bincount(member, numbers) / clips
    return np.round(numbers - mean[member], 6) + 0.0, both[member]


def told_by_words(words: Sequence[str], labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Words as numbers, (N,): how much more often than usual clips of *other* identities with the same word are fake.

    So a word that only one identity has tells nothing. "Usual" is the share of fakes of those other identities too;
    without it, leaving a fake out would lower what its word says, and words that tell nothing would point the wrong way.
    For the same reason it is given in tenths.
    """
    kinds = np.unique(np.asarray(words, str), return_inverse=True)[1]
    member = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    count, fakes = np.zeros((member.max() + 1, kinds.max() + 1)), np.zeros((member.max() + 1, kinds.max() + 1))
    np.add.at(count, (member, kinds), 1)
    np.add.at(fakes, (member, kinds), labels)
    others, other_fakes = count.sum(0) - count, fakes.sum(0) - fakes  # (groups, words)
    usual = other_fakes.sum(1, keepdims=True) / np.maximum(others.sum(1, keepdims=True), 1)
    excess = (other_fakes + usual) / (others + 1) - usual  # one imagined clip of the usual kind
    return excess[member, kinds].round(1) + 0.0


FROM_FILE = ("fps", "pixels", "bit_rate", "sample_rate", "channels", "codec", "container", "tags")


def _finding(
    name: str,
    values: Sequence[Any],
    numbers: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    limit: float,
    *,
    either_way: bool,
) -> Finding:
    """`either_way`: less of the measure in fakes tells as much as more; not so where the direction is already fitted."""
    from scipy.stats import rankdata

    ranks = rankdata(numbers) / (len(numbers) + 1)  # AUC needs the order alone
    auc = estimate(labels, ranks, groups, resamples=1000, level=LEVEL)["auc"]
    fitted = name.endswith("_probe")
    enough = min((labels == 0).sum(), (labels == 1).sum()) >= LEAST_CLIPS
    above = auc.value >= limit and auc.low > 0.5
    below = auc.value <= 1 - limit and auc.high < 0.5 and either_way and not fitted
    real, fake = (_typical([value for value, of in zip(values, labels) if of == label]) for label in (0, 1))
    return Finding(
        name,
        auc.value,
        auc.low,
        auc.high,
        real,
        fake,
        int((labels == 0).sum()),
        int((labels == 1).sum()),
        bool(enough and (above or below)),
    )


def _typical(values: Sequence[Any]) -> str:
    if isinstance(values[0], str):
        names, count = np.unique(values, return_counts=True)
        return str(names[count.argmax()])
    return f"{np.median(values):.4g}"
