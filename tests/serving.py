"""What the tests of the service share: the API in a thread of this process, or the whole service as a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from visavox.service import server
from visavox.service.api import create_app
from visavox.service.folder import Folder
from visavox.service.settings import Settings
from visavox.service.store import Lease, Progress
from visavox.service.worker import Worker

ROOT = Path(__file__).resolve().parent.parent
ABOUT = {
    "checkpoint": "",
    "prep_hash": "0" * 16,
    "commit": None,
    "version": "0",
    "calibration": "uncalibrated",
    "detector": "fake",
    "branches": ["fake"],
    "demo": False,
}
RESULT: dict[str, Any] = {
    "analysis": {
        "verdict": "fake",
        "probability": 0.9,
        "confidence": 0.9,
        "branches": [{"name": "fake", "probability": 0.9, "weight": 1.0, "seconds": 0.1, "timeline": []}],
        "timeline": [],
        "flagged": [],
        "notes": [],
        "card": {
            "detector": "fake",
            "checkpoint": "",
            "prep_hash": "",
            "calibration": "uncalibrated",
            "trained_on": "",
        },
        "threshold": 0.5,
        "least_confidence": 0.5,
        "settings": {},
    },
    "why": "P(fake) is 0.90.",
    "observations": [],
    "stages": [{"name": "faces", "seconds": 0.1}, {"name": "branch fake", "seconds": 0.1}],
    "provenance": {name: ABOUT[name] for name in ("checkpoint", "prep_hash", "commit", "version", "calibration")},
    "media": {"seconds": 1.0, "width": 64, "height": 64, "fps": 25.0, "hasSound": True},
}
VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
"""What looks like the beginning of an MP4 file, for tests in which nothing is decoded."""


def settings_of(folder: Path, checkpoint: Path | None = None, **changes: Any) -> Settings:
    """Settings of a service that starts no worker, on a free port; a file that is no checkpoint stands for one."""
    if checkpoint is None:
        checkpoint = folder / "stand_in.ckpt"
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_bytes(b"no checkpoint: nothing loads it")
    values = {"folder": folder, "checkpoint": checkpoint, "workers": 0, "port": 0, "disk_reserve": 0} | changes
    return Settings(**values)


@contextmanager
def serving(settings: Settings) -> Iterator[httpx.Client]:
    """The API in a thread; gives a client of it."""
    running = server.server(create_app(settings), settings)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not running.started:
        assert thread.is_alive() and time.monotonic() < until, "the API did not start"
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    try:
        no_reuse = httpx.Limits(max_keepalive_connections=0)  # the service closes idle connections, maybe just then
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=no_reuse) as client:
            yield client
    finally:
        running.should_exit = True
        thread.join(30)


class StandIn(Worker):
    """A worker without a child: `judge` gives the answer of each job."""

    def __init__(self, *words: Any, judge: Callable[[Lease], tuple[str, Any]] = lambda lease: ("done", RESULT)):
        super().__init__(*words)
        self.judge = judge

    def _child(self) -> Any:
        return None

    def _judged(self, leases: Sequence[Lease]) -> Iterator[tuple[Lease, str, Any]]:
        for lease in leases:
            self._report(lease, Progress("processing", 5, "container"))
            yield (lease, *self.judge(lease))


@contextmanager
def working(
    settings: Settings, judge: Callable[[Lease], tuple[str, Any]] = lambda lease: ("done", RESULT)
) -> Iterator[StandIn]:
    """A worker in a thread, whose judging is `judge`."""
    from visavox.service.opening import open_store

    stop, folder = threading.Event(), Folder(settings.folder)
    about = ABOUT | {
        "fingerprint": settings.fingerprint(),
        "overrides": settings.overrides,
        "versions": settings.versions(),
    }
    (settings.folder / "model.json").write_text(
        json.dumps(about), encoding="utf-8"
    )  # as a worker does once it can judge
    worker = StandIn(settings, open_store(settings, folder), folder, stop, 1, judge=judge)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        thread.join(30)
        worker.store.close()


def upload(client: httpx.Client, content: bytes, name: str = "clip.mp4", **query: Any) -> httpx.Response:
    """POST /analyze with one file."""
    return client.post("/analyze", files={"file": (name, content, "video/mp4")}, params=query)


def ended(client: httpx.Client, id: str, seconds: float = 120) -> dict[str, Any]:
    """The status of an analysis once it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status = client.get(f"/status/{id}").json()
        if status["status"] != "processing":
            return status
        time.sleep(0.05)
    raise AssertionError(f"not ended within {seconds} s: {status}")


class Process:
    """`visavox serve` as a process."""

    def __init__(self, checkpoint: Path, folder: Path, *words: str, **environment: str):
        self.port, self.folder = free_port(), folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder.with_name(f"{folder.name}.{self.port}.log")
        folder.mkdir(parents=True, exist_ok=True)
        more = {f"VISAVOX_SERVICE_{name.upper()}": value for name, value in environment.items()}
        variables = os.environ | {"VISAVOX_SERVICE_DISK_RESERVE": "0", "PYTHONPATH": str(ROOT)} | more
        command = [sys.executable, "-m", "visavox", "serve", "--checkpoint", str(checkpoint), "--folder", str(folder)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *words], cwd=folder, env=variables, stderr=log, stdout=log
            )
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def wait(self, path: str = "/healthz", seconds: float = 120) -> Process:
        """Return once `path` answers 200."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.client.get(path).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{path} did not answer: {self.log.read_text()}")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        self.client.close()
        return self.process.wait(seconds)


class Server:
    """Redis or Valkey on a free port, which writes each change to the disk before it answers."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.address = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        if program is None:
            pytest.skip("neither valkey-server nor redis-server is installed (apt-get install valkey or redis-server)")
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
