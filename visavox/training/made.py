"""Real clips and fakes made of them, side by side: what is trained on where only real clips are at hand.

R real clips · k fakes of each · position p of R (1 + k): clip p // (1 + k), itself at p % (1 + k) = 0, then its fakes
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, Sampler

from visavox.bundle import Bundle, BundleError
from visavox.bundle.trim import trimmed_as
from visavox.config import Config
from visavox.config.fakes import FORGED, weights
from visavox.logs import say_once
from visavox.pseudofakes.footage import Measure
from visavox.pseudofakes.make import NEEDS_OTHER, Fake, draw_kind, forge_one, kind_of, untouched
from visavox.splits.groups import Others, group_of
from visavox.training.batch import Example
from visavox.training.dataset import Prepare

log = logging.getLogger(__name__)

PrepareMade = Callable[[Bundle, np.random.Generator | None, Fake | None], Any]
"""`Detector.prepare_made`: as `Prepare`, told what was forged; None: the real clip beside a fake."""


class MadeDataset(Dataset[Example]):
    """Each real clip of some rows, and `fakes_per_real` fakes of it; both took the same road.

    An item is asked for by its position, which gives the same fake each time, or by (position, seed), which draws stretch,
    kind, forgery and augmentation from the seed: a real clip and its fakes with equal seeds show the same stretch and frames.
    A clip that no kind changes stays real, in the place of its fake too, which is said.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        config: Config,
        prepare: Prepare,
        measure: Measure | None,
        target: str = "label",
        prepare_made: PrepareMade | None = None,
    ):
        reals = rows[rows["label"] == 0]
        self.paths: list[str] = list(reals["path"])
        self.people = group_of(reals)
        self.others = Others(self.people)
        self.config, self.measure, self.target = config, measure, target
        self.prepare: PrepareMade = prepare_made or (lambda bundle, rng, fake: prepare(bundle, rng))
        self.shares = weights(config.fakes)
        self.borrows = bool({"planted", *NEEDS_OTHER} & set(self.shares))
        self.each = 1 + config.fakes_per_real
        self.labels = (np.arange(len(self.paths) * self.each) % self.each > 0).astype(np.float32)  # (R (1 + k),)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: int | tuple[int, int]) -> Example:
        position, seed = which if isinstance(which, tuple) else (which, None)
        rng = None if seed is None else np.random.default_rng(seed)
        clip, turn = divmod(position, self.each)
        try:
            bundle, fake = self.made(clip, turn - 1, rng, [self.config.seed, clip] if seed is None else [seed])
            prepared = self.prepare(bundle, rng, fake)
        except BundleError as error:
            raise BundleError(f"{self.paths[clip]}: {error}") from None
        return Example(prepared, torch.tensor(self._label(bundle, fake)))

    def _label(self, bundle: Bundle, fake: Fake | None) -> np.float32:
        """Return what is learnt of an item: whether it is forged, or its sound or its picture alone, as `target` says."""
        if fake is None or self.target == "label":
            return np.float32(fake is not None)
        return np.float32(kind_of(bundle) in FORGED[self.target])

    def made(
        self, clip: int, turn: int, rng: np.random.Generator | None, seed: list[int]
    ) -> tuple[Bundle, Fake | None]:
        """Return real clip `clip` as it came down the road, for turn -1 or where no kind changes it, or its fake number `turn`,
        with what is known of it."""
        bundle = trimmed_as(self.config, Bundle.load(self.paths[clip]), rng)
        other = self._somebody_else(clip, seed)
        lent = other is not None and other.has_sound
        how: dict[str, Any] = {"seed": seed, "other": other}
        how |= {"seconds": self.config.fake_seconds, "tooled": self.config.fake_tooled}
        if turn >= 0:
            landmarks = self.config.fake_landmarks
            fake = forge_one(self.shares, bundle, self.measure, turn=turn, lent=lent, landmarks=landmarks, **how)
            if fake is not None:
                return fake.bundle, fake
            what = f"none of {', '.join(self.shares)} changes it; it stays real beside itself"
            say_once(log, f"{self.paths[clip]}: {what}")
        kind = draw_kind(self.shares, bundle, seed, 0, lent=lent)
        return untouched(bundle, self.measure, beside=kind, **how), None

    def bundles(self) -> Iterator[Bundle]:
        """Every real bundle once, as it lies on the disk, without audio and track."""
        for path in self.paths:
            yield Bundle.load(path, full=False, mapped=True)

    def _somebody_else(self, clip: int, seed: list[int]) -> Bundle | None:
        """A clip of another person that has sound, as far as a few draws find one; None where no kind borrows any."""
        if not self.borrows:
            return None
        person = self.people[clip]
        count = self.others.count(person)
        rng = np.random.default_rng([*seed, 5])
        for _ in range(min(3, count)):
            bundle = Bundle.load(self.paths[self.others.place(person, int(rng.integers(count)))])
            if bundle.has_sound and bundle.sound.any():
                return bundle
        return None


class PairSampler(Sampler[tuple[int, int]]):
    """(position, seed) pairs of one epoch: every real clip in a new order, its fakes right behind it with the same seed.

    A function of (seed, epoch) only; Lightning calls `set_epoch`. Devices take turns by clips; where these do not divide, the
    first ones are drawn again.
    """

    def __init__(self, clips: int, each: int, *, seed: int, rank: int = 0, world: int = 1):
        self.clips, self.each, self.seed, self.rank, self.world = clips, each, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.clips // self.world) * self.each

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.clips)
        seeds = rng.integers(2**63, size=self.clips)
        for turn in range(self.rank, -(-self.clips // self.world) * self.world, self.world):
            clip, seed = int(order[turn % self.clips]), int(seeds[turn % self.clips])
            for which in range(self.each):
                yield clip * self.each + which, seed


def judged_rows(rows: pd.DataFrame, each: int) -> pd.DataFrame:
    """The rows of a `MadeDataset`, in its order: every real row `each` times, the first as it is, the others labelled fake."""
    reals = rows[rows["label"] == 0]
    many = reals.loc[reals.index.repeat(each)].copy()
    many["label"] = (np.arange(len(many)) % each > 0).astype(int)
    return many
