"""The routes of the API; what they answer is described in answers.py, how they are described in openapi.py."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse

from visavox.service import measures
from visavox.service.answers import Analysed, Feedback, Health, Limits, Model, Status
from visavox.service.desk import Desk, analysed, model_of, take_in
from visavox.service.events import stream, until_ended
from visavox.service.openapi import BODY, LAST_EVENT, links, problems
from visavox.service.problems import Problem
from visavox.service.store import JobStore

Id = Annotated[str, PathParameter(description="What POST /analyze answered.", json_schema_extra={"format": "uuid"})]
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
"""Content-Security-Policy of the report, which holds its style and pictures itself."""
router = APIRouter()


def desk(request: Request) -> Desk:
    return request.app.state.desk


@router.post(
    "/analyze",
    response_model=Status,
    summary="Upload a video",
    responses=problems("FOREIGN_ORIGIN", "NOT_A_VIDEO", "BAD_UPLOAD", "TOO_MANY_UPLOADS", "QUEUE_FULL", "NO_SPACE")
    | {
        202: {
            "model": Status,
            "description": "It goes on: ask at Location.",
            "headers": {"Location": {"schema": {"type": "string"}}},
            "links": links(),
        },
        200: {"model": Status, "description": "It has ended.", "links": links()},
    },
    openapi_extra={"requestBody": BODY},
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
    submission = await take_in(request, at)
    most = at.settings.wait_seconds if wait is None else min(wait, at.settings.wait_seconds)
    progress = await until_ended(at.store, at.changes, submission.id, most)
    if progress is None:
        raise Problem("NO_SUCH_ANALYSIS", "It was deleted meanwhile.")
    response.headers["Location"] = f"/status/{submission.id}"
    response.status_code = 200 if progress.ended else 202
    return Status.of(submission.id, progress)


@router.get("/status/{id}", response_model=Status, summary="How far it is", responses=problems("NO_SUCH_ANALYSIS"))
def status(request: Request, id: Id) -> Status:
    progress = desk(request).store.progress(id)
    if progress is None:
        raise Problem("NO_SUCH_ANALYSIS")
    return Status.of(id, progress)


@router.get(
    "/events/{id}",
    summary="How far it is, as it happens",
    response_class=StreamingResponse,
    responses=problems("NO_SUCH_ANALYSIS", "TOO_MANY_UPLOADS")
    | {
        200: {
            "description": "Server-sent events named `status`; data is a Status.",
            "content": {"text/event-stream": {}},
        }
    },
    openapi_extra={"parameters": [LAST_EVENT]},
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


@router.get(
    "/analyses/{id}", response_model=Analysed, summary="Everything found", responses=problems("NO_SUCH_ANALYSIS")
)
def analysis(request: Request, id: Id) -> Analysed:
    return analysed(desk(request), id)


@router.get(
    "/analyses/{id}/report",
    summary="The evidence report",
    response_class=HTMLResponse,
    responses=problems("NO_SUCH_ANALYSIS", "NOT_DONE"),
)
def report(request: Request, id: Id) -> HTMLResponse:
    from visavox.detectors.analysis import Analysis
    from visavox.report.evidence import page

    found = analysed(desk(request), id)
    if found.analysis is None:
        raise Problem("NOT_DONE", "There is a report once an analysis has ended with a verdict.")
    headers = {"content-security-policy": REPORT_POLICY, "cache-control": "no-store"}
    text = page(
        Analysis.from_json(json.dumps(found.analysis)),
        name=found.fileName,
        why=found.why or "",
        observations=[each.model_dump() for each in found.observations],
        stages=[each.model_dump() for each in found.stages],
        origin={"sha256": found.sha256, "bytes": found.bytes, "judged": found.finished} | (found.provenance or {}),
    )
    return HTMLResponse(text, headers=headers)


@router.delete(
    "/analyses/{id}",
    status_code=204,
    summary="Delete upload and analysis",
    responses=problems("NO_SUCH_ANALYSIS", "FOREIGN_ORIGIN"),
)
def delete(request: Request, id: Id) -> Response:
    at = desk(request)
    known, said = at.store.submission(id) is not None, at.folder.forget_feedback(id)
    if not known:
        if not said:
            raise Problem("NO_SUCH_ANALYSIS")
        return Response(status_code=204)
    at.folder.forget(id)  # first: what lies there without its job would be queued again
    at.store.delete(id)
    return Response(status_code=204)


@router.post(
    "/analyses/{id}/feedback",
    status_code=204,
    summary="Say what the video is",
    responses=problems("NO_SUCH_ANALYSIS", "NOT_DONE", "FOREIGN_ORIGIN", "BAD_PARAMETER"),
)
def feedback(request: Request, id: Id, said: Feedback) -> Response:
    at = desk(request)
    found = analysed(at, id)
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


@router.get("/limits", response_model=Limits, summary="What may be uploaded", responses=problems())
def limits(request: Request) -> dict[str, Any]:
    return request.app.state.settings.limits()


@router.get("/model", response_model=Model, summary="What judges", responses=problems("NOT_READY"))
def model(request: Request) -> Model:
    about = model_of(desk(request))
    return Model(
        detector=about["detector"],
        branches=about["branches"],
        calibration=about["calibration"],
        demo=about["demo"] or request.app.state.settings.demo,
    )


@router.get("/healthz", response_model=Health, summary="Whether it answers", responses=problems())
async def healthz() -> Health:
    return Health(status="ok")


@router.get("/readyz", response_model=Health, summary="Whether it can judge", responses=problems("NOT_READY"))
def readyz(request: Request) -> Health:
    at = desk(request)
    at.store.waiting()
    model_of(at)
    if at.settings.workers and not at.crew.alive():
        raise Problem("NOT_READY", "No worker runs; the log says why.")
    if at.folder.free_bytes() < at.settings.disk_reserve:
        raise Problem("NOT_READY", "The disk is full.")
    return Health(status="ok")


@router.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus", responses=problems())
def metrics(request: Request) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    at = desk(request)
    shared = CollectorRegistry()
    shared.register(_Collected(at.store))
    text = generate_latest(request.app.state.registry) + generate_latest(shared)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _counted(at: Desk, id: str, after: int) -> AsyncIterator[str]:
    at.streams += 1
    try:
        async for event in stream(at.store, at.changes, id, after):
            yield event
    finally:
        at.streams -= 1


class _Collected:
    """The store's measures for Prometheus."""

    def __init__(self, store: JobStore):
        self.store = store

    def collect(self) -> Any:
        return measures.metrics(self.store.measures(), *self.store.waiting())
