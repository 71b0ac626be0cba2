"""The process that decodes and judges: it holds the networks, may use so much memory and time, and may be killed at any moment.

Its worker sends the path of an upload; it answers with messages (kind, value):

    ("ready", about)           once the networks are loaded; `about` is what results say of their origin
    ("start failed", words)    they cannot be loaded
    ("progress", Progress)     how far the job is
    ("video", seconds)         the video's length, from which the time that it may take follows
    ("done", result)           what `GET /analyses` shows of it
    ("failed", (code, words))  it is no video that can be judged
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox.progress import Stopwatch
from visavox.service.store import STAGES, Progress
from visavox.workers.pool import end_with_parent

if TYPE_CHECKING:
    from visavox.detectors.judging import Judge
    from visavox.media.video import MediaInfo
    from visavox.service.settings import Settings

STAGE_OF = {
    "decode": "faces",
    "prepare": "faces",
    "detect": "faces",
    "cut": "faces",
    "mel": "voice",
    "sync": "sync",
    "encode": "sync",
}
"""Stage of the preprocessor -> stage of the analysis."""
REACHED = {"ingest": 2, "container": 5, "faces": 8, "voice": 50, "sync": 54, "gate": 60, "models": 60, "fusion": 96}
"""Percent at which each stage begins."""
GATE = "tiny"
"""The branch that may end an analysis before the others run."""
SECONDS_BETWEEN = 0.25
"""Between two messages of how far a stage is."""
CPU_PER_SECOND = 4.0
"""Processor seconds for each second of a video."""


@dataclass(frozen=True)
class Order:
    """What the child is to do."""

    path: Path
    name: str
    """What the video is called in messages."""
    sha256: str
    """Of its content as it was taken in."""


def serve(connection: Connection, settings: Settings, threads: int) -> None:
    """Load the networks, then judge one video after the other until the worker is gone."""
    end_with_parent()
    for each in (signal.SIGINT, signal.SIGTERM):  # the worker decides
        signal.signal(each, signal.SIG_IGN)
    try:
        judge, about = load(settings, threads)
    except Exception as error:  # said by the worker, who cannot go on without
        connection.send(("start failed", f"{type(error).__name__}: {error}"))
        return
    connection.send(("ready", about))
    memory = _address_space() + settings.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (settings.max_bytes, settings.max_bytes))
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):  # the worker is gone
            return
        answer = perform(judge, order, settings, about, connection.send)
        connection.send(answer)


def load(settings: Settings, threads: int) -> tuple[Judge, dict[str, Any]]:
    """Return what judges, and what its results say of their origin."""
    import torch

    import visavox
    from visavox.detectors.published import open_judge
    from visavox.detectors.single import HouseJudge

    torch.set_num_threads(threads)
    judge: Judge
    if settings.checkpoint.is_file():
        judge = HouseJudge.of(visavox.load(settings.checkpoint, settings.overrides), threads)
    else:
        judge = open_judge(settings.model, threads=threads)
    return judge, origin(judge, settings)


def origin(judge: Judge, settings: Settings) -> dict[str, Any]:
    """Return what judges: checkpoint, prep_hash, calibration, the versions of the code, and what the page shows of it."""
    from visavox import __version__
    from visavox.detectors.single import branches_of
    from visavox.files import CHECKOUT
    from visavox.report.origin import commit_of

    card = judge.card
    return {
        "checkpoint": card.checkpoint,
        "prep_hash": card.prep_hash,
        "commit": commit_of(CHECKOUT),
        "version": __version__,
        "calibration": card.calibration,
        "fingerprint": settings.fingerprint(),
        "detector": card.detector,
        "branches": branches_of(judge),
        "demo": "synthetic" in card.trained_on,
    }


def perform(
    judge: Judge, order: Order, settings: Settings, about: dict[str, Any], send: Callable[[tuple[str, Any]], None]
) -> tuple[str, Any]:
    """Judge one video; whatever goes wrong with it is its answer."""
    from visavox.errors import code_of
    from visavox.files import shown
    from visavox.media import MediaError
    from visavox.preprocessing.pipeline import explain

    try:
        return "done", analyse(judge, order, settings, about, send)
    except Exception as error:  # nothing that a video does may end the process that waits for the next one
        code = code_of(error)
        _, reason = explain(error)
        if code == "INTERNAL" or not isinstance(error, MediaError | ValueError):
            return "failed", (code, "")  # words that nobody has seen before may hold anything: they stay here
        return "failed", (code, shown(reason.replace(str(order.path), order.name)))


def analyse(
    judge: Judge, order: Order, settings: Settings, about: dict[str, Any], send: Callable[[tuple[str, Any]], None]
) -> dict[str, Any]:
    """Return all that `GET /analyses` shows of a video."""
    from visavox.detectors.single import HouseJudge, nothing_to_judge
    from visavox.files import sha256_of
    from visavox.preprocessing.pipeline import CropError
    from visavox.report.evidence import sentence
    from visavox.report.observations import observe

    watch = Announcing(send)
    with watch("ingest"):
        if sha256_of(order.path) != order.sha256:
            raise OSError(errno.EIO, "the upload is not what was taken in: the disk, or somebody, changed it")
    with watch("container"):
        info = probed(order.path, settings)
        send(("video", info.duration or 0.0))
        _bound_cpu(settings, info.duration)
        observations = observe(order.path)
    reads = judge.preprocess.config.max_clip_len if isinstance(judge, HouseJudge) else info.duration or 0.0
    watch.expected = round(25 * min(info.duration or 0.0, reads)) or None
    try:
        analysis = judge(order.path, watch=watch, ended=watch.branch_ended)
    except CropError as error:
        analysis = nothing_to_judge(judge, error)
    watch.say("fusion", 1.0)
    return {
        "analysis": asdict(analysis) | {"flagged": [list(each) for each in analysis.flagged]},
        "why": sentence(analysis),
        "observations": [asdict(each) for each in observations],
        "stages": [{"name": name, "seconds": round(seconds, 4)} for name, seconds in watch.stages().items()],
        "provenance": {name: about[name] for name in ("checkpoint", "prep_hash", "commit", "version")}
        | {"calibration": analysis.card.calibration},
        "media": {
            "seconds": info.duration,
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "hasSound": info.audio_codec is not None,
        },
    }


def probed(path: Path, settings: Settings) -> MediaInfo:
    """Return what a video declares, within the service's limits.

    Raises:
        MediaError: it is none, or beyond them.
    """
    from visavox.media import Limits, MediaError, confined

    limits = Limits(
        pixels=settings.max_pixels,
        side=settings.max_side,
        least_side=settings.min_side,
        fps=settings.max_fps,
        seconds=settings.max_seconds,
    )
    info = confined.describe(path, limits=limits).info
    if info.duration is not None and info.duration > settings.max_seconds:
        raise MediaError(
            "too_long",
            f"{path}: lasts {info.duration:.0f} s, the limit is {settings.max_seconds:g} s; cut it into parts",
        )
    return info


class Announcing(Stopwatch):
    """A stopwatch that sends word of the stage that has begun, of frames read and of branches that have ended."""

    def __init__(self, send: Callable[[tuple[str, Any]], None]):
        super().__init__()
        self.send = send
        self.expected: int | None = None
        """Frames that will be read, as the header has it."""
        self.at, self.told = "queued", 0.0
        self.branches: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        name = STAGE_OF.get(stage, stage)
        if name in REACHED and name != self.at and REACHED[name] >= REACHED.get(self.at, 0):
            self.say(name)
        elif name == "faces" and self.expected and time.monotonic() - self.told > SECONDS_BETWEEN:
            self.say("faces", min(1.0, self.counts.get("decode", 0) / self.expected))
        with super().__call__(stage):
            yield

    def branch_ended(self, name: str, seconds: float) -> None:
        """Send word of a branch; the first of them may be the gate."""
        self.branches[name] = seconds
        if name == GATE:
            self.say("gate", 0.0, name)
            self.say("models")
        else:
            done = len(self.branches)
            self.say("models", done / (done + 1), name)

    def say(self, stage: str, share: float = 0.0, detail: str | None = None) -> None:
        """Send how far the analysis is: `share` of a stage, in [0, 1]."""
        self.at, self.told = stage, time.monotonic()
        names = list(REACHED)
        after = names[names.index(stage) + 1 :]
        end = REACHED[after[0]] if after and stage != "gate" else 99
        percent = REACHED[stage] + share * max(0, end - REACHED[stage])
        self.send(("progress", Progress("processing", int(percent), stage, detail)))

    def stages(self) -> dict[str, float]:
        """Return the seconds by stage of the analysis, then `branch NAME` for each branch."""
        total: dict[str, float] = {}
        for stage, seconds in self.seconds.items():
            name = STAGE_OF.get(stage, stage)
            total[name] = total.get(name, 0.0) + seconds
        if GATE in self.branches and len(self.branches) > 1:
            total["gate"] = self.branches[GATE]
        ran = sum(seconds for name, seconds in self.branches.items() if "gate" not in total or name != GATE)
        total["fusion"] = max(0.0, total.get("models", 0.0) - sum(self.branches.values()))
        total["models"] = ran
        total = {name: total[name] for name in sorted(total, key=STAGES.index)}
        return total | {f"branch {name}": seconds for name, seconds in self.branches.items()}


def _bound_cpu(settings: Settings, duration: float | None) -> None:
    """Have the system end this process once the job has used its processor time."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + cpu_allowed(settings, duration)) + 1, resource.RLIM_INFINITY))


def cpu_allowed(settings: Settings, duration: float | None) -> float:
    """Return the processor seconds that a video of so many seconds may take."""
    return settings.cpu_seconds + CPU_PER_SECOND * min(duration or 0.0, settings.max_seconds)


def _address_space() -> int:
    """Bytes of address space that this process has in use; 64 GiB where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 64 << 30
