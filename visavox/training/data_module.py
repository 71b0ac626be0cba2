"""Split CSV -> batches: order and randomness are those of (seed, epoch) alone, whatever the number of workers."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler

from visavox.bundle import Bundle
from visavox.config import Config
from visavox.pseudofakes.footage import Measure
from visavox.splits.classes import Classes
from visavox.splits.datasets import of_datasets
from visavox.splits.groups import Leak, find_leak
from visavox.splits.table import SplitError, describe, read_split, warnings
from visavox.training.batch import Example
from visavox.training.dataset import BundleDataset, Kept, Prepare, check_bundles
from visavox.training.made import MadeDataset, PairSampler, PrepareMade, judged_rows
from visavox.workers.pool import end_with_parent

log = logging.getLogger(__name__)


class BundleDataModule(pl.LightningDataModule):
    """The three splits of a CSV. Shards by itself: give the Trainer `use_distributed_sampler=False`.

    Args:
        csv_path: the split CSV; relative file paths in it start from config.root_path.
        prepare: `Detector.prepare` of the detector that is trained.
        allow_leaks: accept a CSV in which somebody stands in two splits; `leak` says who.
        full: load the bundles' track and audio too; `Detector.needs_track`.
        measure: audio-visual distances of made fakes, for a detector that reads them.
        kept: `Detector.kept`, which gives clips without opening their bundles where it can.
        prepare_made: `Detector.prepare_made`, in the place of `prepare` for made fakes and the real clips beside them.
        classes: `Detector.classes`, what is learnt in place of real and fake.
    """

    target: str = "label"
    """The column that is taught and balanced, `Detector.target`: a stage may learn of the sound or the picture alone."""

    def __init__(
        self,
        config: Config,
        csv_path: str | Path,
        prepare: Prepare,
        *,
        full: bool = False,
        allow_leaks: bool = False,
        measure: Measure | None = None,
        kept: Kept | None = None,
        classes: Classes | None = None,
        prepare_made: PrepareMade | None = None,
    ):
        super().__init__()
        self.config = config
        self.csv_path = csv_path
        self.prepare = prepare
        self.allow_leaks = allow_leaks
        self.leak: Leak | None = None
        self.full = full
        self.measure = measure
        self.kept = kept
        self.classes = classes
        self.prepare_made = prepare_made
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer test clips than devices

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Every row of the CSV, once it and its bundles are checked."""
        real_only = self.config.train_on == "real"
        part = real_only or self.classes is not None  # fakes may be missing anywhere
        rows = read_split(self.csv_path, self.config.root_path, part=part)
        rows = of_datasets(rows, self.config.training_datasets, self.config.eval_datasets)
        if self.classes is not None:
            try:
                self.classes.check(rows)
            except SplitError as error:
                raise SplitError(f"{self.csv_path}: {error}") from None
        lacking = [name for name in ("train", "val") if not ((rows["split"] == name) & (rows["label"] == 0)).any()]
        if real_only and lacking:
            raise SplitError(
                f"{self.csv_path}: no real clips with split={' or '.join(lacking)}; train_on=real needs them"
            )
        self.leak = find_leak(rows)
        if self.leak and not self.allow_leaks:
            raise SplitError(
                f"{self.csv_path}: {self.leak}. Scores would measure recognition of people; share the clips out by groups "
                "(`visavox corpora NAME --protocol group_out`), or train all the same with --allow-leaks, "
                "which the results then say"
            )
        check_bundles(rows, self.config)
        log.info("%s: %s", self.csv_path, describe(rows))
        leaks = [f"trained with --allow-leaks: {self.leak}"] if self.leak else []
        for warning in ([] if self.classes else warnings(rows)) + leaks:
            log.warning("%s: %s", self.csv_path, warning)
        return rows

    def split(self, name: str) -> BundleDataset | MadeDataset:
        """train, val or test."""
        rows = self._rows(name)
        if self.makes_fakes(name):
            return MadeDataset(rows, self.config, self.prepare, self.measure, self.target, self.prepare_made)
        return BundleDataset(
            rows,
            self.config,
            self.prepare,
            full=self.full,
            target=self.target,
            kept=self.kept,
            classes=self.classes,
        )

    def makes_fakes(self, name: str) -> bool:
        """Return whether the fakes of a split are made: those of training, and of a split that has none of its own."""
        rows = self._rows(name)
        return bool(self.config.fakes) and len(rows) > 0 and (name == "train" or not (rows["label"] == 1).any())

    def judged(self, name: str) -> pd.DataFrame:
        """Return the row of every clip of a split in the order in which they are given, made fakes behind their clip."""
        rows = self._rows(name)
        return judged_rows(rows, 1 + self.config.fakes_per_real) if self.makes_fakes(name) else rows

    def _rows(self, name: str) -> pd.DataFrame:
        rows = self.rows[self.rows["split"] == name]
        return self._training(rows) if name == "train" else rows

    def _training(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows that are trained on, as train_on and max_videos_per_class say, in their order."""
        if self.config.train_on == "real":
            rows = rows[rows["label"] == 0]
        if (most := self.config.max_videos_per_class) is None:
            return rows
        drawn = [
            same.sample(min(most, len(same)), random_state=self.config.seed)
            for _, same in rows.groupby(self.classes.column if self.classes else "label")
        ]
        return rows.loc[sorted(pd.concat(drawn).index)]

    def labels(self, name: str) -> list[int]:
        """Labels of a split in the order of its rows, 1 = fake: those of the column `target`; or the places of classes."""
        return [int(label) for label in self.split(name).labels]

    def bundles(self, name: str) -> Iterator[Bundle]:
        """Every bundle of a split once, without audio and track, one in memory at a time."""
        return self.split(name).bundles()

    def prepare_data(self) -> None:
        """Check the CSV and the bundles before anything else starts."""
        _ = self.rows

    def train_dataloader(self) -> EpochLoader:
        dataset = self.split("train")
        if self.target != "label" and len(np.unique(dataset.labels)) < 2:
            log.warning(
                "%s: every training clip has the same %s: there is nothing to learn for this stage",
                self.csv_path,
                self.target,
            )
        rank, world = self._rank_and_world()
        sampler: EpochSampler | PairSampler
        if isinstance(dataset, MadeDataset):
            sampler = PairSampler(len(dataset.paths), dataset.each, seed=self.config.seed, rank=rank, world=world)
        else:
            sampler = EpochSampler(
                dataset.labels, seed=self.config.seed, balance=self.config.balance, rank=rank, world=world
            )
        return self._loader(dataset, sampler, self.config.train_batch_size)

    def val_dataloader(self) -> EpochLoader:
        return self._scoring_loader("val")

    def test_dataloader(self) -> EpochLoader:
        return self._scoring_loader("test")

    def _scoring_loader(self, name: str) -> EpochLoader:
        dataset = self.split(name)
        rank, world = self._rank_and_world()
        # No padding: a clip that two devices scored would count twice in AUC.
        return self._loader(dataset, range(rank, len(dataset), world), self.config.submit_batch_size)

    def _loader(
        self, dataset: BundleDataset | MadeDataset, sampler: EpochSampler | PairSampler | range, batch_size: int
    ) -> EpochLoader:
        workers = self.config.num_workers
        return EpochLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
            pin_memory=self.config.device != "cpu" and torch.cuda.is_available(),
            generator=torch.Generator(),  # one of its own: making an iterator draws from it
        )

    def _rank_and_world(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class EpochLoader(DataLoader[Example]):
    """Begins an epoch when its first batch is asked for.

    A resuming Trainer (2.6) makes the iterator before it tells the sampler the epoch. The workers of a plain DataLoader
    start at once, and so would repeat the first epoch's order.
    """

    def __iter__(self) -> Iterator[Example]:  # type: ignore[override]  # torch names a private class; an iterator is all that is used
        yield from super().__iter__()


class EpochSampler(Sampler[tuple[int, int]]):
    """(position, seed) pairs of one epoch, a function of (seed, epoch) only; Lightning calls `set_epoch`.

    An epoch draws as many clips as there are. Balanced, every class gives as many of them (one half is real and one fake):
    of a larger class another part is seen in each epoch, a smaller is gone through again, in a new order, as often as it
    takes; a class that is not there cannot be. Devices take turns;
    where the draws do not divide, the first ones are drawn again, so that every device has the same number of steps.

    Args:
        labels: (N,) whole numbers: 0 or 1, or the places of classes.
        balance: draw all classes equally often.
    """

    def __init__(self, labels: np.ndarray, *, seed: int, balance: bool = True, rank: int = 0, world: int = 1):
        self.labels = np.asarray(labels)
        self.seed = seed
        self.balance = balance
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.labels) // self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = self._order(rng)  # (N,)
        seeds = rng.integers(2**63, size=len(order))  # (N,)
        turns = np.arange(self.rank, len(self) * self.world, self.world) % len(order)
        return iter([(int(order[i]), int(seeds[i])) for i in turns])

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        total = len(self.labels)
        classes = np.unique(self.labels)
        if not self.balance or len(classes) < 2:
            return rng.permutation(total)
        shares = [(total + len(classes) - 1 - i) // len(classes) for i in range(len(classes))]  # they sum to total
        draws = [_repeat(np.flatnonzero(self.labels == c), share, rng) for c, share in zip(classes, shares) if share]
        return rng.permutation(np.concatenate(draws))


def _repeat(items: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the items: whole permutations one after the other, the last one cut."""
    rounds = [rng.permutation(items) for _ in range(-(-count // len(items)))]
    return np.concatenate(rounds)[:count]


def _start_worker(worker: int) -> None:
    """Workers share the cores: one thread each. They need no seed, for every item brings its own."""
    end_with_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
