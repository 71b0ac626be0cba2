"""In the place of the process that judges, for tests of what its worker does; imports little, for it is started often."""

from __future__ import annotations

import json
import os
import signal
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visavox.service.settings import Settings


def scripted(connection: Connection, settings: Settings, threads: int) -> None:
    """Do what the names of the videos say; what was found about the others lies in `result.json`."""
    result = json.loads((settings.folder / "result.json").read_text())
    if (settings.folder / "slow").exists():
        time.sleep(3 * settings.lease_seconds)
    connection.send(("ready", {"checkpoint": "", "batch": settings.batch}))
    while True:
        try:
            orders = connection.recv()
        except EOFError:
            return
        for place, order in enumerate(orders):
            connection.send((place, "at", None))
            if order.name == "kill.mp4":
                os.kill(os.getpid(), signal.SIGKILL)
            if order.name == "bad.mp4":
                connection.send((place, "failed", ("NO_FRAMES", "")))
            while order.name == "hang.mp4" and not (settings.folder / "go").exists():
                time.sleep(0.02)
        if len(orders) > 1:
            connection.send((None, "together", None))
            if any(order.name == "together.mp4" for order in orders):
                os.kill(os.getpid(), signal.SIGKILL)
        for place, order in enumerate(orders):
            if order.name != "bad.mp4":
                connection.send((place, "done", result))
