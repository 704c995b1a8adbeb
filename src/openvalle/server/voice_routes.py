"""Voices and consents over HTTP, as OpenAI's API has them, and as Open WebUI and others read them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from openvalle.server.errors import JSON, ApiError, explain_validation
from openvalle.server.orders import Owner, Server, State, warn
from openvalle.server.queue import finish
from openvalle.server.schema import MOST_BYTES, PromptVoice, check_text
from openvalle.server.voices import SentClip, check_agreement, cut_page

router = APIRouter(tags=["voices"])
MOST_FIELDS, LONGEST_FIELD = 20, 1 << 14  # of a form: names and transcripts are short
NO_PROMPTS = "voices are made from a recording here, not from a description: send audio_sample as multipart/form-data"


def form_body(file: str, *fields: str, needs: Sequence[str] = ()) -> dict[str, Any]:
    """Return the OpenAPI description of a form with a recording; `needs`: the fields that must be there, too."""
    text: dict[str, Any] = {name: {"type": "string", "maxLength": 500} for name in fields}
    shape = {
        "type": "object",
        "required": [file, *needs],
        "properties": {file: {"type": "string", "format": "binary"}, **text},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": shape}}}}


@asynccontextmanager
async def read_form(request: Request, *files: str) -> AsyncIterator[FormData]:
    """Yield a form that has the `files`; `ApiError` for any other body."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(400, "the body must be multipart/form-data")
    async with request.form(max_files=4, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD) as form:
        for name in files:
            if not isinstance(form.get(name), UploadFile):
                raise ApiError(400, f"{name}: send a recording as a file", name)
        yield form


async def read_file(form: FormData, name: str) -> bytes:
    """Return the bytes of an uploaded file; `ApiError` if it is too large."""
    upload = form[name]
    assert isinstance(upload, UploadFile)
    if (upload.size or 0) > MOST_BYTES:
        raise ApiError(413, f"{name} is larger than {MOST_BYTES >> 20} MiB", name, "too_large")
    return await upload.read()


def read_field(form: FormData, name: str, longest: int = 200, *, is_needed: bool = False) -> str:
    """Return a text of a form; `ApiError` if it is missing, too long or no text."""
    value = form.get(name, "")
    if not isinstance(value, str):
        raise ApiError(400, f"{name}: send a text, not a file", name)
    try:
        value = " ".join(check_text(value).replace("\0", " ").split())
    except ValueError as error:
        raise ApiError(400, f"{name}: {error}", name) from None
    if len(value) > longest:
        raise ApiError(400, f"{name}: at most {longest} characters", name)
    if is_needed and not value:
        raise ApiError(400, f"{name}: it is missing", name)
    return value


@router.get("/v1/audio/voices")
async def list_voices(server: State, owner: Owner) -> Response:
    """List the voices that may be asked for."""
    found = await asyncio.to_thread(server.voices.show, owner)
    return JSON({"object": "list", "voices": found, "data": found})


@router.get("/v1/audio/voices/{voice_id}")
async def show_voice(voice_id: str, server: State, owner: Owner) -> Response:
    """Show one voice."""
    for shown in await asyncio.to_thread(server.voices.show, owner):
        if shown["id"] == voice_id:
            return JSON(shown)
    raise ApiError(404, f"no voice {voice_id[:60]!r}", "voice_id", "voice_not_found")


@router.post(
    "/v1/audio/voices",
    openapi_extra=form_body("audio_sample", "name", "consent", "ref_text", "language", needs=["name"]),
)
async def add_voice(request: Request, server: State, owner: Owner) -> Response:
    """Make a voice of a recording. `consent`: the id of a recorded consent, or who agreed, and when."""
    if request.headers.get("content-type", "").lower().startswith("application/json"):
        raise await _refuse_prompt(request)
    async with read_form(request, "audio_sample") as form:
        name = read_field(form, "name", is_needed=True)
        consent = read_field(form, "consent", 500)
        said, language = read_field(form, "ref_text", 2000), read_field(form, "language", 20) or "en"
        data = await read_file(form, "audio_sample")
    record = await asyncio.to_thread(server.voices.state_consent, owner, consent)
    await asyncio.to_thread(server.voices.check_new, owner, name)
    clip = SentClip(data, said, language, record, name)
    voice = await finish(request, server.queue.submit(lambda synthesizer: [clip.enrol(synthesizer)]))
    shown = await asyncio.to_thread(server.voices.add, owner, voice)
    return JSON(shown, headers=warn([voice.checks] if voice.checks else []))


async def _refuse_prompt(request: Request) -> ApiError:
    try:
        PromptVoice.model_validate_json(await request.body())
    except ValidationError as error:
        return explain_validation(error.errors())
    return ApiError(400, NO_PROMPTS, "type", "unsupported_voice_type")


@router.delete("/v1/audio/voices/{voice_id}")
async def remove_voice(voice_id: str, server: State, owner: Owner) -> Response:
    """Forget an uploaded voice."""
    await asyncio.to_thread(server.voices.remove, owner, voice_id)
    return JSON({"id": voice_id, "deleted": True, "object": "audio.voice.deleted"})


@router.post(
    "/v1/audio/voice_consents", openapi_extra=form_body("recording", "name", "language", needs=["name", "language"])
)
async def add_consent(request: Request, server: State, owner: Owner) -> Response:
    """Keep a recording in which someone agrees to the use of their voice."""
    async with read_form(request, "recording") as form:
        name, language = read_field(form, "name", is_needed=True), read_field(form, "language", 35, is_needed=True)
        data = await read_file(form, "recording")
    heard = await finish(request, server.queue.submit(lambda _: [check_agreement(data, language)]))
    consent = await asyncio.to_thread(server.voices.add_consent, owner, name, language, data, heard)
    return JSON(consent.shown())


@router.get("/v1/audio/voice_consents")
async def list_consents(
    server: State, owner: Owner, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """List the recorded consents."""
    return JSON(cut_page(await _show_consents(server, owner), after, limit))


async def _show_consents(server: Server, owner: str) -> list[dict[str, Any]]:
    found = await asyncio.to_thread(server.voices.consents, owner)
    return [consent.shown() for consent in found.values()]


@router.get("/v1/audio/voice_consents/{consent_id}")
async def show_consent(consent_id: str, server: State, owner: Owner) -> Response:
    """Show one consent."""
    return JSON((await asyncio.to_thread(server.voices.find_consent, owner, consent_id)).shown())


@router.post("/v1/audio/voice_consents/{consent_id}")
async def rename_consent(consent_id: str, request: Request, server: State, owner: Owner) -> Response:
    """Give a consent another name."""
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not valid JSON") from None
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise ApiError(400, "name: give the new name", "name")
    try:
        check_text(name)
    except ValueError as error:
        raise ApiError(400, f"name: {error}", "name") from None
    return JSON((await asyncio.to_thread(server.voices.rename_consent, owner, consent_id, name)).shown())


@router.delete("/v1/audio/voice_consents/{consent_id}")
async def remove_consent(consent_id: str, server: State, owner: Owner) -> Response:
    """Withdraw a consent: the voices that rest on it are forgotten, too."""
    gone = await asyncio.to_thread(server.voices.remove_consent, owner, consent_id)
    return JSON({"object": "audio.voice_consent", "id": consent_id, "deleted": True, "voices": gone})
