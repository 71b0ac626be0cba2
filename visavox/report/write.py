"""Write the report of scores: one HTML page that loads nothing, its figures, its numbers and its rows.

    report.html   for people     report.json  for programs     scores.csv  one row per clip     *.png  the figures

`python eval.py ... --labels split.csv --report DIR`, or afterwards `visavox report make submission.csv ...`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.files import replacing, sha256_of, shown
from visavox.logs import say

if TYPE_CHECKING:
    import pandas as pd

    from visavox.config import Config
    from visavox.evaluation.calibration import Calibration
    from visavox.evaluation.rows import ScoredRow


def write_report(
    rows: pd.DataFrame,
    folder: Path,
    *,
    title: str = "Evaluation",
    labels: pd.DataFrame | None = None,
    calibration: Calibration | None = None,
    threshold: float | None = None,
    split: str | None = None,
    group: str | None = None,
    resamples: int | None = None,
    find: Callable[[str], Path | None] = lambda name: None,
    provenance: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the report of labelled scores and return its numbers.

    Args:
        rows: as `visavox.evaluation.scores.join` gives them; probabilities already calibrated.
        labels: the whole table of labels, scored or not, in which identities that cross splits are looked for.
        calibration: what calibrated them, for its threshold and its warnings.
        threshold: a clip at or above it is called fake; None takes the calibration's, or else 0.5.
        split: which rows of a split CSV to report on; None takes test where there are splits.
        find: file name -> the video or bundle it was scored from, for pictures.
        provenance: facts to add to those found here: checkpoint, prep_hash, config, ...
    """
    from visavox.evaluation import scores
    from visavox.evaluation.intervals import RESAMPLES
    from visavox.report import page, plots
    from visavox.report.analysis import analyse, worst_errors
    from visavox.report.origin import here
    from visavox.report.thumbnails import thumbnail

    chosen, about = scores.of_split(rows, split)
    value, source = _threshold(threshold, calibration)
    numbers = analyse(chosen, threshold=value, group=group, resamples=resamples or RESAMPLES)
    numbers["threshold"] = {"value": value, "source": source}
    stamps = _stamps(rows if labels is None else labels, chosen, calibration)
    numbers["provenance"] = {"rows": about, "stamps": stamps, **here(), **(provenance or {})}
    if calibration:
        numbers["provenance"]["calibration"] = (
            f"{calibration.method}, {calibration.n_real} real, {calibration.n_fake} fake val clips"
        )
    figures = plots.draw(chosen["label"].to_numpy(), chosen["probability"].to_numpy(), numbers, value)
    errors = [
        {
            "filename": row.filename,
            "label": row.label,
            "probability": row.probability,
            "note": _note(row),
            "png": thumbnail(find(row.filename)),
        }
        for row in worst_errors(chosen).itertuples()
    ]
    numbers["worst_errors"] = [{key: error[key] for key in ("filename", "label", "probability")} for error in errors]

    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        write_beside(folder / f"{name}.png", figure.png)
    write_beside(folder / "scores.csv", _csv(chosen))
    write_beside(folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False).encode() + b"\n")
    write_beside(folder / "report.html", page.render(title, numbers, figures, errors).encode())
    return numbers


