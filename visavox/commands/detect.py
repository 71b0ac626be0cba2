"""Judge videos, pictures or folders of them: fake or real, how sure, why, and at which seconds.

    visavox detect clip.mp4 --model tiny_ladeda_wildrf
    visavox detect videos/ --model runs/v1/best.ckpt --report verdicts
    visavox detect --models                       what there is: licence, size, published figures, what was verified here

A model is a published one by its name, or a checkpoint of `visavox train`. What it needs is fetched, with progress, resumed where
it stopped, and verified; without network the message says what to put where. `--report DIR` writes a page per file that loads
nothing and prints well, its analysis as JSON, and scores.csv for `visavox report`; `--maps` adds where networks
for pictures looked, with the figures of a trial whether that is so (`pip install visavox[explain]`).
Exit codes, as of grep for fakes: 1 at least one file is called fake; 0 every file is called real; 2 no file is called fake but
some have no verdict (unreadable, no face, undetermined), or the command could not run; 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.files import shown
from visavox.logs import complain, say

if TYPE_CHECKING:
    from visavox.detectors.analysis import Analysis
    from visavox.detectors.published import Judge

COLUMNS = ("filename", "probability", "status", "verdict", "reason", "seconds", "model", "checkpoint", "calibrated")
"""Of scores.csv."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    from visavox.logs import set_up_logging

    set_up_logging()
    if arguments.models:
        _list_models()
        return 0
    from visavox.detectors.published import open_judge
    from visavox.preprocessing import tools

    try:
        tools.confine(arguments.confine)
        inputs = _inputs(arguments.files)
        judge = open_judge(arguments.model, device=arguments.device)
        if arguments.report:
            arguments.report.mkdir(parents=True, exist_ok=True)
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        complain("visavox detect", error)
        return 2
    rows: list[dict[str, Any]] = []
    verdicts: list[str] = []
    told: set[str] = set()
    unwritten = False
    try:
        for name, path in inputs.items():
            row, analysis = _judged(judge, name, path)
            rows.append(row)
            verdicts.append(row["verdict"])
            _tell(row, analysis, arguments.json, told)
            if arguments.report and analysis is not None:
                try:
                    _write_page(arguments.report, name, path, analysis, judge if arguments.maps else None)
                except OSError as error:  # its row stands, and the others have their pages
                    complain("visavox detect", error)
                    unwritten = True
    except KeyboardInterrupt:
        return 130
    finally:  # also what was judged before it was stopped
        if arguments.report and rows:
            _write_tables(arguments.report, rows)
    if not arguments.json and len(rows) > 1:
        counted = ", ".join(f"{verdicts.count(kind)} {kind or 'without an answer'}" for kind in dict.fromkeys(verdicts))
        say(f"{len(rows)} files: {counted}", error=True)
    if unwritten:
        return 2
    return 1 if "fake" in verdicts else 0 if set(verdicts) == {"real"} else 2


def _inputs(sources: Sequence[Path]) -> dict[str, Path]:
    """Name -> path of every file given, or found below the folders given; names lie below one folder and are each another."""
    from visavox.files import find_inputs
    from visavox.preprocessing.stills import SUFFIXES

    kinds = SUFFIXES | {".npz"}
    if len(sources) == 1:
        return find_inputs(sources[0], kinds)
    found: dict[str, Path] = {}
    for number, source in enumerate(sources, start=1):
        top = os.path.basename(os.path.abspath(source))  # of `.` too
        beneath = (
            {f"{top}/{name}": path for name, path in find_inputs(source, kinds).items()}
            if source.is_dir()
            else {top: source}
        )
        if found.keys() & beneath.keys():
            beneath = {f"{number}/{name}": path for name, path in beneath.items()}
        found |= beneath
    return found


def _judged(judge: Judge, name: str, path: Path) -> tuple[dict[str, Any], Analysis | None]:
    """The row of one file for scores.csv, and its analysis; without one the row says why."""
    import time

    from visavox.errors import code_of
    from visavox.preprocessing.pipeline import explain

    began = time.perf_counter()
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"filename": name, "model": judge.name, "probability": 0.5}
    analysis = None
    try:
        analysis = judge(path)
    except Exception as error:  # the reason is this file's answer: nothing it does may stop the others
        status, reason = explain(error)
        row |= {"status": status, "reason": reason, "code": code_of(error)}
    else:
        row |= {
            "probability": analysis.probability,
            "status": "ok",
            "verdict": analysis.verdict,
            "checkpoint": analysis.card.checkpoint,
            "calibrated": analysis.calibrated.on if analysis.calibrated else "",
        }
    row["seconds"] = round(time.perf_counter() - began, 3)
    return row, analysis


def _tell(row: dict[str, Any], analysis: Analysis | None, as_json: bool, told: set[str]) -> None:
    """Print one answer; a note that an earlier file had is not said again."""
    name = row["filename"]
    if analysis is None:
        answer = {"file": name} | {key: row[key] for key in ("status", "code", "reason")}
        say(
            json.dumps(answer) if as_json else f"{shown(name)}: {row['status']}, {shown(row['reason'])} [{row['code']}]"
        )
    elif as_json:
        say(json.dumps({"file": name, "seconds": row["seconds"]} | json.loads(analysis.to_json())))
    else:
        say("\n".join(describe(shown(name), analysis, told)))
        told |= set(analysis.notes)


