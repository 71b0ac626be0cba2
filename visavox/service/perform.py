"""Judging uploads: one by one, or several in one call of the networks, with word of how far each is.

Answers about an order are sent as (its place in the list, kind, value):

    "at", None               this one is at hand, alone: if the process dies, it dies of it
    "together", None         all that are not answered yet are at hand
    "progress", Progress     how far the job is
    "video", seconds         the video's length, from which the time that it may take follows
    "done", result           what `GET /analyses` shows of it
    "failed", (code, words)  it is no video that can be judged
"""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from visavox import weights
from visavox.progress import Stopwatch
from visavox.service.store import STAGES, Progress

if TYPE_CHECKING:
    from visavox.detectors.analysis import Analysis
    from visavox.detectors.judging import Judge
    from visavox.detectors.single import HouseJudge
    from visavox.media.video import MediaInfo
    from visavox.service.settings import Settings

log = structlog.get_logger(__name__)

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
Send = Callable[[str, Any], None]
"""Sends an answer about one order: kind, value."""


@dataclass(frozen=True)
class Order:
    """What the child is to do."""

    path: Path
    name: str
    """What the video is called in messages."""
    sha256: str
    """Of its content as it was taken in."""


@dataclass
class Seen:
    """A video of which all is known but the verdict."""

    order: Order
    watch: Announcing
    info: MediaInfo
    observations: list[Any]
    clip: Any
    """What the networks take; None where `analysis` is known already."""
    analysis: Analysis | None = None


def perform(
    judge: Judge, orders: Sequence[Order], settings: Settings, about: dict[str, Any], send: Callable[[Any], None]
) -> None:
    """Judge videos, in one call of the networks where that can be; whatever goes wrong with one is its answer, and no other's."""
    from visavox.bundle import Bundle
    from visavox.detectors.single import HouseJudge

    def of(place: int) -> Send:
        return lambda kind, value: send((place, kind, value))

    seen: dict[int, Seen] = {}
    for place, order in enumerate(orders):
        of(place)("at", None)
        with _answered(order, of(place)):
            seen[place] = see(judge, order, settings, of(place))
    alike = [each for each in seen.values() if isinstance(each.clip, Bundle)]
    if isinstance(judge, HouseJudge) and len(alike) > 1:
        send((None, "together", None))
        _bound_cpu(sum(cpu_allowed(settings, each.info.duration) for each in alike))
        _judge_together(judge, alike)
    for place, each in seen.items():
        with _answered(each.order, of(place)):
            if each.analysis is None:  # alone, or something went wrong with one of those together
                assert isinstance(judge, HouseJudge)
                of(place)("at", None)
                _bound_cpu(cpu_allowed(settings, each.info.duration))
                each.analysis = judge.explain(each.clip, watch=each.watch, ended=each.watch.branch_ended)
            of(place)("done", result_of(each, each.analysis, about))


def _judge_together(judge: HouseJudge, alike: Sequence[Seen]) -> None:
    """Give each its analysis; none of them where the call fails, for nobody knows of which."""
    for each in alike:
        each.watch.say("models")
    began = time.perf_counter()
    try:
        analyses = judge.explain_all([each.clip for each in alike], [each.watch.branch_ended for each in alike])
    except Exception as error:  # they are judged one by one, and the one that is at fault says so
        log.warning("videos together failed, now one by one", videos=len(alike), exc_info=_trace(error))
        return
    share = (time.perf_counter() - began) / len(alike)
    for each, analysis in zip(alike, analyses, strict=True):
        each.analysis = analysis
        each.watch.seconds["models"] = share


@contextmanager
def _answered(order: Order, send: Send) -> Iterator[None]:
    """Send what goes wrong in the block as the order's answer."""
    from visavox.errors import code_of
    from visavox.files import shown
    from visavox.media import MediaError
    from visavox.preprocessing.pipeline import explain

    try:
        yield
    except Exception as error:  # nothing that a video does may end the process that waits for the next one
        code = code_of(error)
        _, reason = explain(error)
        if code == "INTERNAL" or not isinstance(error, MediaError | ValueError):
            log.error("a video could not be judged", code=code, exc_info=_trace(error))
            send("failed", (code, ""))  # words that nobody has seen before may hold anything: they stay here
        else:
            send("failed", (code, shown(_without_places(reason, order))))


def _without_places(found: Any, order: Order) -> Any:
    """A text, or all texts of a value that JSON holds, without where files lie on this machine."""
    if isinstance(found, str):
        home = os.path.expanduser("~")  # as it is where nobody knows of one
        places = {str(order.path): order.name, str(weights.folder()): "the weights folder", home: "~"}
        for place, words in places.items():
            if len(place) > 1:
                found = found.replace(place, words)
        return found
    if isinstance(found, dict):
        return {name: _without_places(value, order) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_without_places(value, order) for value in found]
    return found


def _trace(error: Exception) -> Any:
    """What the log tells of an exception by: its kind and its place."""
    return type(error), error, error.__traceback__


def see(judge: Judge, order: Order, settings: Settings, send: Send) -> Seen:
    """Read a video: up to what the networks take where the judge is one of the house, else up to the verdict.

    Raises:
        MediaError, ValueError: it is no video that can be judged.
    """
    from visavox.detectors.single import HouseJudge, nothing_to_judge
    from visavox.files import sha256_of
    from visavox.preprocessing.pipeline import CropError
    from visavox.report.observations import observe

    watch = Announcing(send)
    _bound_cpu(cpu_allowed(settings, None))  # or what the last video left of its time would have to do
    with watch("ingest"):
        if sha256_of(order.path) != order.sha256:
            raise OSError(errno.EIO, "the upload is not what was taken in: the disk, or somebody, changed it")
    with watch("container"):
        info = probed(order.path, settings)
        send("video", info.duration or 0.0)
        _bound_cpu(cpu_allowed(settings, info.duration))
        observations = observe(order.path)
    reads = judge.preprocess.config.max_clip_len if isinstance(judge, HouseJudge) else info.duration or 0.0
    watch.expected = round(25 * min(info.duration or 0.0, reads)) or None
    clip, analysis = None, None
    try:
        if isinstance(judge, HouseJudge):
            clip = judge.see(order.path, watch=watch)
        else:
            analysis = judge(order.path, watch=watch, ended=watch.branch_ended)
    except CropError as error:
        analysis = nothing_to_judge(judge, error)
    return Seen(order, watch, info, observations, clip, analysis)


def result_of(seen: Seen, analysis: Analysis, about: dict[str, Any]) -> dict[str, Any]:
    """Return all that `GET /analyses` shows of a video."""
    from visavox.report.evidence import sentence

    watch, info = seen.watch, seen.info
    watch.say("fusion", 1.0)
    told = asdict(analysis) | {
        "flagged": [
            list(each) for each in analysis.flagged
        ],  # of what is missing the first line: the rest is for who runs it
        "degraded": [{"what": each.what, "why": each.why.partition("\n")[0]} for each in analysis.degraded],
    }
    found = {
        "analysis": told,
        "why": sentence(analysis),
        "observations": [asdict(each) for each in seen.observations],
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
    return _without_places(found, seen.order)


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

    def __init__(self, send: Send):
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
        self.send("progress", Progress("processing", int(percent), stage, detail))

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


def _bound_cpu(seconds: float) -> None:
    """Have the system end this process once it has used so much more processor time."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 1, resource.RLIM_INFINITY))


def cpu_allowed(settings: Settings, duration: float | None) -> float:
    """Return the processor seconds that a video of so many seconds may take."""
    return settings.cpu_seconds + CPU_PER_SECOND * min(duration or 0.0, settings.max_seconds)
