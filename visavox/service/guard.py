"""The outermost layer: what is refused before anything reads the request, and the headers of every answer.

In the order in which a request meets it: host, origin, token, the form's type, length, uploads of its client; then, while its
body comes, its pace and its true length. A body that is refused half-way is read on and dropped within bounds, so
that its sender gets to read the answer.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi.responses import JSONResponse

from visavox.service.problems import Problem
from visavox.service.settings import Settings, is_loopback
from visavox.service.uploads import OVERHEAD

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger(__name__)

OPEN = frozenset({"/healthz"})
"""Paths that ask for no token; so does the page, which holds nothing."""
API = ("/analyze", "/status", "/events", "/analyses", "/limits", "/model", "/metrics", "/readyz", "/openapi.json")
"""What the token guards."""
UPLOAD = "/analyze"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SMALL_BODY = 64 << 10
"""Bytes of the body of a request that is no upload."""
DRAIN_SECONDS = 10.0
"""For which a refused body is read on."""
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
"""Of every answer that does not say otherwise."""


class Disconnected(Exception):
    """The client is gone: nobody waits for an answer."""


class Guard:
    """ASGI middleware.

    Args:
        app: what answers what is let through.
        told: called with ("refused", code, "") and ("request", method and route, status).
    """

    def __init__(self, app: App, settings: Settings, told: Callable[[str, str, str], None]):
        self.app, self.settings, self.told = app, settings, told
        self.uploads: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        cross = self._listed(headers.get("origin", ""))
        answer = _Answer(send, cross)
        upload = scope["method"] == "POST" and scope["path"] == UPLOAD
        body = _Body(receive, self.settings, headers, upload)
        slot = _Slot(self.uploads, self._client(scope, headers))

        async def refuse(problem: Problem) -> JSONResponse:
            """The answer of a refusal, once its sender can read it. Also for the application's own refusals."""
            self.told("refused", problem.code, "")
            log.info("refused", code=problem.code, method=scope["method"])
            slot.free()
            await body.drain()
            response = problem.response()
            if not body.over:
                response.headers["connection"] = "close"
            return response

        scope["visavox.refuse"], scope["visavox.slot"] = refuse, slot
        try:
            self._admit(scope, headers)
            if cross and scope["method"] == "OPTIONS":
                await _preflight(answer)
                return
            body.check_length()
            if upload:
                slot.take(self.settings.uploads_per_client)
            await self.app(scope, body.receive, answer)
        except Problem as problem:
            response = await refuse(problem)
            if not answer.begun:
                await response(scope, receive, answer)
        finally:
            slot.free()
            route = getattr(scope.get("route"), "path", "other")
            self.told(
                "request", f"{scope['method'] if scope['method'] in METHODS else 'other'} {route}", str(answer.status)
            )

    def _client(self, scope: Scope, headers: dict[str, str]) -> str:
        """Whose upload it is: the address; where a trusted proxy sent it, the last one that the proxy names."""
        peer = scope["client"][0] if scope.get("client") else ""
        if peer in self.settings.trusted_proxies and "x-forwarded-for" in headers:
            return headers["x-forwarded-for"].rpartition(",")[2].strip() or peer
        return peer

    def _admit(self, scope: Scope, headers: dict[str, str]) -> None:
        """Raise Problem where host, origin or token do not pass."""
        host = headers.get("host", "")
        if not self._is_host(host):
            raise Problem("BAD_HOST", "The Host header names another host than those this service answers for.")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin, site = headers.get("origin"), headers.get("sec-fetch-site")
            own = origin is not None and urlsplit(origin).netloc == host and origin != "null"
            if (origin is not None and not own and not self._listed(origin)) or (
                origin is None and site in ("cross-site", "same-site")
            ):
                raise Problem("FOREIGN_ORIGIN", "Pages of other sites may not send anything here.")
        token = self.settings.token
        path: str = scope["path"]
        guarded = path not in OPEN and path.startswith(API) and scope["method"] != "OPTIONS"
        if token is not None and guarded:
            kind, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode())
            if kind.lower() != "bearer" or not right:
                raise Problem(
                    "UNAUTHORIZED", "A token is needed: Authorization: Bearer TOKEN.", {"www-authenticate": "Bearer"}
                )

    def _is_host(self, host: str) -> bool:
        settings = self.settings
        if settings.token is not None and not settings.allowed_hosts:
            return True
        name = urlsplit(f"//{host}").hostname if host else None
        if not name:
            return False
        return is_loopback(name) or name == settings.host or name in settings.allowed_hosts

    def _listed(self, origin: str) -> str:
        """The origin where other pages of it may ask; else nothing."""
        return origin if origin and origin in self.settings.cors_origins else ""


