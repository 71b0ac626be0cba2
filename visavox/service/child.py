"""The process that decodes and judges: it holds the networks, may use so much memory and time, and may be killed at any moment.

Once it is started it sends ("ready", about), or ("start failed", words) where the networks cannot be loaded; `about` is what
results say of their origin. Its worker then sends a list of orders, again and again, and it answers as `perform.perform` does.
"""

from __future__ import annotations

import os
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.service import log
from visavox.service.perform import perform
from visavox.workers.pool import end_with_parent

if TYPE_CHECKING:
    from visavox.detectors.judging import Judge
    from visavox.service.settings import Settings

GPU_BATCH = 8
"""Videos that are judged in one call on a GPU, where the settings do not say otherwise."""


def serve(connection: Connection, settings: Settings, threads: int) -> None:
    """Load the networks, then judge one video after the other until the worker is gone."""
    end_with_parent()
    log.set_up("worker")
    for each in (signal.SIGINT, signal.SIGTERM):  # the worker decides
        signal.signal(each, signal.SIG_IGN)
    try:
        judge, about = load(settings, threads)
    except Exception as error:  # said by the worker, who cannot go on without
        connection.send(("start failed", f"{type(error).__name__}: {error}"))
        return
    connection.send(("ready", about))
    memory = _address_space() + about["batch"] * settings.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (settings.max_bytes, settings.max_bytes))
    while True:
        try:
            orders = connection.recv()
        except (EOFError, OSError):  # the worker is gone
            return
        perform(judge, orders, settings, about, connection.send)


def load(settings: Settings, threads: int) -> tuple[Judge, dict[str, Any]]:
    """Return what judges, and what its results say of their origin."""
    import torch

    import visavox
    from visavox.detectors.published import open_judge
    from visavox.detectors.single import HouseJudge
    from visavox.preprocessing import tools

    torch.set_num_threads(threads)
    judge: Judge
    if settings.checkpoint.is_file():
        judge = HouseJudge.of(visavox.load(settings.checkpoint, settings.overrides), threads)
    else:
        asked = settings.of_published()
        tools.confine(asked.get("confine", "auto"))
        judge = open_judge(settings.model, device=asked.get("device", "auto"), threads=threads)
    return judge, origin(judge, settings)


def origin(judge: Judge, settings: Settings) -> dict[str, Any]:
    """Return what judges: checkpoint, prep_hash, calibration, the versions of the code, and what the page shows of it."""
    from visavox import __version__
    from visavox.detectors.single import HouseJudge, branches_of
    from visavox.files import CHECKOUT
    from visavox.report.origin import commit_of

    card = judge.card
    on_gpu = isinstance(judge, HouseJudge) and judge.scorer.device.type == "cuda"
    return {
        "checkpoint": card.checkpoint,
        "prep_hash": card.prep_hash,
        "commit": commit_of(CHECKOUT),
        "version": __version__,
        "calibration": card.calibration,
        "fingerprint": card.checkpoint if settings.model == "default" else settings.fingerprint(),
        "overrides": settings.overrides,
        "versions": settings.versions(),
        "detector": card.detector,
        "branches": branches_of(judge),
        "demo": card.synthetic,
        "batch": settings.batch or (GPU_BATCH if on_gpu else 1),
    }


def _address_space() -> int:
    """Bytes of address space that this process has in use; 64 GiB where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 64 << 30
