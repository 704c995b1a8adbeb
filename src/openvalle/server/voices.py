"""The voices that a server knows: the built-in ones, the operator's own, and those that its users uploaded.

Uploaded voices and the consents they rest on lie in a folder for each API key, named by the key's digest, as files that
appear whole or not at all: a restart, and other processes that share the folder, find them. Nobody sees another key's.
A name or id from a request is only ever compared with what is there; it never becomes part of a path.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import secrets
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from openvalle.errors import AudioError, MissingExtra, ModelError, UserError
from openvalle.files import atomic_path, write_text
from openvalle.hub import VOICE_SUFFIX, Kind, is_builtin, list_names
from openvalle.server.errors import ApiError
from openvalle.server.schema import MOST_BYTES, OPENAI_VOICES
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import DEFAULT_VOICE, Voice

log = logging.getLogger(__name__)

EVERYBODY = "everybody"  # whose voices are meant where no key is asked for
MOST_KEPT = 200  # voices, and consents, of one key
AGREEING = {  # what somebody says who agrees, by language; what is said in others is not looked for
    "en": ("consent", "agree", "permission", "permit", "allow", "authorize", "authorise"),
    "zh": ("同意", "授权", "授權", "许可", "許可", "允许", "允許"),
    "ja": ("同意", "許可", "許諾", "承諾", "認め"),
}
RECORDING = "recording"  # what an upload is called in messages


@dataclass(frozen=True)
class Consent:
    """Someone's recorded word that their voice may be used."""

    id: str
    name: str
    language: str
    created_at: int
    digest: str  # of the recording
    heard: str = ""  # what speech recognition made of it, where a recogniser that can be relied on is installed

    def shown(self) -> dict[str, Any]:
        """Return it as OpenAI's API does."""
        known = {key: getattr(self, key) for key in ("id", "name", "language", "created_at")}
        return {"object": "audio.voice_consent", **known}


@dataclass(frozen=True)
class SentClip:
    """A recording from a request, and what was said about it."""

    data: bytes
    text: str  # what is said in it; empty: it is transcribed
    language: str
    consent: str
    name: str = RECORDING

    def enrol(self, synthesizer: Synthesizer) -> Voice:
        """Return its voice; `AudioError` if it cannot be one."""
        with recording_file(self.data) as path:
            known = {"consent": self.consent, "language": self.language or "en"}
            return replace(synthesizer.voice(path, self.text or None, **known), name=self.name, source="an upload")


@contextmanager
def recording_file(data: bytes) -> Iterator[Path]:
    """Yield a recording from a request as a file with a name of ours, while it is read; errors name no path."""
    if not data:
        raise AudioError("the recording is empty", "record it again")
    if len(data) > MOST_BYTES:
        raise ApiError(413, f"the recording is larger than {MOST_BYTES >> 20} MiB", code="too_large")
    with tempfile.TemporaryDirectory(prefix="openvalle-") as folder:
        path = Path(folder) / RECORDING
        path.write_bytes(data)
        try:
            yield path
        except MissingExtra:
            raise
        except UserError as error:
            what, hint = (part.replace(str(path), "the recording") for part in (error.what, error.hint))
            raise AudioError(what, hint) from None


