"""The routes. `visavox serve` runs them; so does `uvicorn visavox.service.api:app`, with settings from VISAVOX_SERVICE_*.

This process opens no video and loads no network: it takes uploads in, asks the queue, and hands on what workers found.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import anyio
import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from visavox import __version__
from visavox.errors import code_of
from visavox.service import answers, measures
from visavox.service import folder as folders
from visavox.service.answers import Analysed, Feedback, Health, Limits, Model, Observed, ProblemDocument, Stage, Status
from visavox.service.crew import Crew
from visavox.service.events import Changes, stream, until_ended
from visavox.service.folder import Folder, display_name
from visavox.service.guard import Disconnected, Guard
from visavox.service.opening import open_whole
from visavox.service.problems import HTTP_STATUS, Problem, of_status
from visavox.service.settings import Settings
from visavox.service.store import JobStore, QueueFull, StoreError, Submission, key_of, poisoned
from visavox.service.uploads import receive

log = structlog.get_logger(__name__)

PAGE = Path(__file__).parent / "page"
"""Where the built page lies."""
NOT_BUILT = (
    "The page is not built. `make serve` builds it and starts again; in a checkout, `frontend/build.sh` does it alone.\n"
    "The API is here: POST /analyze takes a video, /openapi.json describes it.\n"
)
SWEEP_SECONDS = 60.0
"""Between two looks for uploads that have had their time."""
UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
Id = Annotated[str, PathParameter(description="What POST /analyze answered.", json_schema_extra={"format": "uuid"})]


@dataclass
class Desk:
    """What the routes share."""

    settings: Settings
    folder: Folder
    store: JobStore
    changes: Changes
    crew: Crew
    checkpoint: str
    """sha256 of the weights that judge."""
    versions: tuple[object, ...]
    """Of the code: other ones make other results."""
    streams: int = 0
    """Event streams that are open."""


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
        desk = app.state.desk = await anyio.to_thread.run_sync(_open, settings)
        desk.crew.start()
        log.info("service open", host=settings.host, port=settings.port, workers=settings.workers, version=__version__)
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
    _routes(app)
    _errors(app)
    _page(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]

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


def _open(settings: Settings) -> Desk:
    from visavox.preprocessing.provenance import PREP_VERSION

    folder = Folder(settings.folder)
    store = open_whole(settings, folder)
    checkpoint = settings.fingerprint()
    crew = Crew(settings, os.environ | settings.environment())
    return Desk(settings, folder, store, Changes(store), crew, checkpoint, (__version__, PREP_VERSION))


async def _sweeping(desk: Desk) -> None:
    settings = desk.settings
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        with suppress(StoreError, OSError):
            words = (desk.folder, desk.store, settings.retention_minutes, settings.result_hours)
            count = await anyio.to_thread.run_sync(folders.sweep, *words)
            if count:
                log.info("uploads deleted, their time was over", uploads=count)


def _problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may end with these codes, or with those that every route has."""
    always = ("BAD_HOST", "UNAUTHORIZED", "STORE_DOWN", "INTERNAL", "TOO_SLOW", "UPLOAD_TOO_LARGE")
    found: dict[int | str, dict[str, Any]] = {}
    for code in (*always, *codes):
        status = HTTP_STATUS[code]
        before = found.get(status, {}).get("description", "")
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
        found[status] = {"description": f"{before}, {code}" if before else code, "content": content}
    return found


