"""The parent's side: a child that decodes for this thread, and its videos with the face of `visavox.media.Video`.

The child (`child`) is kept from video to video and replaced after PER_CHILD of them, after a fault, or when an HDR video has used
up what it had prepared. It has a processor budget and a memory limit that the kernel keeps, and is waited for no longer than
`patience`: what it does with the bytes costs that video alone.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any, Literal

import numpy as np

from visavox.errors import OF_MEDIA
from visavox.files import utf8_name
from visavox.media.compressed import Hint
from visavox.media.confined.messages import CREDIT, Channel, shared_memory
from visavox.media.container import MediaError, open_regular
from visavox.media.convert import Arrays
from visavox.media.limits import Limits
from visavox.media.video import MediaInfo, exact_rate

Kind = Literal["videos", "pictures"]
PER_CHILD = 64
"""Videos after which a child is replaced; a start costs about half a second."""
MEMORY = 2 << 30
"""Bytes of address space of a child: 4K in 10 bits takes 1 GiB of it."""
RING_BYTES, MOST_SLOTS = 64 << 20, 8
"""Memory shared with a child, and frames in it; two at least."""
START_PATIENCE = 60.0
"""Seconds that a child may take to be ready; a busy machine is slow to import."""
GRACE, SLOWNESS = 30.0, 4.0
"""Processor seconds of one video, GRACE + SLOWNESS a second of it at 1080p; it is waited for twice as long."""
FULL_HD = 1920 * 1080
REPAIR_SECONDS = 300.0
"""Processor seconds of a repair, which may have to encode anew."""
PICTURE_MEMORY = 4 << 30
"""Bytes of address space of a child for pictures: one of the largest is held three or four times while it is turned upright."""
MOST_NOTES, LONGEST_NOTE = 200, 1000
CURES = {
    "videos": "convert it anew (ffmpeg -i FILE -c:v libx264 NEW.mp4)",
    "pictures": "save it anew, or smaller (ffmpeg -i FILE -vf scale=4000:-1 NEW.png)",
}
"""Of a file that costs a child."""


class ConfinedVideo:
    """A video that a child decodes; used as `visavox.media.Video` is."""

    info: MediaInfo
    notes: list[str]

    def __init__(self, decoder: Decoder, name: str, wanted: dict[str, Any]):
        self._decoder, self._name, self._wanted = decoder, name, wanted
        self.notes: list[str] = []
        self._sound: np.ndarray | None = None
        self._complete = self._begun = False
        decoder.busy = True
        try:
            self.info = self._open()
        except BaseException:
            decoder.busy = False  # it was ended, or never heard of this file
            raise

    def __enter__(self) -> ConfinedVideo:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the child; where the video was not read to its end, the child ends."""
        if not self._complete:
            self._decoder.kill()
        self._decoder.busy = False

    def frames(self) -> Iterator[np.ndarray]:
        """Frames as `Video.frames` gives them."""
        if self._begun:
            raise RuntimeError(f"{self._name}: frames() was read already; open the video again to read it again")
        self._begun = True
        shape = (self.info.height, self.info.width, 3)
        size = shape[0] * shape[1] * shape[2]
        slots = min(max(RING_BYTES // size, 2), MOST_SLOTS)
        with self._faults():
            shared = shared_memory(slots * size)
            try:
                memory = mmap.mmap(shared, slots * size, prot=mmap.PROT_READ)
                self._decoder.channel.say_with_descriptor({"slots": slots}, shared)
            finally:
                os.close(shared)
        ring = np.ndarray((slots, *shape), np.uint8, memory)
        arrays, count, kept, last = Arrays(), 0, 0, None
        most = round(self._seconds() * exact_rate(self._wanted["fps"])) + 1
        while True:
            with self._faults():
                message = self._hear()
                if "notes" in message:
                    break
                if count >= most:
                    raise _Breach(f"more than {most} frames")
                if "again" not in message or last is None:
                    if message.get("frame") != kept % slots:
                        raise _Breach(f"an unknown message {str(message)[:80]!r}")
                    last = arrays.take(shape)
                    np.copyto(last, ring[kept % slots])
                    self._decoder.channel.send(CREDIT)
                    kept += 1
                count += 1
            yield last
        with self._faults():
            self._take_rest(message, count)

    def rest_of_description(self) -> tuple[list[str], list[Hint]]:
        """Notes and hints of a video that was opened to be described."""
        with self._faults():
            message = self._hear()
            notes, found = message["notes"], message["hints"]
            if not all(isinstance(each, list) and len(each) <= MOST_NOTES for each in (notes, found)):
                raise _Breach("notes that are no list")
            if any(not isinstance(hint, list) or len(hint) != 3 for hint in found):
                raise _Breach("hints that are none")
            self._complete = True
            self._decoder.busy = False
            self._decoder.videos += 1
            return [_words(note) for note in notes], [Hint(*map(_words, hint)) for hint in found]

    def audio(self) -> np.ndarray | None:
        """Sound as `Video.audio` gives it."""
        if not self._complete:
            raise RuntimeError(f"{self._name}: audio() needs frames() to be read to its end first")
        return self._sound

    def _open(self) -> MediaInfo:
        limits = self._wanted["limits"]
        with open_regular(self._name) as file, self._faults():
            self._decoder.allow(GRACE)
            self._decoder.channel.say_with_descriptor(
                {**self._wanted, "limits": asdict(limits), "name": utf8_name(self._name)}, file.fileno()
            )
            info = _info(self._hear().get("info"), limits)
        seconds = self._seconds() if info.duration is None else min(info.duration, self._seconds())
        slowness = SLOWNESS * max(info.width * info.height / FULL_HD, 1)
        self._decoder.allow(GRACE + slowness * seconds)
        return info

    def _seconds(self) -> float:
        """Seconds that are read at most."""
        most, wanted = self._wanted["limits"].seconds, self._wanted["max_seconds"]
        return most if wanted is None else min(wanted, most)

    def _hear(self) -> dict[str, Any]:
        message = self._decoder.channel.hear()
        if "refused" in message:
            reason = message["refused"]
            if reason not in OF_MEDIA:
                raise _Breach(f"an unknown reason {str(reason)[:40]!r}")
            self._complete = not self._begun  # asked again, the child hears what was meant for its frames
            self._decoder.busy = not self._complete
            raise MediaError(reason, _words(message.get("message")))
        if "failed" in message:
            raise _Breach(_words(message["failed"]))
        return message

    def _take_rest(self, message: dict[str, Any], count: int) -> None:
        notes, samples = message["notes"], message.get("samples")
        if not isinstance(notes, list) or len(notes) > MOST_NOTES:
            raise _Breach("notes that are no list")
        self.notes = [_words(note) for note in notes]
        if samples is not None:
            expected = round(count / exact_rate(self._wanted["fps"]) * self._wanted["sample_rate"])
            if samples != expected:
                raise _Breach(f"{str(samples)[:40]} samples of sound where {expected} were expected")
            sound = np.empty(samples, np.int16)
            self._decoder.channel.read_into(memoryview(sound.view(np.uint8).data))
            self._sound = sound
        self._complete = True
        self._decoder.busy = False
        self._decoder.videos += 1
        if any(note.startswith("hdr:") for note in self.notes):
            self._decoder.videos = PER_CHILD

    def _faults(self) -> _Faults:
        return _Faults(self._decoder, self._name)


class _Breach(Exception):
    """The child said something that it never says; the message is what."""


class _Faults:
    """Turns what can go wrong with a child into the MediaError of its video, and ends the child."""

    def __init__(self, decoder: Decoder, name: str):
        self._decoder, self._name = decoder, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, MediaError):
            return
        if isinstance(error, _Breach):
            what = f"the decoder failed ({error})"
        elif isinstance(error, TimeoutError):
            what = "decoding took too long and was stopped"
        elif isinstance(error, EOFError | ConnectionError):
            what = f"the decoder ended while it read the file ({self._decoder.ending()})"
        elif isinstance(error, ValueError | KeyError | TypeError):
            what = f"the decoder said something unknown ({type(error).__name__}: {str(error)[:80]})"
        else:  # our own, such as no memory to share
            self._decoder.kill()
            return
        self._decoder.kill()
        raise MediaError("decoder", f"{self._name}: {what}; {CURES[self._decoder.kind]}") from error


class Decoder:
    """A child that waits for videos.

    Args:
        kind: of files that it reads, `videos` or `pictures`.
        memory: bytes of its address space; None: what that kind may need.
        stand_in: `module:function` to call in place of `visavox.media.open_video`, for tests.

    Raises:
        RuntimeError: it could not be started.
    """

    def __init__(self, kind: Kind = "videos", *, memory: int | None = None, stand_in: str = ""):
        self.kind = kind
        memory = memory or {"videos": MEMORY, "pictures": PICTURE_MEMORY}[kind]
        ours, theirs = socket.socketpair()
        with theirs:
            words = [str(theirs.fileno()), str(memory), kind, stand_in]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "visavox.media.confined.child", *words],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
        self.channel = Channel(ours)
        self._end = weakref.finalize(self, _end, self.process, self.channel)
        self.videos = 0
        self.busy = False
        """Whether a video of it is being read."""
        self.channel.patience = START_PATIENCE
        try:
            hello = self.channel.hear()
        except (EOFError, OSError, ValueError):
            hello = {"failed": f"{self.ending()}; what it printed stands above"}
        if "failed" in hello:
            self.kill()
            raise RuntimeError(
                f"the process that decodes could not be started ({hello['failed']}); confine=off decodes without it"
            )
        self.layers: tuple[str, ...] = tuple(hello["layers"])

    @property
    def is_usable(self) -> bool:
        return self.videos < PER_CHILD and self.process.poll() is None

    def allow(self, seconds: float) -> None:
        """Give the child so many processor seconds from now on; it is waited for twice as long."""
        self.channel.patience = 2 * seconds
        if sys.platform.startswith("linux"):
            import resource

            with suppress(OSError, ValueError):  # the child is gone: the next word with it tells
                spent = _processor_seconds(self.process.pid)
                hard = resource.prlimit(self.process.pid, resource.RLIMIT_CPU)[1]
                resource.prlimit(self.process.pid, resource.RLIMIT_CPU, (int(spent + seconds) + 1, hard))

    def ending(self) -> str:
        """Return how the child ended, in words."""
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(timeout=5)
            return signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return "it hangs"

    def kill(self) -> None:
        """End the child, as the end of the thread that it decodes for and that of this process do."""
        self._end()


