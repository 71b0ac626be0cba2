"""The process that decodes: it takes open files and gives frames and sound, and can do nothing else.

Started by `visavox.media.confined.decoder` as `python -m visavox.media.confined.child SOCKET MEMORY KIND STAND_IN`. It imports
what its KIND of file needs (videos or pictures), gives up its rights (`sandbox`) and only then sees the first byte of one. What
it says is checked by the parent.
"""

from __future__ import annotations

import importlib
import mmap
import os
import pkgutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from typing import Any

import av
import numpy as np

from visavox.media import MediaError, hdr, image, open_video
from visavox.media.compressed import hints
from visavox.media.confined import sandbox
from visavox.media.confined.messages import CREDIT, Channel
from visavox.media.container import HandedFile
from visavox.media.declared import MediaInfo
from visavox.media.limits import Limits
from visavox.media.repair import repaired


def main(words: list[str]) -> None:
    """Serve one video after the other until the parent hangs up."""
    sandbox.die_with_parent()
    channel = Channel(socket.socket(fileno=int(words[0])))
    decode = _stand_in(words[3]) if words[3] else _Picture if words[2] == "pictures" else open_video
    if words[2] == "pictures":
        image.prepare()
    else:
        _import_all()
        hdr.prepare()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    try:
        channel.say({"layers": sandbox.give_up(memory=int(words[1]))})
    except sandbox.SandboxError as error:
        channel.say({"failed": str(error)})
        return
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            asked, descriptors = channel.hear_with_descriptor()
            _serve(channel, asked, descriptors[0], decode)
    os._exit(0)  # without the tidying of an interpreter that may open nothing


def _import_all() -> None:
    """Import what PyAV imports when it first meets a kind of stream: later there is no file to import from."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):
                importlib.import_module(module.name)


def _serve(channel: Channel, asked: dict[str, Any], descriptor: int, decode: Callable[..., Any]) -> None:
    try:
        file = HandedFile(asked["name"], os.fdopen(descriptor, "rb", buffering=0))
        limits, task = Limits(**asked.pop("limits")), asked.pop("task", "")
        if task == "repair":
            with file:
                written = repaired(b"".join(iter(lambda: file.read(1 << 24), b"")), limits)
            channel.say({"bytes": None if written is None else len(written)})
            if written is not None:
                channel.send(written)
            return
        with file, decode(file, limits=limits, **_rest(asked)) as video:
            channel.say({"info": asdict(video.info)})
            if task == "describe":
                channel.say({"hints": hints(file, limits=limits), "notes": video.notes})
                return
            wanted, (shared,) = channel.hear_with_descriptor()
            with closing(_Ring(shared, wanted["slots"], (video.info.height, video.info.width, 3))) as ring:
                _send_frames(channel, video.frames(), ring)
            sound = video.audio()
            channel.say({"notes": video.notes, "samples": None if sound is None else len(sound)})
            if sound is not None:
                channel.send(np.ascontiguousarray(sound, np.int16).tobytes())
    except MediaError as error:
        channel.say({"refused": error.reason, "message": str(error)})
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        channel.say({"failed": f"{type(error).__name__}: {error}"[:2000]})


def _rest(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if key != "name"}


def _send_frames(channel: Channel, frames: Any, ring: _Ring) -> None:
    """Put each frame into the next slot, once the parent has taken out what was there."""
    last, count = None, 0
    for frame in frames:
        if frame is last:
            channel.say({"again": True})
            continue
        if count >= ring.slots:
            channel.expect(CREDIT)
        ring.put(count % ring.slots, frame)
        channel.say({"frame": count % ring.slots})
        last, count = frame, count + 1
    for _ in range(min(count, ring.slots)):
        channel.expect(CREDIT)


class _Picture:
    """A picture as a video of one frame."""

    def __init__(self, file: HandedFile, *, limits: Limits, **_: Any):
        self.notes: list[str] = []
        self._frame = image.read_image(file, limits=limits)
        height, width = self._frame.shape[:2]
        self.info = MediaInfo("picture", "", width, height, "rgb24", None, None, 0, "1:1", None, None, None)

    def __enter__(self) -> _Picture:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def frames(self) -> Iterator[np.ndarray]:
        yield self._frame

    def audio(self) -> None:
        return None


class _Ring:
    """Slots of one frame each, in memory shared with the parent."""

    def __init__(self, descriptor: int, slots: int, shape: tuple[int, int, int]):
        self.slots = slots
        try:
            self._memory = mmap.mmap(descriptor, slots * shape[0] * shape[1] * shape[2])
        finally:
            os.close(descriptor)
        self._frames = np.ndarray((slots, *shape), np.uint8, self._memory)

    def put(self, slot: int, frame: np.ndarray) -> None:
        np.copyto(self._frames[slot], frame)

    def close(self) -> None:
        del self._frames
        self._memory.close()


def _stand_in(name: str) -> Callable[..., Any]:
    """For tests: `module:function` in place of `open_video`."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    main(sys.argv[1:])
