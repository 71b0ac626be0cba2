"""Does something trivial already tell real from fake?

    python -m visavox.audit data/split.csv --root . [--videos VIDEOS] [--trim leading] [--output audit.json]

Measures silence, loudness, duration, face size, brightness and more of every clip of a split CSV, from its bundle and, with
--videos, from its file (frame rate, resolution, bit rate, codecs, container tags); says how well each alone separates the
classes; and puts a linear probe on encoders whose weights are random. What separates without having learnt anything can be
learnt by a detector in place of forgery, and scores on such data then say little. --trim shows what is left after
`trim_silence`.

A measure is flagged when its AUC, in either direction, reaches --limit (0.6; a probe 0.75) and its whole 99 % interval
(clustered by identity) lies beyond 0.5. Exit codes: 0 nothing is flagged; 1 something is; 2 wrong arguments or files.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from visavox.bundle import Bundle

LIMIT = 0.6
PROBE_LIMIT = 0.75
"""For the random encoders, which hear and see true artefacts of forgery too."""
LEVEL = 0.99
LEAST_CLIPS = 5
"""Of each class; with fewer nothing is flagged, whatever it is."""

WORDS = {
    "leading_silence": "silence before the first sound (s)",
    "trailing_silence": "silence after the last sound (s)",
    "leading_zeros": "digital silence at the start (s)",
    "loudness": "loudness (dB of full scale)",
    "peak": "loudest sample (dB of full scale)",
    "duration": "duration of the face track (s)",
    "start": "when the face track begins (s)",
    "has_audio": "has sound",
    "face_size": "face box (source pixels)",
    "first_frame": "brightness of the first face",
    "brightness": "brightness of the faces",
    "detection": "score of the face detector",
    "fps": "frames per second",
    "pixels": "resolution (pixels)",
    "bit_rate": "bit rate (kbit/s)",
    "sample_rate": "sample rate of the sound (Hz)",
    "channels": "channels of the sound",
    "file_duration": "duration of the file (s)",
    "codec": "codecs",
    "container": "container",
    "tags": "container tags",
    "audio_probe": "random audio encoder + linear probe",
    "video_probe": "random video encoder + linear probe",
}
CURES = {
    "leading_silence": "train and report with trim_silence=leading",
    "leading_zeros": "train and report with trim_silence=leading",
    "trailing_silence": "train and report with trim_silence=both",
    "start": "train with temporal_jitter=0.5",
    "duration": "compare clips of equal length: a smaller max_clip_len, crop again",
    "file_duration": "compare clips of equal length: a smaller max_clip_len, crop again",
    "has_audio": "compare clips with sound only, or drop the sound of all",
    "loudness": "bring every clip to the same loudness before cropping",
    "peak": "bring every clip to the same loudness before cropping",
    "audio_probe": "artefacts or a shortcut of the sound; test on another corpus before believing an audio score",
    "video_probe": "artefacts or a shortcut of the picture; test on another corpus before believing a video score",
}
ENCODED = "encode real and fake clips again with the same settings, then crop"
LOOKED_AT = "look at clips of both classes side by side; a detector may learn this instead of forgery"


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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        import torch

        torch.set_num_threads(1)  # the encoders are too small to share
        findings = audit_split(
            arguments.split_csv,
            arguments.root,
            videos=arguments.videos,
            trim=arguments.trim,
            split=arguments.split,
            limit=arguments.limit,
            probes=not arguments.no_probes,
            group=arguments.group,
        )
        print(describe(findings, arguments.limit))
        if arguments.output:
            _write(findings, arguments.output)
    except (ValueError, OSError) as error:
        print(f"visavox.audit: {error}", file=sys.stderr)
        return 2
    return 1 if any(finding.flagged for finding in findings) else 0


def audit_split(
    path: Path,
    root: Path,
    *,
    videos: Path | None = None,
    trim: str = "none",
    split: str = "all",
    limit: float = LIMIT,
    probes: bool = True,
    group: str | None = None,
) -> list[Finding]:
    """Audit the clips of a split CSV, most telling measure first.

    Args:
        root: folder that relative file paths of the CSV start from.
        videos: folder of the source videos, found by the CSV's `filename`; None leaves out what only they tell.
        trim: `trim_silence` as the detector would see the clips.
        split: train, val, test or all.
        group: column of identities; None looks for one.
    """
    from visavox.bundle import Bundle
    from visavox.corpora.splits import read_split
    from visavox.probes import Probes
    from visavox.progress import progress
    from visavox.report.scores import groups_of

    rows = read_split(path, root)
    rows = rows if split == "all" else rows[rows["split"] == split]
    encoders = Probes() if probes else None
    measured: list[dict[str, Any]] = []
    with progress("auditing", len(rows)) as advance:
        for row in rows.itertuples():
            bundle = _as_seen(Bundle.load(row.path), trim)
            values = of_bundle(bundle)
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


def of_bundle(bundle: "Bundle") -> dict[str, float | None]:
    """What a bundle tells; None where it does not."""
    from visavox.trim import silence

    rate = json.loads(bundle.settings)["resample_rate"]
    sound = bundle.audio
    values: dict[str, float | None] = {
        "has_audio": float(len(sound) > 0),
        "duration": bundle.track_frames / float(bundle.fps),
        "start": float(bundle.times[0]),
        "face_size": float(np.median(np.ptp(bundle.boxes.reshape(-1, 2, 2), axis=1).mean(1))),
        "first_frame": float(bundle.faces[0].mean()),
        "brightness": float(bundle.faces.mean()),
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
        "leading_zeros": round((audible[0] if len(audible) else len(sound)) / rate, 2),
        "loudness": 20 * float(np.log10(max(level, 1) / 32768)),
        "peak": 20 * float(np.log10(max(np.abs(sound.astype(np.int32)).max(), 1) / 32768)),
    }


def of_video(path: Path) -> dict[str, Any]:
    """What a media file declares; nothing where it cannot be read."""
    from visavox.media import MAX_PIXELS, MediaError, probe
    from visavox.media_open import open_container, open_regular

    try:
        info = probe(path)
        with open_regular(str(path)) as file, open_container(str(path), file, MAX_PIXELS) as container:
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
    return found


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


def describe(findings: Sequence[Finding], limit: float = LIMIT) -> str:
    """The table, and every red flag in words with its cure."""
    lines = [f"{'measure':38}{'AUC':>7}   {'99 % interval':16}{'real':>22}{'fake':>22}"]
    for finding in findings:
        flag = "  <- flag" if finding.flagged else ""
        lines.append(
            f"{WORDS.get(finding.name, finding.name):38}{finding.auc:7.3f}   [{finding.low:.3f}, {finding.high:.3f}]"
            f"{finding.real[:20]:>22}{finding.fake[:20]:>22}{flag}"
        )
    flagged = [finding for finding in findings if finding.flagged]
    if not flagged:
        few = min((min(f.n_real, f.n_fake) for f in findings), default=0) < LEAST_CLIPS
        lines.append(
            f"\nToo few clips to say (fewer than {LEAST_CLIPS} of a class)."
            if few
            else f"\nNo red flag: nothing measured here reaches AUC {limit:g} beyond doubt."
        )
    for finding in flagged:
        lines.append("\n" + in_words(finding))
    return "\n".join(lines)


def in_words(finding: Finding) -> str:
    """`RED FLAG: ...; cure`."""
    strength = max(finding.auc, 1 - finding.auc)
    cure = CURES.get(finding.name, ENCODED if finding.name in FROM_FILE else LOOKED_AT)
    what = WORDS.get(finding.name, finding.name)
    values = "" if finding.name.endswith("_probe") else f" (real {finding.real}, fake {finding.fake})"
    return f"RED FLAG: {what} alone tells real from fake with AUC {strength:.3f}{values}; {cure}."


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

    from visavox.intervals import estimate

    ranks = rankdata(numbers) / (len(numbers) + 1)  # AUC needs the order alone
    auc = estimate(labels, ranks, groups, resamples=1000, level=LEVEL)["auc"]
    fitted = name.endswith("_probe")
    enough = min((labels == 0).sum(), (labels == 1).sum()) >= LEAST_CLIPS
    above = auc.value >= limit and auc.low > 0.5
    below = auc.value <= 1 - limit and auc.high < 0.5 and either_way and not fitted
    return Finding(
        name,
        *auc,
        *(_typical([value for value, of in zip(values, labels) if of == label]) for label in (0, 1)),
        int((labels == 0).sum()),
        int((labels == 1).sum()),
        bool(enough and (above or below)),
    )


def _typical(values: Sequence[Any]) -> str:
    if isinstance(values[0], str):
        names, count = np.unique(values, return_counts=True)
        return str(names[count.argmax()])
    return f"{np.median(values):.4g}"


def _as_seen(bundle: "Bundle", trim: str) -> "Bundle":
    """The bundle as a detector with this `trim_silence` sees it."""
    from visavox import config
    from visavox.trim import trimmed

    if trim == "none":
        return bundle
    rate = json.loads(bundle.settings)["resample_rate"]
    return trimmed(bundle, config.Config(trim_silence=trim, resample_rate=rate, sync="off"))


def _write(findings: Sequence[Finding], path: Path) -> None:
    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not np.isfinite(value) else value

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    rows = [{name: plain(value) for name, value in finding._asdict().items()} for finding in findings]
    beside.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(path)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox.audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("split_csv", type=Path, help="split CSV (filename, filepath, split, label, identity, ...)")
    parser.add_argument("--root", type=Path, default=Path("."), help="where relative file paths start (default .)")
    parser.add_argument("--videos", type=Path, help="folder of the source videos, for codecs, bit rates and tags")
    parser.add_argument("--trim", choices=("none", "leading", "both"), default="none", help="audit after trim_silence")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="all", help="rows (default all)")
    parser.add_argument("--limit", type=float, default=LIMIT, help="least AUC of a flag (default 0.6)")
    parser.add_argument("--group", help="column of identities (default group, identity, source or speaker)")
    parser.add_argument("--no-probes", action="store_true", help="leave the random encoders out")
    parser.add_argument("--output", type=Path, help="JSON file for the findings")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
