"""The workers that the service starts itself: one process each, started again where one dies, gone when the service is."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress

import structlog

from visavox.service.settings import Settings

log = structlog.get_logger(__name__)

PAUSE_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before a worker is started again that died soon after its start, by how often in a row."""
STEADY_SECONDS = 60.0
"""After so long a worker's death is no sign that it cannot start."""


class Crew:
    """Workers as child processes of this one. Their standard input is a pipe: when it closes, they stop."""

    def __init__(self, settings: Settings, environment: dict[str, str]):
        self.settings, self.environment = settings, environment
        self.stopping = threading.Event()
        self.processes: list[subprocess.Popen | None] = [None] * settings.workers
        self.threads = [
            threading.Thread(target=self._keep, args=(place,), name=f"worker {place}", daemon=True)
            for place in range(settings.workers)
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def _keep(self, place: int) -> None:
        falls = 0
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "visavox", "worker", "--with-parent"],
                    stdin=subprocess.PIPE,
                    env=self.environment,
                )
            except OSError as error:  # such as no memory for a further process
                log.error("a worker cannot be started", reason=error.strerror, pause=PAUSE_SECONDS[-1])
                self.stopping.wait(PAUSE_SECONDS[-1])
                continue
            self.processes[place] = process
            code = process.wait()
            if self.stopping.is_set():
                return
            falls = falls + 1 if time.monotonic() - began < STEADY_SECONDS else 1
            pause = PAUSE_SECONDS[min(falls, len(PAUSE_SECONDS)) - 1]
            log.error("a worker ended and is started again", code=code, pause=pause)
            self.stopping.wait(pause)

    def alive(self) -> int:
        """Return how many workers run."""
        return sum(process is not None and process.poll() is None for process in self.processes)

    def stop(self) -> None:
        """Have all of them finish or let go, and wait for it; who takes longer than allowed is killed."""
        self.stopping.set()
        for process in self.processes:
            if process and process.stdin:
                with suppress(OSError):
                    process.stdin.close()
                with suppress(OSError):
                    process.terminate()
        until = time.monotonic() + self.settings.grace_seconds + 5
        for process in self.processes:
            if process:
                try:
                    process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
        for thread in self.threads:
            thread.join(2)
