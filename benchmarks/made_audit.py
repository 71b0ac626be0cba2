"""What gives a set away, as far as the audit knows: the clips themselves, and sets made of them.

`road`: every clip of CLIPS is forged, whoever made it, and it and its fakes take the same road: nothing should be flagged.
`planted`: the fakes alone take it, which the audit should flag. `clips`: real against generated; what these differ in is what a
detector's AUC on them has to beat.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.made_figures import cell
from benchmarks.made_real import Sets, prepare

SECONDS = 1.6
PER_REAL = 2


def measure(out: Path, clips: Path, faces: str, folds: int) -> dict[str, Any]:
    """Audit all sets; finished ones are kept. Returns set -> findings, most telling first."""
    sets = prepare(out / "real", clips, faces, folds)
    return {name: audited(out, sets, name, clips) for name in ("road", "planted", "clips", "spoken")}


def audited(out: Path, sets: Sets, name: str, clips: Path) -> dict[str, Any]:
    """Findings of a set: how many real and fake clips, what is flagged, and each measure's AUC with its 99 % interval."""
    from visavox.audit.measures import audit_split

    done = out / "audit" / f"{name}.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    done.parent.mkdir(parents=True, exist_ok=True)
    split, root = written(out, sets, name)
    how: dict[str, Any] = {"videos": clips} if name == "clips" else {}
    rows = [
        {"name": f.name, "auc": round(f.auc, 3), "low": round(f.low, 3), "high": round(f.high, 3), "flagged": f.flagged}
        for f in audit_split(split, root, **how)
    ]
    labels = pd.read_csv(split)["label"]
    found = {"real": int((labels == 0).sum()), "fake": int((labels == 1).sum()), "findings": rows}
    done.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def written(out: Path, sets: Sets, name: str) -> tuple[Path, Path]:
    """The split CSV of a set, and where its paths start."""
    from visavox.commands import fakes

    root = out / "real"
    if name in ("clips", "spoken"):
        table = sets.clips if name == "clips" else sets.spoken
        names = table["file"] if name == "clips" else table["filepath"]
        table = table.assign(filename=names, split="train")[["filename", "filepath", "split", "label", "identity"]]
        table.to_csv(out / "audit" / f"{name}.csv", index=False)
        return out / "audit" / f"{name}.csv", root
    everyone = sets.clips.assign(filename=sets.clips["filepath"], label=0, split="train", source=sets.clips["identity"])
    everyone[["filename", "filepath", "label", "split", "source"]].to_csv(out / "audit/everyone.csv", index=False)
    made = out / "audit" / f"made_{name}"
    if not (made / fakes.CSV).is_file():
        how: dict[str, Any] = {"per_real": PER_REAL, "seconds": SECONDS, "pairs": True}
        fakes.write_set(out / "audit/everyone.csv", made, root=root, road="both" if name == "road" else "fakes", **how)
    return made / fakes.CSV, made


def as_table(found: dict[str, Any]) -> str:
    """Markdown: of each set its flags, or the five most telling measures."""
    lines = ["| set | real, fake | flagged | most telling |", "|---|---|---|---|"]
    for name, one in found.items():
        flags = [f["name"] for f in one["findings"] if f["flagged"]]
        telling = "; ".join(f"{f['name']} {cell(f)}" for f in one["findings"][:4])
        lines.append(f"| {name} | {one['real']}, {one['fake']} | {', '.join(flags) or 'none'} | {telling} |")
    return "\n".join(lines)
