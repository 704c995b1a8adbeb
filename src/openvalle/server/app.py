"""The app: OpenAI's speech interface, what is alive and ready, and figures. The other routes have rooms of their own.

`create_app` makes an app of a loaded model; whatever runs ASGI can serve it (`openvalle.server.run`, Ray Serve).
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import ValidationError
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from openvalle import __version__
from openvalle.errors import ModelError
from openvalle.server import dev, live, voice_routes, web
from openvalle.server.errors import ERRORS, JSON, ApiError, add_error_handlers, busy, explain_validation, to_api_error
from openvalle.server.formats import MEDIA_TYPES
from openvalle.server.guard import Guard
from openvalle.server.orders import Owner, Server, Settings, State, warn
from openvalle.server.queue import JobResponse, SpeechQueue, finish, while_connected
from openvalle.server.schema import BatchItem, BatchRequest, SpeechFields, SpeechRequest
from openvalle.server.speech import Order, Piece, Usage
from openvalle.server.voices import VoiceStore
from openvalle.server.wyoming import open_wyoming
from openvalle.synth.batching import Job
from openvalle.synth.heard import HeardVoices
from openvalle.synth.plan import parse_script
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.translator import Translators

WARM_TEXT = "Ready to speak."
STREAMING = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies hand on each piece
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")
SOUND: dict[int | str, dict[str, Any]] = {
    200: {"description": "the sound", "content": {kind: {} for kind in (*MEDIA_TYPES.values(), "text/event-stream")}}
}
router = APIRouter()


def create_app(
    synthesizer: Synthesizer,
    folder: Path,
    settings: Settings | None = None,
    voice: Voice | None = None,
    wyoming: socket.socket | None = None,
) -> FastAPI:
    """Return the app that speaks with a loaded model.

    `folder`: where voices that are uploaded are kept; `voice`: that of requests that name none, by default the
    adapter's, else the built-in one; `wyoming`: where Home Assistant's protocol is listened for. Jobs run from the
    app's start to its end; it is ready once it has spoken its first words.
    """
    settings = settings or Settings()
    synthesizer = replace(synthesizer, heard=HeardVoices(on_disk=False))  # recordings of others are not kept
    queue = SpeechQueue(synthesizer, settings.rows, settings.waiting)
    translators = Translators.find(settings.translators) if settings.translators else None
    if translators is not None:
        translators.load()
    server = Server(synthesizer, settings, queue, VoiceStore(folder, synthesizer, voice), translators)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(queue.warm_up(_first_words(server)))
        if settings.is_ready_first:
            await warming
        async with open_wyoming(server, wyoming) if wyoming else nullcontext():
            yield
            warming.cancel()
            await queue.close(settings.drain_seconds)

    middleware = [Middleware(Guard, settings.keys, settings.origins, queue.metrics)]
    if settings.origins:
        allowed: dict[str, Any] = {
            "allow_methods": ["*"],
            "allow_headers": ["*"],
            "expose_headers": ["Warning", "X-Download-Path"],
        }
        middleware.insert(0, Middleware(CORSMiddleware, allow_origins=list(settings.origins), **allowed))
    app = FastAPI(
        title="openvalle",
        version=__version__,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        middleware=middleware,
    )
    app.state.server = server
    add_error_handlers(app)
    for part in (router, voice_routes.router, dev.router, live.router, web.router):
        app.include_router(part, responses=ERRORS)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the app's OpenAPI description; what FastAPI says of its own kind of error is left out."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for operations in app.openapi_schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            app.openapi_schema["components"]["schemas"].pop(name, None)
    return app.openapi_schema


def _first_words(server: Server) -> Order | None:
    try:
        voice = server.voices.default
    except ModelError:
        return None  # there is no voice yet
    return Order(parse_script(WARM_TEXT), voice, "pcm", 0, server.synthesizer.options)


@router.post("/v1/audio/speech", responses=SOUND, tags=["speech"])
async def speak(body: SpeechRequest, request: Request, server: State, owner: Owner) -> Response:
    """Speak a text, as OpenAI's `audio.speech.create` does; the sound comes while it is being made."""
    watch, notes = server.queue.metrics.watch(), list[str]()
    order = await asyncio.to_thread(server.order_speech, body, owner, notes)
    job = server.queue.submit(order.speak)
    headers = warn(notes) | STREAMING
    media_type = MEDIA_TYPES[order.file_format]
    if body.stream_format == "sse":
        return JobResponse(job, watch, "text/event-stream", headers, send_events, explain_event)
    link, kept = server.open_download(body, media_type)
    if order.is_whole:
        piece = await finish(request, job)
        watch.see(piece)
        watch.end()
        kept.extend(piece.data)
        return Response(piece.data, 200, headers | link, media_type)

    async def render(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            kept.extend(piece.data)
            yield piece.data

    return JobResponse(job, watch, media_type, headers | link, render if link else send_sound)


async def send_sound(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    """Yield the bytes of the file."""
    async for piece in pieces:
        yield piece.data


async def send_events(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    """Yield OpenAI's server-sent events: deltas of the file in base64, then what it took."""
    usage = Usage()
    async for piece in pieces:
        if piece.speech is not None:
            usage.add(piece.speech)
        if piece.data:
            yield to_event({"type": "speech.audio.delta", "audio": base64.b64encode(piece.data).decode()})
    yield to_event({"type": "speech.audio.done", "usage": usage.shown()})


def explain_event(error: ApiError) -> bytes:
    """Return the event of an error."""
    return to_event({"type": "speech.audio.error", **error.body()})


def to_event(values: dict[str, Any]) -> bytes:
    """Return a server-sent event."""
    return b"data: " + json.dumps(values).encode() + b"\n\n"


@router.post("/v1/audio/speech/batch", tags=["speech"])
async def speak_batch(body: BatchRequest, request: Request, server: State, owner: Owner) -> Response:
    """Speak several texts at a time; each has its own sound, or its own error."""
    notes: list[str] = []
    server.check_keys(body, notes)
    common = body.model_dump(include=set(SpeechFields.model_fields), exclude_unset=True)
    places, jobs = asyncio.Semaphore(server.settings.rows), list[Job[Piece]]()  # others have their turn, too

    async def one(index: int, values: dict[str, Any]) -> dict[str, Any]:
        try:
            item = BatchItem.model_validate(common | values)
            order = await asyncio.to_thread(server.order, item, owner, item.input, notes, is_whole=True)
            async with places:
                job = server.queue.submit(order.speak)
                jobs.append(job)
                piece = await job.wait()
        except ValidationError as error:
            return {"index": index, "status": "error", **explain_validation(error.errors()).body()}
        except Exception as error:  # noqa: BLE001
            return {"index": index, "status": "error", **to_api_error(error).body()}
        server.queue.metrics.count(piece)
        sound = {"audio_data": base64.b64encode(piece.data).decode(), "media_type": MEDIA_TYPES[order.file_format]}
        return {"index": index, "status": "success", **sound, "usage": Usage.count(piece.speech).shown()}

    everything = asyncio.gather(*(one(index, values) for index, values in enumerate(body.items)))
    results = await while_connected(request.receive, jobs, everything)
    good = sum(result["status"] == "success" for result in results)
    counts = {"total": len(results), "succeeded": good, "failed": len(results) - good}
    return JSON({"id": f"batch_{secrets.token_hex(12)}", "results": results, **counts}, headers=warn(notes))


@router.get("/v1/models", tags=["models"])
async def list_models(server: State) -> Response:
    """List the model, as OpenAI does."""
    return JSON({"object": "list", "data": [server.show_model()]})


@router.get("/v1/audio/models", tags=["models"])
async def list_audio_models(server: State) -> Response:
    """List the model, as Open WebUI asks for it."""
    return JSON({"object": "list", "models": [server.show_model()], "data": [server.show_model()]})


@router.get("/v1/models/{model}", tags=["models"])
async def show_model(model: str, server: State) -> Response:
    """Show the model; OpenAI's names stand for it, too."""
    server.check_model(model)
    return JSON(server.show_model() | {"id": model})


@router.get("/v1/download/{name}", tags=["speech"], responses=SOUND)
async def download(name: str, request: Request, server: State) -> Response:
    """Give a file that was asked for by link, or the part of it that a player wants."""
    found = server.downloads.find(name)
    if found is None:
        raise ApiError(404, "there is no such file, or no longer", code="not_found")
    data, media_type = found
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=600"}
    asked = RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or asked.groups() == ("", ""):
        return Response(data, 200, headers, media_type)
    first, last = asked.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(int(last) + 1 if first and last else len(data), len(data))
    if start >= end:
        raise ApiError(416, "the file has no such part", headers={"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Response(data[start:end], 206, headers, media_type)


@router.get("/health", tags=["server"])
async def health() -> Response:
    """Say that the process lives."""
    return JSON({"status": "healthy"})


@router.get("/ready", tags=["server"])
async def ready(server: State) -> Response:
    """Say whether the next request is spoken at once."""
    if not server.queue.is_ready:
        raise busy(503, "the model is being made ready", 2, "not_ready")
    return JSON({"status": "ready"})


@router.get("/metrics", tags=["server"])
async def metrics(server: State) -> Response:
    """Give the figures to Prometheus."""
    return Response(server.queue.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
