"""The best of several samples of one text, by the rule of VALL-E 2 (4.1.4, eq. 23): alike enough first, then the words.

`rank` is that rule, for the candidates of `say` and `edit` and for the samples of an evaluation; `Reranker` hears
candidates.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

from openvalle.audio import Audio
from openvalle.errors import AudioError, MissingExtra, ModelError, UserError
from openvalle.synth.generate import SpeechGenerator
from openvalle.synth.normalizers import split_units
from openvalle.synth.plan import Segment
from openvalle.synth.speech import Quality, Speech
from openvalle.text.sentences import join_words
from openvalle.types import ENGLISH

if TYPE_CHECKING:
    from openvalle.decode.ar import AROptions
    from openvalle.speech_models.recognizers import Recognizer
    from openvalle.speech_models.speaker import SpeakerEncoder
    from openvalle.synth.voice import Voice

log = logging.getLogger(__name__)

ENOUGH = 0.3  # similarity beyond which words decide, on the scale of the paper's speaker model
# On other scales: where one reader's recordings part from another's.
ENOUGH_OF = {"resemblyzer": 0.7, "campplus": 0.5, "microsoft/wavlm-base-plus-sv": 0.86}


@dataclass(frozen=True)
class Scores:
    """What was heard in one sample: cosine to the prompt's voice (None: not measured), word error rate, and how many
    things went wrong while it was drawn."""

    similarity: float | None
    error_rate: float
    flags: int = 0


def enough_for(encoder: str) -> float:
    """Return the similarity, on the scale of the speaker model of that name (and revision), that is enough."""
    return next((value for name, value in ENOUGH_OF.items() if encoder.startswith(name)), ENOUGH)


def rank(scores: Sequence[Scores], enough: float) -> list[int]:
    """Return the indices of the samples, best first: the fewest flags, then the largest
    [min(similarity, enough), 1 - error rate], compared in that order; the earlier of equals."""

    def key(index: int) -> tuple[int, float, float]:
        one = scores[index]
        return one.flags, -min(one.similarity or 0.0, enough), one.error_rate

    return sorted(range(len(scores)), key=key)


class Reranker:
    """Listens to candidates and chooses the best. Keeps the voices it has heard, so each thread needs its own."""

    def __init__(self, recognizer: Recognizer | str = "", encoder: SpeakerEncoder | None = None) -> None:
        """`recognizer`: one that is loaded, or a name; by default the best one here of each language that is spoken.
        `encoder`: by default the offline speaker encoder if it is installed."""
        self._asr = recognizer
        self._recognizers: list[Recognizer] = []
        self.encoder = encoder or find_encoder()
        self._heard: dict[int, tuple[Voice, np.ndarray | None]] = {}

    def speak(self, generator: SpeechGenerator, segment: Segment, options: AROptions, count: int) -> Speech:
        """Return the best of `count` candidates; the first one is what a single candidate would be.

        `UserError` if nothing hears the language, before anything is spoken.
        """
        language = segment.sentence.language
        self.find_recognizer(language)
        candidates = generator.speak([replace(segment, candidate=number) for number in range(count)], options)
        wanted, text = self._embed_prompt(generator, segment.voice), join_words(segment.sentence.words)
        heard = [self.listen(speech.audio, text, wanted, language) for speech in candidates]
        qualities = [
            replace(speech.quality, agreement=agrees, similarity=similarity, candidates=count)
            for speech, (agrees, similarity) in zip(candidates, heard, strict=True)
        ]
        best = self.order([[quality] for quality in qualities])[0]
        return replace(candidates[best], quality=qualities[best])

    def find_recognizer(self, language: str) -> Recognizer:
        """Return who hears a language; `UserError` says what to install."""
        from openvalle.speech_models.asr import best_available, hears, require_language

        for known in self._recognizers:
            if hears(known, language):
                return known
        try:
            if isinstance(self._asr, str):
                found = best_available(self._asr, language)
            else:
                found = self._asr
                require_language(found, language)
        except UserError as error:
            if language == ENGLISH:
                raise
            hint = "pip install 'openvalle[asr]' and give --asr whisper:base, or leave --candidates away"
            raise UserError(f"candidates cannot be judged: {error.what}", hint) from None
        self._recognizers.append(found)
        return found

    def listen(
        self, audio: Audio, text: str, wanted: np.ndarray | None, language: str = ENGLISH
    ) -> tuple[float, float | None]:
        """Return the share of the words (signs, where none are written apart) that is heard, and the cosine with a
        voice if one is given."""
        from openvalle.speech_models.asr import transcribe_in

        try:
            heard = transcribe_in(self.find_recognizer(language), audio, language).text
        except AudioError:  # silent: nothing is heard
            heard = ""
        agrees = agreement(text, heard, language)
        if wanted is None or self.encoder is None:
            return agrees, None
        voice = self.embed(audio)
        return agrees, 0.0 if voice is None else float(np.dot(voice, wanted))

    def order(self, candidates: Sequence[Sequence[Quality]]) -> list[int]:
        """Return the indices of candidates, best first, by the quality records of each one's parts."""
        enough = enough_for(self.encoder.name) if self.encoder else ENOUGH
        return rank([_summarise(own) for own in candidates], enough)

    def embed(self, audio: Audio) -> np.ndarray | None:
        """Return the voice of a sound (D,), None without an encoder or without speech in it."""
        try:
            return None if self.encoder is None else self.encoder.embed(audio)
        except AudioError:  # it holds no speech
            return None

    def _embed_prompt(self, generator: SpeechGenerator, voice: Voice | None) -> np.ndarray | None:
        """Return the embedding of a prompt as the codec gives it."""
        if voice is None or self.encoder is None:
            return None
        if id(voice) not in self._heard:
            embedding = self.embed(generator.decode(voice.codes))
            self._heard[id(voice)] = voice, embedding  # the voice is kept, so that its id stays its own
        return self._heard[id(voice)][1]


def find_encoder() -> SpeakerEncoder | None:
    """Return the offline speaker encoder, None if it is not installed: then words alone decide."""
    from openvalle.speech_models.speaker import ResemblyzerEncoder

    try:
        import webrtcvad  # noqa: F401

        return ResemblyzerEncoder()
    except (ImportError, MissingExtra, ModelError) as error:
        log.info("candidates are chosen by their words alone: %s", error)
        return None


def agreement(text: str, heard: str, language: str = ENGLISH) -> float:
    """Return how much of the words agrees, 0 to 1: twice the matches over the words of both.

    Of Chinese signs are compared, and of Japanese the kana that are said.
    """
    said, there = split_units(text, language), split_units(heard, language)
    return SequenceMatcher(None, said, there, autojunk=False).ratio()


def _summarise(parts: Sequence[Quality]) -> Scores:
    heard = [part.agreement or 0.0 for part in parts]
    likeness = [part.similarity for part in parts if part.similarity is not None]
    flags = sum(len(part.flags) for part in parts)
    return Scores(min(likeness, default=None), 1 - min(heard, default=0.0), flags)
