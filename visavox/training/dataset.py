"""Bundles -> clips: what the reference detector sees of a video, and the data set over a split CSV.

K faces kept in a bundle · n frame_num · T frames of a clip: n faces, then n mel images · S frame_size · V shifts
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from visavox.bundle import Bundle, BundleError, Stamp, read_stamp
from visavox.bundle.trim import needs_sound, trimmed_as
from visavox.config import Config
from visavox.preprocessing.provenance import differing_settings, prep_hash
from visavox.splits.classes import Classes
from visavox.splits.table import SplitError, count_and_first, labels_of
from visavox.training.batch import Example

log = logging.getLogger(__name__)

Prepare = Callable[[Bundle, np.random.Generator | None], Any]
"""`Detector.prepare`: a bundle and the randomness of training (None: deterministic) -> a NamedTuple of tensors."""
Kept = Callable[[str, np.random.Generator | None], Any | None]
"""`Detector.kept`: the same of a bundle on the disk that need not be opened; None where it has to be."""


class BundleDataset(Dataset[Example]):
    """The bundles of some rows of a split, trimmed as `config` says and prepared for a detector.

    An item is asked for by its position, which is deterministic, or by (position, seed), which draws frames and
    augmentation from that seed: what a clip looks like depends on neither the worker nor what was drawn before.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        config: Config,
        prepare: Prepare,
        *,
        full: bool = False,
        target: str = "label",
        kept: Kept | None = None,
        classes: Classes | None = None,
    ):
        self.paths: list[str] = list(rows["path"])
        self.labels = classes.labels(rows) if classes else labels_of(rows, target).astype(np.float32)  # (N,)
        self.config = config
        self.prepare = prepare
        self.kept = kept
        self.full = full or needs_sound(config)  # load track and audio too

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, which: int | tuple[int, int]) -> Example:
        index, seed = which if isinstance(which, tuple) else (which, None)
        rng = None if seed is None else np.random.default_rng(seed)
        clip = self.kept(self.paths[index], rng) if self.kept else None
        if clip is None:
            clip = self._opened(self.paths[index], rng)
        return Example(clip, torch.tensor(self.labels[index]))

    def _opened(self, path: str, rng: np.random.Generator | None) -> Any:
        bundle = Bundle.load(path, full=self.full)
        try:
            return self.prepare(trimmed_as(self.config, bundle, rng), rng)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None

    def bundles(self) -> Iterator[Bundle]:
        """Every bundle once, without audio and track, one in memory at a time."""
        for path in self.paths:
            yield Bundle.load(path, full=False, mapped=True)


def check_bundles(rows: pd.DataFrame, config: Config, *, any_bundles: bool = False) -> None:
    """Look at the stamp of every bundle of a checked split before training starts.

    Args:
        rows: as `read_split` returns them.
        any_bundles: accept bundles that were made with other settings than the configuration's, as far as they fit it.

    Raises:
        SplitError: lists every bundle that is damaged, does not fit the configuration, was made with other settings, or
            comes from a video that stands in another split too.
    """
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(_stamp_or_fault, rows["path"]))
    faults = [look for look in looks if isinstance(look, str)]
    sound = rows[[isinstance(look, Stamp) for look in looks]]
    stamps = [look for look in looks if isinstance(look, Stamp)]
    faults += _grouped(sound, [_misfit(stamp.faces, stamp.shifts, config) for stamp in stamps])
    if not any_bundles:
        faults += _grouped(sound, _of_other_settings(stamps, config))
    faults += _in_two_splits(sound, stamps)
    if faults:
        more = [f"and {len(faults) - 20} more"] if len(faults) > 20 else []
        lines = "\n".join(f"  - {fault}" for fault in faults[:20] + more)
        raise SplitError(f"bundles: {len(faults)} fault(s)\n{lines}")


def _stamp_or_fault(path: str) -> Stamp | str:
    try:
        return read_stamp(path)
    except BundleError as error:
        return str(error)


def _misfit(faces: tuple[int, ...], shifts: int, config: Config) -> str | None:
    """Why a bundle of these shapes cannot give a clip, with the cure; None when it can."""
    if faces[0] < config.frame_num:
        return (
            f"faces is {faces}, frame_num is {config.frame_num}; "
            f"crop again with bundle_faces={config.frame_num} or more"
        )
    if shifts != 2 * config.vshift + 1:
        return f"mdist is ({shifts},), vshift is {config.vshift}; set vshift={shifts // 2}, or crop again"
    return None


def _of_other_settings(stamps: list[Stamp], config: Config) -> list[str | None]:
    """For each bundle how its settings differ from the configuration's, with the cure; None where they do not."""
    expected = prep_hash(config)
    return [
        None
        if stamp.prep_hash == expected
        else f"made with other settings ({differing_settings(stamp, config)}); train with those, or crop again with these"
        for stamp in stamps
    ]


def _grouped(rows: pd.DataFrame, faults: list[str | None]) -> list[str]:
    """One line per kind of fault, with the bundles that have it."""
    found: dict[str, list[str]] = {}
    for path, fault in zip(rows["filepath"], faults):
        if fault:
            found.setdefault(fault, []).append(path)
    return [f"{len(paths)} of {len(rows)} bundles: {fault}: {count_and_first(paths)}" for fault, paths in found.items()]


def _in_two_splits(rows: pd.DataFrame, stamps: list[Stamp]) -> list[str]:
    """One fault per video that stands in several splits under different names."""
    videos = pd.Series([stamp.source_sha256 for stamp in stamps], index=rows.index, dtype=str)
    faults = []
    for _, same in rows.groupby(videos, sort=False):
        if same["split"].nunique() > 1:
            where = ", ".join(f"{path} ({split})" for path, split in zip(same["filepath"], same["split"]))
            faults.append(f"made of the same video: {where}; keep one")
    return faults
