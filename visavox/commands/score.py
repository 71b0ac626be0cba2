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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.files import printable

if TYPE_CHECKING:
    from visavox.bundle import Bundle
    from visavox.config import Config
    from visavox.detectors.base import Scorer


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    import visavox
    from visavox.preprocessing.pipeline import explain

    try:
        scorer = visavox.load(arguments.checkpoint, arguments.overrides)
        preprocess = _preprocessor(scorer.config)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"visavox score: {error}", file=sys.stderr)
        return 2
    lost = 0
    for path in arguments.files:
        try:
            answer = {"file": str(path), "probability": judge(path, scorer, preprocess)}
        except (ValueError, RuntimeError, OSError) as error:
            status, reason = explain(error)
            answer = {"file": str(path), "status": status, "reason": reason}
            lost += 1
        print(json.dumps(answer) if arguments.json else _line(answer), flush=True)
    return 1 if lost else 0


def judge(path: Path, scorer: "Scorer", preprocess: Any = None) -> float:
    """Return P(fake) of one video or bundle.

    Args:
        preprocess: the Preprocessor of the scorer's settings; None builds one.

    Raises:
        CropError, MediaError, BundleError: the video gives no bundle, or the bundle was made with other settings.
    """
    return float(scorer.score([bundle_of(path, scorer.config, preprocess)])[0])


def bundle_of(path: Path, config: "Config", preprocess: Any = None) -> "Bundle":
    """Load a bundle that was made with these settings, or preprocess a video."""
    if path.suffix.lower() != ".npz":
        return (preprocess or _preprocessor(config))(path)
    from visavox.bundle import Bundle, BundleError
    from visavox.preprocessing.provenance import differing_settings, prep_hash

    bundle = Bundle.load(path)
    if bundle.prep_hash != prep_hash(config):
        raise BundleError(
            f"{path}: made with other settings than the checkpoint's ({differing_settings(bundle, config)}); give the video"
        )
    return bundle


def _preprocessor(config: "Config") -> Any:
    import visavox

    return visavox.preprocessor(config)


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
