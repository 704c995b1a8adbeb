"""What stands before every route: who asks, from which page, how much they may send and how long they may take for it.

It is plain ASGI, so that a body is refused before it is read, and streams pass through as they are.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openvalle.server.errors import ApiError, to_response
from openvalle.server.metrics import Metrics
from openvalle.server.schema import MOST_BYTES
from openvalle.server.voices import EVERYBODY, name_owner

log = logging.getLogger(__name__)

MOST_BODY = MOST_BYTES * 4 // 3 + (1 << 20)  # a recording in base64, and some text
BODY_SECONDS = 60.0  # for all of a body
SOCKET_KEY = "openai-insecure-api-key."  # browsers can give a WebSocket no header but its protocols (OpenAI's name)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What anyone may read where keys are asked for: probes, the page, the interface itself, and the built-in voices.
ALWAYS_OPEN = ("/health", "/ready", "/openapi.json")
OPEN = ("/", *ALWAYS_OPEN, "/v1/models", "/v1/audio/models", "/v1/audio/voices", "/audio/models", "/audio/voices")
OPEN_UNDER = ("/page/", "/v1/models/", "/v1/download/")  # a download's name cannot be guessed


class Guard:
    """The app behind it sees `scope["state"]["owner"]`: whose voices are meant."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], origins: Collection[str], metrics: Metrics) -> None:
        """`keys`: any of which opens the server; none: it is open. `origins`: of foreign pages that may ask."""
        self._app, self._origins, self._metrics = app, frozenset(origins), metrics
        self._keys = [(key.encode(), name_owner(key)) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_origin(headers, scope)
            scope.setdefault("state", {})["owner"] = self._find_owner(headers, scope)
            if scope["type"] == "websocket":
                await self._app(scope, receive, send)
                return
            self._check_length(headers)
        except ApiError as error:
            await self._refuse(error, scope, receive, send)
            return
        if scope["method"] == "HEAD":  # what GET says, without its body, which uvicorn leaves out
            scope = {**scope, "method": "GET"}
        body = BodyReader(headers, receive)
        await self._app(scope, body.receive, self._count(scope, body, send))

    def _check_origin(self, headers: Headers, scope: Scope) -> None:
        """Refuse what a foreign page makes a browser ask: a server on this machine is no safer than its browsers."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return
        page, asked = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        is_own = page.netloc != "" and page.netloc.lower() == asked.netloc.lower()
        server = (scope.get("server") or ("",))[0]
        if is_own and (server not in LOOPBACK or page.hostname in LOOPBACK):
            return
        raise ApiError(403, f"pages of {origin[:100]} may not ask; allow it with --origin", code="foreign_origin")

    def _find_owner(self, headers: Headers, scope: Scope) -> str:
        if not self._keys:
            return EVERYBODY
        kind, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip() if kind.lower() == "bearer" else ""
        if not key and scope["type"] == "websocket":
            protocols = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
            key = next((name.removeprefix(SOCKET_KEY) for name in protocols if name.startswith(SOCKET_KEY)), "")
        owner = ""
        for known, name in self._keys:
            if hmac.compare_digest(key.encode("utf-8", "replace"), known):
                owner = name
        path, is_reading = scope["path"], scope.get("method") in ("GET", "HEAD", "OPTIONS")
        if key and not owner and path not in ALWAYS_OPEN:
            raise _unauthorised("the API key is not known")
        if not owner and not (is_reading and (path in OPEN or path.startswith(OPEN_UNDER))):
            raise _unauthorised("this server wants an API key: Authorization: Bearer ...")
        return owner

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > MOST_BODY:
            raise _too_large()

    def _count(self, scope: Scope, body: BodyReader, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, str(message["status"])).inc()
                answer = MutableHeaders(scope=message)
                answer.setdefault("X-Content-Type-Options", "nosniff")
                if not body.is_complete:  # what is left of it would be taken for the next request
                    answer["Connection"] = "close"
            await send(message)

        return counted

    async def _refuse(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.requests.labels("refused", str(error.status_code)).inc()
        if scope["type"] == "websocket":
            await receive()  # the client's wish to connect
            await send({"type": "websocket.close", "code": 1008, "reason": error.detail[:100]})
            return
        response = to_response(error)
        response.headers["Connection"] = "close"  # its body is not read
        await response(scope, receive, send)


class BodyReader:
    """A request's body as it comes; `ApiError` for one that is too large, or too slow."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self._receive, self._count = receive, 0
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        self._is_over = False  # all that is still to come is that the client leaves
        self.is_complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """Return the next of it."""
        if self._is_over:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, f"the body took longer than {BODY_SECONDS:.0f} s", code="too_slow") from None
        self._count += len(message.get("body", b""))
        if self._count > MOST_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            self._is_over = self.is_complete = True
        return message


def _unauthorised(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MOST_BODY >> 20} MiB", code="too_large")
