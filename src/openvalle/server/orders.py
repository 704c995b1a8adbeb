"""A request -> an order: which voice, which text, which options; and what of the request cannot be honoured."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from openvalle.errors import TextError, UserError
from openvalle.safety.consent import ConsentPolicy
from openvalle.server.errors import ApiError
from openvalle.server.queue import SpeechQueue
from openvalle.server.schema import (
    MODEL,
    MOST_CHARACTERS,
    OPENAI_MODELS,
    SILENT_INSTRUCTIONS,
    Body,
    SpeechFields,
    SpeechRequest,
    VoiceField,
    VoiceId,
    read_data_url,
)
from openvalle.server.speech import Order
from openvalle.server.voices import SentClip, VoiceStore
from openvalle.synth.plan import Script, parse_script
from openvalle.synth.synthesizer import Synthesizer, Text
from openvalle.synth.voice import Voice
from openvalle.text.layout import TextFormat, to_plain
from openvalle.text.translator import Translators

log = logging.getLogger(__name__)

LANGUAGES = ("", "auto", "a", "b")  # what clients send that means "you know": Kokoro's a and b are English
BEGAN = 1_767_225_600  # 2026-01-01: clients want a date of the model
KEPT_SECONDS = 600.0  # that a download stays
KEPT_BYTES = 64 << 20


@dataclass(frozen=True)
class Settings:
    """What the one who starts a server decides."""

    keys: Sequence[str] = ()
    origins: Sequence[str] = ()  # of foreign pages that may ask
    is_strict: bool = False  # unknown fields are refused
    is_patient: bool = False  # streams: a line is heard only when it is known to be right
    rows: int = 8
    waiting: int = 32
    most_characters: int = MOST_CHARACTERS
    drain_seconds: float = 30.0
    translators: Sequence[str] = ()  # of speech: folders, names or addresses; none: nothing is translated
    is_ready_first: bool = (
        False  # requests come as soon as the app has started, as with Ray: it starts when it is ready
    )


@dataclass
class Server:
    """What the routes share."""

    synthesizer: Synthesizer
    settings: Settings
    queue: SpeechQueue
    voices: VoiceStore
    translators: Translators | None = None
    downloads: Downloads = field(default_factory=lambda: Downloads())
    sessions: int = 0  # WebSockets that are open

    def order(self, fields: SpeechFields, owner: str, text: Text, notes: list[str], **more: Any) -> Order:
        """Return what a request orders; what cannot be honoured is added to `notes`.

        `text`: as the request has it; or a script, of which `cast` tells every voice, or pieces that arrive.
        `more`: fields of the order that are not the request's. Raises `ApiError` and `UserError`.
        """
        language = self._check_fields(fields, notes)
        cast: dict[str, Voice] = {}
        if isinstance(text, str):
            text = self.read_script(text, fields.markup, notes)
            try:
                cast = text.cast(lambda name: self.voices.find(owner, name))
            except TextError as error:
                raise ApiError(400, str(error), "input") from None
        speed = min(max(fields.speed, 0.5), 2.0)
        if speed != fields.speed:
            notes.append(f"speed {fields.speed:g} is spoken as {speed:g}")
        options = self.synthesizer.sampling(fields.temperature, fields.top_p, speed=speed, accent=fields.accent)
        voice = more.pop("voice", None) or self.find_voice(owner, fields.voice)
        more = {"language": language} | more
        known: dict[str, Any] = {"cast": cast, "gain": fields.volume_multiplier, "is_patient": self.settings.is_patient}
        return Order(text, voice, fields.response_format, fields.seed, options, **known | more)

    def order_speech(self, request: SpeechRequest, owner: str, notes: list[str], **more: Any) -> Order:
        """Return what `POST /v1/audio/speech` orders."""
        clip = self._clip(request, owner) if request.ref_audio else None
        is_whole = not request.stream or request.duration is not None
        more = {"voice": clip, "is_whole": is_whole, "duration": request.duration} | more
        return self.order(request, owner, request.input, notes, **more)

    def read_script(self, text: str, markup: str, notes: list[str]) -> Script:
        """Return the script of a text; `ApiError` if it is too long."""
        self.check_length(len(text))
        try:
            script = parse_script(to_plain(text, TextFormat.MARKDOWN) if markup == "auto" else text, markup)
        except TextError as error:
            raise ApiError(400, str(error), "input") from None
        notes += script.notes
        return script

    def check_length(self, characters: int) -> None:
        """Raise `ApiError` for a text that is too long."""
        most = self.settings.most_characters
        if characters > most:
            raise ApiError(
                400, f"the input has {characters} characters; at most {most} are spoken", "input", "too_long"
            )

    def need_consent(self, owner: str, consent: str) -> str:
        """Return the record of a consent to a recording's use; `ApiError` where it is missing, unless none is asked."""
        if consent or self.synthesizer.policy is not ConsentPolicy.OFF:
            return self.voices.state_consent(owner, consent)
        return ""

    def find_spoken(self, language: str, field: str = "language") -> str:
        """Return the code of a language that the model speaks; `ApiError` for another one."""
        try:
            return self.synthesizer.find_languages(language).chosen
        except UserError as error:
            raise ApiError(400, str(error), field) from None

    def need_translators(self) -> Translators:
        """Return what translates; `ApiError` (404) if this server was started without."""
        if self.translators is None:
            how = "whoever runs it can start it with `openvalle serve --translator FOLDER`"
            raise ApiError(404, f"this server translates no speech; {how}", code="no_translator")
        return self.translators

    def find_voice(self, owner: str, voice: VoiceField | None) -> Voice:
        """Return the voice that a request names, else the default one."""
        name = voice.id if isinstance(voice, VoiceId) else voice
        return self.voices.find(owner, name) if name else self.voices.default

    def check_keys(self, body: Body, notes: list[str]) -> None:
        """Note the keys of a body that mean nothing here; `ApiError` where the server is strict."""
        unknown = body.unknown()
        if unknown and self.settings.is_strict:
            raise ApiError(400, f"unknown field {unknown[0][:60]!r}", unknown[0][:60], "unknown_field")
        if unknown:
            names = ", ".join(repr(name[:40]) for name in unknown[:10])
            log.info("unknown fields are left alone: %s", names)
            notes.append(f"unknown fields are left alone: {names}")

    def check_model(self, name: str) -> None:
        """Raise `ApiError` (404) for the name of another model than ours, of which OpenAI's names are one more."""
        if name not in (MODEL, self.synthesizer.config.name, *OPENAI_MODELS):
            raise ApiError(404, f"there is no model {name[:60]!r}; there is {MODEL}", "model", "model_not_found")

    def show_model(self) -> dict[str, Any]:
        """Return the model as OpenAI's API shows one."""
        facts = {"name": self.synthesizer.config.name, "license": self.synthesizer.config.licence}
        return {"id": MODEL, "object": "model", "created": BEGAN, "owned_by": "openvalle", **facts}

    def open_download(self, request: SpeechRequest, media_type: str) -> tuple[dict[str, str], bytearray]:
        """Return the headers that name the file's link, if one is wanted, and the bytes to fill."""
        if not request.return_download_link:
            return {}, bytearray()
        name, data = self.downloads.open(request.response_format, media_type)
        return {"X-Download-Path": f"/v1/download/{name}"}, data

    def _check_fields(self, fields: SpeechFields, notes: list[str]) -> str:
        """Return the language of the input, empty: as its script shows."""
        self.check_keys(fields, notes)
        if self.settings.is_strict:
            self.check_model(fields.model)
        language = (fields.language or fields.lang_code).strip().lower()
        is_told = language not in LANGUAGES and not language.startswith("english")
        chosen = self.find_spoken(language) if is_told else ""
        if fields.accent not in (None, "native") and not self.synthesizer.knows_languages:
            what = f"the accent {fields.accent!r} needs a model that was trained with several languages"
            raise ApiError(400, what, "accent")
        if fields.instructions.strip().lower() not in SILENT_INSTRUCTIONS:
            notes.append("instructions are not followed by this model")
        return chosen

    def _clip(self, request: SpeechRequest, owner: str) -> SentClip:
        try:
            data = read_data_url(request.ref_audio, "ref_audio")
        except ValueError as error:
            raise ApiError(400, str(error), "ref_audio") from None
        return SentClip(data, request.ref_text, "en", self.need_consent(owner, request.consent))


