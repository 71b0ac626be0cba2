"""Say at which seconds clips are forged, and measure it where that is known.

    visavox localise --input VIDEOS --checkpoint runs/v1/best.ckpt --output found/ --truth data/lavdf.csv
    visavox localise --input REAL --checkpoint runs/a/best.ckpt runs/b/best.ckpt --output found/ --plant 0.5

Every detector that says something over time gives a curve at 25 steps a second; segments are found in it by thresholds and soft
non-maximum suppression. --truth is a split CSV with fake_segments, LAV-DF's or AV-Deepfake1M's metadata JSON, filename,start,end,
or JSON of segments: AP and AR are those published for LAV-DF, one line per corpus beside the line of all. --plant replaces so
many seconds of each real clip by somebody else's picture and sound, and looks for them; the line `chance` is what guessing gives.

Writes segments.json and detection.txt (the two files of AV-Deepfake1M's challenge), curves.jsonl, summary.json and
localisation.html; several checkpoints get a folder each. A run that was stopped goes on where it stopped.
Exit codes: 0 done; 2 wrong arguments, settings, checkpoint or weights; 4 another run writes to OUTPUT; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from visavox import runs
from visavox.commands.streaming import Prepared, bundles_of
from visavox.files import VIDEO_SUFFIXES, find_inputs, replacing, shown
from visavox.logs import complain, say
from visavox.progress import progress

if TYPE_CHECKING:
    import numpy as np

    from visavox.bundle import Bundle
    from visavox.detectors.scorer import Scorer
    from visavox.localisation.rows import Located
    from visavox.localisation.summary import Line
    from visavox.localisation.truth import Labelled
    from visavox.pseudofakes.planted import Where

KINDS: tuple[Where, Where] = ("picture", "sound")


class Clip(NamedTuple):
    """A clip as it is, or with something planted in it."""

    prepared: Prepared
    kind: Where | Literal[""] = ""
    segment: tuple[float, float] | None = None
    """Seconds of what was planted."""

    @property
    def name(self) -> str:
        """Of its row: `a.mp4`, or `a.mp4#sound`."""
        return f"{self.prepared.name}#{self.kind}" if self.kind else self.prepared.name


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        from visavox.compute import resolve_device
        from visavox.detectors import build
        from visavox.detectors.scorer import inference
        from visavox.localisation.truth import read_truth
        from visavox.logs import set_up_logging
        from visavox.preprocessing.tools import check_weights

        set_up_logging()
        inputs = find_inputs(arguments.input, VIDEO_SUFFIXES | {".npz"})
        truth = read_truth(arguments.truth) if arguments.truth else None
        loaders: dict[str, Callable[[], Scorer]] = {
            name: partial(build.load, path, arguments.overrides) for name, path in _named(arguments.checkpoint).items()
        }
        loaders |= {Path(name).stem: partial(build.ready, name, arguments.overrides) for name in arguments.detector}
        for name, make in loaders.items():
            scorer = make()
            scorer = scorer.to(resolve_device(scorer.config.device))
            check_weights(scorer.config)
            folder = arguments.output / name if len(loaders) > 1 else arguments.output
            folder.mkdir(parents=True, exist_ok=True)
            with runs.stoppable(), runs.holding(folder), inference(scorer) as ready:
                rows = locate(
                    inputs,
                    ready,
                    folder,
                    plant=arguments.plant,
                    seed=arguments.seed,
                    workers=arguments.workers,
                    timeout=arguments.timeout,
                    any_bundles=arguments.any_bundles,
                )
                say(finish(rows, folder, truth, title=f"{name} ({ready.card.detector})"))
    except KeyboardInterrupt as stop:
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox localise", error)
        return runs.exit_code(error)
    return 0


def locate(
    inputs: dict[str, Path],
    scorer: Scorer,
    folder: Path,
    *,
    plant: float | None = None,
    seed: int = 0,
    workers: int = 1,
    timeout: float | None = None,
    any_bundles: bool = False,
) -> list[Located]:
    """Find the segments of every input; rows sorted by name, written to FOLDER/curves.jsonl.

    Args:
        inputs: name -> path of videos and bundles.
        plant: seconds to plant in each; every clip then has three rows: as it is, with foreign picture, with foreign sound.
        seed: of what is planted where.
        any_bundles: also take bundles made with other settings.

    Raises:
        NoCurve: the detector says nothing over time.
    """
    from visavox.bundle.trim import needs_sound, trimming
    from visavox.evaluation.rows import Identity
    from visavox.evaluation.submission import fingerprint
    from visavox.localisation.rows import CURVES, read_curves
    from visavox.preprocessing.provenance import prep_hash

    config = scorer.config
    same = Identity(
        checkpoint=scorer.card.checkpoint,
        prep_hash=prep_hash(config),
        trim_silence=trimming(config),
        detector=config.detector.model_dump(mode="json") | {"plant": [plant, seed] if plant else None},
    )
    rows = {
        row.filename: row
        for row in read_curves(folder)
        if row.identity == same and (path := inputs.get(clip_of(row.filename))) and row.file == fingerprint(path)
    }
    lean = config.model_copy(update={"store_track": bool(plant) or scorer.needs_track or needs_sound(config)})
    tasks = [(name, path) for name, path in inputs.items() if plant or name not in rows]  # each may lend to another
    asked = None if any_bundles else prep_hash(config)
    with (
        (folder / CURVES).open("a", encoding="utf-8") as file,
        progress("localising", len(tasks)) as advance,
        closing(bundles_of(tasks, lean, prep_hash=asked, workers=workers, timeout=timeout)) as found,
    ):
        for clip in _with_planted(found, plant, seed) if plant else map(Clip, found):
            if clip.name not in rows:
                row = replace(_row(clip, scorer), file=fingerprint(clip.prepared.path), identity=same)
                rows[row.filename] = row
                file.write(row.to_json() + "\n")
                file.flush()
            if not clip.kind:
                advance()
    ordered = [rows[name] for name in sorted(rows)]
    with replacing(folder / CURVES) as beside:
        beside.write_text("".join(row.to_json() + "\n" for row in ordered), encoding="utf-8")
    return ordered


def clip_of(name: str) -> str:
    """Return the input behind the name of a row: `a.mp4#sound` -> `a.mp4`."""
    stem, mark, kind = name.rpartition("#")
    return stem if mark and kind in KINDS else name


def finish(rows: Sequence[Located], folder: Path, truth: Labelled | None, title: str = "") -> str:
    """Write what is read of a localisation, and return its table, or how many segments were found, as text."""
    from visavox.localisation import submission, summary
    from visavox.localisation.truth import of_clips
    from visavox.report.localisation import write_page

    submission.write_detection({row.filename: row.probability for row in rows}, folder / submission.DETECTION)
    submission.write_segments({row.filename: row.found for row in rows}, folder / submission.SEGMENTS)
    known, notes, corpus = _known(rows), [], None
    if truth:
        named, missing = of_clips(truth, [row.filename for row in rows])
        known |= named
        corpus = _by_row(truth, rows)
        notes += (
            [f"{len(missing)} of {len(rows)} clips stand in no line of the truth and are left out"] if missing else []
        )
        notes += [f"{len(truth.unknown)} fakes whose seconds are not known are left out"] if truth.unknown else []
        beyond = sum(_beyond(row, known) for row in rows)
        notes += (
            [f"{beyond} forged segments begin after the seconds that were judged and count as missed"] if beyond else []
        )
    lost = [row for row in rows if row.status not in ("ok", "no_audio")]
    notes += (
        [f"{len(lost)} clips could not be judged: {shown(lost[0].filename)}: {shown(lost[0].reason)}"] if lost else []
    )
    table: list[Line] = summary.lines(rows, known, corpus) if any(len(spans) for spans in known.values()) else []
    _write_numbers(folder, rows, table, notes)
    write_page(folder / "localisation.html", title or "Localisation", rows, known, table, notes)
    said = (
        [summary.describe(table, title)] if table else [f"{title}: {len(rows)} clips; {folder / submission.SEGMENTS}"]
    )
    return "\n".join([*said, *(f"note: {note}" for note in notes), str(folder / "localisation.html")])


def _with_planted(found: Iterable[Prepared], seconds: float, seed: int) -> Iterator[Clip]:
    """Each clip as it is, then with a stretch of the next clip's picture, then with one of its sound. Holds all of them."""
    import numpy as np

    from visavox.pseudofakes.planted import planted

    clips = sorted(found, key=lambda prepared: prepared.name)
    whole = [prepared for prepared in clips if prepared.bundle is not None]
    for prepared in clips:
        yield Clip(prepared)
        if prepared.bundle is None:
            continue
        for number, kind in enumerate(KINDS):
            rng = np.random.default_rng([seed, number, zlib.crc32(prepared.name.encode())])
            try:
                changed, segment = planted(prepared.bundle, _next(whole, prepared, kind), rng, seconds, kind)
                yield Clip(prepared._replace(bundle=changed), kind, segment)
            except ValueError as error:
                yield Clip(prepared._replace(bundle=None, status="failed", reason=str(error)), kind)


