"""How /openapi.json describes the routes beyond what their signatures say: problem documents, what may be asked next."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from visavox.service.answers import ProblemDocument
from visavox.service.problems import HTTP_STATUS

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
FORM = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}},
}
"""The body of POST /analyze."""
BODY = {
    "required": True,
    "content": {"multipart/form-data": {"schema": FORM, "encoding": {"file": {"contentType": "video/mp4"}}}},
}
LAST_EVENT = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Number of the last event that was read.",
    "schema": {"type": "string"},
}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may end with these codes, or with those that every route has."""
    always = ("BAD_HOST", "UNAUTHORIZED", "STORE_DOWN", "INTERNAL", "TOO_SLOW", "UPLOAD_TOO_LARGE")
    found: dict[int | str, dict[str, Any]] = {}
    for code in (*always, *codes):
        status = HTTP_STATUS[code]
        before = found.get(status, {}).get("description", "")
        found[status] = {"description": f"{before}, {code}" if before else code, "content": PROBLEM}
    return found


def links() -> dict[str, Any]:
    """What may be asked next of an analysis, for OpenAPI."""
    names = {
        "status": "status_status__id__get",
        "events": "events_events__id__get",
        "analysis": "analysis_analyses__id__get",
        "delete": "delete_analyses__id__delete",
        "feedback": "feedback_analyses__id__feedback_post",
    }
    return {
        name: {"operationId": operation, "parameters": {"id": "$response.body#/analysisId"}}
        for name, operation in names.items()
    }


def openapi(app: FastAPI) -> dict[str, Any]:
    """The description, with problem documents in place of the framework's own errors."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    parts = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        parts.pop(name, None)
    parts["ProblemDocument"] = ProblemDocument.model_json_schema()
    for path in schema["paths"].values():
        for operation in path.values():
            if "422" in operation["responses"]:
                operation["responses"]["422"] = {
                    "description": "BAD_PARAMETER, BAD_UPLOAD, EMPTY_FILE",
                    "content": PROBLEM,
                }
            if app.state.settings.token is not None:
                operation["security"] = [{"token": []}]
    parts_of = schema["components"]
    if app.state.settings.token is not None:
        parts_of["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    app.openapi_schema = schema
    return schema