class VoiceStore:
    """Voices by owner (`name_owner`); "" is a stranger, who sees the built-in ones only. Threads may share it."""

    def __init__(self, folder: Path, synthesizer: Synthesizer, default: Voice | None = None) -> None:
        """`folder`: of what is uploaded; `default`: the voice of requests that name none; else the adapter's."""
        self._folder, self._synthesizer = folder, synthesizer
        self._default = default or synthesizer.own_voice
        self._read: dict[Path, tuple[float, Voice | None]] = {}

    @property
    def default(self) -> Voice:
        """The voice of requests that name none; `ModelError` if there is none."""
        if self._default is not None:
            return self._default
        for name in (DEFAULT_VOICE, *list_names(Kind.VOICE)):
            if (found := self._named().get(name)) is not None:
                return found
        raise ModelError("this server has no voice of its own", "name a voice in the request")

    def show(self, owner: str) -> list[dict[str, Any]]:
        """Return the voices that `owner` may use, as the API shows them: the server's own, then the uploaded ones."""
        shown = []
        if self._default is not None and owner:
            shown.append(_show(self._default.name, self._default))
        own = self._named(only_builtin=not owner)
        shown += [_show(name, voice) for name, voice in own.items() if not shown or name != shown[0]["id"]]
        return shown + [_show(key, voice) for key, voice in self._uploaded(owner).items()]

    def find(self, owner: str, name: str) -> Voice:
        """Return the voice called `name`, by id or name; `ApiError` (404) lists those there are."""
        uploaded = self._uploaded(owner)
        if name in uploaded:
            return uploaded[name]
        for voice in uploaded.values():
            if voice.name == name:
                return voice
        if self._default is not None and name in (self._default.name, DEFAULT_VOICE):
            return self._default
        own = self._named(only_builtin=not owner)
        if name in own:
            return own[name]
        if name.lower() in OPENAI_VOICES:
            builtin = list(self._named(only_builtin=True).values())
            return builtin[OPENAI_VOICES.index(name.lower()) % len(builtin)] if builtin else self.default
        there = ", ".join(list(dict.fromkeys(shown["name"] for shown in self.show(owner)))[:50])
        raise ApiError(404, f"no voice called {name[:60]!r}; there are: {there or 'none'}", "voice", "voice_not_found")

    def cast(self, owner: str, speakers: Sequence[str], chosen: Mapping[str, str]) -> dict[str, Voice]:
        """Return the voice of every speaker: as chosen, else one of the server's own that nobody else has."""
        for name in chosen:
            if name not in speakers:
                raise ApiError(400, f"nobody is called {name[:60]!r}; there are: {', '.join(speakers)[:200]}", "voices")
        found = {name: self.find(owner, voice) for name, voice in chosen.items()}
        taken = {voice.name for voice in found.values()}
        named = [self.default, *self._named(only_builtin=True).values()]
        left = [voice for voice in {voice.name: voice for voice in named}.values() if voice.name not in taken]
        for name in speakers:
            if name not in found:
                if not left:
                    raise ApiError(400, f"the speaker {name[:60]!r} has no voice: name one", "voices")
                found[name] = left.pop(0)
        return found

    def check_new(self, owner: str, name: str) -> None:
        """Raise `ApiError` if no voice of this name can be kept."""
        there = self._uploaded(owner)
        if any(voice.name == name for voice in there.values()):
            raise ApiError(400, f"there is a voice called {name[:60]!r} already", "name", "voice_exists")
        self._check_room(there)

    def add(self, owner: str, voice: Voice) -> dict[str, Any]:
        """Keep an uploaded voice and return it as the API shows it."""
        self.check_new(owner, voice.name)
        key = f"voice_{secrets.token_hex(12)}"
        voice.save(self._place(owner, "voices") / f"{key}{VOICE_SUFFIX}", replace=False)
        return _show(key, voice)

    def remove(self, owner: str, key: str) -> None:
        """Forget an uploaded voice; `ApiError` if it is not there, or is the server's own."""
        if key not in self._uploaded(owner):
            if key in self._named():
                raise ApiError(403, f"the voice {key[:60]!r} is the server's own", "voice_id", "not_yours")
            raise ApiError(404, f"no uploaded voice {key[:60]!r}", "voice_id", "voice_not_found")
        (self._place(owner, "voices") / f"{key}{VOICE_SUFFIX}").unlink(missing_ok=True)

    def add_consent(self, owner: str, name: str, language: str, data: bytes, heard: str) -> Consent:
        """Keep a recorded consent."""
        self._check_room(self.consents(owner))
        key = f"cons_{secrets.token_hex(12)}"
        consent = Consent(key, name, language, int(time.time()), hashlib.sha256(data).hexdigest()[:16], heard)
        folder = self._place(owner, "consents")
        with atomic_path(folder / f"{key}.audio", replace=False) as part:
            part.write_bytes(data)
        try:
            write_text(folder / f"{key}.json", json.dumps(asdict(consent)))  # only now is it there
        except BaseException:
            (folder / f"{key}.audio").unlink(missing_ok=True)
            raise
        return consent

    def consents(self, owner: str) -> dict[str, Consent]:
        """Return the consents of `owner` by id, the oldest first."""
        found = []
        for path in self._place(owner, "consents").glob("cons_*.json") if owner else ():
            try:
                found.append(Consent(**json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError, TypeError) as error:
                log.warning("the consent %s cannot be read (%s)", path, error)
        return {consent.id: consent for consent in sorted(found, key=lambda each: (each.created_at, each.id))}

    def find_consent(self, owner: str, key: str) -> Consent:
        """Return one consent; `ApiError` if there is none of this id."""
        if (found := self.consents(owner).get(key)) is None:
            raise ApiError(404, f"no consent {key[:60]!r}", "consent_id", "consent_not_found")
        return found

    def rename_consent(self, owner: str, key: str, name: str) -> Consent:
        """Give a consent another name."""
        consent = replace(self.find_consent(owner, key), name=name)
        write_text(self._place(owner, "consents") / f"{key}.json", json.dumps(asdict(consent)))
        return consent

    def remove_consent(self, owner: str, key: str) -> list[str]:
        """Withdraw a consent: the voices that rest on it go, too. Return their ids."""
        self.find_consent(owner, key)
        gone = [voice_id for voice_id, voice in self._uploaded(owner).items() if voice.consent.startswith(key)]
        for voice_id in gone:
            self.remove(owner, voice_id)
        folder = self._place(owner, "consents")
        (folder / f"{key}.json").unlink(missing_ok=True)
        (folder / f"{key}.audio").unlink(missing_ok=True)
        return gone

    def state_consent(self, owner: str, consent: str) -> str:
        """Return what a voice file says about a consent, given as an id or in words; `ApiError` if it is neither."""
        consent = " ".join(consent.split())
        if consent.startswith("cons_"):
            found = self.find_consent(owner, consent)
            day = datetime.datetime.fromtimestamp(found.created_at, datetime.UTC).date()
            return f"{found.id}: {found.name}, {day}"
        if len(consent) < 3:
            reason = "consent: say who agreed to the use of this voice, and when"
            raise ApiError(400, reason, "consent", "consent_missing")
        return consent

    def _place(self, owner: str, kind: str) -> Path:
        return self._folder / owner / kind

    def _check_room(self, there: Collection[str]) -> None:
        if len(there) >= MOST_KEPT:
            raise ApiError(400, f"{MOST_KEPT} are kept already: delete one first", code="too_many")

    def _uploaded(self, owner: str) -> dict[str, Voice]:
        """Return the uploaded voices of `owner` by id, the oldest first."""
        folder = self._place(owner, "voices")
        found = self._load({path.stem: path for path in folder.glob(f"voice_*{VOICE_SUFFIX}")}) if owner else {}
        return dict(sorted(found.items(), key=lambda item: (item[1].created, item[0])))

    def _named(self, only_builtin: bool = False) -> dict[str, Voice]:
        """Return the voices of this installation by name."""
        names = list_names(Kind.VOICE)
        return self._load({name: path for name, path in names.items() if not only_builtin or is_builtin(path)})

    def _load(self, paths: dict[str, Path]) -> dict[str, Voice]:
        """Return the voices that can be read and fit the model."""
        return {name: voice for name, path in paths.items() if (voice := self._load_one(path)) is not None}

    def _load_one(self, path: Path) -> Voice | None:
        try:
            changed = path.stat().st_mtime
            known = self._read.get(path)
            if known is None or known[0] != changed:
                self._read[path] = known = (changed, self._synthesizer.voice(Voice.load(path)))
            return known[1]
        except FileNotFoundError:
            return None  # removed meanwhile
        except UserError as error:
            if path not in self._read:
                log.warning("the voice %s is left out: %s", path, error)
            self._read[path] = (changed, None)
            return None


def name_owner(key: str) -> str:
    """Return the owner that an API key stands for: its digest, so that no key is on the disk."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def check_agreement(data: bytes, language: str) -> str:
    """Return what is heard in a recorded consent; `AudioError` if it holds no speech or says something else.

    Words are looked for only in the languages of `AGREEING`, and only where a Whisper is installed that hears them: the
    recogniser that is always there hears too badly to refuse anyone.
    """
    from openvalle.speech_models.asr import best_available, transcribe_in
    from openvalle.speech_models.recognizers import PocketsphinxRecognizer
    from openvalle.synth.enrol import read_clip

    with recording_file(data) as path:
        audio = read_clip(path, str(path))
    spoken = language.lower().replace("_", "-").partition("-")[0]
    try:
        recognizer = best_available(language=spoken) if spoken in AGREEING else None
    except UserError:  # nothing here hears it
        recognizer = None
    if recognizer is None or isinstance(recognizer, PocketsphinxRecognizer):
        return ""
    heard = transcribe_in(recognizer, audio, spoken).text
    if not any(word in heard.lower().replace(" ", "") for word in AGREEING[spoken]):
        raise AudioError(
            f"the recording does not say that its speaker agrees (heard: {heard[:80]!r})",
            'say: "I am the owner of this voice and I consent to its use for synthetic speech"',
        )
    return heard


def cut_page(items: Sequence[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """Return the part of a list that follows the id `after`, as OpenAI's lists are."""
    ids = [item["id"] for item in items]
    start = ids.index(after) + 1 if after in ids else 0
    part = list(items[start : start + limit])
    ends = {"first_id": part[0]["id"] if part else None, "last_id": part[-1]["id"] if part else None}
    return {"object": "list", "data": part, **ends, "has_more": start + limit < len(items)}


def _show(key: str, voice: Voice) -> dict[str, Any]:
    known = {"language": voice.language, "consent": voice.consent, "seconds": round(voice.seconds, 2)}
    return {
        "object": "audio.voice",
        "id": key,
        "name": voice.name if key.startswith("voice_") else key,
        "type": "audio_sample",
        "created_at": _timestamp(voice.created),
        **known,
    }


def _timestamp(created: str) -> int:
    try:
        return int(datetime.datetime.fromisoformat(created).timestamp())
    except ValueError:
        return 0