def report_run(
    rows: Sequence[ScoredRow],
    labels: Path,
    folder: Path,
    *,
    inputs: dict[str, Path],
    config: Config | None,
    calibration: Calibration | None,
    checkpoint: str,
    label_map: dict[str, int] | None = None,
    name: str = "",
) -> dict[str, Any]:
    """Write the report of an evaluation that has just run, print it in short and return its numbers.

    Args:
        rows: as `visavox.commands.scoring.score_inputs` gives them.
        labels: CSV with filename,label and the columns of the parts.
        inputs: file name -> the video or bundle it was scored from.
        config: of the detector, or of the bundles it was given; None where it took files.
        checkpoint: sha256 of the checkpoint.
        label_map: what the labels mean where 1 is not fake.
        name: of a detector that is not the configuration's.
    """
    import pandas as pd

    from visavox.evaluation.scores import look_up, read_labels
    from visavox.preprocessing.provenance import prep_hash
    from visavox.splits.table import LABELS

    known = read_labels(labels, label_map or LABELS)
    columns = ["filename", "probability", "status", "seconds"]
    columns += ["raw"] if any(row.raw is not None for row in rows) else []
    columns += ["head"] if any(row.head for row in rows) else []
    columns += ["exited"] if any(row.exited is not None for row in rows) else []
    scored = pd.DataFrame({name: [getattr(row, name) for row in rows] for name in columns})
    name = name or (config.detector.name if config else "a detector")
    made = {"prep_hash": prep_hash(config), "trim_silence": config.trim_silence} if config else {}
    numbers = write_report(
        look_up(scored, known, labels),
        folder,
        title=f"Evaluation of {name}",
        labels=known,
        calibration=calibration,
        find=inputs.get,
        provenance={
            "detector": name,
            "checkpoint_sha256": checkpoint,
            **made,
            "labels": str(labels),
            "labels_sha256": sha256_of(labels),
            **({"config": config.model_dump(mode="json")} if config else {}),
        },
    )
    say(describe(numbers, folder))
    return numbers


def describe(numbers: dict[str, Any], folder: Path) -> str:
    """Return the report in a few lines, warnings first."""
    lines = [f"warning: {shown(text)}" for text in [*numbers["provenance"]["stamps"], *numbers["warnings"]]]
    for name in ("auc", "ap", "eer", "balanced_accuracy", "brier", "ece"):
        metric = numbers["overall"]["metrics"][name]
        if metric["value"] is not None:
            span = "" if metric["low"] is None else f"  [{metric['low']:.4f}, {metric['high']:.4f}]"
            lines.append(f"{name:18} {metric['value']:.4f}{span}")
    if numbers.get("gate") and numbers["gate"]["clips"]:
        lines.append(f"{'exited early':18} {numbers['gate']['exited']:.4f}")
    return "\n".join([*lines, shown(folder / "report.html")])


def write_beside(path: Path, data: bytes) -> None:
    with replacing(path) as beside:
        beside.write_bytes(data)


def _threshold(given: float | None, calibration: Calibration | None) -> tuple[float, str]:
    if given is not None:
        return given, "given"
    if calibration is not None:
        return calibration.threshold, "best balanced accuracy on the val split"
    return 0.5, "default; visavox calibrate fits one on the val split"


def _stamps(labels: pd.DataFrame, chosen: pd.DataFrame, calibration: Calibration | None) -> list[str]:
    """What makes the numbers weaker than they look: leaks, published leaky protocols, clips that were fitted on."""
    from visavox.splits.groups import find_leak

    stamps = []
    protocols = sorted(set(chosen["protocol"].astype(str)) - {""}) if "protocol" in chosen else []
    if "compat" in protocols:
        stamps.append("protocol compat: a published split whatever crosses in it; for comparison with papers only")
    if "split" in labels and {"source", "identity"} & set(labels):
        sources = labels if "source" in labels else labels.assign(source=labels["identity"])
        leak = find_leak(sources)
        stamps += [f"identity leak: {leak}"] if leak else []
    if calibration:
        stamps += [f"calibration: {warning}" for warning in calibration.warnings]
        fitted = set(calibration.clips) & set(chosen["filename"])
        if fitted:
            stamps.append(f"{len(fitted):,} of these clips were used to fit the calibration; they are not unseen")
    return stamps


def _note(row: Any) -> str:
    names = ("method", "kind", "category", "status")
    words = [str(getattr(row, name, "") or "") for name in names]
    return ", ".join(dict.fromkeys(word for word in words if word not in ("", "-", "ok", "real", "nan")))


def _csv(rows: pd.DataFrame) -> bytes:
    from visavox.splits.text_table import table_for_people

    first = [name for name in ("filename", "probability", "raw", "label", "status", "split") if name in rows]
    others = [name for name in rows if name not in (*first, "seconds", "path")]
    kept = rows[[*first, *others]]
    if "seconds" in rows and any(rows["seconds"]):
        kept = kept.assign(seconds=[json.dumps(stages) for stages in rows["seconds"]])
    safe = table_for_people(kept)
    return safe.to_csv(index=False, lineterminator="\n").encode()  # floats exactly: its numbers can be made again
