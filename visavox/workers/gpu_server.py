"""A server of networks: one process holds the GPU, workers send it requests, and it answers several at once.

Opening a GPU costs each process start-up time and memory on the card for a context of its own, and networks of a dozen
processes take turns instead of working together. So `visavox crop` and `visavox eval` keep face detector and SyncNet in the
parent process, where a thread computes all requests that have come since its last batch: frames of several videos are one
batch. Where the memory of the card does not suffice, the networks help themselves (`visavox.workers.memory`). Without a GPU each
worker has its own networks, for there batching gains nothing.
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
from multiprocessing.connection import Client as Connect
from multiprocessing.connection import Connection, Listener
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visavox.errors import code_of

if TYPE_CHECKING:
    from torch import Tensor

    from visavox.faces import Detections, FaceDetector

log = logging.getLogger(__name__)


class ServerError(RuntimeError):
    """The server could not compute a request; the message is that of its network."""

    def __init__(self, message: str, code: str = "INTERNAL"):
        super().__init__(message)
        self.code = code


class Address(NamedTuple):
    """Where a worker finds the server, and the key that proves it is one of ours."""

    path: Any
    key: bytes


class Request(NamedTuple):
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
    requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    over = threading.Event()
    with Listener(backlog=128, authkey=key) as listener:
        threads = [
            threading.Thread(target=_compute, args=(requests, faces, embedder), name="gpu server", daemon=True),
            threading.Thread(target=_admit, args=(listener, requests, over), name="gpu server: listener", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield Address(listener.address, key)
        finally:
            over.set()
            requests.put(None)
            with suppress(OSError):
                Connect(listener.address).close()  # or the listener would wait for a worker for ever
            for thread in threads:
                thread.join()


def _admit(listener: Listener, requests: queue.SimpleQueue[Request | None], over: threading.Event) -> None:
    """One thread for each worker that comes."""
    while not over.is_set():
        try:
            connection = listener.accept()
        except (AuthenticationError, EOFError, OSError):  # a stranger, or a worker that was stopped while it connected
            time.sleep(0.01)
            continue
        threading.Thread(target=_attend, args=(connection, requests), daemon=True).start()


def _attend(connection: Connection, requests: queue.SimpleQueue[Request | None]) -> None:
    """Pass on the requests of one worker and their answers until it is gone."""
    with connection, suppress(EOFError, OSError):
        while True:
            kind, what = connection.recv()
            answer: Future[Any] = Future()
            requests.put(Request(kind, what, answer))
            try:
                connection.send(("answer", answer.result()))
            except ServerError as error:
                connection.send(("error", (str(error), error.code)))


def _compute(requests: queue.SimpleQueue[Request | None], faces: FaceDetector | None, embedder: Any) -> None:
    """Answer all requests that have come since the last batch."""
    while (first := requests.get()) is not None:
        waiting = [first]
        with suppress(queue.Empty):
            while (another := requests.get_nowait()) is not None:
                waiting.append(another)
            requests.put(None)
        _detect(faces, [request for request in waiting if request.kind == "faces"])
        for request in waiting:
            if request.kind != "faces":
                _embed(embedder, request)


def _detect(faces: FaceDetector | None, requests: list[Request]) -> None:
    """Detect on the frames of all requests at once; where that fails, on those of each, so that a fault stays its own."""
    requests = sorted(requests, key=lambda request: request.what[0][0].shape)
    frames = [frame for request in requests for frame in request.what[0]]
    try:
        if faces is None and frames:
            raise RuntimeError("the server was started without a face detector")
        found = iter(faces.detect(frames) if faces and frames else [])
        answers = [[next(found) for _ in request.what[0]] for request in requests]
    except Exception as error:  # whatever a network raises goes to the worker whose video it was
        if len(requests) == 1:
            _refuse(requests[0], error)
            return
        log.warning("frames of %d videos together failed, now one by one: %s", len(requests), error)
        for request in requests:
            _detect(faces, [request])
        return
    for request, answer in zip(requests, answers, strict=True):
        request.answer.set_result(answer)


def _embed(embedder: Any, request: Request) -> None:
    try:
        request.answer.set_result(getattr(embedder, request.kind)(*request.what).numpy())
    except Exception as error:  # as above
        _refuse(request, error)


def _refuse(request: Request, error: Exception) -> None:
    cure = "; use fewer workers, or device=cpu" if code_of(error) == "OUT_OF_MEMORY" else ""
    request.answer.set_exception(ServerError(f"{type(error).__name__}: {error}{cure}", code_of(error)))


class Client:
    """A worker's connection to the server."""

    def __init__(self, address: Address):
        self._connection = Connect(address.path, authkey=address.key)

    def request(self, kind: str, *what: Any) -> Any:
        """Send a request and return the answer.

        Raises:
            ServerError: its network failed on this, or the server is gone.
        """
        try:
            self._connection.send((kind, what))
            status, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ServerError(f"the process that holds the networks is gone ({type(error).__name__})") from None
        if status == "error":
            raise ServerError(*answer)
        return answer


class RemoteFaces:
    """A face detector whose network is the server's. `fit` shrinks a frame here to what the network would shrink it to."""

    def __init__(self, client: Client, name: str, landmark_source: str, fit: Callable[[np.ndarray], np.ndarray]):
        self.client, self.name, self.landmark_source, self.fit = client, name, landmark_source, fit

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """As the server's, in pixels of the frames (H, W, 3) uint8 RGB themselves."""
        small = [self.fit(frame) for frame in frames]
        found = self.client.request("faces", small) if small else []
        return [
            faces.unscaled(np.array([seen.shape[1] / frame.shape[1], seen.shape[0] / frame.shape[0]], np.float32))
            for frame, seen, faces in zip(frames, small, found, strict=True)
        ]


class RemoteEmbedder:
    """SyncNet's towers on the server, for `syncnet.sync_distances`."""

    def __init__(self, client: Client):
        self.client = client

    def lips(self, crops: np.ndarray, stride: int) -> Tensor:
        return self._request("lips", crops, stride)

    def voice(self, cepstra: np.ndarray) -> Tensor:
        return self._request("voice", cepstra)

    def _request(self, kind: str, *what: Any) -> Tensor:
        import torch

        return torch.from_numpy(self.client.request(kind, *what))
