"""A detector on perturbed videos: every kind at every level, each bundle made once. What `visavox eval --robustness` runs."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visavox.commands.scoring import score_prepared
from visavox.commands.streaming import Prepared
from visavox.errors import code_of
from visavox.evaluation.robustness import Cell, describe, mean_relative_drop
from visavox.evaluation.rows import Identity, ScoredRow, details_path, read_details
from visavox.evaluation.submission import Details, fingerprint, write_submission
from visavox.files import replacing
from visavox.progress import progress
from visavox.robustness.kinds import KINDS, Kind
from visavox.robustness.perturbing import Perturbing, Recipe
from visavox.workers.worker import Died

if TYPE_CHECKING:
    import pandas as pd

    from visavox.commands.foreign import Opened
    from visavox.config import Config
    from visavox.detectors.scorer import Scorer
    from visavox.preprocessing.pipeline import Preprocessor


class Task(NamedTuple):
    """One video under some perturbations: all levels of a kind, so that it is decoded once for them."""

    recipes: tuple[Recipe, ...]
    name: str
    path: Path


def measure(
    inputs: Mapping[str, Path],
    scorer: Scorer,
    clean: Sequence[ScoredRow],
    labels: pd.DataFrame,
    folder: Path,
    *,
    kinds: Sequence[Kind],
    levels: Sequence[int],
    identity: Identity,
    root: Path,
    workers: int,
    timeout: float | None = None,
    seed: int = 0,
) -> str:
    """Score every input under every kind and level, write what was found to FOLDER, and return the table as text.

    Bundles are kept below FOLDER/bundles, scores in FOLDER/KIND-LEVEL.csv. A run that was killed goes on where it was: finished
    cells are read, bundles that are there are not made again. What failed (a time-out, a worker that died) is tried again.

    Args:
        inputs: name -> path of videos.
        clean: rows of the same inputs as they are.
        labels: of `visavox.evaluation.scores.read_labels`.
        identity: what scores follow from; cells of another one are scored again.
        root: folder that the inputs' names start from.
        seed: of what is drawn.

    Raises:
        ValueError: an input is a bundle, which cannot be perturbed.
        OSError: the disk is full; finished cells are kept.
    """
    bundles = [name for name, path in inputs.items() if path.suffix.lower() == ".npz"]
    if bundles:
        raise ValueError(f"--robustness perturbs videos; {len(bundles)} inputs are bundles: {bundles[0]}")
    cells: dict[tuple[str, int], list[ScoredRow]] = {}
    open_inputs: dict[Recipe, dict[str, Path]] = {}
    for recipe in [Recipe(kind.name, level, seed) for kind in kinds for level in levels]:
        rows = earlier(_csv(folder, recipe.kind, recipe.level), inputs, identity)
        cells[recipe.kind, recipe.level] = rows
        if left := _left(inputs, rows):
            open_inputs[recipe] = left
        else:
            _renew(_csv(folder, recipe.kind, recipe.level), rows)
    with closing(_prepared(open_inputs, scorer, folder, root, workers, timeout)) as found:
        for recipe, prepared in found:
            cell = recipe.kind, recipe.level
            cells[cell] = _scored(open_inputs[recipe], scorer, folder, recipe, prepared, cells[cell], identity=identity)
    return _report(folder, clean, cells, labels, identity)


def measure_files(
    inputs: Mapping[str, Path],
    detector: Opened,
    labels: pd.DataFrame,
    folder: Path,
    *,
    kinds: Sequence[Kind],
    levels: Sequence[int],
    config: Config,
    root: Path,
    seed: int = 0,
) -> str:
    """Do as `measure` for a detector that takes the paths of videos, whose perturbed ones are written for it one by one.

    They are Matroska with H.264 and sound without any further loss, 25 frames a second, `max_clip_len` long, and gone once they
    are judged. What stands as clean was written the same way, so that a drop is the perturbation's.

    Args:
        detector: of `visavox.commands.foreign.opened`, with `predict`.
        config: `max_clip_len`, `resample_rate` and `confine` are read.
    """
    from visavox.commands.foreign import identity_of, score_paths

    bundles = [name for name, path in inputs.items() if path.suffix.lower() == ".npz"]
    if bundles:
        raise ValueError(f"--robustness perturbs videos; {len(bundles)} inputs are bundles: {bundles[0]}")
    written = {"max_clip_len": config.max_clip_len, "resample_rate": config.resample_rate, "seed": seed}
    identity = identity_of(detector, **written)
    cells: dict[tuple[str, int], list[ScoredRow]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".videos-", dir=folder) as scratch:
        recipes = [Recipe(kind.name, level, seed) for kind in kinds for level in levels]
        for recipe in (None, *recipes):
            cell = (recipe.kind, recipe.level) if recipe else ("clean", 0)
            output = _csv(folder, *cell)
            cells[cell] = earlier(output, inputs, identity)
            if _left(inputs, cells[cell]):
                Details(output, identity=identity, keep=True).begin_with(cells[cell])
                judge = replace(
                    detector, predict=partial(_judge_written, detector, recipe, Path(scratch), root, config)
                )
                kept = config.model_copy(update={"save_details": True})
                cells[cell] = score_paths(dict(inputs), judge, output, kept, identity=identity)
                write_submission(cells[cell], output)
            else:
                _renew(output, cells[cell])
    return _report(folder, cells.pop(("clean", 0)), cells, labels, identity)


def _judge_written(
    detector: Opened, recipe: Recipe | None, scratch: Path, root: Path, config: Config, path: Path
) -> float:
    """P(fake) of a video as it is after a perturbation, or as it is; raises what reading, writing or judging does."""
    from visavox.media import confined, write_video
    from visavox.robustness.perturbing import PerturbedVideo

    assert detector.predict is not None
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    how: dict[str, Any] = {"sample_rate": config.resample_rate, "max_seconds": config.max_clip_len}
    with confined.open_video(path, confine=config.confine, **how) as video:
        seen = PerturbedVideo(video, recipe, name, config.resample_rate) if recipe else video
        frames = list(seen.frames())
        sound = seen.audio()
    written = scratch / f"{path.stem}.mkv"
    try:
        lossless: dict[str, Any] = {"crf": 0, "audio_codec": "pcm_s16le"}
        write_video(written, frames, sound, sample_rate=config.resample_rate, **lossless)
        return detector.predict(written)
    finally:
        written.unlink(missing_ok=True)


def _report(
    folder: Path,
    clean: Sequence[ScoredRow],
    cells: Mapping[tuple[str, int], list[ScoredRow]],
    labels: pd.DataFrame,
    identity: Identity,
) -> str:
    """Write what was found and return the table as text."""
    baseline = _cell("clean", 0, clean, labels)
    table = [_cell(kind, level, rows, labels) for (kind, level), rows in cells.items()]
    _write(folder, baseline, table, identity)
    return describe(baseline, table)


def _prepared(
    inputs: Mapping[Recipe, Mapping[str, Path]],
    scorer: Scorer,
    folder: Path,
    root: Path,
    workers: int,
    timeout: float | None,
) -> Generator[tuple[Recipe, dict[str, Prepared]], None, None]:
    """Yield each recipe with what became of its inputs, their bundles being on the disk; workers run on meanwhile.

    Args:
        inputs: recipe -> name -> path of the videos that are wanted under it.
    """
    from visavox.detectors.scorer import Hearing
    from visavox.preprocessing.tools import build, gpu_networks
    from visavox.workers import pool

    config = scorer.config

    done: dict[Recipe, dict[str, Prepared]] = {recipe: {} for recipe in inputs}
    tasks = []
    for _, same in groupby(inputs, key=lambda recipe: recipe.kind):
        videos: dict[tuple[str, Path], list[Recipe]] = {}
        for recipe in same:
            for video in inputs[recipe].items():
                videos.setdefault(video, []).append(recipe)
        tasks += [Task(tuple(recipes), name, path) for (name, path), recipes in videos.items()]
    workers = max(1, min(workers, len(tasks)))
    total = sum(map(len, inputs.values()))
    with gpu_networks(config, bool(tasks)) as server, progress("perturbing", total) as advance:
        start = partial(build, config, max(1, pool.cores() // workers), server)
        work = partial(_perturb, folder, root, isinstance(scorer, Hearing))
        while tasks:
            longest = None if timeout is None else timeout * max(len(task.recipes) for task in tasks)
            run = partial(pool.run, tasks, start, work, workers=workers, timeout=longest)
            tasks = []
            with closing(pool.ahead(lambda stop, run=run: run(stop=stop), workers)) as results:  # type: ignore[misc]
                for task, result in results:
                    if isinstance(result, pool.Died) and len(task.recipes) > 1:  # which of them was it?
                        tasks += [Task((recipe,), task.name, task.path) for recipe in task.recipes]
                        continue
                    if isinstance(result, pool.Died):
                        result = [_lost(task, result)]
                    for recipe, prepared in zip(task.recipes, result, strict=True):
                        if prepared.code == "NO_SPACE":  # every other video would fare the same
                            raise OSError(errno.ENOSPC, prepared.reason)
                        done[recipe][task.name] = prepared
                        advance()
                        if len(done[recipe]) == len(inputs[recipe]):
                            yield recipe, done.pop(recipe)


def _lost(task: Task, died: Died) -> Prepared:
    return Prepared(task.name, task.path, None, "failed", died.reason, [], {}, code=died.code)


def _perturb(folder: Path, root: Path, hears: bool, preprocess: Preprocessor, task: Task) -> list[Prepared]:
    """In a worker: have the bundles of a perturbed video on the disk, or the reasons why there are none."""
    from visavox.preprocessing.pipeline import CropError, explain

    found = []
    perturbing = Perturbing(preprocess, root, partial(bundles_below, folder))
    for _, made, seconds in perturbing(task.path, task.recipes):
        prepared = Prepared(task.name, task.path, None, "ok", "", [], seconds)
        if isinstance(made, Exception):
            status, reason = explain(made)
            sound = made.sound if hears and isinstance(made, CropError) and status == "no_face" else None
            prepared = prepared._replace(status=status, reason=reason, code=code_of(made), sound=sound)
        else:
            prepared = prepared._replace(status=made.status, notes=made.notes.split("\n"))
        found.append(prepared)
    return found


def _scored(
    inputs: Mapping[str, Path],
    scorer: Scorer,
    folder: Path,
    recipe: Recipe,
    made: Mapping[str, Prepared],
    known: Sequence[ScoredRow] = (),
    *,
    identity: Identity,
) -> list[ScoredRow]:
    """Score the bundles of one cell and write its rows, with those that are `known`."""
    from visavox.bundle.trim import load_trimmed, needs_sound
    from visavox.status import SCORED

    config = scorer.config
    full = scorer.needs_track or needs_sound(config)
    output = _csv(folder, recipe.kind, recipe.level)
    details = Details(output, identity=identity, keep=True)

    def loaded() -> Generator[Prepared, None, None]:
        for name in inputs:
            one = made[name]
            if one.status in SCORED:
                path = bundles_below(folder, recipe) / f"{name}.npz"
                one = one._replace(bundle=load_trimmed(path, config, full=full))
            yield one

    rows = {row.filename: row for row in known}
    rows |= {row.filename: details.append(row) for row in score_prepared(scorer, loaded())}
    ordered = [rows[name] for name in sorted(rows)]
    details.close(ordered)
    write_submission(ordered, output)  # last: a cell whose CSV is there is finished
    return ordered


def bundles_below(folder: Path, recipe: Recipe) -> Path:
    """Return where the bundles of a recipe are kept."""
    return folder / "bundles" / f"{recipe.kind}-{recipe.level}"


def _csv(folder: Path, kind: str, level: int) -> Path:
    return folder / f"{kind}-{level}.csv"


def earlier(output: Path, inputs: Mapping[str, Path], identity: Identity) -> list[ScoredRow]:
    """Return the rows that OUTPUT and its details hold of these inputs and of this scorer, but those that failed."""
    try:
        rows = list(read_details(output)) if output.is_file() else []
    except ValueError:
        return []
    return [
        row
        for row in rows
        if (row.identity == identity and row.status != "failed")
        and (row.filename in inputs and row.file == fingerprint(inputs[row.filename]))
    ]


def _renew(output: Path, rows: Sequence[ScoredRow]) -> None:
    """Write the CSV of a finished cell anew where it is older than its details: a run was killed between the two."""
    if output.stat().st_mtime_ns < details_path(output).stat().st_mtime_ns:
        write_submission(rows, output)


def _left(inputs: Mapping[str, Path], rows: Sequence[ScoredRow]) -> dict[str, Path]:
    """The inputs that have no row."""
    known = {row.filename for row in rows}
    return {name: path for name, path in inputs.items() if name not in known}


def _cell(kind: str, level: int, rows: Sequence[ScoredRow], labels: pd.DataFrame) -> Cell:
    import pandas as pd

    from visavox.evaluation.intervals import estimate
    from visavox.evaluation.scores import groups_of, look_up

    table = pd.DataFrame([(row.filename, row.probability) for row in rows], columns=["filename", "probability"])
    known = look_up(table, labels, Path("labels"))
    truth, scores = known["label"].to_numpy(), known["probability"].to_numpy()
    groups, _ = groups_of(known)
    nan = float("nan")
    auc, low, high = estimate(truth, scores, groups, resamples=1000)["auc"] if len(set(truth)) == 2 else (nan, nan, nan)
    what = KINDS.get(kind)
    constant = what.levels[level - 1] if what else nan
    lost = sum(not row.scored for row in rows)
    group, unit = (what.group, what.unit) if what else ("clean", "")
    return Cell(kind, group, level, constant, unit, auc, low, high, len(known), lost)


def _write(folder: Path, clean: Cell, cells: Sequence[Cell], identity: Identity) -> None:
    """robustness.json, robustness.csv and robustness.html."""
    import pandas as pd

    from visavox.report.robustness import write_page

    rows = [{key: _plain(value) for key, value in asdict(cell).items()} for cell in (clean, *cells)]
    numbers: dict[str, Any] = {
        "mean_relative_drop": _plain(mean_relative_drop(clean, cells)),
        "cells": rows,
        "identity": asdict(identity),
    }
    with replacing(folder / "robustness.json") as beside:
        beside.write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with replacing(folder / "robustness.csv") as beside:
        pd.DataFrame(rows).to_csv(beside, index=False, lineterminator="\n")
    write_page(folder / "robustness.html", clean, cells)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value
