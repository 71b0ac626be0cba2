"""Named features of any branches or detectors -> one calibrated, readable probability.

    standardise -> logistic regression with class weights -> temperature on held-out predictions

A head is for one set of branches, so that a clip without sound, or a branch that failed, is judged by the head of what is there.
Heads are JSON; nothing of them is pickled. Classes weigh the same, so P(fake) is at equal priors.

    N clips · F features
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from visavox.files import excerpt, parse_json, replacing

log = logging.getLogger(__name__)

BRANCHES: dict[str, tuple[str, ...]] = {
    "tiny": ("tiny_prob_mean", "tiny_prob_max", "tiny_prob_p90", "tiny_num_files", "tiny_num_patches"),
    "visual": ("visual_prob_mean", "visual_prob_max", "visual_prob_p90", "visual_num_faces"),
    "audio": ("audio_prob_fake",),
    "temporal": ("temporal_prob_fake",),
    "sync": ("sync_prob",),
}
"""The branches in the order in which heads gain them, with their features."""
FEATURES = (
    *("tiny_prob_mean", "tiny_prob_max", "tiny_prob_p90", "visual_prob_mean", "visual_prob_max", "visual_prob_p90"),
    *("visual_num_faces", "tiny_num_files", "tiny_num_patches"),
    *("audio_prob_fake", "temporal_prob_fake", "sync_prob"),
)
"""The twelve features in the order of the seed's stored heads, which is not the order of its README."""
WAYS = {f"{n}way": tuple(BRANCHES)[:n] for n in range(2, 6)}
"""Nested heads for the ablation: name -> branches."""
FOLDS = 5
MOST_SUBSETS = 5
"""With more branches than this only all together, the nested ones and single ones get heads."""
FORMAT, VERSION = "visavox.fusion", 1


class FusionError(ValueError):
    """A fusion cannot be fitted, read or applied; the message holds the cure."""


@dataclass(frozen=True)
class Head:
    """One logistic regression. Its JSON holds these fields."""

    name: str
    """`5way`, or the branches joined by `+`."""
    branches: tuple[str, ...]
    features: tuple[str, ...]
    """(F,) names, in the order of the numbers."""
    means: tuple[float, ...]
    scales: tuple[float, ...]
    """Deviations; 1 where a feature was constant."""
    weights: tuple[float, ...]
    """Of standardised features, in log-odds."""
    bias: float
    temperature: float = 1.0
    """Log-odds are divided by it: below 1 they become surer."""
    fitted_on: str = ""
    """What it was fitted on, in words."""
    fitted_at: str = ""
    """When, ISO 8601."""
    n_real: int = 0
    n_fake: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def calibration(self) -> str:
        """How its probabilities were calibrated, in words."""
        return f"temperature {self.temperature:.3g} on {self.fitted_on}, at equal priors"

    def raw(self, rows: np.ndarray) -> np.ndarray:
        """Log-odds before temperature: rows (N, F) -> (N,) float64."""
        return (np.asarray(rows, np.float64) - self.means) / self.scales @ np.array(self.weights) + self.bias

    def logit(self, rows: np.ndarray) -> np.ndarray:
        """Calibrated log-odds of fake: rows (N, F) -> (N,) float64."""
        return self.raw(rows) / self.temperature

    def contributions(self, row: Mapping[str, float]) -> dict[str, float]:
        """What each feature adds to the calibrated log-odds; with `bias`, they sum to it."""
        values = np.array([row[name] for name in self.features], np.float64)
        parts = np.array(self.weights) * (values - self.means) / self.scales / self.temperature
        return {"bias": self.bias / self.temperature, **dict(zip(self.features, parts.tolist()))}


@dataclass(frozen=True)
class Validated:
    """How a head does on clips of people it was not fitted on."""

    logits: np.ndarray
    """(N,) raw log-odds, each from the fold that did not see the clip's group; NaN where there was no fold."""
    fold: np.ndarray
    """(N,) int64, -1 for none."""


