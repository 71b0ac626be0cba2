"""A trained detector in a form that other programs read.

    visavox export runs/v1/best.ckpt --onnx model.onnx --on clips        ONNX, compared with torch on these clips first
    visavox export runs/v1/best.ckpt --hub folder --reported report      safetensors, config and model card; visavox.load(folder)
    visavox export runs/v1/best.ckpt --cite                              BibTeX of what was run

--onnx writes a graph of the network (opset 18, any batch, all else fixed) only if onnxruntime gives P(fake) within 1e-4 of
torch's on the clips of --on: bundles or videos, two or more. It needs the extra: pip install visavox[export].
Exit codes: 0 written; 2 wrong arguments or files, or the numbers differ.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.logs import complain, say

if TYPE_CHECKING:
    from visavox.bundle import Bundle
    from visavox.config import Config

MOST_CLIPS = 4
"""Clips that an ONNX file is tried on."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    import visavox
    from visavox.detectors.exporting import card as cards

    try:
        scorer = visavox.load(arguments.checkpoint, ["device=cpu"])
        if arguments.onnx:
            from visavox.detectors.base import Detector
            from visavox.detectors.exporting.onnx import OPSET, ExportError, export

            if not isinstance(scorer, Detector):
                raise ExportError(
                    f"{arguments.checkpoint}: a fusion of several networks; export its branches one by one"
                )
            made = export(scorer, _bundles(arguments.on, scorer.config), arguments.onnx)
            inputs = ", ".join(f"{name} {shape}" for name, shape in made.inputs.items())
            say(f"{made.path}: opset {OPSET}; inputs {inputs}; output logit, higher = more fake")
            say(
                f"P(fake) differs from torch's by at most {made.difference:.2g} on {made.clips} clips; seconds of a clip here: "
                f"torch {made.torch.seconds:.3f}, onnxruntime {made.onnx.seconds:.3f}"
            )
        if arguments.hub:
            from visavox.training import checkpoint, hub

            reports = [
                json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in arguments.reported
            ]
            found = checkpoint.read(arguments.checkpoint)
            settings = found.config.model_dump(mode="json")
            hub.write(arguments.hub, found, cards.readme(scorer.card, settings, reports, visavox.__version__))
            say(f"{arguments.hub}: {hub.WEIGHTS}, {hub.SETTINGS}, {hub.CARD}")
        if arguments.cite:
            say(cards.citation(scorer.card, visavox.__version__))
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        complain("visavox export", error)
        return 2
    return 0


def _bundles(source: Path, config: Config) -> list[Bundle]:
    """Up to MOST_CLIPS bundles below a path, trimmed as the detector wants them; videos are preprocessed."""
    from visavox.bundle.trim import trimmed_as
    from visavox.files import VIDEO_SUFFIXES, find_inputs
    from visavox.preprocessing import tools

    paths = list(find_inputs(source, VIDEO_SUFFIXES | {".npz"}).values())
    made = tools.build(config) if any(path.suffix != ".npz" for path in paths[:MOST_CLIPS]) else None
    return [trimmed_as(config, tools.bundle_of(path, config, made)) for path in paths[:MOST_CLIPS]]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="of visavox train")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="write the network as ONNX")
    parser.add_argument("--on", type=Path, metavar="PATH", help="bundles or videos to compare on, a folder of them")
    parser.add_argument("--hub", type=Path, metavar="DIR", help="write safetensors, config.json and a model card")
    parser.add_argument(
        "--reported",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a report for the card; may be repeated",
    )
    parser.add_argument("--cite", action="store_true", help="print BibTeX")
    arguments = parser.parse_args(argv)
    if not (arguments.onnx or arguments.hub or arguments.cite):
        parser.error("say what to write: --onnx FILE, --hub DIR or --cite")
    if arguments.onnx and not arguments.on:
        parser.error("--onnx is compared with torch before it is written; give clips with --on PATH")
    return arguments
