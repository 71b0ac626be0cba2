"""Write videos as they are after a perturbation: to look at, to listen to, or for another detector.

    visavox perturb --input VIDEOS --output PERTURBED --kinds blur,aac --levels 1,3,5
    visavox perturb --shard 0/8 ... ; visavox merge PERTURBED       # share 0 of eight machines; then all in one table
    visavox perturb --ray head:6379 --workers 64 ...
    visavox perturb --input s3://bucket/videos --output s3://bucket/perturbed --workers 8
    visavox perturb --effects ...                                   # how much each changes, without the videos
    visavox perturb --list

Writes OUTPUT/KIND-LEVEL/NAME.mp4 at 25 frames a second (NAME with its ending, a.mov.mp4, where two inputs differ in it alone),
encoded once more (H.264 at CRF 10, AAC) unless --lossless asks for Matroska with neither; and OUTPUT/effects.csv: PSNR of the
picture, distance of log-mel spectra and SNR of the sound, lag, or the reason why there is no video.
`visavox eval --robustness` needs none of this: it perturbs on the way and keeps bundles.
Exit codes: 0 done; 1 some videos could not be read; 2 wrong arguments or files; 4 another run writes to OUTPUT; 5 the disk is
full; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import csv
import errno
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visavox import remote, runs
from visavox.errors import code_of
from visavox.files import VIDEO_SUFFIXES, replacing, shown, sweep
from visavox.logs import complain, say
from visavox.remote import Store, url_of
from visavox.workers import launching, sharding
from visavox.workers.worker import Died

if TYPE_CHECKING:
    from visavox.robustness.measure import Effect
    from visavox.robustness.perturbing import Recipe, Replayed

CRF = 10
SECONDS = 16.0
RATE = 16000
"""Hz of the sound."""
TABLE = "effects.csv"
COLUMNS = ("kind", "level", "constant", "filename", "psnr_db", "mel_distance_db", "snr_db", "lag_samples", "reason")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        from visavox.preprocessing.manifest import bundle_names
        from visavox.robustness.kinds import KINDS, chosen, levels_of
        from visavox.robustness.perturbing import Recipe

        if arguments.list:
            say("\n".join(_listed(kind.name, kind.group, kind.unit, kind.levels) for kind in KINDS.values()))
            return 0
        ray = launching.asked(arguments)
        store = remote.asked(arguments)
        inputs = remote.find_inputs(arguments.input, VIDEO_SUFFIXES)
        shard, output = arguments.shard, remote.absolute(arguments.output)
        places, ending = bundle_names(inputs), ".mkv" if arguments.lossless else ".mp4"
        tasks = [
            Task(
                Recipe(kind.name, level, arguments.seed),
                name,
                remote.absolute(path),
                output,
                place.with_suffix(ending),
                not arguments.effects,
            )
            for kind in chosen(arguments.kinds)
            for level in levels_of(arguments.levels)
            for (name, path), place in zip(inputs.items(), places, strict=True)
            if shard is None or shard.takes(name)
        ]
        by_video = sorted(tasks, key=lambda task: task.path)  # a worker reads each video once
        table = shard.of(output / TABLE) if shard else output / TABLE
        if not remote.is_remote(output):
            output.mkdir(parents=True, exist_ok=True)
        with runs.stoppable(), runs.holding(store.lock_of(table if shard else output)):
            if not remote.is_remote(output):
                sweep(output)
            run = partial(launching.run, by_video, partial(Reader, store), partial(_perturb, store, arguments.seconds))
            rows = _in_order(tasks, run, arguments.workers, arguments.timeout, ray)
            with store.publishing(output, []) as folder:
                _write(rows, folder / table.name)
    except KeyboardInterrupt as stop:
        say("interrupted", error=True)
        return runs.exit_code(stop)
    except (ValueError, ImportError, RuntimeError, OSError) as error:
        complain("visavox perturb", error)
        return runs.exit_code(error)
    lost = sum(bool(row[-1]) for row in rows)
    say(f"{len(rows) - lost} videos, {lost} could not be read; {url_of(table)}")
    return 1 if lost else 0


@dataclass(frozen=True)
class Task:
    """One video and one perturbation of it."""

    recipe: Recipe
    name: str
    path: Path
    output: Path
    place: Path
    """Below the folder of its perturbation; .mkv asks for no further loss."""
    written: bool = True
    """Whether the video is kept, and not its effect alone."""

    @property
    def target(self) -> Path:
        """Where the perturbed video goes."""
        return self.output / f"{self.recipe.kind}-{self.recipe.level}" / self.place


class Outcome(NamedTuple):
    """What became of a task."""

    effect: Effect | None
    reason: str = ""
    """Why there is no video."""
    code: str = ""
    """One of `visavox.errors.CODES` where there is a reason."""


class Reader:
    """Reads videos, and holds the last one: its next perturbation needs no decoder."""

    def __init__(self, store: Store) -> None:
        self.names = "", ""
        """What stands for the last path here, and how it is named to people."""
        self._store = store
        self._last: tuple[tuple[Path, float], Replayed] | None = None

    def __call__(self, path: Path, seconds: float) -> Replayed:
        """Return the first seconds of a video, with sound at 16 kHz.

        Raises:
            MediaError: it cannot be read.
        """
        from visavox.media import confined
        from visavox.robustness.perturbing import Replayed

        if self._last is None or self._last[0] != (path, seconds):
            self._last = None  # two at once may be too many
            with self._store.fetched(path) as here:
                self.names = str(here), url_of(path)
                with confined.open_video(here, sample_rate=RATE, max_seconds=seconds) as video:
                    frames = list(video.frames())
                    self._last = (path, seconds), Replayed(frames, video.audio(), list(video.notes), video.info)
        return self._last[1]


def _perturb(store: Store, seconds: float, read: Reader, task: Task) -> Outcome:
    """In a worker: write one perturbed video. Every fault of a video ends here, with its message."""
    try:
        video = read(task.path, seconds)
        with store.publishing(task.target.parent, []) as folder:
            target = folder / task.target.name if task.written else None
            return Outcome(perturb(video, task.name, target, task.recipe, lossless=task.place.suffix == ".mkv"))
    except Exception as error:  # the row is the answer: nothing a video does may stop the others
        return Outcome(None, (str(error) or type(error).__name__).replace(*read.names), code_of(error))


def _in_order(
    tasks: Sequence[Task],
    run: Callable[..., Generator[tuple[Task, Outcome | Died], None, None]],
    workers: int,
    timeout: float,
    ray: launching.Ray | None,
) -> list[list[object]]:
    """Rows of the table in the order of the tasks."""
    from visavox.progress import progress

    rows = {}
    workers = max(1, min(workers, len(tasks)))
    with (
        progress("perturbing", len(tasks)) as advance,
        closing(run(workers=workers, timeout=timeout, ray=ray)) as results,
    ):
        for task, found in results:
            if found.reason:
                if found.code == "NO_SPACE":  # every other video would fare the same
                    raise OSError(errno.ENOSPC, found.reason)
                say(f"  {shown(task.name)}: {shown(found.reason)}", error=True)
            recipe = task.recipe
            cells = [""] * 4 if isinstance(found, Died) or found.effect is None else _cells(found.effect)
            rows[task] = [recipe.kind, recipe.level, recipe.constant, task.name, *cells, found.reason]
            advance()
    return [rows[task] for task in tasks]


def perturb(video: Replayed, name: str, output: Path | None, recipe: Recipe, *, lossless: bool = False) -> Effect:
    """Write one perturbed video and return how much it differs from the one it was made of.

    Args:
        video: of a `Reader`.
        name: of the video below its folder; with the recipe it decides what is drawn.
        output: where it goes; None measures and writes nothing.
        lossless: x264 at CRF 0 and uncompressed sound.
    """
    from visavox.media import write_video
    from visavox.robustness.measure import effect
    from visavox.robustness.perturbing import PerturbedVideo

    perturbed = PerturbedVideo(video, recipe, name, RATE)
    after, heard = list(perturbed.frames()), perturbed.audio()
    if output is not None:
        write_video(output, after, heard, crf=0 if lossless else CRF, audio_codec="pcm_s16le" if lossless else "aac")
    return effect(list(video.frames()), after, video.audio(), heard, RATE)


def _listed(name: str, group: str, unit: str, levels: Sequence[float]) -> str:
    return f"{name:14} {group:8} {', '.join(f'{level:g}' for level in levels)}  ({unit})"


def _cells(effect: Effect) -> list[str]:
    numbers = [f"{value:.4g}" if value == value else "" for value in effect[:-1]]
    return [*numbers, str(effect.lag)]  # whole samples


def _write(rows: Sequence[Sequence[object]], path: Path) -> None:
    from visavox.splits.text_table import for_people

    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([for_people(cell) for cell in row] for row in rows)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox perturb", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=remote.place, help="folder of videos, or one of them; a path, s3:// or gs://")
    parser.add_argument("--output", type=remote.place, help="folder for the perturbed videos; the same")
    parser.add_argument(
        "--kinds", help="such as blur,aac; or picture, sound, joint, all (default: those of --robustness)"
    )
    parser.add_argument("--levels", help="such as 1,3,5 (default: all five)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of each video, from its start (default {SECONDS:g})"
    )
    parser.add_argument(
        "--workers", type=launching.positive, default=1, help="processes, or actors of --ray (default 1)"
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds after which a video is given up (default 600)"
    )
    sharding.add_argument(parser)
    launching.add_arguments(parser)
    remote.add_arguments(parser)
    parser.add_argument("--lossless", action="store_true", help="write Matroska without any further loss; large")
    parser.add_argument("--effects", action="store_true", help="measure and write effects.csv alone, no videos")
    parser.add_argument("--list", action="store_true", help="say which kinds and levels there are")
    arguments = parser.parse_args(argv)
    if not arguments.list and not (arguments.input and arguments.output):
        parser.error("give --input and --output, or --list")
    return arguments
