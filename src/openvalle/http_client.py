"""Asking servers by HTTP: no redirects, when to ask again, and why one could not be asked."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPMessage, HTTPResponse
from typing import IO, NoReturn

from openvalle.errors import UserError


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry the key to another host: it is an error, with the address to use instead."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> NoReturn:
        raise UserError(f"the server answers with a redirect to {newurl}", "give that address")


def open_url(request: urllib.request.Request, seconds: float) -> HTTPResponse:
    """Return the answer; raises what urllib raises, also where no byte comes for so many seconds, and `UserError` for
    a redirect."""
    answer: HTTPResponse = urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds)
    return answer


def read_wait(error: urllib.error.HTTPError) -> float | None:
    """Return the seconds after which a server wants to be asked again, None where it does not say."""
    asked = error.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else None


def explain_failure(error: Exception) -> str:
    """Return why a server could not be asked."""
    return str(getattr(error, "reason", None) or error)
