"""Take videos from the service's queue and judge them; as many of these as there are cores or GPUs to use.

    visavox worker --checkpoint runs/v1/best.ckpt          # beside `visavox serve --workers 0`
    visavox worker --checkpoint runs/v1/best.ckpt --store redis://queue:6379/0 --folder /shared/visavox

The second may run on another machine. Store, folder and checkpoint have to be those of the service. SIGTERM: the video at hand is
finished, or put back after VISAVOX_SERVICE_GRACE_SECONDS. Exit codes: 0 stopped by Ctrl-C; 2 wrong settings, or the networks
cannot be loaded; 143 stopped by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from visavox.commands.serve import add_options, settings_of
from visavox.logs import complain


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    settings = settings_of(arguments, "visavox worker")
    if settings is None:
        return 2
    from visavox.service import log
    from visavox.service.folder import Folder
    from visavox.service.opening import open_store
    from visavox.service.store import StoreError
    from visavox.service.worker import StartError, Worker

    log.set_up("worker")
    stop, asked = threading.Event(), []

    def ask(number: int, frame: object = None) -> None:
        asked.append(number)
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    if arguments.with_parent:
        threading.Thread(target=_end_with_parent, args=(stop,), name="end with parent", daemon=True).start()
    folder = Folder(settings.folder)
    try:
        store = open_store(settings, folder)
        Worker(settings, store, folder, stop, arguments.threads or 0).run()
    except (StartError, StoreError) as error:
        complain("visavox worker", error)
        return 2
    return 143 if signal.SIGTERM in asked else 0


def _end_with_parent(stop: threading.Event) -> None:
    """Stop once standard input ends, which is a pipe from the service: however that ended."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop.set()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox worker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument(
        "--threads",
        type=int,
        help="of decoder and networks (default: VISAVOX_SERVICE_THREADS, else the cores by VISAVOX_SERVICE_WORKERS)",
    )
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    return parser.parse_args(argv)