def _next(whole: Sequence[Prepared], prepared: Prepared, kind: Where) -> Bundle:
    """The clip that follows by name, of those that have what is planted."""
    place = whole.index(prepared)
    for other in [*whole[place + 1 :], *whole[:place]]:
        assert other.bundle is not None
        if kind == "picture" or other.bundle.has_sound:
            return other.bundle
    raise ValueError("there is no second clip to plant from")


def _row(clip: Clip, scorer: Scorer) -> Located:
    """The curve and the segments of one clip; whatever goes wrong ends this row alone, but for a detector without curves."""
    from visavox.detectors.steps import NoCurve, steps_of
    from visavox.localisation.rows import Located
    from visavox.localisation.segments import propose
    from visavox.preprocessing.pipeline import explain

    bundle, prepared = clip.prepared.bundle, clip.prepared
    planted = [list(clip.segment)] if clip.segment else None
    row = Located(clip.name, kind=clip.kind, planted=planted, probability=scorer.config.failure_prior)
    if bundle is None:
        return replace(row, status=prepared.status, reason=prepared.reason)
    try:
        steps = steps_of(scorer, bundle)
        probability = float(scorer.score([bundle])[0])
    except NoCurve:
        raise
    except Exception as error:
        return replace(row, status="failed", reason=explain(error)[1])
    return replace(
        row,
        status=prepared.status,
        probability=probability,
        times=steps.times.tolist(),
        fake=steps.fake.tolist(),
        proposals=propose(steps.times, steps.fake, 1 / float(bundle.fps)).tolist(),
    )


