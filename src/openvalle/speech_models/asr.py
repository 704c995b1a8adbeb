"""Speech recognition: which recogniser, by its name or the best one here, and what it hears in a language."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from importlib.util import find_spec

from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.speech_models.recognizers import (
    HUBERT,
    PocketsphinxRecognizer,
    Recognizer,
    TimingRecognizer,
    Transcript,
    TransformersRecognizer,
    WhisperRecognizer,
)
from openvalle.types import ENGLISH

log = logging.getLogger(__name__)

BEST = ("small.en", "base", "tiny.en")  # of the Whispers that transcribe prompts, if they are on this machine
CHOICE = "OPENVALLE_ASR"  # environment variable: the recogniser of prompts, by name


def hears(recognizer: Recognizer, language: str) -> bool:
    """Whether a recogniser writes down what is said in a language."""
    if language.partition("-")[0] == ENGLISH:
        return True
    return isinstance(recognizer, WhisperRecognizer) and recognizer.knows_languages


def require_language(recognizer: Recognizer, language: str) -> None:
    """Raise `UserError` for a recogniser that does not hear a language."""
    if not hears(recognizer, language):
        raise UserError(
            f"{recognizer.name} hears English alone, not {language!r}",
            "give the words, or use Whisper: pip install 'openvalle[asr]', --asr whisper:base",
        )


def transcribe_in(recognizer: Recognizer, audio: Audio, language: str = ENGLISH) -> Transcript:
    """Return what is said in a language; `UserError` for a recogniser that hears English alone."""
    require_language(recognizer, language)
    if language.partition("-")[0] == ENGLISH:
        return recognizer.transcribe(audio)
    assert isinstance(recognizer, WhisperRecognizer), recognizer.name  # who else is told a language?
    return recognizer.transcribe(audio, language)


def transcribe_timed(recognizer: Recognizer | TimingRecognizer, audio: Audio, language: str = "") -> Transcript:
    """Return what is said with the times of its words, and its language, which is found where none is given.

    `UserError` for a recogniser that hears English alone, unless English it is, and for one that tells no times.
    """
    if isinstance(recognizer, TimingRecognizer):
        return recognizer.transcribe_timed(audio, language)
    if language != ENGLISH:
        what = f"not {language!r}" if language else "and finds no language"
        raise UserError(
            f"{recognizer.name} hears English alone, {what}",
            "say what is spoken (--from en), give the words, or use Whisper: pip install 'openvalle[asr]', "
            "--asr whisper:base",
        )
    heard = recognizer.transcribe(audio)
    if heard.text.strip() and not heard.words:
        raise UserError(f"{recognizer.name} does not tell when words are said", "use whisper:base or pocketsphinx")
    return replace(heard, language=language)


def load_recognizer(name: str, device: str = "cpu") -> Recognizer:
    """Return the recogniser called `name`; `UserError` lists the names.

    `whisper` (base) or `whisper:MODEL`; `pocketsphinx`; `hubert-large`; `transformers:MODEL`. MODEL is a size of
    Whisper, a hub name or a folder.
    """
    kind, _, model = name.partition(":")
    match kind, bool(model):
        case "pocketsphinx", False:
            return PocketsphinxRecognizer()
        case "hubert-large", False:
            return TransformersRecognizer(HUBERT, words=False, device=device)
        case "whisper", _:
            return WhisperRecognizer(model or "base", device=device)
        case "transformers", True:
            return TransformersRecognizer(model, words=False, device=device)
    hint = "use whisper[:MODEL], pocketsphinx, hubert-large or transformers:MODEL"
    raise UserError(f"there is no recogniser {name!r}", hint)


def best_available(name: str = "", language: str = ENGLISH) -> Recognizer:
    """Return the recogniser that is asked for by name or by $OPENVALLE_ASR, else the best one on this machine.

    That is Whisper if faster-whisper and weights are here already, else pocketsphinx. Nothing is downloaded but what is
    asked for by name. `language`: what is spoken, "" for any; `UserError` if nothing here hears it.
    """
    if chosen := name or os.environ.get(CHOICE, ""):
        named = load_recognizer(chosen)
        if language:
            require_language(named, language)
        return named
    is_english = language == ENGLISH
    for model in BEST if find_spec("faster_whisper") else ():
        if not is_english and model.endswith(".en"):
            continue
        try:
            return WhisperRecognizer(model, local_only=True)
        except UserError as error:
            log.info("not transcribing with Whisper %s: %s", model, error.what)
    if is_english:
        return PocketsphinxRecognizer()
    raise UserError(
        f"nothing here hears {language!r}" if language else "nothing here finds out which language is spoken",
        "install Whisper (pip install 'openvalle[asr]') and name it: --asr whisper:base; or give the words",
    )
