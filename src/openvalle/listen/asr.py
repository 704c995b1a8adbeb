"""Speech recognition (English): pocketsphinx offline, Whisper and CTC models when they are installed."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from openvalle.audio import Audio, is_silent, resample
from openvalle.errors import AudioError, MissingExtra, ModelError, UserError
from openvalle.listen.aligner import pocketsphinx_decoder

log = logging.getLogger(__name__)

RATE = 16_000  # rate of every model here, in hertz
FRAME_SECONDS = 0.01  # pocketsphinx counts in these
HUBERT = "facebook/hubert-large-ls960-ft"  # CTC without a language model: the measure of VALL-E
WHISPER = "large-v3"  # what most later papers use
VARIANT = re.compile(r"\(\d+\)$")  # "the(2)": the second pronunciation of "the"


@dataclass(frozen=True)
class TimedWord:
    """A recognised word, with its start and end in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """What was heard."""

    text: str
    words: tuple[TimedWord, ...] = ()


class Recognizer(Protocol):
    """Anything that writes down what is said."""

    name: str

    def transcribe(self, audio: Audio) -> Transcript:
        """Return the words of `audio`; empty text if none are heard, `AudioError` if it is silent."""
        ...


class PocketsphinxRecognizer:
    """The default English model of pocketsphinx, in its wheel: offline and rough.

    On clean readers about 3 words in 10 are wrong, at about 5x real time on one core. Calls are serialised by a
    lock; give each process its own.
    """

    name = "pocketsphinx"

    def __init__(self) -> None:
        self._decoder: Any = pocketsphinx_decoder()(loglevel="FATAL")
        self._lock = threading.Lock()

    def transcribe(self, audio: Audio) -> Transcript:
        """Return the words of `audio` and their times."""
        pcm = (np.clip(_samples(audio), -1, 1) * 32767).astype("<i2").tobytes()
        with self._lock:
            self._decoder.reinit_feat()  # else the mean and the noise of earlier clips colour this one
            self._decoder.start_utt()
            self._decoder.process_raw(pcm, full_utt=True)
            self._decoder.end_utt()
            heard = self._decoder.hyp()
            words = tuple(_words(self._decoder.seg())) if heard else ()
        return Transcript(" ".join(word.text for word in words), words)


class FasterWhisperRecognizer:
    """Whisper through faster-whisper. `model`: a size such as "small.en", a hub name or a local folder."""

    def __init__(self, model: str = "small.en", local_only: bool = False) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError:
            raise MissingExtra("faster-whisper", "asr") from None
        self.name = f"faster-whisper {model}"
        try:
            self._model: Any = WhisperModel(model, compute_type="auto", local_files_only=local_only)
        except (OSError, ValueError, RuntimeError) as error:
            raise _unloadable(model, error) from None

    def transcribe(self, audio: Audio) -> Transcript:
        """Return the words of `audio` and their times."""
        segments, _ = self._model.transcribe(_samples(audio), language="en", word_timestamps=True)
        words = tuple(
            TimedWord(word.word.strip(), word.start, word.end) for segment in segments for word in segment.words
        )
        return Transcript(" ".join(word.text for word in words), words)


class TransformersRecognizer:
    """Any speech recognition model of transformers: a hub name or a folder. `words`: with times, where it can."""

    def __init__(self, model: str = HUBERT, words: bool = True, device: str = "cpu") -> None:
        try:
            from transformers import pipeline
        except ImportError:
            raise MissingExtra("transformers", "eval") from None
        self._words = words
        try:
            self._pipeline: Any = pipeline("automatic-speech-recognition", model=model, device=device)
        except (OSError, ValueError) as error:
            raise _unloadable(model, error) from None
        revision = getattr(self._pipeline.model.config, "_commit_hash", None)
        self.name = f"transformers {model}" + (f" {revision[:8]}" if revision else "")

    def transcribe(self, audio: Audio) -> Transcript:
        """Return the words of `audio` and, if asked for, their times."""
        inputs = {"raw": _samples(audio), "sampling_rate": RATE}
        if not self._words:
            return Transcript(self._pipeline(inputs)["text"].strip())
        found = self._pipeline(inputs, return_timestamps="word")
        words = tuple(
            TimedWord(chunk["text"].strip(), start, audio.seconds if end is None else end)
            for chunk in found["chunks"]
            for start, end in [chunk["timestamp"]]
        )
        return Transcript(found["text"].strip(), words)


def recognizer_named(name: str, device: str = "cpu") -> Recognizer:
    """Return the recogniser called `name`; `UserError` lists the names.

    `pocketsphinx`; `hubert-large`; `faster-whisper` or `faster-whisper:MODEL`; `transformers:MODEL`. MODEL is a hub
    name or a folder.
    """
    kind, _, model = name.partition(":")
    match kind, bool(model):
        case "pocketsphinx", False:
            return PocketsphinxRecognizer()
        case "hubert-large", False:
            return TransformersRecognizer(HUBERT, words=False, device=device)
        case "faster-whisper", _:
            return FasterWhisperRecognizer(model or WHISPER)
        case "transformers", True:
            return TransformersRecognizer(model, words=False, device=device)
    hint = "use pocketsphinx, hubert-large, faster-whisper[:MODEL] or transformers:MODEL"
    raise UserError(f"there is no recogniser {name!r}", hint)


def best_available(model: str = "small.en") -> Recognizer:
    """Return Whisper if faster-whisper and the weights of `model` are here already, else pocketsphinx.

    Nothing is downloaded: ask for `FasterWhisperRecognizer(model)` to fetch the weights.
    """
    try:
        return FasterWhisperRecognizer(model, local_only=True)
    except (MissingExtra, ModelError) as error:
        log.info("transcribing with pocketsphinx: %s", error.what)
        return PocketsphinxRecognizer()


def _words(segments: Any) -> Iterator[TimedWord]:
    """Yield the words among pocketsphinx's segments; fillers look like <sil> or [NOISE]."""
    for segment in segments:
        if not segment.word.startswith(("<", "[")):
            start, end = segment.start_frame * FRAME_SECONDS, (segment.end_frame + 1) * FRAME_SECONDS
            yield TimedWord(VARIANT.sub("", segment.word), start, end)


def _samples(audio: Audio) -> np.ndarray:
    if not len(audio.samples) or is_silent(audio):
        raise AudioError("the recording is silent", "give a recording of someone speaking")
    return resample(audio, RATE).samples


def _unloadable(model: str, error: Exception) -> ModelError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"cannot load the recognition model {model} ({reason})",
        "give a local folder, or go online for the first use",
    )
