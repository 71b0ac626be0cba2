"""A detector on perturbed videos: every kind at every level, each bundle made once. What `visavox eval --robustness` runs."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visavox.commands.scoring import score_prepared
from visavox.commands.streaming import Prepared
from visavox.errors import code_of
from visavox.evaluation.robustness import Cell, describe, mean_relative_drop
from visavox.evaluation.rows import Identity, ScoredRow, read_details
from visavox.evaluation.submission import Details, fingerprint, write_submission
from visavox.files import replacing
from visavox.progress import Stopwatch, progress
from visavox.robustness.kinds import KINDS, Kind
from visavox.robustness.perturbing import Perturbing, Recipe

if TYPE_CHECKING:
    import pandas as pd

    from visavox.detectors.scorer import Scorer
    from visavox.preprocessing.pipeline import Preprocessor


class Task(NamedTuple):
    """One video under one perturbation."""

    recipe: Recipe
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
    cells are read, bundles that are there are not made again.

    Args:
        inputs: name -> path of videos.
        clean: rows of the same inputs as they are.
        labels: of `visavox.evaluation.scores.read_labels`.
        identity: what scores follow from; cells of another one are scored again.
        root: folder that the inputs' names start from.
        seed: of what is drawn.

    Raises:
        ValueError: an input is a bundle, which cannot be perturbed.
    """
    bundles = [name for name, path in inputs.items() if path.suffix.lower() == ".npz"]
    if bundles:
        raise ValueError(f"--robustness perturbs videos; {len(bundles)} inputs are bundles: {bundles[0]}")
    cells = {
        (kind.name, level): _earlier(_csv(folder, kind.name, level), inputs, identity)
        for kind in kinds
        for level in levels
    }
    recipes = [Recipe(kind, level, seed) for (kind, level), rows in cells.items() if rows is None]
    scores_of = partial(_scored, inputs, scorer, folder, identity=identity)
    with closing(_prepared(recipes, inputs, scorer, folder, root, workers, timeout)) as found:
        for recipe, prepared in found:
            cells[recipe.kind, recipe.level] = scores_of(recipe, prepared)
    baseline = _cell("clean", 0, clean, labels)
    table = [_cell(kind, level, rows, labels) for (kind, level), rows in cells.items() if rows is not None]
    _write(folder, baseline, table, identity)
    return describe(baseline, table)


def _prepared(
    recipes: Sequence[Recipe],
    inputs: Mapping[str, Path],
    scorer: Scorer,
    folder: Path,
    root: Path,
    workers: int,
    timeout: float | None,
) -> Generator[tuple[Recipe, dict[str, Prepared]], None, None]:
    """Yield each recipe with what became of its inputs, their bundles being on the disk; workers run on meanwhile."""
    from visavox.detectors.scorer import Hearing
    from visavox.preprocessing.tools import build, gpu_networks
    from visavox.workers import pool

    config = scorer.config

    tasks = [Task(recipe, name, path) for recipe in recipes for name, path in inputs.items()]
    done: dict[Recipe, dict[str, Prepared]] = {recipe: {} for recipe in recipes}
    workers = max(1, min(workers, len(tasks)))
    with gpu_networks(config, bool(tasks)) as server, progress("perturbing", len(tasks)) as advance:
        start = partial(build, config, max(1, pool.cores() // workers), server)
        work = partial(_perturb, folder, root, isinstance(scorer, Hearing))
        run = partial(pool.run, tasks, start, work, workers=workers, timeout=timeout)
        with closing(pool.ahead(lambda stop: run(stop=stop), workers)) as results:
            for task, result in results:
                if isinstance(result, pool.Died):
                    result = Prepared(task.name, task.path, None, "failed", result.reason, [], {}, code=result.code)
                done[task.recipe][task.name] = result
                advance()
                if len(done[task.recipe]) == len(inputs):
                    yield task.recipe, done.pop(task.recipe)


def _perturb(folder: Path, root: Path, hears: bool, preprocess: Preprocessor, task: Task) -> Prepared:
    """In a worker: have the bundle of a perturbed video on the disk, or the reason why there is none."""
    from visavox.preprocessing.pipeline import CropError, explain

    watch = Stopwatch()
    try:
        bundle = Perturbing(preprocess, task.recipe, bundles_below(folder, task.recipe), root)(task.path, watch=watch)
    except Exception as error:  # the row is the answer: nothing a video does may stop the others
        status, reason = explain(error)
        sound = error.sound if hears and isinstance(error, CropError) and status == "no_face" else None
        return Prepared(
            task.name, task.path, None, status, reason, [], dict(watch.seconds), code=code_of(error), sound=sound
        )
    return Prepared(task.name, task.path, None, bundle.status, "", bundle.notes.split("\n"), dict(watch.seconds))


def _scored(
    inputs: Mapping[str, Path],
    scorer: Scorer,
    folder: Path,
    recipe: Recipe,
    made: Mapping[str, Prepared],
    *,
    identity: Identity,
) -> list[ScoredRow]:
    """Score the bundles of one cell and write its rows."""
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

    rows = {row.filename: details.append(row) for row in score_prepared(scorer, loaded())}
    ordered = [rows[name] for name in sorted(rows)]
    details.close(ordered)
    write_submission(ordered, output)  # last: a cell whose CSV is there is finished
    return ordered


def bundles_below(folder: Path, recipe: Recipe) -> Path:
    """Return where the bundles of a recipe are kept."""
    return folder / "bundles" / f"{recipe.kind}-{recipe.level}"


def _csv(folder: Path, kind: str, level: int) -> Path:
    return folder / f"{kind}-{level}.csv"


def _earlier(output: Path, inputs: Mapping[str, Path], identity: Identity) -> list[ScoredRow] | None:
    """The rows of a cell that was finished before, if they are of these inputs and this scorer."""
    try:
        rows = list(read_details(output)) if output.is_file() else []
    except ValueError:
        return None
    same = {
        row.filename
        for row in rows
        if row.identity == identity and row.file == fingerprint(inputs.get(row.filename, output))
    }
    return rows if same == set(inputs) and len(rows) == len(inputs) else None


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
