"""Serve the page and the API that judge uploaded videos.

    visavox serve --checkpoint runs/v1/best.ckpt            # http://127.0.0.1:8000, one worker
    VISAVOX_SERVICE_TOKEN=... visavox serve --checkpoint runs/v1/best.ckpt --host 0.0.0.0 --workers 2

Every limit and address is a setting of its own, VISAVOX_SERVICE_* (docs/service.md); an option here goes before it.
Exit codes: 0 stopped by Ctrl-C; 2 wrong settings, or the extra `serve` is not installed; 143 stopped by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.logs import complain, say

if TYPE_CHECKING:
    from visavox.service.settings import Settings


SWITCH_SECONDS = 0.0005
"""After which a thread that takes an upload in lets the event loop go on; Python's 5 ms are felt in each answer meanwhile."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    settings = settings_of(arguments, "visavox serve")
    if settings is None:
        return 2
    from visavox.service import log, server
    from visavox.service.api import create_app

    log.set_up("api")
    sys.setswitchinterval(SWITCH_SECONDS)
    serving = server.server(create_app(settings), settings)
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"http://{name}:{settings.port} (Ctrl-C stops it)", error=True)
    stopped: list[int] = []  # uvicorn sends itself the signal again when all is closed: it is noted, not obeyed twice
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    try:
        serving.run()
    except KeyboardInterrupt:
        return 0
    if not serving.started:
        return 2
    return 143 if signal.SIGTERM in stopped else 0


def settings_of(arguments: argparse.Namespace, program: str) -> Settings | None:
    """Return the settings from environment and options; None, with the reason said, where they are wrong."""
    try:
        from pydantic import ValidationError
        from pydantic_settings import SettingsError

        import visavox.service.api  # noqa: F401  # says which part of the extra is missing
        from visavox.config import ConfigError
        from visavox.service.settings import Settings
        from visavox.weights import WeightsError

        if arguments.store or os.environ.get("VISAVOX_SERVICE_STORE"):
            import rq  # noqa: F401
    except ImportError as error:
        extra = "queue" if error.name in ("redis", "rq") else "serve"
        complain(program, f"{error.name} is not installed: pip install 'visavox[{extra}]'")
        return None
    given = {name: value for name, value in vars(arguments).items() if value not in (None, [])}
    given = {name: value for name, value in given.items() if name in Settings.model_fields}
    try:
        settings = Settings(**given)
        settings.fingerprint()
        return settings
    except (OSError, SettingsError, WeightsError, ConfigError) as error:
        complain(program, error)
        return None
    except ValidationError as error:
        for each in error.errors():
            where = ".".join(str(part) for part in each["loc"])
            complain(program, f"{where}: {each['msg']}" if where else each["msg"].removeprefix("Value error, "))
        return None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what API and workers have in common."""
    parser.add_argument("--checkpoint", type=Path, help="of visavox train or fuse, or a published model by its name")
    parser.add_argument("--folder", type=Path, help="for uploads and results (default ~/.cache/visavox/service)")
    parser.add_argument("--store", metavar="URL", help="redis://HOST:PORT/DB instead of SQLite (extra `queue`)")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="key=value",
        help="a setting of the checkpoint's configuration, such as device=cpu",
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1); wider only with a token")
    parser.add_argument("--port", type=int, help="default 8000; 0 takes a free one")
    parser.add_argument(
        "--workers", type=int, help="processes that judge (default 1; 0: `visavox worker` is started apart)"
    )
    parser.add_argument("--demo", action="store_true", default=None, help="say on the page that it is a demonstration")
    return parser.parse_args(argv)