def _end(process: subprocess.Popen, channel: Channel) -> None:
    process.kill()
    process.wait()
    channel.close()


_mine = threading.local()


def decoder(kind: Kind = "videos") -> Decoder:
    """Return this thread's child for a kind of files, started where there is none that can be used; a busy one is left alone."""
    name = {"videos": "decoder", "pictures": "of_pictures"}[kind]
    found: Decoder | None = getattr(_mine, name, None)
    if found is None or found.busy or not found.is_usable:
        if found is not None and not found.busy:
            found.kill()
        found = Decoder(kind)
        setattr(_mine, name, found)
    return found


def repaired(child: Decoder, name: str, limits: Limits) -> bytes | None:
    """Return what a child makes of a file that it cannot read as it is: a Matroska file; None where it makes nothing of it.

    Raises:
        MediaError: the child failed, was ended or took too long.
    """
    child.busy = True
    try:
        with open_regular(name) as file, _Faults(child, name):
            child.allow(REPAIR_SECONDS)
            wanted = {"task": "repair", "limits": asdict(limits), "name": utf8_name(name)}
            child.channel.say_with_descriptor(wanted, file.fileno())
            message = child.channel.hear()
            if "failed" in message:
                raise _Breach(_words(message["failed"]))
            size = message["bytes"]
            if size is None:
                return None
            if type(size) is not int or not 0 < size <= MEMORY:
                raise _Breach(f"{str(size)[:40]} bytes of a repaired video")
            return child.channel.read(size)
    finally:
        child.busy = False
        child.videos += 1


