"""Media files of the cases: a lamp goes on in the picture and a tone sounds, both at the same moment of the file's clock."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from visavox.media import MediaError, open_video

DARK, BRIGHT = 30, 220
LAMP = 1.0  # seconds at which lamp and tone begin
ON = 0.6  # seconds for which they stay


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """Give this thread back the scheduling it had before.

    SVT-AV1 makes the thread that calls it a real-time one where it may, as root. All that is started afterwards would inherit
    that, and two real-time threads that spin, as OpenBLAS's do while they wait, keep everybody else off two cores for good.
    """
    before, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, priority)


def needs_encoder(name: str) -> None:
    """Skip a case whose encoder PyAV's libav does not bring, and say which."""
    try:
        av.codec.Codec(name, "w")
    except ValueError:
        pytest.skip(f"no encoder {name} in this build of libav ({av.__version__})")


def lamp(time: float, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """(H, W, 3) uint8: bright while the lamp is on."""
    on = LAMP - 1e-6 <= time < LAMP + ON - 1e-6
    return np.full((size[1], size[0], 3), BRIGHT if on else DARK, np.uint8)


def tone(start: float, end: float, rate: int, gains: Sequence[float] = (1.0,)) -> np.ndarray:
    """(N, C) int16 from `start` to `end`: a tone while the lamp is on, each channel times its gain."""
    time = start + np.arange(round((end - start) * rate)) / rate
    on = (time >= LAMP) & (time < LAMP + ON)
    wave = np.where(on, 12000 * np.sin(2 * np.pi * 700 * (time - LAMP) + np.pi / 2), 0)
    return np.clip(np.round(wave[:, None] * np.array(gains)), -32768, 32767).astype(np.int16)


@ordinary_priority()
def record(
    path: Path,
    *,
    times: Sequence[float] | None = None,
    fps: float | Fraction = 25,
    seconds: float = 2.4,
    picture: Callable[[float], np.ndarray] = lamp,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    prepare: Callable[[av.VideoStream], None] | None = None,
    fields: str | None = None,
    sound: str | None = "aac",
    rate: int = 48000,
    layout: str = "mono",
    gains: Sequence[float] | None = None,
    picture_at: float = 0.0,
    sound_at: float = 0.0,
    samples: np.ndarray | None = None,
    muxer: str | None = None,
    mux: dict[str, str] | None = None,
    order: str = "by time",
    shift: float = 0.0,
) -> Path:
    """Write a file. Frames stand at `times` (or at `fps` from `picture_at` to `seconds`), sound from `sound_at` on.

    picture: frame (H, W, 3) for the time at which it is shown. sound: codec of the sound, or None.
    fields: what is flagged of each frame, "tff" or "bff": interlaced, upper or lower field first.
    gains: one for each channel of `layout`. samples: (N, C) int16 instead of the tone.
    order: how packets are stored, "by time", "sound first" or "picture first". shift: seconds added to every stamp.
    """
    needs_encoder(codec)
    exact = Fraction(fps).limit_denominator(1001)
    if times is None:
        times = [float(picture_at + i / exact) for i in range(round((seconds - picture_at) * exact))]
        base = 1 / exact
    else:
        base = Fraction(1, 1000)
    with av.open(str(path), "w", format=muxer, container_options=mux or {}) as container:
        video = container.add_stream(codec, rate=exact, options=options or {})
        first = picture(times[0])
        video.height, video.width = first.shape[:2]
        video.pix_fmt = pixels
        if path.suffix in (".mp4", ".mov", ".mkv", ".webm", ".ts") and codec not in ("mpeg2video", "mpeg4", "prores"):
            base = Fraction(1, 90000)
            video.codec_context.time_base = base
        if prepare:
            prepare(video)
        audio = None
        if sound:
            needs_encoder(sound)
            strict = {"strict": "experimental"}  # which libav's own Vorbis encoder asks for
            audio = container.add_stream(sound, rate=rate, layout=layout, options=strict)
        packets = []
        for time in times:
            image = av.VideoFrame.from_ndarray(picture(time), format="rgb24")
            image = flagged(image, fields) if fields else image
            image.pts, image.time_base = round(time / base), base
            packets += video.encode(image)
        packets += video.encode(None)
        heard = []
        if audio:
            channels = audio.codec_context.layout.nb_channels
            if samples is None:
                samples = tone(sound_at, seconds, rate, gains or [1.0] * channels)
            for at in range(0, len(samples), rate // 5):
                piece = samples[at : at + rate // 5]
                frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="s16", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, round(sound_at * rate) + at, Fraction(1, rate)
                heard += audio.encode(frame)
            heard += audio.encode(None)
        if order == "by time":
            together = sorted(packets + heard, key=lambda packet: (packet.dts or 0) * packet.time_base)
        else:
            together = packets + heard if order == "picture first" else heard + packets
        for packet in together:
            if shift:
                ticks = round(shift / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            container.mux(packet)
    return path


def flagged(image: av.VideoFrame, fields: str) -> av.VideoFrame:
    """The frame, flagged as interlaced."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=image.width, height=image.height, format=image.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("setfield", fields), graph.add("buffersink")).configure()
    image.pts = 0
    graph.vpush(image)
    return graph.vpull()


def boxes(data: bytes | bytearray, start: int = 0, end: int | None = None) -> list[tuple[bytes, int, int]]:
    """(kind, start, end) of the boxes of an MP4 file or of a box's body (ISO 14496-12)."""
    found, at = [], start
    end = len(data) if end is None else end
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        length = length or end - at
        found.append((kind, at, at + length))
        at += length
    return found


def descend(data: bytes | bytearray, *kinds: bytes) -> list[tuple[int, int]]:
    """Start and end of the bodies of all boxes at the path `kinds`."""
    bodies = [(0, len(data))]
    for kind in kinds:
        bodies = [(s + 8, e) for start, end in bodies for k, s, e in boxes(data, start, end) if k == kind]
    return bodies


def cut_by_edit_list(path: Path, seconds: float, streams: str = "both") -> Path:
    """Let the edit lists of `streams` (both, sound) begin `seconds` later in their media, as trimming on a phone does."""
    data = bytearray(path.read_bytes())
    movie = struct.unpack_from(">I", data, descend(data, b"moov", b"mvhd")[0][0] + 12)[0]
    for start, end in descend(data, b"moov", b"trak"):
        trak = bytes(data[start:end])
        handler = trak[descend(trak, b"mdia", b"hdlr")[0][0] + 8 :][:4]
        if streams == "sound" and handler != b"soun":
            continue
        scale = struct.unpack_from(">I", trak, descend(trak, b"mdia", b"mdhd")[0][0] + 12)[0]
        at = start + descend(trak, b"edts", b"elst")[0][0]
        version, entries = data[at], struct.unpack_from(">I", data, at + 4)[0]
        assert (version, entries) == (0, 1)
        duration, media = struct.unpack_from(">Ii", data, at + 8)
        struct.pack_into(">Ii", data, at + 8, duration - round(seconds * movie), media + round(seconds * scale))
    path.write_bytes(data)
    return path


def lamp_time(frames: Sequence[np.ndarray], fps: float = 25) -> float:
    """Seconds at which the lamp goes on."""
    level = np.array([frame.mean() for frame in frames])
    return int(np.argmax(level > (DARK + BRIGHT) / 2)) / fps


def tone_time(sound: np.ndarray, rate: int = 16000) -> float:
    """Seconds at which the tone begins."""
    loud = np.abs(sound.astype(np.int32))
    return int(np.argmax(loud > loud.max() / 3)) / rate


def read(path: Path, **options: Any) -> tuple[list[np.ndarray], np.ndarray | None, Any]:
    """Frames, sound and the closed video."""

    with open_video(path, **options) as video:
        frames = [frame.copy() for frame in video.frames()]
        return frames, video.audio(), video


def refusal(path, **options) -> MediaError:
    """The error that reading ends with; its text holds the file, and what to do behind a semicolon."""
    with pytest.raises(MediaError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path)) and re.search(r"; \w+|expected one of", text), text
    return caught.value


MEASURED = """
import json, sys, time
from visavox.media import MediaError, open_video
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
outcomes = []
options = json.loads(sys.argv[1])
for path in sys.argv[2:]:
    before, begun, frames, notes, sound = peak(), time.process_time(), 0, [], None
    try:
        with open_video(path, threads=1, **options) as video:
            for frame in video.frames():
                frames += 1
            sound = video.audio()
        outcome, notes = "read", video.notes
    except MediaError as error:
        outcome = error.reason
    loud = None if sound is None else (sound > 4000).argmax() / 16000
    outcomes.append([outcome, time.process_time() - begun, peak() - before, peak(), frames, notes, loud])
print(json.dumps(outcomes, default=float))
"""


@dataclass(frozen=True)
class Measured:
    """How reading one file went in a process of its own."""

    outcome: str
    """`read`, or the reason of the MediaError."""
    seconds: float
    """Seconds of processor time."""
    grown: float
    """MiB by which the process's peak memory rose."""
    peak: float
    """MiB of the whole process at its peak."""
    frames: int
    notes: list[str]
    loud: float | None
    """Seconds at which the sound first exceeds an eighth of full scale."""


def measured(*paths: Path, **options: Any) -> list[Measured]:
    """Read the files one after the other in a new process."""
    command = [sys.executable, "-c", MEASURED, json.dumps(options), *map(str, paths)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [Measured(*outcome) for outcome in json.loads(done.stdout)]


def read_numbered(_: None, task: tuple[int, tuple[str, int]]) -> int:
    """Work of a worker process: read a file, and be hit by a signal halfway where the task names one (0: none)."""

    _, (path, hit) = task
    with open_video(path, threads=1) as video:
        for index, _ in enumerate(video.frames()):
            if hit and index == 20:
                os.kill(os.getpid(), hit)
    return index + 1


def mutate(source: str, seed: int, target: str) -> None:
    """Write a copy of a file in which a number of bytes were changed, moved or cut."""
    rng = np.random.default_rng(seed)
    data = np.fromfile(source, np.uint8)
    kind = seed // 5 % 4
    if kind == 0:  # single bytes
        data[rng.integers(0, len(data), 1 + seed)] = rng.integers(0, 256, 1 + seed, np.uint8)
    elif kind == 1:  # a run of bytes
        at = int(rng.integers(0, len(data) - 5000))
        data[at : at + 5000] = rng.integers(0, 256, 5000, np.uint8)
    elif kind == 2:  # cut
        data = data[: int(rng.integers(100, len(data)))]
    else:  # bytes of the index, wherever that stands
        at = bytes(data).find(b"moov")
        data[at + rng.integers(4, 3000, 12)] = rng.integers(0, 256, 12, np.uint8)
    Path(target).write_bytes(data.tobytes())


def read_mutated(_: None, task: tuple[str, int, str]) -> str:
    """Work of a worker process: read a changed copy of a file; how it ended."""
    from visavox.media import MediaError

    source, seed, target = task
    mutate(source, seed, target)
    try:
        with open_video(target, threads=1, max_seconds=4) as video:
            for _ in video.frames():
                pass
            video.audio()
        return "read"
    except MediaError as error:
        return error.reason
    finally:
        os.unlink(target)