DEMO = "demo model, trained on synthetic clips alone: its verdicts show that the parts work and say nothing about real videos"


def describe(name: str, analysis: Analysis, told: Collection[str] = ()) -> Iterator[str]:
    """Yield the lines of one analysis, the verdict first, without the notes that were `told` before."""
    known = analysis.calibrated
    how = f"calibrated on {known.on}, {known.n} clips, {known.date}" if known else "uncalibrated"
    yield f"{name}: {analysis.verdict}, P(fake) {analysis.probability:.4f} ({how})"
    if len(analysis.branches) > 1:
        for branch in analysis.branches:
            said = "missing" if branch.probability is None else f"P(fake) {branch.probability:.4f}"
            yield f"  {branch.name}: {said}, weight {branch.weight:.2f}"
    if analysis.card.synthetic:
        yield f"  {DEMO}"
    for part in analysis.degraded:
        yield f"  left out: {shown(part.what)}, {shown(part.why)}"
    if analysis.novelty:
        far = analysis.novelty
        said = "unlike what it knows" if far.novel else "like what it knows"
        yield f"  {said}: farther out than {100 * far.quantile:.1f} % of {far.n} clips ({far.known})"
    if analysis.flagged:
        stretches = ", ".join(f"{start:.1f} to {end:.1f}" for start, end in analysis.flagged)
        yield f"  flagged seconds: {stretches}"
    for note in analysis.notes:
        if note in told:
            continue
        yield f"  note: {shown(note)}"


def _write_page(folder: Path, name: str, path: Path, analysis: Analysis, looked: Judge | None) -> None:
    """DIR/NAME.html for people, with maps of what `looked` where that is given, and DIR/NAME.json for programs."""
    import visavox
    from visavox.files import replacing
    from visavox.report import evidence
    from visavox.report.observations import observe
    from visavox.report.thumbnails import thumbnail

    facts = observe(path) if path.suffix.lower() != ".npz" else []
    picture = thumbnail(path)
    text = evidence.page(
        replace(analysis, notes=[DEMO, *analysis.notes]) if analysis.card.synthetic else analysis,
        name=name,
        observations=facts,
        origin={"file": name, "visavox": visavox.__version__},
        pictures=[
            *([evidence.Picture(picture, "one of its pictures")] if picture else []),
            *_maps(looked, path, analysis),
        ],
    )
    target = folder / f"{name}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as beside:
        beside.write_text(text, encoding="utf-8")
    with replacing(folder / f"{name}.json") as beside:
        beside.write_text(analysis.to_json() + "\n", encoding="utf-8")


def _maps(judge: Judge | None, path: Path, analysis: Analysis) -> list[Any]:
    """Pictures of where a judge looked; where it cannot be told, that is said and the page goes without."""
    if judge is None:
        return []
    from visavox.detectors.published.maps import maps
    from visavox.report.evidence import Picture

    try:
        return [Picture(each.png, each.caption, large=True) for each in maps(judge, path, analysis)]
    except (ValueError, RuntimeError) as error:
        complain("visavox detect --maps", error)
        return []


def _write_tables(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    from visavox.files import replacing

    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(folder / "scores.csv") as beside:
        beside.write_text(table.getvalue(), encoding="utf-8")
    say(f"{len(rows)} rows in {shown(folder / 'scores.csv')}", error=True)


def _list_models() -> None:
    from visavox.detectors.published import MODELS
    from visavox.detectors.published.judge import DEFAULT
    from visavox.weights import find, folder

    parts = ", ".join(
        f"{branch} by {name}" for branch, name in (DEFAULT | {"sync": "SyncNet without training"}).items()
    )
    say(f"default: {parts}; the mean of their log-odds, calibrated where `visavox calibrate --on` was run")
    for model in MODELS.values():
        entries = [find(name) for name in model.weights]
        sizes = [f"{entry.size:,} bytes" if entry.size else "size unknown" for entry in entries]
        here = ["here" if (folder() / entry.file).exists() else "not here" for entry in entries]
        say(f"{model.name}: {model.what}")
        say(f"  judges    {', '.join(sorted(model.reads))}")
        say(f"  licence   {model.licence}")
        for entry, size, there in zip(entries, sizes, here):
            say(f"  weights   {entry.name}, {size}, {there}: visavox weights fetch {entry.name}")
        if model.extra:
            say(f"  needs     pip install 'visavox[{model.extra}]'")
        say(f"  reported  {model.reported}")
        say(f"  verified  {model.verified}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox detect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="videos, pictures, bundles or folders of them"
    )
    parser.add_argument("--model", default="default", help="default, a name of --models, or a checkpoint")
    parser.add_argument("--json", action="store_true", help="a JSON object per file, as docs/analysis.schema.json says")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write pages, analyses and scores.csv there")
    parser.add_argument(
        "--maps", action="store_true", help="in the pages also where the networks for pictures looked (slow)"
    )
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument(
        "--confine",
        choices=("auto", "require"),
        default="auto",
        help="decode in a child that may touch nothing else: as far as this system can (auto), or not at all (require)",
    )
    parser.add_argument("--models", action="store_true", help="list the models that there are")
    arguments = parser.parse_args(argv)
    if arguments.maps and not arguments.report:
        parser.error("--maps are part of the pages: give --report DIR")
    if not arguments.files and not arguments.models:
        parser.error("give a FILE or a folder, or --models for a list of the models")
    return arguments
