"""What is finished of a set of made fakes while it is written, so that a run that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visavox.files import parse_json, replacing

PART = "fakes.jsonl.part"


class Journal:
    """What is finished of a set, a line per clip, appended to while it is written.

    Args:
        identity: of all that the set follows from; lines of another one count for nothing.
    """

    def __init__(self, output: Path, identity: str):
        self.path, self.identity, self.output = output / PART, identity, output
        self.finished: dict[str, Mapping[str, Any]] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            try:
                done = parse_json(line)
                whole = all((output / row["filepath"]).is_file() for row in done["rows"])
                if done["of"] == identity and whole and isinstance(done["without"], list):
                    self.finished[done["clip"]] = done
            except (ValueError, KeyError, TypeError):  # the line that was being written when the run was killed
                continue
        with replacing(self.path) as beside:
            beside.write_text("".join(json.dumps(done) + "\n" for done in self.finished.values()), encoding="utf-8")

    def append(self, clip: str, rows: list[dict[str, Any]], without: list[str]) -> Mapping[str, Any]:
        """Write down a clip whose bundles are on the disk; return what stands there."""
        done = {"of": self.identity, "clip": clip, "rows": rows, "without": without}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done) + "\n")
        return done