@dataclass(frozen=True)
class Fusion:
    """Heads for sets of branches."""

    heads: tuple[Head, ...]
    validated: Mapping[str, Validated] = field(default_factory=dict)
    """Of each head's name, after fitting; not stored."""

    def __getitem__(self, name: str) -> Head:
        for head in self.heads:
            if head.name == name:
                return head
        raise FusionError(f"no head {name!r}; there are {', '.join(head.name for head in self.heads)}")

    def head_for(self, row: Mapping[str, float]) -> Head:
        """The head of most branches whose features are all there: finite numbers of `row`.

        Raises:
            FusionError: there is none.
        """
        there = {name for name, value in row.items() if np.isfinite(value)}
        fitting = [head for head in self.heads if there.issuperset(head.features)]
        if not fitting:
            raise FusionError(
                f"no head fits the features {', '.join(sorted(there)) or 'none'}; heads: "
                f"{', '.join(head.name for head in self.heads)}"
            )
        return max(fitting, key=lambda head: (len(head.branches), len(head.features)))

    def logit(self, row: Mapping[str, float]) -> tuple[float, Head]:
        """Calibrated log-odds of one clip, and the head that was used."""
        head = self.head_for(row)
        return float(head.logit(np.array([[row[name] for name in head.features]]))[0]), head

    def save(self, path: Path) -> None:
        """Write the JSON."""
        with replacing(path) as beside:
            beside.write_text(self.to_json() + "\n", encoding="utf-8")

    def to_json(self) -> str:
        value = {"format": FORMAT, "version": VERSION, "heads": [asdict(head) for head in self.heads]}
        return json.dumps(value, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: str = "fusion") -> Fusion:
        """Read what `to_json` wrote.

        Raises:
            FusionError: it is no such JSON, or its numbers do not belong together.
        """
        try:
            value = parse_json(text)
            if value["format"] != FORMAT or value["version"] != VERSION:
                raise ValueError(f"format {value['format']!r} {value['version']}, expected {FORMAT!r} {VERSION}")
            heads = tuple(_head(entry) for entry in value["heads"])
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise FusionError(f"{source}: not a fusion ({excerpt(error, 300)}); make it with `visavox fuse`") from None
        return cls(heads)

    @classmethod
    def load(cls, path: Path) -> Fusion:
        if path.suffix in (".joblib", ".pkl", ".pickle"):
            raise FusionError(
                f"{path}: a pickle, which runs code when it is read, so it is not; `visavox fuse --from-sklearn {path}` prints "
                "what to run where you trust the file"
            )
        if not path.is_file():
            raise FusionError(f"{path}: no such file; `visavox fuse` or the stage `fusion` of train.py writes it")
        return cls.from_json(path.read_text(encoding="utf-8"), str(path))


def _head(entry: Mapping[str, Any]) -> Head:
    texts = {name: tuple(str(part) for part in entry[name]) for name in ("branches", "features", "warnings")}
    numbers = {name: tuple(float(part) for part in entry[name]) for name in ("means", "scales", "weights")}
    scalars = {name: float(entry[name]) for name in ("bias", "temperature")}
    if {len(part) for part in numbers.values()} != {len(texts["features"])} or not texts["features"]:
        raise ValueError(f"{entry['name']}: as many means, scales and weights as features are needed")
    flat = [*(x for part in numbers.values() for x in part), *scalars.values()]
    if not np.isfinite(flat).all() or min(numbers["scales"]) <= 0 or scalars["temperature"] <= 0:
        raise ValueError(f"{entry['name']}: numbers are finite, scales and temperature positive")
    words = {name: str(entry[name]) for name in ("name", "fitted_on", "fitted_at")}
    counts = {name: int(entry[name]) for name in ("n_real", "n_fake")}
    parts: dict[str, Any] = {**texts, **numbers, **scalars, **words, **counts}
    return Head(**parts)