def _environment() -> dict[str, str]:
    """What a child needs of the environment: no keys, no tokens. One arena and one thread of numpy's spare address space."""
    wanted = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONDONTWRITEBYTECODE")
    kept = {name: os.environ[name] for name in wanted if name in os.environ}
    paths = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**kept, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def _processor_seconds(process: int) -> float:
    with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
        fields_after_name = file.read().rpartition(")")[2].split()
    return (int(fields_after_name[11]) + int(fields_after_name[12])) / os.sysconf("SC_CLK_TCK")


def _info(found: Any, limits: Limits) -> MediaInfo:
    if not isinstance(found, dict) or set(found) != {field.name for field in fields(MediaInfo)}:
        raise _Breach("facts of the file that are none")
    for name in ("width", "height"):
        if type(found[name]) is not int or not 0 < found[name] <= limits.side:
            raise _Breach(f"{name} {str(found[name])[:40]}")
    if found["width"] * found["height"] > limits.pixels:
        raise _Breach(f"frames of {found['width']}x{found['height']}")
    duration = found["duration"]
    if duration is not None and not (isinstance(duration, int | float) and 0 <= duration < 1e9):
        raise _Breach(f"duration {str(duration)[:40]}")
    plain: dict[str, Any] = {name: _words(value) if isinstance(value, str) else value for name, value in found.items()}
    return MediaInfo(**plain)


def _words(found: Any) -> str:
    return str(found)[:LONGEST_NOTE]
