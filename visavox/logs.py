"""What reaches a terminal or a log: text of ours and names of other people's, which it shows and never obeys."""

from __future__ import annotations

import functools
import logging
import sys
import warnings

from visavox.files import shown


def say(text: object, *, error: bool = False) -> None:
    """Print on stdout, or with `error` on stderr; control characters are escaped, line breaks stay.

    A name inside a text of several lines goes through `visavox.files.shown` first, or its own line break would pass for ours.
    """
    print(shown(text, lines=True), file=sys.stderr if error else sys.stdout, flush=True)


def complain(program: str, error: BaseException | str) -> None:
    """Print `program: error` on stderr; further lines are indented, so that none passes for a line of another kind."""
    say(f"{program}: {_indented(str(error))}", error=True)


class ShownFormatter(logging.Formatter):
    """Formats as usual, and escapes what a terminal would obey; further lines are indented, as those of `complain`."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(_indented(super().format(record)), lines=True)


@functools.lru_cache(maxsize=1024)
def say_once(logger: logging.Logger, message: str) -> None:
    """Warn of something once in this process, however often it is met."""
    logger.warning("%s", message)


def _indented(text: str) -> str:
    """The text with every line but the first set in, so that none passes for a line of another kind."""
    first, *more = text.split("\n")
    return "\n".join([first, *(line if line[:1] in ("", " ") else f"  {line}" for line in more)])


def set_up_logging(level: str = "INFO") -> logging.Logger:
    """Our messages of `level` and above on stderr, only warnings of others; returns the logger `visavox`.

    In colour on a terminal; elsewhere one plain line for each.
    """
    handler: logging.Handler = logging.StreamHandler()
    layout = "%(asctime)s %(levelname)s %(message)s"
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%X")
        layout = "%(message)s"
    handler.addFilter(_matters)
    handler.setFormatter(ShownFormatter(layout, datefmt="%X"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("pytorch_lightning", "lightning_fabric"):  # where imported earlier, it prints by handlers of its own
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # Lightning 2.6 to itself
    logger = logging.getLogger("visavox")
    logger.setLevel(level)
    return logger


def _matters(record: logging.LogRecord) -> bool:
    """Not left to the loggers' levels, for Lightning sets its own back to INFO when it is imported."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "visavox"
