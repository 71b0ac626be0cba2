"""Errors over HTTP: application/problem+json (RFC 9457) with the stable codes of `visavox.errors`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

from visavox.errors import CODES

HTTP_STATUS = {
    "BAD_REQUEST": 400,
    "BAD_HOST": 400,
    "UNAUTHORIZED": 401,
    "FOREIGN_ORIGIN": 403,
    "NO_SUCH_ANALYSIS": 404,
    "NO_SUCH_PAGE": 404,
    "METHOD_NOT_ALLOWED": 405,
    "TOO_SLOW": 408,
    "NOT_DONE": 409,
    "UPLOAD_TOO_LARGE": 413,
    "NOT_MULTIPART": 415,
    "NOT_A_VIDEO": 415,
    "BAD_UPLOAD": 422,
    "BAD_PARAMETER": 422,
    "EMPTY_FILE": 422,
    "TOO_MANY_UPLOADS": 429,
    "QUEUE_FULL": 503,
    "STORE_DOWN": 503,
    "NOT_READY": 503,
    "NO_SPACE": 507,
    "INTERNAL": 500,
}
"""The status of each code that a request can end with."""


class Problem(Exception):
    """Ends a request with a problem document.

    Args:
        code: one of HTTP_STATUS.
        detail: what was found and what is expected, in words; no path and no content of the upload.
        headers: beside those of every answer, such as Retry-After.
    """

    def __init__(self, code: str, detail: str = "", headers: dict[str, str] | None = None):
        super().__init__(detail or code)
        self.code, self.headers = code, headers or {}
        self.detail = detail or CODES[code].happened

    @property
    def status(self) -> int:
        return HTTP_STATUS[self.code]

    def document(self) -> dict[str, Any]:
        """Return the fields of the problem document."""
        return {
            "type": f"urn:visavox:problem:{self.code.lower().replace('_', '-')}",
            "title": CODES[self.code].happened,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "cure": CODES[self.code].cure,
        }

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.document(), self.status, headers=self.headers, media_type="application/problem+json")


def of_status(status: int, detail: str = "", headers: dict[str, str] | None = None) -> Problem:
    """Return the problem for a status that the framework itself gives."""
    code = {404: "NO_SUCH_PAGE", 405: "METHOD_NOT_ALLOWED", 415: "NOT_MULTIPART", 422: "BAD_PARAMETER"}.get(status)
    code = code or ("BAD_REQUEST" if status < 500 else "INTERNAL")
    phrase = HTTPStatus(status).phrase
    return Problem(code, "" if detail == phrase else detail, headers)