class Downloads:
    """Files that were asked for by link, for a while: for players that want an address. Names cannot be guessed."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple[float, bytearray, str]] = OrderedDict()

    def open(self, file_format: str, media_type: str) -> tuple[str, bytearray]:
        """Return the name of a new file and its bytes, to be filled."""
        self._sweep()
        name, data = f"{secrets.token_urlsafe(16)}.{file_format}", bytearray()
        self._files[name] = (time.monotonic(), data, media_type)
        return name, data

    def find(self, name: str) -> tuple[bytes, str] | None:
        """Return a file's bytes and type; None if it is not, or no longer, there."""
        self._sweep()
        found = self._files.get(name)
        return None if found is None else (bytes(found[1]), found[2])

    def _sweep(self) -> None:
        oldest = time.monotonic() - KEPT_SECONDS
        while self._files:
            begun, *_ = next(iter(self._files.values()))
            if begun > oldest and sum(len(data) for _, data, _ in self._files.values()) <= KEPT_BYTES:
                return
            self._files.popitem(last=False)


def get_server(request: HTTPConnection) -> Server:
    """Return what the routes of this app share."""
    server: Server = request.app.state.server
    return server


def get_owner(request: HTTPConnection) -> str:
    """Return whose voices are meant (see `openvalle.server.guard`)."""
    owner: str = request.state.owner
    return owner


State = Annotated[Server, Depends(get_server)]
Owner = Annotated[str, Depends(get_owner)]


def warn(notes: Sequence[str]) -> dict[str, str]:
    """Return the header that says what of a request could not be honoured."""
    shown = [
        "".join(character if " " <= character <= "~" and character not in '"\\' else "'" for character in note)[:200]
        for note in dict.fromkeys(notes)
    ]
    return {"Warning": ", ".join(f'299 openvalle "{note}"' for note in shown[:5])} if shown else {}