def _known(rows: Sequence[Located]) -> dict[str, np.ndarray]:
    """What was planted; the clips it was planted in hold nothing as they are."""
    import numpy as np

    planted = {row.filename: row.planted for row in rows if row.planted is not None}
    clips = {clip_of(name) for name in planted}
    spans = {row.filename: row.planted or [] for row in rows if row.filename in planted or row.filename in clips}
    return {name: np.array(span, np.float64).reshape(-1, 2) for name, span in spans.items()}


def _by_row(truth: Labelled, rows: Sequence[Located]) -> dict[str, str]:
    from visavox.splits.names import match

    names = list(truth.corpus)
    lines, _ = match([row.filename for row in rows], names) if names else ([-1] * len(rows), None)
    return {row.filename: truth.corpus[names[line]] for row, line in zip(rows, lines) if line >= 0}


def _beyond(row: Located, known: dict[str, np.ndarray]) -> int:
    spans = known.get(row.filename)
    return 0 if spans is None or not row.times else int((spans[:, 0] > row.times[-1]).sum())


def _write_numbers(folder: Path, rows: Sequence[Located], table: Sequence[Line], notes: Sequence[str]) -> None:
    numbers: dict[str, Any] = {
        "clips": len(rows),
        "lines": [
            asdict(line)
            | {"ap": {str(at): value for at, value in line.ap.items()}, "ar": {str(n): v for n, v in line.ar.items()}}
            for line in table
        ],
        "notes": list(notes),
        "identity": asdict(rows[0].identity) if rows and rows[0].identity else None,
    }
    with replacing(folder / "summary.json") as beside:
        beside.write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _named(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """Name checkpoints by the folder they lie in, or by themselves where those are alike."""
    found: dict[str, Path] = {}
    for path in checkpoints:
        name = path.resolve().parent.name or path.stem
        found[name if name not in found else f"{name}-{len(found)}"] = path
    return found


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox localise", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, required=True, help="folder of videos or bundles, or one of them")
    parser.add_argument("--output", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=[], help="of visavox train; several are compared")
    parser.add_argument(
        "--detector", nargs="+", default=[], metavar="CONFIG", help="that need no training, such as zeroshot"
    )
    parser.add_argument("--truth", type=Path, help="which seconds are forged: split CSV, filename,start,end, or JSON")
    parser.add_argument("--plant", type=float, metavar="SECONDS", help="plant foreign picture and sound in each clip")
    parser.add_argument("--seed", type=int, default=0, help="of what is planted (default 0)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that crop (default: all cores)"
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds after which a video is given up (default 600)"
    )
    parser.add_argument("--any-bundles", action="store_true", help="also take bundles made with other settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the checkpoint's")
    arguments = parser.parse_intermixed_args(argv)
    if not arguments.checkpoint and not arguments.detector:
        parser.error("give --checkpoint CKPT ... or --detector CONFIG ...")
    if arguments.plant is not None and not 0 < arguments.plant <= 10:
        parser.error(f"--plant is {arguments.plant:g}; give seconds above 0, 10 at most")
    return arguments
