"""Calibration: scores that mean what they say, fitted on the validation split and on nothing else.

    visavox calibrate val_scores.csv --labels data/split.csv --checkpoint runs/v1/best.ckpt
    python eval.py -input VIDEOS -output submission.csv --checkpoint runs/v1/best.ckpt --calibration runs/v1/calibration.json

SCORES is what eval.py wrote (filename, probability); of the split CSV only rows with split=val are used. Writes
calibration.json beside the checkpoint, with the threshold of highest balanced accuracy on the same clips.

    temperature   p' = sigmoid(logit(p) / T)           keeps the order of the scores; Guo et al. (2017)
    platt         p' = sigmoid(a logit(p) + b)         keeps it where a > 0; Platt (1999), with his smoothed labels
    isotonic      p' = a rising step line of p         may make scores equal; Zadrozny and Elkan (2002)
    none          p' = p                               only the threshold is fitted

    visavox calibrate --from-feedback ~/.cache/visavox/service/feedback --output calibration.json

fits on what people have said of a service's verdicts (docs/service.md), and prints Brier score and calibration error before and
after, on clips held out by turns. It is never done by itself.

Exit codes: 0 written, warnings included; 2 wrong arguments or data.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from visavox.evaluation.metrics import best_threshold
from visavox.evaluation.rows import ScoredRow
from visavox.files import excerpt, parse_json, replacing, sha256_of
from visavox.logs import complain, say
from visavox.status import SCORED

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["temperature", "platt", "isotonic", "none"]
Objective = Literal["nll", "brier"]
LEAST_CLIPS = 30
"""Of each class; with fewer a calibration is a guess."""
WIDEST = 1e4
"""Temperatures are searched from 1 / WIDEST to WIDEST; one that ends there has no minimum inside."""
SUREST = 1e-6
"""Scores nearer to 0 or 1 than this count as this where several are added up."""


class CalibrationError(ValueError):
    """The calibration cannot be fitted, read or applied; the message holds the cure."""


@dataclass(frozen=True)
class Calibration:
    """A map from raw to calibrated P(fake), and where it comes from. Equal to its JSON file."""

    method: Method
    parameters: dict[str, Any]
    """temperature: T · platt: a, b · isotonic: x, y (lists)."""
    threshold: float
    """On calibrated scores: highest balanced accuracy on the clips it was fitted on."""
    n_real: int
    n_fake: int
    checkpoint: str = ""
    """sha256 of the checkpoint that gave the scores; empty fits any."""
    target_prior: float | None = None
    """Share of fakes where the scores will be used; None keeps that of the fitting clips."""
    objective: Objective = "nll"
    warnings: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    """Names of the clips it was fitted on, so that a report can refuse to call them unseen."""

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Raw P(fake) (N,) -> calibrated P(fake) (N,) float64."""
        scores = np.asarray(scores, np.float64)
        match self.method:
            case "none":
                calibrated = scores
            case "temperature":
                calibrated = sigmoid(logit(scores) / self.parameters["T"])
            case "platt":
                calibrated = sigmoid(self.parameters["a"] * logit(scores) + self.parameters["b"])
            case "isotonic":
                calibrated = np.interp(scores, self.parameters["x"], self.parameters["y"])
        if self.target_prior is None:
            return calibrated
        return shift_prior(calibrated, self.n_fake / (self.n_fake + self.n_real), self.target_prior)

    def require(self, checkpoint: str) -> None:
        """Refuse scores of another checkpoint than the one it was fitted for; one without a checkpoint fits any.

        Args:
            checkpoint: sha256 of the checkpoint that gives the scores.

        Raises:
            CalibrationError: the calibration belongs to another checkpoint.
        """
        if self.checkpoint and self.checkpoint != checkpoint:
            raise CalibrationError(
                f"the calibration was fitted for checkpoint {self.checkpoint[:12]}, this is {checkpoint[:12]}; "
                "fit it again with `visavox calibrate`"
            )

    def line(self) -> tuple[float, float] | None:
        """a and b of logit(p') = a logit(p) + b; None where the map is no such line."""
        match self.method:
            case "none":
                a, b = 1.0, 0.0
            case "temperature":
                a, b = 1 / self.parameters["T"], 0.0
            case "platt":
                a, b = self.parameters["a"], self.parameters["b"]
            case _:
                return None
        if self.target_prior is not None:
            now, was = self.target_prior, self.n_fake / (self.n_fake + self.n_real)
            b += float(logit(np.array(now)) - logit(np.array(was)))
        return a, b

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        with replacing(path) as beside:
            beside.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
            values |= {name: tuple(values.get(name, ())) for name in ("warnings", "clips")}
            loaded = cls(**values)
            loaded(np.array([0.1, 0.9]))
        except FileNotFoundError:
            raise CalibrationError(
                f"{path}: no such file; make it with `visavox calibrate SCORES.csv --labels SPLIT.csv`"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
            raise CalibrationError(f"{path}: not a calibration ({excerpt(error, 300)}); fit it again") from None
        if loaded.method not in get_args(Method):
            raise CalibrationError(f"{path}: method {loaded.method!r} is unknown; known: {', '.join(get_args(Method))}")
        return loaded


def fit(
    labels: np.ndarray,
    scores: np.ndarray,
    method: Method = "temperature",
    *,
    objective: Objective = "nll",
    target_prior: float | None = None,
    checkpoint: str = "",
    clips: Sequence[str] = (),
) -> Calibration:
    """Fit on validation clips: labels (N,) 0 or 1, raw P(fake) (N,).

    Args:
        objective: what the temperature minimises: negative log-likelihood, or the Brier score.
        target_prior: share of fakes where the scores will be used, if it is not that of these clips.
    """

    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    n_real, n_fake = int((labels == 0).sum()), int((labels == 1).sum())
    if not n_real or not n_fake:
        raise CalibrationError(f"calibration needs both classes; found {n_real} real and {n_fake} fake clips")
    if target_prior is not None and not 0 < target_prior < 1:
        raise CalibrationError(f"the target prior is {target_prior}, expected a share between 0 and 1")
    fitted = {
        "temperature": lambda: _fit_temperature(labels, scores, objective),
        "platt": lambda: _fit_platt(labels, scores),
        "isotonic": lambda: _fit_isotonic(labels, scores),
        "none": lambda: ({}, []),
    }
    parameters, warnings = fitted[method]()
    if min(n_real, n_fake) < LEAST_CLIPS:
        warnings.append(
            f"fitted on {n_real} real and {n_fake} fake clips; with fewer than {LEAST_CLIPS} of a class do not call the "
            "scores calibrated"
        )
    made = Calibration(
        method=method,
        parameters=parameters,
        threshold=0.5,
        n_real=n_real,
        n_fake=n_fake,
        checkpoint=checkpoint,
        target_prior=target_prior,
        objective=objective,
        warnings=tuple(warnings),
        clips=tuple(sorted(clips)),
    )
    return replace(made, threshold=best_threshold(labels, made(scores)))


def shift_prior(scores: np.ndarray, was: float, now: float) -> np.ndarray:
    """P(fake) under another share of fakes, likelihoods unchanged (Saerens et al., 2002, equation 2.4).

    Args:
        scores: (N,) calibrated where the share of fakes was `was`.
        now: share of fakes where the scores will be used.
    """
    fake, real = scores * (now / was), (1 - scores) * ((1 - now) / (1 - was))
    return fake / (fake + real)


def logit(p: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)); 0 and 1 count as the nearest numbers that double precision has between them."""
    p = np.clip(p, np.finfo(float).tiny, 1 - np.finfo(float).epsneg)
    return np.log(p) - np.log1p(-p)


def log_odds(p: np.ndarray | float) -> np.ndarray:
    """Return `logit` of P(fake), no farther from 0 than ±13.8: one score cannot outweigh all others without limit."""
    return logit(np.clip(np.asarray(p, np.float64), SUREST, 1 - SUREST))


def sigmoid(z: np.ndarray | float) -> np.ndarray:
    from scipy.special import expit

    return expit(z)


def apply_to_rows(rows: Sequence[ScoredRow], calibration: Calibration) -> list[ScoredRow]:
    """Return the rows with calibrated probabilities and the raw ones as `raw`; rows at the failure prior stay."""
    if not rows:
        return []
    calibrated = calibration(np.array([row.probability for row in rows], np.float64))
    return [
        replace(row, probability=float(p), raw=row.probability) if row.scored else row
        for row, p in zip(rows, calibrated)
    ]


def _fit_temperature(labels: np.ndarray, scores: np.ndarray, objective: Objective) -> tuple[dict[str, Any], list[str]]:
    """T of the smallest loss; a grid finds the valley, Brent's method its bottom."""
    from scipy.optimize import minimize_scalar

    z, signs = logit(scores), np.where(labels == 1, 1.0, -1.0)

    def loss(log_t: float) -> float:
        margin = signs * z / np.exp(log_t)
        return float(np.logaddexp(0, -margin).mean() if objective == "nll" else (sigmoid(-margin) ** 2).mean())

    end = np.log(WIDEST)
    grid = np.linspace(-end, end, 185)
    losses = [loss(log_t) for log_t in grid]
    best = int(np.argmin(losses))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    log_t = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9}).x)
    flat = np.isclose(losses, min(losses), rtol=0, atol=1e-12)
    if flat[0] and (signs * z > 0).all():
        return {"T": float(np.exp(-end))}, [
            f"T ends at its lower bound {np.exp(-end):.0e}: the scores separate these clips perfectly, so no temperature "
            "is sharp enough; the data are too few or too easy to calibrate on"
        ]
    if flat[-1] or log_t > end - 1e-3:
        return {"T": float(np.exp(end))}, [
            f"T ends at its upper bound {np.exp(end):.0e}: the scores say nothing about these clips, or their labels are "
            "turned round"
        ]
    return {"T": float(np.exp(log_t))}, []


