"""What a detector knows that was trained on real people and fakes made of them: all figures of docs/made_fakes.md.

    python -m benchmarks.made_fakes --clips CLIPS --output work/made
    python -m benchmarks.made_fakes --parts synthetic --output work/made --synthetic xception_video
    python -m benchmarks.made_fakes --parts real --clips CLIPS --output work/other --real patches voice --faces haar

Three parts, each in a module of its own: `synthetic` (trained on the demo's real clips, scored on the demo's fakes), `real`
(trained on the real clips of CLIPS, scored on its generated ones and on speech of espeak-ng), `audit` (what gives a set away).
CLIPS holds clips.csv: file, label, identity, and method where it has generated clips. Finished stages are kept: the same command
goes on where it stopped. Writes OUTPUT/skill.json and prints its tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import made_audit, made_real, made_synthetic

PARTS = ("synthetic", "real", "audit")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.made_fakes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default all")
    parser.add_argument("--clips", type=Path, help="folder with clips.csv; for the parts real and audit")
    parser.add_argument("--output", type=Path, default=Path("made_fakes"))
    parser.add_argument("--synthetic", nargs="+", choices=made_synthetic.RECIPES, default=list(made_synthetic.RECIPES))
    parser.add_argument("--real", nargs="+", choices=made_real.DETECTORS, default=list(made_real.DETECTORS))
    parser.add_argument(
        "--faces", default="retinaface_mobilenet0.25", help="face detector (default the small RetinaFace)"
    )
    parser.add_argument("--folds", type=int, default=3, help="of people, each scored by what the others trained")
    words = parser.parse_args(argv)
    if words.clips is None and set(words.parts) - {"synthetic"}:
        parser.error(f"--parts {' '.join(words.parts)} needs --clips CLIPS, a folder with clips.csv")
    found = measure(words)
    for part in words.parts:
        print(f"\n## {part}\n\n{TABLES[part](found[part])}")
    return 0


def measure(words: argparse.Namespace) -> dict[str, Any]:
    """Run the parts; returns what OUTPUT/skill.json holds."""
    words.output.mkdir(parents=True, exist_ok=True)
    place = words.output / "skill.json"
    found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    for part in words.parts:
        if part == "synthetic":
            found[part] = made_synthetic.measure(words.output, words.synthetic)
        elif part == "real":
            found[part] = made_real.measure(words.output, words.clips, words.real, words.faces, words.folds)
        else:
            found[part] = made_audit.measure(words.output, words.clips, words.faces, words.folds)
        place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


TABLES = {"synthetic": made_synthetic.as_table, "real": made_real.as_table, "audit": made_audit.as_table}


if __name__ == "__main__":
    sys.exit(main())
