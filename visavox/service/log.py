"""Log lines as JSON, an object a line: event, time, level, job and more. Names from outside are fields, escaped."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from visavox.files import shown


def set_up(component: str) -> None:
    """Have structlog, and the standard library's loggers beside it, write JSON lines to stderr.

    Args:
        component: `api` or `worker`, a field of every line; a worker's child is a part of it.
    """

    def fit(_: Any, __: str, fields: MutableMapping[str, Any]) -> dict[str, Any]:
        return {"component": component, **{key: _shown(value) for key, value in fields.items()}}

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        fit,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_stack,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in (
        "uvicorn",
        "uvicorn.error",
        "uvicorn.access",
    ):  # `uvicorn visavox.service.api:app` has given them its own
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("visavox").setLevel(logging.INFO)


def _shown(value: Any) -> Any:
    """A text without what a terminal or a log obeys; JSON escapes the rest."""
    return shown(value) if isinstance(value, str) else value


def _without_stack(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as its kind and place; its text may hold anything."""
    info = fields.pop("exc_info", None)
    if info and info is not True and info[1] is not None:
        trace = info[2]
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        fields["exception"] = type(info[1]).__name__
        if trace is not None:
            fields["at"] = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
    return fields
