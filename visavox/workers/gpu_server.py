"""One process owns the GPU: workers send it what its networks should see, and it answers several at once.

Opening a GPU costs each process start-up time and memory on the card for a context of its own, and networks of a dozen
processes take turns instead of working together. So `crop.py` and `eval.py` keep face detector and SyncNet in the parent
process, where a thread computes whatever the workers have asked for since it last looked: frames of several videos are one
batch. Without a GPU each worker has its own networks, for there batching gains nothing.
"""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from visavox.faces import Detections, FaceDetector

log = logging.getLogger(__name__)


class OwnerError(RuntimeError):
    """The owner could not compute what was asked; the message is that of its network."""


class Address(NamedTuple):
    """Where a worker finds the owner, and the key that proves it is one of ours."""

    path: Any
    key: bytes


class Ask(NamedTuple):
    """One request of one worker."""

    kind: str  # "faces", "lips" or "voice"
    what: tuple[Any, ...]
    answer: Future[Any]


def has_gpu(device: str) -> bool:
    """Whether the setting `device` leads to a GPU. Without a driver torch, a second of start, is not even imported."""
    if device == "cpu":
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


@contextmanager
def serve(faces: FaceDetector | None, embedder: Any = None) -> Iterator[Address]:
    """Compute for the workers that come to the address, until the block is left.

    Args:
        faces: its `detect` is given the frames of several videos at once, equal sizes side by side.
        embedder: SyncNet's towers, with `lips(crops, stride)` and `voice(cepstra)` that give tensors on the CPU.
    """
    key = os.urandom(32)
    asked: queue.SimpleQueue[Ask | None] = queue.SimpleQueue()
    over = threading.Event()
    with Listener(backlog=128, authkey=key) as door:
        threads = [
            threading.Thread(target=_compute, args=(asked, faces, embedder), name="owner", daemon=True),
            threading.Thread(target=_admit, args=(door, asked, over), name="owner's door", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield Address(door.address, key)
        finally:
            over.set()
            asked.put(None)
            with suppress(OSError):
                Client(door.address).close()  # or the door would wait for a worker for ever
            for thread in threads:
                thread.join()


def _admit(door: Listener, asked: queue.SimpleQueue[Ask | None], over: threading.Event) -> None:
    """One thread for each worker that comes."""
    while not over.is_set():
        try:
            connection = door.accept()
        except (AuthenticationError, EOFError, OSError):  # a stranger, or a worker that was stopped at the door
            time.sleep(0.01)
            continue
        threading.Thread(target=_attend, args=(connection, asked), daemon=True).start()


def _attend(connection: Connection, asked: queue.SimpleQueue[Ask | None]) -> None:
    """Hand on what one worker asks, and what it is answered, until it is gone."""
    with connection, suppress(EOFError, OSError):
        while True:
            kind, what = connection.recv()
            answer: Future[Any] = Future()
            asked.put(Ask(kind, what, answer))
            try:
                connection.send(("answer", answer.result()))
            except OwnerError as error:
                connection.send(("error", str(error)))


def _compute(asked: queue.SimpleQueue[Ask | None], faces: FaceDetector | None, embedder: Any) -> None:
    """Answer all that was asked since the last look."""
    while (first := asked.get()) is not None:
        waiting = [first]
        with suppress(queue.Empty):
            while (another := asked.get_nowait()) is not None:
                waiting.append(another)
            asked.put(None)
        _look(faces, [ask for ask in waiting if ask.kind == "faces"])
        for ask in waiting:
            if ask.kind != "faces":
                _embed(embedder, ask)


def _look(faces: FaceDetector | None, asks: list[Ask]) -> None:
    """Detect on the frames of all requests at once; where that fails, on those of each, so that a fault stays its own."""
    asks = sorted(asks, key=lambda ask: ask.what[0][0].shape)
    frames = [frame for ask in asks for frame in ask.what[0]]
    try:
        if faces is None and frames:
            raise RuntimeError("the server was started without a face detector")
        found = iter(faces.detect(frames) if faces and frames else [])
        answers = [[next(found) for _ in ask.what[0]] for ask in asks]
    except Exception as error:  # whatever a network raises goes to the worker whose video it was
        if len(asks) == 1:
            _refuse(asks[0], error)
            return
        log.warning("frames of %d videos together failed, now one by one: %s", len(asks), error)
        for ask in asks:
            _look(faces, [ask])
        return
    for ask, answer in zip(asks, answers, strict=True):
        ask.answer.set_result(answer)


def _embed(embedder: Any, ask: Ask) -> None:
    try:
        ask.answer.set_result(getattr(embedder, ask.kind)(*ask.what).numpy())
    except Exception as error:  # as above
        _refuse(ask, error)


def _refuse(ask: Ask, error: Exception) -> None:
    ask.answer.set_exception(OwnerError(f"{type(error).__name__}: {error}"))


class Link:
    """A worker's line to the owner."""

    def __init__(self, address: Address):
        self._connection = Client(address.path, authkey=address.key)

    def ask(self, kind: str, *what: Any) -> Any:
        """The owner's answer.

        Raises:
            OwnerError: its network failed on this, or the owner is gone.
        """
        try:
            self._connection.send((kind, what))
            status, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise OwnerError(f"the process that holds the networks is gone ({type(error).__name__})") from None
        if status == "error":
            raise OwnerError(answer)
        return answer


class RemoteFaces:
    """A face detector whose network is the owner's. `fit` shrinks a frame here to what the network would shrink it to."""

    def __init__(self, link: Link, name: str, landmark_source: str, fit: Callable[[np.ndarray], np.ndarray]):
        self.link, self.name, self.landmark_source, self.fit = link, name, landmark_source, fit

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """As the owner's, in pixels of the frames (H, W, 3) uint8 RGB themselves."""
        small = [self.fit(frame) for frame in frames]
        found = self.link.ask("faces", small) if small else []
        return [
            faces.unscaled(np.array([seen.shape[1] / frame.shape[1], seen.shape[0] / frame.shape[0]], np.float32))
            for frame, seen, faces in zip(frames, small, found, strict=True)
        ]


class RemoteEmbedder:
    """SyncNet's towers at the owner's, for `SyncNetModel.sync_distances`."""

    def __init__(self, link: Link):
        self.link = link

    def lips(self, crops: np.ndarray, stride: int) -> Tensor:
        return self._ask("lips", crops, stride)

    def voice(self, cepstra: np.ndarray) -> Tensor:
        return self._ask("voice", cepstra)

    def _ask(self, kind: str, *what: Any) -> Tensor:
        import torch

        return torch.from_numpy(self.link.ask(kind, *what))
