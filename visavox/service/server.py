"""The HTTP server: uvicorn, with a deadline for the head of a request, which uvicorn alone does not have."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from visavox.service.settings import Settings

READ_BYTES = 32 << 10
"""Of one connection that are read before the next has its turn: with asyncio's 256 KiB a hundred uploads hold up everybody."""
HEAD_BYTES = 32 << 10
"""Of the head of a request."""


def timed(header_seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP/1.1 protocol, closing connections whose next request's head is not there in time."""

    class Timed(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if hasattr(transport, "max_size"):
                transport.max_size = READ_BYTES
            self.deadline = self.loop.call_later(header_seconds, self._late)

        def data_received(self, data: bytes) -> None:
            if self.deadline is None and (self.cycle is None or self.cycle.response_complete):
                self.deadline = self.loop.call_later(header_seconds, self._late)  # a further request has begun
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._met()

        def connection_lost(self, exc: Exception | None) -> None:
            self._met()
            super().connection_lost(exc)

        def _met(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def _late(self) -> None:
            self.deadline = None
            if not self.transport.is_closing():
                self.transport.close()

    return cast(type[asyncio.Protocol], Timed)


def server(app: Any, settings: Settings) -> uvicorn.Server:
    """Return the server of an application, ready to `run`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=timed(settings.header_seconds),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=round(max(1, settings.header_seconds)),
            timeout_graceful_shutdown=round(settings.grace_seconds),
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
    )
