"""Print P(fake) of single videos or bundles.

    visavox score clip.mp4 --checkpoint runs/v1/best.ckpt
    visavox score clips/*.mp4 --checkpoint runs/v1/best.ckpt --json

Videos are preprocessed as the checkpoint's settings say; a bundle must have been made with them. Exit codes: 0 every file has
its score; 1 some have none, the reason stands in their place; 2 wrong arguments, checkpoint or weights.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from visavox.files import printable


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    import visavox
    from visavox.bundle.trim import trimmed_as
    from visavox.preprocessing.pipeline import explain
    from visavox.preprocessing.tools import bundle_of

    try:
        scorer = visavox.load(arguments.checkpoint, arguments.overrides)
        preprocess = visavox.preprocessor(scorer.config)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"visavox score: {error}", file=sys.stderr)
        return 2
    lost = 0
    for path in arguments.files:
        try:
            bundle = trimmed_as(scorer.config, bundle_of(path, scorer.config, preprocess))
            answer = {"file": str(path)} | asdict(scorer.explain(bundle))
        except (ValueError, RuntimeError, OSError) as error:
            status, reason = explain(error)
            answer = {"file": str(path), "status": status, "reason": reason}
            lost += 1
        print(json.dumps(answer) if arguments.json else _line(answer), flush=True)
    return 1 if lost else 0


def _line(answer: dict[str, Any]) -> str:
    name = printable(answer["file"])
    if "probability" in answer:
        return f"{answer['probability']:.4f}  {name}"
    return f"{answer['status']:9}  {name}: {answer['reason']}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="videos, or bundles that crop made of them")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of visavox train or visavox fuse")
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
