"""Print P(fake) of single videos or bundles, with what stands behind it.

    visavox score clip.mp4 --checkpoint runs/v1/best.ckpt
    visavox score clips/*.mp4 --checkpoint runs/v1/best.ckpt --json > analyses.jsonl

Videos are preprocessed as the checkpoint's settings say; a bundle must have been made with them. With --json each line is the
whole analysis of one file: branches, time line, flagged seconds, notes, model card.
Exit codes: 0 every file has its score; 1 some have none, the reason stands in their place; 2 wrong arguments, checkpoint or
weights; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.files import shown
from visavox.logs import complain, say

if TYPE_CHECKING:
    from visavox.detectors.analysis import Analysis


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    import visavox
    from visavox.compute import resolve_device
    from visavox.detectors.build import ready
    from visavox.detectors.single import HouseJudge
    from visavox.preprocessing.pipeline import explain

    try:
        if arguments.detector:
            scorer = ready(arguments.detector, arguments.overrides)
            scorer = scorer.to(resolve_device(scorer.config.device))
        else:
            scorer = visavox.load(arguments.checkpoint, arguments.overrides)
        judge = HouseJudge.of(scorer)
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox score", error)
        return 2
    lost = 0
    for path in arguments.files:
        try:
            analysis = judge(path)
        except KeyboardInterrupt:
            return 130
        except Exception as error:  # the reason is this file's answer: nothing it does may stop the others
            status, reason = explain(error)
            lost += 1
            failure = {"file": str(path), "status": status, "reason": reason}
            say(json.dumps(failure) if arguments.json else f"{shown(path)}: {status}, {shown(reason)}")
            continue
        if arguments.json:
            say(json.dumps({"file": str(path)} | json.loads(analysis.to_json())))
        else:
            say("\n".join(describe(shown(path), analysis)))
    return 1 if lost else 0


def describe(name: str, analysis: Analysis) -> Iterator[str]:
    """Yield the lines of one analysis, the verdict first."""
    yield f"{name}: {analysis.verdict}, P(fake) {analysis.probability:.4f} ({analysis.card.calibration})"
    if len(analysis.branches) > 1:
        for branch in analysis.branches:
            said = "missing" if branch.probability is None else f"P(fake) {branch.probability:.4f}"
            yield f"  {branch.name}: {said}, weight {branch.weight:.2f}"
    if analysis.flagged:
        stretches = ", ".join(f"{start:.1f} to {end:.1f}" for start, end in analysis.flagged)
        yield f"  flagged seconds: {stretches}"
    for note in analysis.notes:
        yield f"  note: {shown(note)}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="videos, or bundles that crop made of them")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--checkpoint", type=Path, help="of visavox train or visavox fuse")
    which.add_argument(
        "--detector", metavar="CONFIG", help="one that needs no training: zeroshot, or a JSON of `visavox zeroshot`"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object per file, with all that is known of it")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="key=value",
        help="a setting, such as device=cpu",
    )
    return parser.parse_args(argv)
