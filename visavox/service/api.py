"""The routes. `visavox serve` runs them; so does `uvicorn visavox.service.api:app`, with settings from VISAVOX_SERVICE_*.

This process opens no video and loads no network: it takes uploads in, asks the queue, and hands on what workers found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from visavox import __version__
from visavox.errors import code_of
from visavox.runs import LockedError, holding
from visavox.service import folder as folders
from visavox.service.desk import Desk, open_desk
from visavox.service.guard import Disconnected, Guard
from visavox.service.openapi import openapi
from visavox.service.problems import Problem, of_status
from visavox.service.routes import router
from visavox.service.settings import Settings
from visavox.service.store import QueueFull, StoreError

log = structlog.get_logger(__name__)

PAGE = Path(__file__).parent / "page"
"""Where the built page lies."""
NOT_BUILT = (
    "The page is not built: in a checkout, `make page` builds it.\n"
    "The API is here: POST /analyze takes a video, /openapi.json describes it.\n"
)
SWEEP_SECONDS = 60.0
"""Between two looks for uploads that have had their time."""


def create_app(settings: Settings | None = None) -> Any:
    """Return the application, an ASGI callable, with its guard outermost. Reads settings from the environment without any."""
    from prometheus_client import CollectorRegistry, Counter, disable_created_metrics

    disable_created_metrics()
    settings = settings or Settings()
    registry = CollectorRegistry()
    requests = Counter("visavox_requests", "Requests answered.", ["method", "route", "status"], registry=registry)
    refusals = Counter("visavox_rejections", "Requests refused, by code.", ["code"], registry=registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as held:
            try:
                folders.Folder(settings.folder)
                held.enter_context(holding(settings.folder))  # another one would delete what this one is receiving
                desk = app.state.desk = await anyio.to_thread.run_sync(open_desk, settings)
            except Exception as error:
                log.error("the service cannot start", reason=_reason(error))
                raise
            desk.crew.start()
            log.info(
                "service open", host=settings.host, port=settings.port, workers=settings.workers, version=__version__
            )
            tasks = [asyncio.create_task(desk.changes.watch()), asyncio.create_task(_sweeping(desk))]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await anyio.to_thread.run_sync(desk.crew.stop)
                desk.store.close()
                log.info("service closed")

    app = FastAPI(
        title="Visavox",
        version=__version__,
        summary="Whether a video's face and voice are genuine, with the reasons.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings, app.state.registry = settings, registry
    app.include_router(router)
    _errors(app)
    _page(app)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]

    def told(kind: str, what: str, status: str) -> None:
        if kind == "refused":
            refusals.labels(what).inc()
        else:
            method, _, route = what.partition(" ")
            requests.labels(method, route, status).inc()

    guard = Guard(app, settings, told)
    guard.fastapi = app  # type: ignore[attr-defined]  # for who wants to see its routes
    return guard


def __getattr__(name: str) -> Any:
    """`app`, made when it is asked for, so that importing this module does nothing."""
    if name == "app":
        from visavox.service.log import set_up

        set_up("api")
        return create_app()
    raise AttributeError(name)


def _reason(error: Exception) -> str:
    """Why the service cannot start, with what to do where it is its folder: in use, read-only, or of a disk without locks."""
    cure = "give this one a folder of its own that may be written (--folder, VISAVOX_SERVICE_FOLDER)"
    if isinstance(error, LockedError):
        return f"{str(error).partition(';')[0]}; stop that service, or {cure}"
    of_folder = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)  # that is of the checkpoint
    return f"{error}; {cure}" if of_folder else str(error)


async def _sweeping(desk: Desk) -> None:
    settings = desk.settings
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        words = (desk.folder, desk.store, settings.retention_minutes, settings.result_hours)
        try:
            count = await anyio.to_thread.run_sync(folders.sweep, *words)
            await anyio.to_thread.run_sync(folders.recover, desk.folder, desk.store, settings.queue_length)
        except Exception as error:  # whatever it was: without this task nothing would be deleted any more
            log.warning(
                "uploads could not be looked through; tried again in a minute",
                exc_info=(type(error), error, error.__traceback__),
            )
            continue
        if count:
            log.info("uploads deleted, their time was over", uploads=count)


def _errors(app: FastAPI) -> None:
    async def refuse(request: Request, problem: Problem) -> JSONResponse:
        return await request.scope["visavox.refuse"](problem)

    async def unrouted(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        allowed = _allowed(request.url.path)
        if error.status_code in (404, 405) and allowed and request.method not in allowed:
            return await refuse(request, Problem("METHOD_NOT_ALLOWED", headers={"allow": ", ".join(sorted(allowed))}))
        return await refuse(request, of_status(error.status_code, str(error.detail), dict(error.headers or {})))

    handlers: dict[type[Exception], Callable[[Any], Problem]] = {
        Problem: lambda error: error,
        RequestValidationError: lambda error: Problem("BAD_PARAMETER", _what_is_wrong(error)),
        StoreError: lambda _: Problem("STORE_DOWN", headers={"retry-after": "5"}),
        QueueFull: lambda _: Problem("QUEUE_FULL", headers={"retry-after": "30"}),
        OSError: lambda error: Problem("NO_SPACE" if code_of(error) == "NO_SPACE" else "INTERNAL"),
        Exception: lambda _: Problem("INTERNAL"),
    }

    def handler(of: Callable[[Any], Problem]) -> Callable[[Request, Any], Awaitable[JSONResponse]]:
        async def answer(request: Request, error: Exception) -> JSONResponse:
            problem = of(error)
            if problem.code == "INTERNAL" and isinstance(error, OSError):  # the server logs the others
                log.error("a request failed", exc_info=(type(error), error, error.__traceback__))
            return await refuse(request, problem)

        return answer

    for kind, of in handlers.items():
        app.add_exception_handler(kind, handler(of))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    app.add_exception_handler(Disconnected, gone)
    app.add_exception_handler(HTTPException, unrouted)


def _allowed(path: str) -> set[str]:
    """Methods that the API knows for a path; none where the page answers."""
    found = [route for route in router.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    return {method for route in found for method in route.methods or ()}


def _what_is_wrong(error: RequestValidationError) -> str:
    """Where and what, without the value that was sent."""
    return "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())[:500]


def _page(app: FastAPI) -> None:
    if (PAGE / "index.html").is_file():
        app.mount("/", Page(directory=PAGE, html=True), name="page")
        return

    @app.get("/", include_in_schema=False)
    async def page() -> PlainTextResponse:
        return PlainTextResponse(NOT_BUILT, 503)


class Page(StaticFiles):
    """The built page: names of assets change with their content, that of the page itself does not."""

    def file_response(self, full_path: Any, *words: Any, **more: Any) -> Response:
        response = super().file_response(full_path, *words, **more)
        kept = "public, max-age=31536000, immutable" if Path(full_path).parent.name == "assets" else "no-cache"
        response.headers["cache-control"] = kept
        return response