def _fit_platt(labels: np.ndarray, scores: np.ndarray) -> tuple[dict[str, Any], list[str]]:
    """a and b of the smallest cross-entropy against labels moved inwards by one imagined clip of each class."""
    from scipy.optimize import minimize

    n_fake, n_real = (labels == 1).sum(), (labels == 0).sum()
    target = np.where(labels == 1, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))
    z = logit(scores)
    centre, scale = z.mean(), z.std() or 1.0
    standard = (z - centre) / scale

    def loss(ab: np.ndarray) -> tuple[float, np.ndarray]:
        out = ab[0] * standard + ab[1]
        gap = sigmoid(out) - target
        return float((np.logaddexp(0, out) - target * out).mean()), np.array([(gap * standard).mean(), gap.mean()])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    warnings = []
    if slope <= 0:
        warnings.append(
            f"a = {slope / scale:.3g} turns the order of the scores round; labels or scores are wrong way up"
        )
    return {"a": float(slope / scale), "b": float(offset - slope * centre / scale)}, warnings


def _fit_isotonic(labels: np.ndarray, scores: np.ndarray) -> tuple[dict[str, Any], list[str]]:
    from sklearn.isotonic import IsotonicRegression

    line = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, labels)
    x, y = line.X_thresholds_.tolist(), line.y_thresholds_.tolist()
    ends = [f"{end}" for end, value in (("0", y[0] == 0), ("1", y[-1] == 1)) if value]
    warnings = [f"the line ends at its bound {' and '.join(ends)}: such scores claim certainty"] if ends else []
    return {"x": x, "y": y}, warnings


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        if arguments.from_feedback:
            from visavox.evaluation.feedback import fit_feedback

            made = fit_feedback(arguments)
        else:
            made = _fit_files(arguments)
        beside = arguments.checkpoint or arguments.scores or arguments.from_feedback
        output = arguments.output or beside.with_name("calibration.json")
        made.save(output)
    except (ValueError, OSError) as error:
        complain("visavox calibrate", error)
        return 2
    for warning in made.warnings:
        say(f"warning: {warning}", error=True)
    shown = {name: round(v, 6) for name, v in made.parameters.items() if isinstance(v, float)}
    say(
        f"{made.method} {shown or ''}: {made.n_real} real, {made.n_fake} fake; threshold {made.threshold:.4f}; {output}"
    )
    return 0


