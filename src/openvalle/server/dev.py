"""Routes that may still change: words in time, dialogues, recordings and their words, phones."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData
from starlette.responses import Response

from openvalle.apps.dialogue import Dialogue, Turn, build_script, parse_dialogue
from openvalle.apps.translate import read_source, speak_translation
from openvalle.errors import MissingExtra, UserError
from openvalle.server.errors import JSON, ApiError, explain_validation
from openvalle.server.formats import MEDIA_TYPES
from openvalle.server.orders import Owner, State, warn
from openvalle.server.queue import JobResponse, finish
from openvalle.server.schema import CaptionedRequest, DialogueRequest, EditBody, PhonemizeRequest, VoiceId
from openvalle.server.speech import Piece
from openvalle.server.voice_routes import form_body, read_field, read_file, read_form
from openvalle.server.voices import recording_file
from openvalle.synth.edit import Edit, EditKind, edit
from openvalle.synth.recording import MAX_SECONDS, record
from openvalle.synth.speech import Timed, join_speech
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.language import LANGUAGES, phonemize
from openvalle.text.layout import TextFormat, to_plain
from openvalle.text.spans import detect_language

router = APIRouter(prefix="/dev", tags=["dev"])
STREAMING = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
EDIT_FORMATS = ("wav", "flac", "mp3")


@router.post("/captioned_speech")
async def speak_captioned(body: CaptionedRequest, request: Request, server: State, owner: Owner) -> Response:
    """Speak a text and say when each word is spoken (Kokoro-FastAPI's shape).

    Streamed, every line is `{audio, audio_format, timestamps}`: some of the file in base64, and the words of a sentence
    once it is complete; else one object holds all.
    """
    watch, notes = server.queue.metrics.watch(), list[str]()
    order = await asyncio.to_thread(server.order_speech, body, owner, notes, has_times=True)
    job = server.queue.submit(order.speak)
    kind = MEDIA_TYPES[order.file_format]
    if order.is_whole:
        piece = await finish(request, job)
        watch.see(piece)
        watch.end()
        return JSON(show_piece(piece, kind), headers=warn(notes))
    return JobResponse(job, watch, "application/x-ndjson", warn(notes) | STREAMING, send_lines(kind), explain_line)


def send_lines(kind: str) -> Callable[[AsyncIterator[Piece]], AsyncIterator[bytes]]:
    """Return what makes lines of JSON of pieces of sound of a media type."""

    async def render(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if piece.data or piece.words:
                yield json.dumps(show_piece(piece, kind)).encode() + b"\n"

    return render


def show_piece(piece: Piece, kind: str) -> dict[str, Any]:
    """Return a piece of sound and the words that are complete with it."""
    words = [show_word(word) for word in piece.words]
    sound = base64.b64encode(piece.data).decode()
    speaker = {"speaker": piece.speech.speaker} if piece.speech is not None and piece.speech.speaker else {}
    return {"audio": sound, "audio_format": kind, "text": piece.text, "timestamps": words or None} | speaker


def show_word(word: Timed) -> dict[str, Any]:
    """Return a word and its seconds."""
    return {"word": word.text, "start_time": round(word.start, 3), "end_time": round(word.end, 3)}


def explain_line(error: ApiError) -> bytes:
    """Return an error as a line of JSON."""
    return json.dumps(error.body()).encode() + b"\n"


@router.post("/dialogue")
async def speak_dialogue(body: DialogueRequest, request: Request, server: State, owner: Owner) -> Response:
    """Speak what several speakers say in turn; those without a voice get the server's own, one each."""
    watch, notes = server.queue.metrics.watch(), list[str]()

    def read() -> Any:
        if body.turns:
            turns = [Turn(turn.speaker, turn.text, turn.pause, f"turn {n}") for n, turn in enumerate(body.turns, 1)]
            dialogue = Dialogue(tuple(turns), {})
        else:
            dialogue = parse_dialogue(body.input)
        server.check_length(sum(len(turn.text) for turn in dialogue.turns))
        cast = server.voices.cast(owner, dialogue.speakers, {name: _name(v) for name, v in body.voices.items()})
        turns = [replace(turn, text=to_plain(turn.text, TextFormat.MARKDOWN)) for turn in dialogue.turns]
        script = build_script(replace(dialogue, turns=tuple(turns)))
        first = cast[dialogue.speakers[0]]
        more = {"voice": first, "cast": cast, "is_whole": not body.stream, "has_times": body.captions}
        return server.order(body, owner, script, notes, **more)

    order = await asyncio.to_thread(read)
    job, kind = server.queue.submit(order.speak), MEDIA_TYPES[order.file_format]
    if order.is_whole:
        piece = await finish(request, job)
        watch.see(piece)
        watch.end()
        return (
            JSON(show_piece(piece, kind), headers=warn(notes))
            if body.captions
            else Response(piece.data, 200, warn(notes), kind)
        )
    if body.captions:
        return JobResponse(job, watch, "application/x-ndjson", warn(notes) | STREAMING, send_lines(kind), explain_line)

    async def render(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece.data

    return JobResponse(job, watch, kind, warn(notes) | STREAMING, render)


def _name(voice: str | VoiceId) -> str:
    return voice.id if isinstance(voice, VoiceId) else voice


@router.post(
    "/edit",
    openapi_extra=form_body(
        "audio", "transcript", "edits", "language", "response_format", "seed", "consent", needs=["edits"]
    ),
)
async def edit_recording(request: Request, server: State, owner: Owner) -> Response:
    """Change words of a recording; all else of it stays.

    `edits`: JSON, `[{"kind": "replace", "old": ..., "new": ...}]`; kinds: replace, insert (new after old), delete.
    """
    async with read_form(request, "audio") as form:
        transcript = read_field(form, "transcript", 4000) or None
        file_format, seed = read_format(form), read_seed(form)
        consent, language = read_field(form, "consent", 500), read_language(form, server)
        wanted = read_field(form, "edits", 8000, is_needed=True)
        data = await read_file(form, "audio")
    server.need_consent(owner, consent)
    try:
        edits = TypeAdapter(list[EditBody]).validate_json(wanted)
    except ValidationError as error:
        raise explain_validation([{**error.errors()[0], "loc": ("edits", *error.errors()[0]["loc"])}]) from None

    def work(synthesizer: Synthesizer) -> Iterator[tuple[bytes, dict[str, Any]]]:
        changes = [Edit(EditKind(one.kind), one.old, one.new) for one in edits]
        with recording_file(data) as path:
            best = edit(synthesizer, path, changes, transcript, seed, language=language)[0]
            written = best.clip.save(path.with_name(f"edited.{file_format}"), synthesizer.provenance.tags())
            yield written.read_bytes(), best.as_dict()

    sound, facts = await finish(request, server.queue.submit(work))
    return Response(sound, 200, {"X-Edit": json.dumps(facts)}, MEDIA_TYPES[file_format])


def read_format(form: FormData) -> str:
    """Return the format in which a recording comes back; `ApiError` for an unknown one."""
    name = read_field(form, "response_format") or "wav"
    if name not in EDIT_FORMATS:
        raise ApiError(400, f"response_format: use one of {', '.join(EDIT_FORMATS)}", "response_format")
    return name


def read_seed(form: FormData) -> int:
    """Return the seed of a form, 0 without one; `ApiError` for what is no whole number."""
    seed = read_field(form, "seed", 19) or "0"
    if not (seed.isascii() and seed.isdigit()):
        raise ApiError(400, "seed: give a whole number", "seed")
    return int(seed)


def read_language(form: FormData, server: State) -> str:
    """Return the language of a recording, "" if none is named; `ApiError` for one that the model does not know."""
    name = read_field(form, "language", 35)
    return server.find_spoken(name) if name else ""


@router.post("/transcribe", openapi_extra=form_body("audio", "transcript", "language"))
async def find_words(request: Request, server: State, owner: Owner) -> Response:
    """Say which words are in a recording, and when: those that `/dev/edit` can change.

    Without `transcript` they are recognised.
    """
    async with read_form(request, "audio") as form:
        transcript, language = read_field(form, "transcript", 4000) or None, read_language(form, server)
        data = await read_file(form, "audio")

    def work(synthesizer: Synthesizer) -> Iterator[dict[str, Any]]:
        with recording_file(data) as path:
            heard = record(synthesizer.generator, path, transcript, asr=synthesizer.asr, language=language)
        words = [show_word(word) for word in heard.words_in_time()]
        yield {"text": heard.text, "seconds": round(heard.clip.seconds, 3), "words": words}

    return JSON(await finish(request, server.queue.submit(work)))


YES = ("1", "true", "yes", "on")


@router.post(
    "/translate",
    openapi_extra=form_body(
        *("audio", "to", "from", "transcript", "voice", "fit", "captions", "response_format", "seed", "consent"),
        needs=["to"],
    ),
)
async def translate_recording(request: Request, server: State, owner: Owner) -> Response:
    """Speak a recording in another language, in its speaker's voice.

    `to`, `from`: languages; without `from` and `transcript` they are recognised. `voice`: another one than the
    recording's. `fit` true: every sentence keeps its time. `captions` true: an object with the sound in base64 and the
    sentences of both languages in time.
    """
    translators = server.need_translators()
    async with read_form(request, "audio") as form:
        target = server.find_spoken(read_field(form, "to", 35, is_needed=True), "to")
        language, transcript = read_field(form, "from", 35), read_field(form, "transcript", 4000) or None
        is_fitted, has_captions = (read_field(form, name).lower() in YES for name in ("fit", "captions"))
        file_format, seed = read_format(form), read_seed(form)
        consent, name = read_field(form, "consent", 500), read_field(form, "voice")
        data = await read_file(form, "audio")
    voice = await asyncio.to_thread(server.voices.find, owner, name) if name else None
    record = "" if voice is not None else await asyncio.to_thread(server.need_consent, owner, consent)

    def work(synthesizer: Synthesizer) -> Iterator[dict[str, Any]]:
        with recording_file(data) as path:
            known: dict[str, Any] = {"language": language, "transcript": transcript, "longest": MAX_SECONDS}
            source = read_source(synthesizer, path, target, translators, **known)
            how: dict[str, Any] = {"voice": voice, "is_fitted": is_fitted, "consent": record}
            spoken = []
            for segment in speak_translation(synthesizer, source, seed, **how):
                spoken.append(segment)
                yield {}  # whoever asked may have gone
            speech = join_speech([segment.speech for segment in spoken])
            written = speech.save(path.with_name(f"translated.{file_format}"))
            facts = {"from": source.language, "to": target, "seconds": round(speech.seconds, 3)}
            yield facts | {"sound": written.read_bytes(), "segments": [segment.as_dict() for segment in spoken]}

    found = await finish(request, server.queue.submit(work))
    sound, kind = found.pop("sound"), MEDIA_TYPES[file_format]
    if has_captions:
        return JSON({"audio": base64.b64encode(sound).decode(), "audio_format": kind} | found)
    del found["segments"]
    return Response(sound, 200, {"X-Translation": json.dumps(found)}, kind)


@router.post("/phonemize")
async def show_phones(body: PhonemizeRequest, server: State) -> Response:
    """Say how a text is pronounced."""
    server.check_length(len(body.text))
    notes: list[str] = []
    server.check_keys(body, notes)
    try:
        words = await asyncio.to_thread(phonemize, body.text, body.language or detect_language(body.text, LANGUAGES))
    except UserError as error:
        is_language = isinstance(error, MissingExtra) or "language" in error.what
        raise ApiError(400, str(error), "language" if is_language else "text") from None
    shown = [{"word": word.text, "phones": list(word.phones)} for word in words]
    return JSON({"phonemes": " ".join(" ".join(word.phones) for word in words), "words": shown}, headers=warn(notes))
