"""Does something trivial already tell real from fake?

    visavox audit data/split.csv --root . [--videos VIDEOS] [--trim leading] [--output audit.json]

Measures silence, loudness, duration, face size, brightness and more of every clip of a split CSV, from its bundle and, with
--videos, from its file (frame rate, resolution, bit rate, codecs, container tags); says how well each alone separates the
classes; and puts a linear probe on encoders whose weights are random. What separates without having learnt anything can be
learnt by a detector in place of forgery, and scores on such data then say little. Where identities have clips of both classes,
each measure is also compared within one person, which shows an encoder that one class alone went through far more clearly.
--trim shows what is left after `trim_silence`.

A measure is flagged when its AUC, in either direction, reaches --limit (0.6; a probe 0.75) and its whole 99 % interval
(clustered by identity) lies beyond 0.5. Exit codes: 0 nothing is flagged; 1 something is; 2 wrong arguments or files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visavox.audit.measures import LIMIT, Finding, audit_split
from visavox.audit.words import describe
from visavox.files import replacing
from visavox.logs import complain, say


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
            gate=arguments.speech_gate,
        )
        say(describe(findings, arguments.limit))
        if arguments.output:
            _write(findings, arguments.output)
    except (ValueError, OSError, RuntimeError) as error:
        complain("visavox audit", error)
        return 2
    return 1 if any(finding.flagged for finding in findings) else 0


def _write(findings: Sequence[Finding], path: Path) -> None:
    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not np.isfinite(value) else value

    rows = [{name: plain(value) for name, value in finding._asdict().items()} for finding in findings]
    with replacing(path) as beside:
        beside.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("split_csv", type=Path, help="split CSV (filename, filepath, split, label, identity, ...)")
    parser.add_argument("--root", type=Path, default=Path("."), help="where relative file paths start (default .)")
    parser.add_argument("--videos", type=Path, help="folder of the source videos, for codecs, bit rates and tags")
    parser.add_argument("--trim", choices=("none", "leading", "both"), default="none", help="audit after trim_silence")
    parser.add_argument(
        "--speech-gate",
        choices=("energy", "silero"),
        default="energy",
        help="what counts as speech (silero: extra vad)",
    )
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="all", help="rows (default all)")
    parser.add_argument("--limit", type=float, default=LIMIT, help="least AUC of a flag (default 0.6)")
    parser.add_argument("--group", help="column of identities (default group, identity, source or speaker)")
    parser.add_argument("--no-probes", action="store_true", help="leave the random encoders out")
    parser.add_argument("--output", type=Path, help="JSON file for the findings")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