class _Slot:
    """One of the uploads that a client may have under way."""

    def __init__(self, taken: Counter[str], client: str):
        self.taken, self.client, self.held = taken, client, False

    def take(self, most: int) -> None:
        """Raise Problem where the client has as many as it may."""
        if self.taken[self.client] >= most:
            raise Problem("TOO_MANY_UPLOADS", f"{most} uploads from your address are under way.", {"retry-after": "5"})
        self.taken[self.client] += 1
        self.held = True

    def free(self) -> None:
        """Give it back, once."""
        if self.held:
            self.held = False
            self.taken[self.client] -= 1
            if not self.taken[self.client]:
                del self.taken[self.client]


class _Body:
    """The request's body, as fast and as long as it may be."""

    def __init__(self, receive: Receive, settings: Settings, headers: dict[str, str], upload: bool):
        self._receive, self.settings = receive, settings
        self.most = settings.max_bytes + OVERHEAD if upload else SMALL_BODY
        self.declared = headers.get("content-length")
        self.waits = headers.get("expect", "").lower() == "100-continue"
        self.came = 0
        self.began = time.monotonic()
        self.over = self.gone = False
        self.problem: Problem | None = None

    def check_length(self) -> None:
        """Raise Problem where more is declared than may come."""
        if self.declared is not None and self.declared.isdigit() and int(self.declared) > self.most:
            raise Problem("UPLOAD_TOO_LARGE", self._too_large())

    async def receive(self) -> Message:
        """Return the next message of the body, for the application."""
        if self.over:
            return await self._receive()  # waits for the client to go
        if self.problem:
            raise self.problem
        try:
            message = await asyncio.wait_for(self._receive(), self.settings.idle_seconds)
        except TimeoutError:
            self.problem = Problem("TOO_SLOW", f"Nothing came for {self.settings.idle_seconds:g} s.")
            raise self.problem from None
        if message["type"] == "http.disconnect":
            self.gone = True
            raise Disconnected
        self.came += len(message.get("body", b""))
        self.over = not message.get("more_body", False)
        if self.came > self.most:
            self.problem = Problem("UPLOAD_TOO_LARGE", self._too_large())
            raise self.problem
        took = time.monotonic() - self.began
        if not self.over and took > self.settings.idle_seconds and self.came < self.settings.min_rate * took:
            self.problem = Problem(
                "TOO_SLOW", f"The body came with less than {self.settings.min_rate:g} bytes a second."
            )
            raise self.problem
        return message

    async def drain(self) -> None:
        """Read on and drop what still comes, within bounds. A sender that waits to be asked is not asked."""
        if self.over or self.gone or (self.waits and not self.came):
            return
        left, until = self.settings.drain_bytes, time.monotonic() + DRAIN_SECONDS
        if self.problem and self.problem.code == "TOO_SLOW":
            return
        while left > 0 and (rest := until - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(self._receive(), min(rest, 2.0))
            except TimeoutError:
                return
            if message["type"] == "http.disconnect":
                self.gone = True
                return
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    def _too_large(self) -> str:
        return f"At most {self.most} bytes are taken."


class _Answer:
    """`send` with the headers of every answer."""

    def __init__(self, send: Send, origin: str):
        self.send, self.origin = send, origin
        self.begun, self.status = False, 0
        self.headers: dict[str, str] = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            there = {key.lower() for key, _ in message.get("headers", ())}
            added = HEADERS | self.headers
            if self.origin:
                added |= {
                    "access-control-allow-origin": self.origin,
                    "access-control-expose-headers": "Location, Retry-After",
                    "cross-origin-resource-policy": "cross-origin",
                    "vary": "Origin",
                }
            more = [(key.encode(), value.encode()) for key, value in added.items() if key.encode() not in there]
            message["headers"] = [*message.get("headers", ()), *more]
        await self.send(message)


async def _preflight(send: _Answer) -> None:
    send.headers |= {
        "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
        "access-control-allow-headers": "Authorization, Content-Type, Last-Event-ID",
        "access-control-max-age": "600",
    }
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