def fit(
    table: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    branches: Mapping[str, Sequence[str]] = BRANCHES,
    fitted_on: str = "",
    folds: int = FOLDS,
    seed: int = 100,
) -> Fusion:
    """Fit a head for every set of branches that clips have all features of.

    Args:
        table: feature name -> (N,), NaN where a clip lacks it.
        labels: (N,) 0 or 1 = fake.
        groups: (N,) whose clip it is; nobody is in two folds.
        branches: name -> its features; more than MOST_SUBSETS of them get only nested, single and whole sets.

    Raises:
        FusionError: no set of branches has clips of both classes.
    """
    labels, groups = np.asarray(labels), np.asarray(groups).astype(str)
    heads, validated = [], {}
    for chosen in _subsets(tuple(branches)):
        names = _ordered([name for branch in chosen for name in branches[branch]])
        rows = np.stack([np.asarray(table[name], np.float64) for name in names], axis=1)  # (N, F)
        there = np.isfinite(rows).all(1)
        if len(np.unique(labels[there])) < 2:
            log.warning("no head for %s: clips of both classes with all their features are needed", "+".join(chosen))
            continue
        name = head_name(chosen)
        head, out = fit_head(name, chosen, names, rows[there], labels[there], groups[there], fitted_on, folds, seed)
        logits, fold = np.full(len(labels), np.nan), np.full(len(labels), -1)
        logits[there], fold[there] = out.logits, out.fold
        heads.append(head)
        validated[name] = Validated(logits, fold)
    if not heads:
        raise FusionError("no branch has clips of both classes; give features of real and fake clips")
    return Fusion(tuple(heads), validated)


def fit_head(
    name: str,
    branches: Sequence[str],
    features: Sequence[str],
    rows: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    fitted_on: str = "",
    folds: int = FOLDS,
    seed: int = 100,
) -> tuple[Head, Validated]:
    """Fit one head: cross-validate by group, then the temperature on what that held out, then weights on all clips.

    Args:
        rows: (N, F) finite.
        labels, groups: (N,).
    """
    from sklearn.model_selection import StratifiedGroupKFold

    warnings = []
    logits, fold = np.full(len(labels), np.nan), np.full(len(labels), -1)
    least = min(len(np.unique(groups[labels == label])) for label in (0, 1))
    count = min(folds, least)
    if count >= 2:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        for k, (seen, held) in enumerate(splitter.split(rows, labels, groups)):
            assert not set(groups[seen]) & set(groups[held]), "a group stands in two folds"
            if len(np.unique(labels[seen])) == 2 and len(held):
                logits[held], fold[held] = _regression(rows[seen], labels[seen]).raw(rows[held]), k
    out = np.isfinite(logits)
    temperature = 1.0
    if not out.any() or len(np.unique(labels[out])) < 2:
        warnings.append(f"not calibrated: {least} groups of the rarer class are too few to hold any out; T stays 1")
    else:
        temperature, warning = fit_temperature(labels[out], logits[out])
        warnings += [warning] if warning else []
    if count < folds and out.any():
        warnings.append(f"{count} folds instead of {folds}: the rarer class has {least} groups")
    whole = _regression(rows, labels)
    head = Head(
        name=name,
        branches=tuple(branches),
        features=tuple(features),
        means=whole.means,
        scales=whole.scales,
        weights=whole.weights,
        bias=whole.bias,
        temperature=temperature,
        fitted_on=fitted_on,
        fitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        n_real=int((labels == 0).sum()),
        n_fake=int((labels == 1).sum()),
        warnings=tuple(warnings),
    )
    return head, Validated(logits, fold)


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> tuple[float, str]:
    """Return T of the smallest class-weighted cross-entropy of sigmoid(logits / T), and a warning or "".

    The loss is convex in 1 / T, so its one minimum is where the slope is zero; it is searched without bounds. Where there is
    none, T stays 1: separable scores want 1 / T infinite, and scores that point the wrong way want it negative.

    Args:
        labels: (N,) 0 or 1, both there.
        logits: (N,) of held-out clips.
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    signs = np.where(labels == 1, 1.0, -1.0)
    margin = signs * logits
    share = np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == 0).sum())  # classes weigh the same

    def slope(sharpness: float) -> float:
        return -float(share @ (margin * expit(-sharpness * margin)))

    if (margin > 0).all():
        return 1.0, (
            "the held-out scores separate the classes, so no temperature is sharp enough; T stays 1, and the "
            "probabilities are not calibrated. More or harder clips would tell"
        )
    if slope(0.0) >= 0:
        return 1.0, "the held-out scores do not rank fakes above real clips, so no temperature helps; T stays 1"
    high = 1.0
    while slope(high) < 0:
        high *= 2
    return 1 / float(brentq(slope, 0.0, high, xtol=1e-12, rtol=1e-12)), ""


def head_name(branches: Sequence[str]) -> str:
    """`5way` and so on for the nested sets, else the branches' names."""
    return next((name for name, chosen in WAYS.items() if chosen == tuple(branches)), "+".join(branches))


