"""Errors in the shape of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`, never inside `detail`."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from openvalle.errors import UserError
from openvalle.synth.batching import BatcherClosed, Cancelled, QueueFull

log = logging.getLogger(__name__)

LONGEST = 500  # characters of a message
FULL = (errno.ENOSPC, errno.EDQUOT)
BUSY_SECONDS = 5  # after which a client may ask again, where nobody knows better


class ErrorFacts(BaseModel):
    """What went wrong."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An answer that is an error."""

    error: ErrorFacts


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "model": ErrorBody}
    for status, what in {
        400: "what the request is wrong in",
        401: "no API key that is known",
        403: "not allowed",
        404: "no such thing",
        405: "no such method",
        408: "the body came too slowly",
        413: "too large",
        429: "too many requests wait: ask again after Retry-After seconds",
        500: "a fault of the server",
        503: "not ready, out of memory, or about to stop: ask again after Retry-After seconds",
        507: "the server's disk is full",
    }.items()
}


class ApiError(HTTPException):
    """An answer that is an error. `param`: the field that is wrong; `code`: a word that programs look for."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param, self.code = param, code

    def body(self) -> dict[str, Any]:
        """Return the error as clients read it."""
        kind = "server_error" if self.status_code >= 500 else "invalid_request_error"
        message = " ".join(self.detail.split())[:LONGEST]
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}


class JSON(Response):
    """JSON in ASCII: whatever characters a request held, the answer can be sent."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class ClientGone(Exception):
    """Whoever asked does not listen any more."""


def busy(status: int, message: str, seconds: float = BUSY_SECONDS, code: str | None = None) -> ApiError:
    """Return "not now": the client may ask again after so many seconds."""
    return ApiError(status, message, code=code, headers={"Retry-After": str(max(1, round(seconds)))})


def to_api_error(error: BaseException) -> ApiError:
    """Return what to tell the client; what nobody expected is logged, and told without details."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFull):
        return busy(429, str(error), error.retry_after, "queue_full")
    if isinstance(error, BatcherClosed):
        return busy(503, "the server is about to stop; ask again later", code="stopping")
    if isinstance(error, Cancelled):
        return busy(503, "the server stopped before this was done; ask again later", code="stopping")
    if isinstance(error, UserError):
        return ApiError(400, str(error))
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, RequestValidationError):
        return explain_validation(error.errors())
    if isinstance(error, OSError) and error.errno in FULL:
        return ApiError(507, "the server's disk is full; nothing was kept", code="disk_full")
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        log.error("out of memory: %s", error)
        return busy(503, "the server has too little memory for this now; ask again later", code="out_of_memory")
    log.error("a request failed", exc_info=error)
    return ApiError(500, "something went wrong in the server; its log says what", code="internal_error")


def explain_validation(errors: Sequence[Any]) -> ApiError:
    """Return the first thing that is wrong with a request, with the name of its field."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not valid JSON ({first.get('ctx', {}).get('error', 'it cannot be read')})")
    field = ".".join(place) or None
    what = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{field}: {what}" if field else f"the request cannot be used: {what}", field)


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of the app's routes, and of addresses that it does not have, leave in this shape."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, ClientGone):
            return Response(status_code=499)  # nobody reads it
        if isinstance(error, HTTPException) and error.status_code == 404 and not isinstance(error, ApiError):
            error = ApiError(404, f"there is no {request.method} {request.url.path}", code="not_found")
        return to_response(to_api_error(error))

    for kind in (ClientGone, HTTPException, RequestValidationError, UserError, Exception):
        app.add_exception_handler(kind, answer)


def to_response(error: ApiError) -> Response:
    """Return an error as a response."""
    return JSON(error.body(), error.status_code, dict(error.headers or {}))