def _routes(app: FastAPI) -> None:
    def desk(request: Request) -> Desk:
        return request.app.state.desk

    form = {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}},
    }

    @app.post(
        "/analyze",
        response_model=Status,
        summary="Upload a video",
        responses=_problems("FOREIGN_ORIGIN", "NOT_A_VIDEO", "BAD_UPLOAD", "TOO_MANY_UPLOADS", "QUEUE_FULL", "NO_SPACE")
        | {
            202: {
                "model": Status,
                "description": "It goes on: ask at Location.",
                "headers": {"Location": {"schema": {"type": "string"}}},
                "links": _links(),
            },
            200: {"model": Status, "description": "It has ended.", "links": _links()},
        },
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}},
    )
    async def analyze(
        request: Request,
        response: Response,
        wait: Annotated[
            float | None,
            Query(ge=0, le=86_400, allow_inf_nan=False, description="Seconds to wait for the verdict, within a bound."),
        ] = None,
    ) -> Status:
        at = desk(request)
        submission = await _take_in(request, at)
        most = at.settings.wait_seconds if wait is None else min(wait, at.settings.wait_seconds)
        progress = await until_ended(at.store, at.changes, submission.id, most)
        if progress is None:
            raise Problem("NO_SUCH_ANALYSIS", "It was deleted meanwhile.")
        response.headers["Location"] = f"/status/{submission.id}"
        response.status_code = 200 if progress.ended else 202
        return Status.of(submission.id, progress)

    @app.get("/status/{id}", response_model=Status, summary="How far it is", responses=_problems("NO_SUCH_ANALYSIS"))
    def status(request: Request, id: Id) -> Status:
        progress = desk(request).store.progress(id)
        if progress is None:
            raise Problem("NO_SUCH_ANALYSIS")
        return Status.of(id, progress)

    @app.get(
        "/events/{id}",
        summary="How far it is, as it happens",
        response_class=StreamingResponse,
        responses=_problems("NO_SUCH_ANALYSIS", "TOO_MANY_UPLOADS")
        | {
            200: {
                "description": "Server-sent events named `status`; data is a Status.",
                "content": {"text/event-stream": {}},
            }
        },
        openapi_extra={
            "parameters": [
                {
                    "name": "Last-Event-ID",
                    "in": "header",
                    "required": False,
                    "description": "Number of the last event that was read.",
                    "schema": {"type": "string"},
                }
            ]
        },
    )
    async def events(request: Request, id: Id) -> StreamingResponse:
        at = desk(request)
        if await anyio.to_thread.run_sync(at.store.submission, id) is None:
            raise Problem("NO_SUCH_ANALYSIS")
        if at.streams >= at.settings.streams:
            raise Problem("TOO_MANY_UPLOADS", "Too many event streams are open; ask /status instead.")
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_counted(at, id, after), media_type="text/event-stream", headers=headers)

    @app.get(
        "/analyses/{id}", response_model=Analysed, summary="Everything found", responses=_problems("NO_SUCH_ANALYSIS")
    )
    def analysis(request: Request, id: Id) -> Analysed:
        return _analysed(desk(request), id)

    @app.get(
        "/analyses/{id}/report",
        summary="The evidence report",
        response_class=HTMLResponse,
        responses=_problems("NO_SUCH_ANALYSIS", "NOT_DONE"),
    )
    def report(request: Request, id: Id) -> HTMLResponse:
        from visavox.detectors.analysis import Analysis
        from visavox.report.evidence import page

        found = _analysed(desk(request), id)
        if found.analysis is None:
            raise Problem("NOT_DONE", "There is a report once an analysis has ended with a verdict.")
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
        headers = {"content-security-policy": policy, "cache-control": "no-store"}
        text = page(
            Analysis.from_json(json.dumps(found.analysis)),
            name=found.fileName,
            why=found.why or "",
            observations=[each.model_dump() for each in found.observations],
            stages=[each.model_dump() for each in found.stages],
            origin={"sha256": found.sha256, "bytes": found.bytes, "judged": found.finished} | (found.provenance or {}),
        )
        return HTMLResponse(text, headers=headers)

    @app.delete(
        "/analyses/{id}",
        status_code=204,
        summary="Delete upload and analysis",
        responses=_problems("NO_SUCH_ANALYSIS", "FOREIGN_ORIGIN"),
    )
    def delete(request: Request, id: Id) -> Response:
        at = desk(request)
        if not at.store.delete(id):
            raise Problem("NO_SUCH_ANALYSIS")
        at.folder.forget(id)
        return Response(status_code=204)

    @app.post(
        "/analyses/{id}/feedback",
        status_code=204,
        summary="Say what the video is",
        responses=_problems("NO_SUCH_ANALYSIS", "NOT_DONE", "FOREIGN_ORIGIN", "BAD_PARAMETER"),
    )
    def feedback(request: Request, id: Id, said: Feedback) -> Response:
        at = desk(request)
        found = _analysed(at, id)
        if found.analysis is None or found.provenance is None:
            raise Problem("NOT_DONE", "A label can be given once an analysis has ended with a verdict.")
        at.folder.keep_feedback(
            id,
            {
                "label": said.label,
                "probability": found.analysis["probability"],
                "checkpoint": found.provenance["checkpoint"],
                "said": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        return Response(status_code=204)

    @app.get("/limits", response_model=Limits, summary="What may be uploaded", responses=_problems())
    def limits(request: Request) -> dict[str, Any]:
        return request.app.state.settings.limits()

    @app.get("/model", response_model=Model, summary="What judges", responses=_problems("NOT_READY"))
    def model(request: Request) -> Model:
        about = _model(desk(request))
        return Model(
            detector=about["detector"],
            branches=about["branches"],
            calibration=about["calibration"],
            demo=about["demo"] or request.app.state.settings.demo,
        )

    @app.get("/healthz", response_model=Health, summary="Whether it answers", responses=_problems())
    async def healthz() -> Health:
        return Health(status="ok")

    @app.get("/readyz", response_model=Health, summary="Whether it can judge", responses=_problems("NOT_READY"))
    def readyz(request: Request) -> Health:
        at = desk(request)
        at.store.waiting()
        _model(at)
        if at.settings.workers and not at.crew.alive():
            raise Problem("NOT_READY", "No worker runs; the log says why.")
        if at.folder.free_bytes() < at.settings.disk_reserve:
            raise Problem("NOT_READY", "The disk is full.")
        return Health(status="ok")

    @app.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus", responses=_problems())
    def metrics(request: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

        at = desk(request)
        shared = CollectorRegistry()
        shared.register(_Collected(at.store))
        text = generate_latest(request.app.state.registry) + generate_latest(shared)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _take_in(request: Request, at: Desk) -> Submission:
    """Take the upload in and queue it; it is on the disk when this returns.

    Raises:
        Problem: it is refused, and nothing of it stays.
    """
    settings, folder, store = at.settings, at.folder, at.store
    waiting, _ = await anyio.to_thread.run_sync(store.waiting)
    if waiting >= settings.queue_length:
        raise QueueFull(f"{waiting} videos wait already")
    if folder.free_bytes() < settings.disk_reserve + int(request.headers.get("content-length", 0)):
        raise Problem("NO_SPACE", "The service's disk has no room for it.")
    id = str(uuid.uuid4())
    received = await receive(
        request.headers.get("content-type", ""), request.stream(), folder.incoming(id), settings.max_bytes
    )
    request.scope["visavox.slot"].free()
    submission = Submission(
        id=id,
        sha256=received.sha256,
        key=key_of(received.sha256, at.checkpoint, {"overrides": settings.overrides}, at.versions),
        file_name=display_name(received.name),
        bytes=received.size,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    await anyio.to_thread.run_sync(_queue, at, submission)
    log.info("upload taken in", job=id, name=submission.file_name, bytes=received.size)
    return submission


def _queue(at: Desk, submission: Submission) -> None:
    """Keep the upload and enter its job: as ended where the result of the same content is known."""
    try:
        at.folder.take_in(submission)
        result = at.folder.result(submission.key)
        if result is not None:
            at.store.complete(submission, folders.outcome(result))
        elif at.store.poisoned(submission.key):
            at.store.complete(submission, poisoned(at.settings.tries))
        else:
            at.store.submit(submission, at.settings.queue_length)
    except BaseException:
        at.folder.incoming(submission.id).unlink(missing_ok=True)
        at.folder.forget(submission.id)
        raise


def _analysed(at: Desk, id: str) -> Analysed:
    submission, progress = at.store.submission(id), at.store.progress(id)
    if submission is None or progress is None:
        raise Problem("NO_SUCH_ANALYSIS")
    result = (at.folder.result(submission.key) if progress.status == "complete" else None) or {}
    return Analysed(
        analysisId=id,
        fileName=submission.file_name,
        sha256=submission.sha256,
        bytes=submission.bytes,
        created=submission.created,
        finished=at.store.finished(id),
        status=Status.of(id, progress),
        analysis=result.get("analysis"),
        why=result.get("why"),
        observations=[Observed(**each) for each in result.get("observations", [])],
        stages=[Stage(**each) for each in result.get("stages", [])],
        provenance=result.get("provenance"),
        media=result.get("media"),
    )


async def _counted(at: Desk, id: str, after: int) -> AsyncIterator[str]:
    at.streams += 1
    try:
        async for event in stream(at.store, at.changes, id, after):
            yield event
    finally:
        at.streams -= 1


def _model(at: Desk) -> dict[str, Any]:
    """What the worker said of the networks when they were loaded.

    Raises:
        Problem: none was yet, or of another checkpoint.
    """
    try:
        about = json.loads((at.folder.root / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = {}
    if about.get("checkpoint") != at.checkpoint:
        raise Problem("NOT_READY", "The networks are not loaded yet.", {"retry-after": "5"})
    return about


class _Collected:
    """The store's measures for Prometheus."""

    def __init__(self, store: JobStore):
        self.store = store

    def collect(self) -> Any:
        return measures.metrics(self.store.measures(), *self.store.waiting())


def _errors(app: FastAPI) -> None:
    async def refuse(request: Request, problem: Problem) -> JSONResponse:
        return await request.scope["visavox.refuse"](problem)

    handlers: dict[type[Exception], Callable[[Any], Problem]] = {
        Problem: lambda error: error,
        HTTPException: lambda error: of_status(error.status_code, str(error.detail), dict(error.headers or {})),
        RequestValidationError: lambda error: Problem("BAD_PARAMETER", _what_is_wrong(error)),
        StoreError: lambda _: Problem("STORE_DOWN", headers={"retry-after": "5"}),
        QueueFull: lambda _: Problem("QUEUE_FULL", headers={"retry-after": "30"}),
        OSError: lambda error: Problem("NO_SPACE" if code_of(error) == "NO_SPACE" else "INTERNAL"),
        Exception: lambda _: Problem("INTERNAL"),
    }

    def handler(of: Callable[[Any], Problem]) -> Callable[[Request, Any], Awaitable[JSONResponse]]:
        async def answer(request: Request, error: Exception) -> JSONResponse:
            return await refuse(request, of(error))

        return answer

    for kind, of in handlers.items():
        app.add_exception_handler(kind, handler(of))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    app.add_exception_handler(Disconnected, gone)


def _what_is_wrong(error: RequestValidationError) -> str:
    """Where and what, without the value that was sent."""
    return "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())[:500]


def _page(app: FastAPI) -> None:
    if (PAGE / "index.html").is_file():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
        return

    @app.get("/", include_in_schema=False)
    async def page() -> PlainTextResponse:
        return PlainTextResponse(NOT_BUILT, 503)


def _links() -> dict[str, Any]:
    """What may be asked next of an analysis, for OpenAPI."""
    names = {
        "status": "status_status__id__get",
        "analysis": "analysis_analyses__id__get",
        "delete": "delete_analyses__id__delete",
        "feedback": "feedback_analyses__id__feedback_post",
    }
    return {
        name: {"operationId": operation, "parameters": {"id": "$response.body#/analysisId"}}
        for name, operation in names.items()
    }


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The description, with problem documents in place of the framework's own errors."""
    from fastapi.openapi.utils import get_openapi

    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    parts = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        parts.pop(name, None)
    parts["ProblemDocument"] = ProblemDocument.model_json_schema()
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    for path in schema["paths"].values():
        for operation in path.values():
            if "422" in operation["responses"]:
                operation["responses"]["422"] = {
                    "description": "BAD_PARAMETER, BAD_UPLOAD, EMPTY_FILE",
                    "content": problem,
                }
            if app.state.settings.token is not None:
                operation["security"] = [{"token": []}]
    parts_of = schema["components"]
    if app.state.settings.token is not None:
        parts_of["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    app.openapi_schema = schema
    return schema


__all__ = ["answers", "create_app"]