def clip_features(
    *,
    tiny: np.ndarray | None = None,
    patches: int = 0,
    visual: np.ndarray | None = None,
    audio: float | None = None,
    temporal: float | None = None,
    sync: float | None = None,
) -> dict[str, float]:
    """The twelve features of one clip in their order; NaN for a branch that says nothing.

    Args:
        tiny: (n,) mean probability of each face's patches.
        patches: how many patches that were.
        visual: (n,) probability of each face.
        audio, temporal, sync: probabilities; that of `sync` is higher where sound and picture agree.
    """
    row = dict.fromkeys(FEATURES, float("nan"))
    for name, values in (("tiny", tiny), ("visual", visual)):
        if values is not None:
            row[f"{name}_prob_mean"] = float(np.mean(values))
            row[f"{name}_prob_max"] = float(np.max(values))
            row[f"{name}_prob_p90"] = float(np.percentile(values, 90))
    if tiny is not None:
        row["tiny_num_files"], row["tiny_num_patches"] = float(len(tiny)), float(patches)
    if visual is not None:
        row["visual_num_faces"] = float(len(visual))
    for name, value in (("audio_prob_fake", audio), ("temporal_prob_fake", temporal), ("sync_prob", sync)):
        if value is not None:
            row[name] = float(value)
    return row


PHRASES = {
    "tiny": ("patches of the face carry the traces of a generator", "patches of the face look like a camera's"),
    "visual": ("visual artefacts in single faces", "single faces look real"),
    "audio": ("the voice sounds synthetic", "the voice sounds real"),
    "temporal": ("the faces' course in time is unnatural", "the faces' course in time is natural"),
    "sync": ("sound and mouth are inconsistent", "sound and mouth agree"),
}
"""What a branch says when it speaks for a fake, and against one."""
WORTH_SAYING = 0.1
"""Log-odds below which a branch's part is not mentioned."""


def explain(head: Head, row: Mapping[str, float]) -> list[str]:
    """Say why in words, a sentence for each branch that matters, the weightiest first."""
    parts = head.contributions(row)
    by_branch = {
        branch: sum(parts[name] for name in head.features if _owner(name, head.branches) == branch)
        for branch in head.branches
    }
    sentences = []
    for branch, part in sorted(by_branch.items(), key=lambda item: -abs(item[1])):
        if abs(part) < WORTH_SAYING:
            continue
        side = "for a fake" if part > 0 else "against a fake"
        fake, real = PHRASES.get(branch, (f"{branch} finds it fake", f"{branch} finds it real"))
        said = fake if part > 0 else real
        sentences.append(f"{said[0].upper()}{said[1:]}: {part:+.2f} log-odds {side} ({branch}).")
    return sentences or ["No branch says much either way."]


@dataclass(frozen=True)
class _Regression:
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def raw(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.means) / self.scales @ np.array(self.weights) + self.bias


def _regression(rows: np.ndarray, labels: np.ndarray) -> _Regression:
    """Standardise, then logistic regression with L2 (C = 1) and balanced class weights."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    means, deviations = rows.mean(0), rows.std(0)
    scales = np.where(deviations > 1e-12 * (1 + np.abs(means)), deviations, 1.0)
    model = LogisticRegression(C=1.0, class_weight="balanced", solver="newton-cholesky", tol=1e-8)
    with threadpool_limits(1):  # a dozen features: threads would only wait for each other
        model.fit((rows - means) / scales, labels)
    return _Regression(
        tuple(means.tolist()), tuple(scales.tolist()), tuple(model.coef_[0].tolist()), float(model.intercept_[0])
    )


def _subsets(branches: tuple[str, ...]) -> list[tuple[str, ...]]:
    if len(branches) <= MOST_SUBSETS:
        return [chosen for n in range(len(branches), 0, -1) for chosen in combinations(branches, n)]
    nested = [branches[:n] for n in range(len(branches), 1, -1)]
    return nested + [(branch,) for branch in branches]


def _ordered(names: list[str]) -> list[str]:
    """The seed's order where they are its features, else as they come."""
    return sorted(names, key=FEATURES.index) if set(names) <= set(FEATURES) else names


def _owner(feature: str, branches: Sequence[str]) -> str:
    return next((branch for branch in branches if feature == branch or feature in BRANCHES.get(branch, ())), "")
