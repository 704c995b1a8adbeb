"""What requests hold: OpenAI's fields, and more that other servers' clients send. An unknown key is let through."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MODEL = "openvalle"  # the name that clients may give; `tts-1` and its like mean the same
OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")
MOST_CHARACTERS = 4096  # of an input, as OpenAI has it, unless the server is told otherwise
MOST_BYTES = 10 << 20  # of a recording, as OpenAI has it
MOST_ITEMS = 32  # of a batch
# OpenAI's voices, which some clients know alone: they stand for the built-in ones in turn.
OPENAI_VOICES = (
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "marin"),
    "cedar",
)
SILENT_INSTRUCTIONS = ("", "none", "null")  # Home Assistant sends the word None
FormatName = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


def check_text(text: str) -> str:
    """Return a text; `ValueError` for half characters, which no encoding can write."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("it holds half a character (a lone surrogate)")
    return text


Text = Annotated[str, AfterValidator(check_text)]
Name = Annotated[str, AfterValidator(check_text), Field(max_length=200)]


class Body(BaseModel):
    """A JSON body. A key that is null counts as absent; keys that nobody knows are kept apart (`unknown`)."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if value is not None}
        return values

    def unknown(self) -> list[str]:
        """Return the keys that are no fields."""
        return list(self.model_extra or {})


class VoiceId(Body):
    """A voice by its id."""

    id: Name


VoiceField = Name | VoiceId


class SpeechFields(Body):
    """How to speak: what all requests for speech share."""

    model: Name = MODEL
    voice: VoiceField | None = Field(None, description="a name or {id}; by default the built-in voice")
    response_format: FormatName = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0, description="2 is twice as fast; kept within 0.5 and 2, with a warning")
    instructions: Annotated[str, Field(max_length=4096)] = ""
    language: Name = Field("", description="of the input: en, zh, ja ...; by default as its script shows")
    lang_code: Name = Field("", description="the same, as Kokoro's clients send it")
    accent: Literal["native", "foreign", "none"] | None = Field(
        None, description="foreign: that of the voice's own language; for models with languages"
    )
    seed: int = Field(0, ge=0, le=(1 << 63) - 1, description="same seed, same sound")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    volume_multiplier: float = Field(1.0, gt=0, le=4)
    markup: Literal["auto", "tags", "ssml", "none"] = "auto"


class SpeechRequest(SpeechFields):
    """`POST /v1/audio/speech`."""

    input: Text = Field(min_length=1)
    stream_format: Literal["audio", "sse"] = "audio"
    stream: bool = Field(True, description="false: the whole file at once, every line repaired if it went wrong")
    duration: float | None = Field(None, ge=0.1, le=600, description="seconds that it is to last; not streamed")
    ref_audio: Annotated[str, Field(max_length=MOST_BYTES * 4 // 3 + 100)] = Field(
        "", description="a recording whose voice speaks this once: data:audio/...;base64,..."
    )
    ref_text: Text = Field("", max_length=2000, description="what is said in it; else it is transcribed")
    consent: Text = Field("", max_length=500, description="who agreed to its use, and when; or the id of a consent")
    return_download_link: bool = Field(False, description="keep the file for a while; X-Download-Path says where")

    @model_validator(mode="after")
    def _fit(self) -> SpeechRequest:
        if self.ref_audio and self.voice:
            raise ValueError("voice and ref_audio are two voices: give one")
        return self


class CaptionedRequest(SpeechRequest):
    """`POST /dev/captioned_speech`: streamed, a line of JSON for each piece of sound; else one object."""


class DialogueTurn(Body):
    """What one speaker says before the next one does."""

    speaker: Name = Field(min_length=1)
    text: Text = Field(min_length=1)
    pause: float = Field(0.4, ge=0, le=60, description="seconds after it")


class DialogueRequest(SpeechFields):
    """`POST /dev/dialogue`: turns, or a text `[S1] ... [S2] ...` as `input`."""

    input: Text = ""
    turns: list[DialogueTurn] = Field(default_factory=list, max_length=500)
    voices: dict[Name, VoiceField] = Field(default_factory=dict, max_length=50)
    stream: bool = True
    captions: bool = Field(False, description="answer as /dev/captioned_speech does; lines name the speaker, too")

    @model_validator(mode="after")
    def _one(self) -> DialogueRequest:
        if bool(self.input) == bool(self.turns):
            raise ValueError("give turns, or an input such as [S1] Hello. [S2] Hi.")
        return self


class BatchItem(SpeechFields):
    """One text of a batch; what it leaves out is as the batch says."""

    input: Text = Field(min_length=1)


class BatchRequest(SpeechFields):
    """`POST /v1/audio/speech/batch`: the answer holds every text's sound, or what was wrong with it."""

    items: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_ITEMS)


class EditBody(BaseModel):
    """A change of words of a recording."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["replace", "insert", "delete"] = "replace"
    old: Text = Field(min_length=1)
    new: Text = ""


class PhonemizeRequest(Body):
    """`POST /dev/phonemize`."""

    text: Text = Field(min_length=1)
    language: Name = ""


class PromptVoice(Body):
    """OpenAI's second way to make a voice: from words alone. We do not have it, and say so."""

    type: Literal["prompt"]
    name: Name
    prompt: Text


def read_data_url(text: str, field: str) -> bytes:
    """Return the bytes of `data:...;base64,...`; `ValueError` for anything else: no address is ever opened."""
    head, comma, data = text.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise ValueError(f"{field} must be data:audio/...;base64,... : no path and no address is opened")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{field} is no base64") from None
