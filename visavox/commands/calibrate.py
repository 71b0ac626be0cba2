"""Make scores probabilities: of a score file, or of a model that `visavox detect` runs.

    visavox calibrate val_scores.csv --labels data/split.csv --checkpoint runs/v1/best.ckpt       a score file
    visavox calibrate --on clips --model default                                                  a model

With --on every file of the folder is judged and a line through their log-odds is fitted (Platt, 1999). A file's label is the
folder it lies in, real/ or fake/, or that of --labels CSV (filename,label). The fit is kept in the weights folder with the name
of the clips, their number and the day, and applied by `visavox detect` from then on. Clips that were fitted on are no test of it.
Exit codes: 0 done; 2 wrong arguments or files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visavox.logs import complain, say


def main(argv: Sequence[str] | None = None) -> int:
    import sys

    words = list(sys.argv[1:] if argv is None else argv)
    if not any(word == "--on" or word.startswith("--on=") or word in ("-h", "--help") for word in words):
        from visavox.evaluation.calibration import main as of_scores

        return of_scores(words)
    return _of_model(_parse(words))


def _of_model(arguments: argparse.Namespace) -> int:
    import datetime

    import numpy as np

    from visavox.detectors.analysis import NO_FACE, NOTHING
    from visavox.detectors.novelty import Features, Known, alike
    from visavox.detectors.published import open_judge
    from visavox.detectors.published.calibrated import Fitted, features_of
    from visavox.evaluation.calibration import fit
    from visavox.files import find_inputs, shown
    from visavox.preprocessing.pipeline import explain
    from visavox.preprocessing.stills import SUFFIXES
    from visavox.progress import progress

    try:
        inputs = find_inputs(arguments.on, SUFFIXES)
        labels = _labels(inputs, arguments.labels)
        judge = open_judge(arguments.model, device=arguments.device, calibrated=False)
        found: dict[str, float] = {}
        features: dict[str, np.ndarray | None] = {}
        checkpoints: dict[str, str] = {}
        with progress("judging", len(labels)) as advance:
            for name in labels:
                try:
                    with Features(judge) as seen:
                        analysis = judge(inputs[name])
                except Exception as error:  # a clip that gives no score is left out, and said
                    say(f"left out: {shown(name)}: {shown(explain(error)[1])}", error=True)
                else:
                    if analysis.undecided in (NOTHING, NO_FACE):
                        say(f"left out: {shown(name)}: {analysis.undecided}", error=True)
                        advance()
                        continue
                    found[name], checkpoints[name] = analysis.probability, analysis.card.checkpoint
                    features[name] = seen.vector
                advance()
        most = max(set(checkpoints.values()), key=list(checkpoints.values()).count) if checkpoints else ""
        used = [name for name in found if checkpoints[name] == most]
        made = fit(
            np.array([labels[name] for name in used], int),
            np.array([found[name] for name in used], float),
            "platt",
            checkpoint=most,
            clips=used,
        )
        clips = arguments.name or arguments.on.resolve().name
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        path = Fitted(arguments.model, clips, today, made).save()
        vectors = alike(features[name] for name in used)
        features_of(arguments.model).unlink(missing_ok=True)  # those of an earlier calibration
        if len(vectors) > 1:
            Known.of(np.stack(vectors), clips, most).save(features_of(arguments.model))
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox calibrate", error)
        return 2
    if len(used) < len(found):
        say(f"left out: {len(found) - len(used)} clips that lack a branch which the others have", error=True)
    for warning in made.warnings:
        say(f"warning: {warning}", error=True)
    line = ", ".join(f"{key} {value:.4f}" for key, value in made.parameters.items())
    say(
        f"{arguments.model}: {line}; {made.n_real} real, {made.n_fake} fake; threshold {made.threshold:.4f}; {shown(path)}"
    )
    return 0


def _labels(inputs: dict[str, Path], table: Path | None) -> dict[str, int]:
    """Name -> label of the files that have one, 1 = fake.

    Raises:
        ValueError: none has, or one class is missing.
    """
    if table is not None:
        import pandas as pd

        from visavox.evaluation.scores import look_up, read_labels

        found = look_up(pd.DataFrame({"filename": list(inputs)}), read_labels(table), table)
        labels = dict(zip(found["filename"], (int(label) for label in found["label"])))
    else:
        kinds = {"real": 0, "fake": 1}
        labels = {name: kinds[part] for name in inputs for part in name.lower().split("/")[:-1] if part in kinds}
    if set(labels.values()) != {0, 1}:
        raise ValueError(
            f"{len(labels)} of {len(inputs)} files have a label and {sum(labels.values())} are fakes: both classes are needed; "
            "put files into real/ and fake/, or give --labels CSV with filename,label"
        )
    return labels


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--on", type=Path, required=True, metavar="FOLDER", help="clips with labels, which the model has not seen"
    )
    parser.add_argument("--model", default="default", help="a name of `visavox detect --models`, or a checkpoint")
    parser.add_argument("--labels", type=Path, help="CSV with filename,label; default the folders real/ and fake/")
    parser.add_argument("--name", help="what the clips are called in every verdict; default the folder's name")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.epilog = "of a score file: python -m visavox.evaluation.calibration --help"
    return parser.parse_args(words)
