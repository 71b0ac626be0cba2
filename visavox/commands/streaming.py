"""Bundles of many inputs, one after the other as they come out of worker processes: what every command that scores reads.

for prepared in bundles_of(list(inputs.items()), config, prep_hash=prep_hash(config), workers=2):
    prepared.bundle or prepared.reason
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from visavox import remote
from visavox.config import Config
from visavox.errors import code_of
from visavox.progress import Stopwatch
from visavox.remote import Store
from visavox.status import Status

if TYPE_CHECKING:
    import numpy as np

    from visavox.bundle import Bundle
    from visavox.detectors.td3mf.features import Features
    from visavox.preprocessing.budget import Planner
    from visavox.workers.gpu_server import Address
    from visavox.workers.launching import Ray


class Prepared(NamedTuple):
    """What a worker made of one input."""

    name: str
    path: Path
    bundle: Bundle | None
    """Or, of a file that `visavox features` wrote, what 2D3MF scores in its place."""
    status: Status
    reason: str
    notes: list[str]
    seconds: dict[str, float]
    budget: dict[str, Any] | None = None
    """What `--time-budget` left out, `Budget.record`."""
    code: str = ""
    """Why there is no bundle, for programs: one of `visavox.errors.CODES`."""
    sound: np.ndarray | None = None
    """(N,) int16 of a video without a face, for a scorer that can judge by it."""


def bundles_of(
    tasks: Sequence[tuple[str, Path]],
    config: Config,
    *,
    prep_hash: str | None = None,
    hears: bool = False,
    planner: Planner | None = None,
    workers: int = 1,
    timeout: float | None = None,
    ray: Ray | None = None,
    spool: Path | None = None,
    store: Store = remote.LOCAL,
) -> Generator[Prepared, None, None]:
    """Yield what becomes of each input, trimmed as `config` says, in the order in which they are done.

    Args:
        tasks: name and path of videos and bundles.
        config: the settings that bundles are made with.
        prep_hash: that a bundle on the disk must carry; None takes any.
        hears: keep the sound of a video without a face.
        planner: of time budgets.
        timeout: seconds after which a video is given up.
        ray: the cluster whose actors do it; inputs and `spool` lie on storage that its machines share.
        spool: with `ray`, the folder through which bundles come; it is gone at the end.
        store: how files of a storage are held here.
    """
    from visavox.commands.spooling import spooled
    from visavox.preprocessing.tools import gpu_networks
    from visavox.workers import launching, pool

    if ray:  # what is a bundle already is read here
        ready = [task for task in tasks if task[1].suffix.lower() == ".npz"]
        tasks = [(name, remote.absolute(path)) for name, path in tasks if path.suffix.lower() != ".npz"]
        if ready:
            how: dict[str, Any] = {
                "prep_hash": prep_hash,
                "hears": hears,
                "planner": planner,
                "timeout": timeout,
                "store": store,
            }
            yield from bundles_of(ready, config, **how)
        if not tasks:
            return
    workers = max(1, min(workers, len(tasks)))
    work: Any = partial(bundle_at, store, config, prep_hash, hears)
    with gpu_networks(config, bool(tasks) and not ray) as server, spooled(spool if ray else None, store) as spooling:
        start = partial(_start, config, planner, threads=launching.threads(workers, ray), server=server)
        if spooling:
            work = spooling.into(work)
        cropped = partial(launching.run, tasks, start, work, workers=workers, timeout=timeout, ray=ray)
        with closing(pool.ahead(lambda stop: cropped(stop=stop), workers)) as results:
            for (name, path), prepared in results:
                if isinstance(prepared, pool.Died):
                    prepared = Prepared(name, path, None, "failed", prepared.reason, [], {}, code=prepared.code)
                yield spooling.out_of(prepared) if spooling else prepared


def _start(config: Config, planner: Planner | None, threads: int, server: Address | None) -> Any:
    """A worker's preprocessor, and its planner of time budgets."""
    from visavox.preprocessing import tools

    preprocess = tools.build(config, threads, server)
    if planner:
        planner.warm_up(preprocess)
    return preprocess, planner


def bundle_at(
    store: Store, config: Config, prep_hash: str | None, hears: bool, state: Any, task: tuple[str, Path]
) -> Prepared:
    """In a worker: as `bundle_of`, of an input that may lie on a storage."""
    name, path = task
    try:
        with store.fetched(path) as here:
            prepared = bundle_of(config, prep_hash, hears, state, (name, here))
    except OSError as error:  # of the storage alone
        return Prepared(name, path, None, "failed", str(error), [], {}, code=code_of(error))
    return prepared._replace(path=path, reason=prepared.reason.replace(str(here), remote.url_of(path)))


def bundle_of(config: Config, prep_hash: str | None, hears: bool, state: Any, task: tuple[str, Path]) -> Prepared:
    """In a worker: the bundle of one input, or the reason why there is none, with its sound where the scorer `hears`."""
    from visavox.bundle import BundleError
    from visavox.bundle.trim import needs_sound, trimmed_as
    from visavox.detectors.td3mf.features import Features
    from visavox.preprocessing import pipeline
    from visavox.preprocessing.provenance import differing_settings

    (preprocess, planner), (name, path) = state, task
    watch, budget = Stopwatch(), planner.begin() if planner else None
    try:
        if path.suffix.lower() == ".npz":
            with watch("load"):
                found = _read(path, config)
            if isinstance(found, Features):
                spent = watch.seconds | {"total": watch.total()}
                return Prepared(name, path, cast("Bundle", found), found.status, "", [], spent)
            bundle = found
            if prep_hash is not None and bundle.prep_hash != prep_hash:
                raise BundleError(
                    f"made with other settings than the checkpoint's ({differing_settings(bundle, config)}); "
                    "crop the video again, or score it all the same with --any-bundles",
                    "OTHER_SETTINGS",
                )
            if budget:
                budget.faces()
        else:
            bundle = (preprocess.within(budget) if budget else preprocess)(path, watch=watch)
        if needs_sound(config):
            with watch("trim"):
                bundle = trimmed_as(config, bundle)
    except Exception as error:  # the row is the answer: nothing a video does may stop the others
        status, reason = pipeline.explain(error)
        seconds = watch.seconds | {"total": watch.total()}
        sound = error.sound if hears and isinstance(error, pipeline.CropError) and status == "no_face" else None
        return Prepared(name, path, None, status, reason, [], seconds, code=code_of(error), sound=sound)
    notes = bundle.notes.split("\n") if bundle.notes else []
    seconds = watch.seconds | {"total": watch.total()}
    return Prepared(name, path, bundle, bundle.status, "", notes, seconds, budget.record() if budget else None)


def _read(path: Path, config: Config) -> Bundle | Features:
    """Read a bundle, or features where the checkpoint is one of 2D3MF; whether they are its own is for the scorer to see.

    Raises:
        BundleError, FeatureError: damaged, or features for another detector.
    """
    from visavox.bundle import Bundle, BundleError
    from visavox.config import TD3MFConfig
    from visavox.detectors.td3mf.features import Features, is_features

    if not is_features(path):
        return Bundle.load(path, full=config.store_track)
    if not isinstance(config.detector, TD3MFConfig):
        raise BundleError(
            f"holds features for td3mf, and the checkpoint is of {config.detector.name}; give the video or its bundle",
            "OTHER_SETTINGS",
        )
    return Features.load(path)
