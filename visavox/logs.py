"""Set up logging: our messages on stderr, in colour on a terminal."""

import logging
import sys
import warnings


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
    logging.basicConfig(level=logging.WARNING, format=layout, datefmt="%X", handlers=[handler], force=True)
    for name in ("pytorch_lightning", "lightning_fabric"):  # where imported earlier, it prints by handlers of its own
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # Lightning 2.6 to itself
    logger = logging.getLogger("visavox")
    logger.setLevel(level)
    return logger


def _matters(record: logging.LogRecord) -> bool:
    """Not left to the loggers' levels, for Lightning sets its own back to INFO when it is imported."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "visavox"