def _fit_files(arguments: argparse.Namespace) -> Calibration:
    from visavox.evaluation.scores import already_calibrated, join

    rows = join(arguments.scores, arguments.labels)
    if "split" not in rows:
        raise CalibrationError(
            f"{arguments.labels}: lacks the column split; calibration is fitted on split=val only, give the split CSV"
        )
    rows = rows[(rows["split"] == "val") & rows["status"].isin([*SCORED, ""])]
    if not len(rows):
        raise CalibrationError(
            f"{arguments.scores}: none of its clips is a val clip of {arguments.labels}; score those too"
        )
    raw = _raw_scores(rows, already_calibrated(rows, arguments.scores), arguments)
    return fit(
        rows["label"].to_numpy(),
        raw,
        arguments.method,
        objective=arguments.objective,
        target_prior=arguments.prior,
        checkpoint=sha256_of(arguments.checkpoint) if arguments.checkpoint else "",
        clips=list(rows["filename"]),
    )


def _raw_scores(rows: pd.DataFrame, calibrated: np.ndarray, arguments: argparse.Namespace) -> np.ndarray:
    """Return the scores to fit on, (N,): those of the network itself, never calibrated ones."""
    probability = rows["probability"].to_numpy()
    raw = rows["raw"].to_numpy() if "raw" in rows else np.full(len(rows), np.nan)
    if arguments.raw:
        if np.isnan(raw).any():
            raise CalibrationError(
                f"{arguments.scores}: --raw, but {np.isnan(raw).sum()} of {len(rows)} val clips have no raw score in it nor "
                "in its details file; score them again without --calibration"
            )
        return raw
    if calibrated.any():
        cure = "with --raw the raw ones beside them are used" if not np.isnan(raw[calibrated]).any() else ""
        raise CalibrationError(
            f"{arguments.scores}: {calibrated.sum()} of {len(rows)} val clips have calibrated scores already, such as "
            f"{rows['filename'].iloc[int(calibrated.argmax())]}; {cure or 'score them again without --calibration'}"
        )
    return probability


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path, nargs="?", help="CSV with filename,probability, as eval.py writes it")
    parser.add_argument("--labels", type=Path, help="the split CSV; its val rows are used")
    parser.add_argument("--from-feedback", type=Path, metavar="DIR", help="the folder `feedback` of a service, instead")
    parser.add_argument("--method", choices=get_args(Method), default="temperature")
    parser.add_argument(
        "--objective", choices=get_args(Objective), default="nll", help="what the temperature minimises (default nll)"
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="the scores are calibrated already: fit on the raw ones that stand beside them",
    )
    parser.add_argument("--prior", type=float, help="share of fakes where the scores will be used")
    parser.add_argument("--checkpoint", type=Path, help="the checkpoint that gave the scores; its sha256 is kept")
    parser.add_argument("--output", type=Path, help="default calibration.json beside the checkpoint, else the scores")
    arguments = parser.parse_args(argv)
    if bool(arguments.from_feedback) == bool(arguments.scores and arguments.labels):
        parser.error("give SCORES and --labels, or --from-feedback DIR")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
