"""Text -> segments: sentences with their symbols, each with its voice, its speed, the pause after it and its seed."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TypedDict

import numpy as np

from openvalle.errors import TextError, UserError
from openvalle.synth.speech import USUAL_FRAMES, Timed
from openvalle.synth.voice import Voice
from openvalle.text.language import PLACEHOLDER, UserLexicon, Word, fill_in, lower_keys, phonemize, to_symbols
from openvalle.text.layout import TextFormat, to_plain
from openvalle.text.lexicon import read_lexicon
from openvalle.text.markup import ArrivingMarkup, MarkedText, Markup, Passage, choose_markup, parse_tags
from openvalle.text.phones import MARKS
from openvalle.text.phrasing import add_breaths
from openvalle.text.sentences import NONE, SENTENCE, Chunk, pause_after, split, split_arriving, unwrap
from openvalle.text.spans import JAPANESE, Languages
from openvalle.text.ssml import parse_ssml
from openvalle.types import ENGLISH, SIL

log = logging.getLogger(__name__)

ENGLISH_ALONE = Languages()
LexiconLike = UserLexicon | str | Path | None


@dataclass(frozen=True)
class Script(MarkedText):
    """A text without its markup that is ready to be spoken. `lexicon`: pronunciations that come before all others."""

    lexicon: UserLexicon = field(default_factory=dict)

    @property
    def tail(self) -> float:
        """Seconds of silence after the last passage."""
        return self.passages[-1].pause or 0.0

    def sentences(self, *, as_one: bool = False, languages: Languages = ENGLISH_ALONE) -> Iterator[Sentence]:
        """Yield the sentences, `as_one` for each passage; `TextError` if nothing can be spoken."""
        held: Sentence | None = None
        for passage in self.passages:
            spoken = False
            try:
                here = replace(languages, chosen=languages.find(passage.text, passage.language))
                for sentence in split_sentences(
                    passage.text, self.lexicon, passage.given, as_one=as_one, languages=here
                ):
                    if held is not None:
                        yield held
                    held, spoken = replace(sentence, voice=passage.voice, speed=passage.speed), True
            except TextError:  # a passage of signs between others
                pass
            if held is not None and (spoken or passage.pause):
                usual = pause_after(passage.text) if spoken else held.pause
                pause = usual if passage.pause is None else passage.pause
                held = replace(held, pause=pause if spoken else max(held.pause, pause))
        if held is None:
            raise TextError("the text holds nothing that can be spoken", "write at least one word")
        yield replace(held, pause=NONE)  # nothing follows

    def without_speeds(self) -> Script:
        """Return the script for a model that cannot change its speed; that it had to is logged and noted."""
        if all(passage.speed == 1 for passage in self.passages):
            return self
        note = "this model has no alignment: rates of speaking are left as they are"
        log.warning("%s", note)
        return replace(
            self,
            passages=tuple(replace(passage, speed=1.0) for passage in self.passages),
            notes=(*self.notes, note),
        )

    def in_languages(self, spoken: Collection[str]) -> Script:
        """Return the script for a model that speaks these languages; that others are left out is logged and noted."""
        others = sorted({each.language for each in self.passages if each.language} - set(spoken))
        if not others:
            return self
        note = f"this model does not speak {', '.join(others)}: such words are read as those around them"
        log.warning("%s", note)
        passages = tuple(replace(each, language=None) if each.language in others else each for each in self.passages)
        return replace(self, passages=passages, notes=(*self.notes, note))

    def cast(self, find: Callable[[str], Voice]) -> dict[str, Voice]:
        """Return the voice of each name in the script; an unknown one is an error that says where it stands."""
        voices: dict[str, Voice] = {}
        for passage in self.passages:
            if passage.voice is None or passage.voice in voices:
                continue
            try:
                voices[passage.voice] = find(passage.voice)
            except UserError as error:
                is_speaker = re.fullmatch(r"S\d+", passage.voice) is not None
                hint = "speak a script of several speakers with `openvalle dialogue`" if is_speaker else error.hint
                raise TextError(f"{passage.place}: {error.what}", hint) from None
        return voices


def parse_script(
    text: str,
    markup: Markup | str = Markup.AUTO,
    lexicon: LexiconLike = None,
    text_format: TextFormat | str = TextFormat.AUTO,
) -> Script:
    """Return the script of a text; what cannot be honoured is logged and kept in `notes`.

    `lexicon`: pronunciations, or a TSV file of them (see `openvalle.text.lexicon`); `text_format`: how the text is
    written beside its tags (see `to_plain`).
    """
    chosen = choose_markup(text, markup)
    if chosen is Markup.NONE:
        marked = MarkedText((Passage(text if text_format == TextFormat.AUTO else to_plain(text, text_format)),))
    else:
        marked = parse_ssml(text) if chosen is Markup.SSML else parse_tags(to_plain(text, text_format))
    for note in marked.notes:
        log.warning("%s", note)
    return Script(marked.passages or (Passage(""),), marked.notes, marked.lead, lower_keys(to_lexicon(lexicon)))


def to_lexicon(lexicon: LexiconLike) -> UserLexicon:
    """Return the pronunciations given, or those in a file."""
    return read_lexicon(lexicon) if isinstance(lexicon, str | Path) else lexicon or {}


FLUSH = "\x17"  # a piece of a text that arrives: what came before it is complete, and is spoken to its end at once
_SILENT = frozenset((SIL, *MARKS))
MAX_CHARACTERS = 200  # about 13 s of speech, as long as what the models were trained on


@dataclass(frozen=True)
class Sentence:
    """A sentence, or part of a long one. `owners`: the word of each symbol, -1 for a pause."""

    text: str
    words: tuple[str, ...]
    symbols: tuple[str, ...]
    owners: tuple[int, ...]
    pause: float = 0.0  # seconds of silence wanted after it
    voice: str | None = None  # the name of another voice than the text's
    speed: float = 1.0  # of speaking; 2 is twice as fast
    language: str = ENGLISH
    is_flushed: bool = False  # it is given to its end before anybody knows whether another one follows

    @property
    def phones(self) -> int:
        """Number of symbols that are sounds."""
        return sum(symbol not in _SILENT for symbol in self.symbols)

    def without_pause(self) -> Sentence:
        """Return the sentence without its first pause, to follow directly on what was said before."""
        return replace(self, symbols=self.symbols[1:], owners=self.owners[1:]) if self.symbols[0] == SIL else self


def split_sentences(
    text: str | Iterable[str],
    lexicon: UserLexicon | None = None,
    given: Sequence[Word] = (),
    *,
    as_one: bool = False,
    languages: Languages = ENGLISH_ALONE,
) -> Iterator[Sentence]:
    """Yield the sentences of a text one after the other; `TextError` if nothing in it can be spoken.

    Long sentences are cut, short ones joined. Of a text that arrives in pieces each sentence comes by itself, as soon
    as it is complete, or when a piece is `FLUSH`. `lexicon`: pronunciations that come before all others; `given`: words
    that come with their phones (see `FrontEnd`); `as_one`: the whole text is one sentence; `languages`: the one
    of the text, and others that may be found in it.
    """
    code, arrives = languages.find(text if isinstance(text, str) else ""), not (as_one or isinstance(text, str))
    is_empty, lexicon = True, lower_keys(lexicon or {})
    if as_one and not isinstance(text, str):
        text = ArrivingMarkup(piece for piece in text if piece != FLUSH)
        whole, given = "".join(text), text.given
        code = languages.find(whole)
        parts: Iterable[tuple[Iterable[Chunk], Sequence[Word]]] = [([Chunk(unwrap(whole, code), NONE)], given)]
    elif isinstance(text, str):
        parts = [([Chunk(unwrap(text, code), NONE)] if as_one else split(text, MAX_CHARACTERS, code), given)]
    else:
        parts = _split_flushed(text, code)
    for chunks, words_given in parts:
        waiting = words_given if isinstance(words_given, deque) else deque(words_given)
        for chunk in chunks:
            if arrives and code != JAPANESE:  # once there was kana, signs alone are Japanese, too
                code = languages.find(chunk.text)
            own = [waiting.popleft() for _ in PLACEHOLDER.findall(chunk.text)]
            try:
                found = phonemize(chunk.text, code, lexicon=lexicon, given=own, spoken=languages.spoken)
                words = add_breaths(found, code)
            except TextError:  # signs that turned out to be silent, between chunks that are not
                continue
            is_empty = False
            sentence = build_sentence(fill_in(chunk.text, own), words, chunk.pause, code)
            yield replace(sentence, is_flushed=True) if isinstance(chunk, FlushedChunk) else sentence
    if is_empty:
        raise TextError("the text holds nothing that can be spoken", "write at least one word")


class FlushedChunk(Chunk):
    """The last chunk before a `FLUSH`."""


def _split_flushed(text: Iterable[str], code: str) -> Iterator[tuple[Iterator[Chunk], deque[Word]]]:
    """Yield the chunks of each part of a text between `FLUSH`es while it arrives, and the words that it gives."""
    pieces, is_over = iter(text), False

    def read_part() -> Iterator[str]:
        nonlocal is_over
        for piece in pieces:
            if piece == FLUSH:
                return
            yield piece
        is_over = True

    def split_part(part: ArrivingMarkup) -> Iterator[Chunk]:
        held: Chunk | None = None
        for chunk in split_arriving(part, MAX_CHARACTERS, code):
            if held is not None:
                yield held
            held = chunk if chunk.pause == NONE else None  # as the last one has it
            if held is None:
                yield chunk
        if held is not None:
            yield held if is_over else FlushedChunk(held.text, SENTENCE)

    while not is_over:
        part = ArrivingMarkup(read_part())
        yield split_part(part), part.given


def scale_pauses(sentences: Iterable[Sentence], speed: float) -> Iterator[Sentence]:
    """Yield the sentences with the pauses after them `speed` times as short."""
    for sentence in sentences:
        yield sentence if speed == 1 else replace(sentence, pause=sentence.pause / speed)


def build_sentence(text: str, words: Sequence[Word], pause: float = 0.0, language: str = ENGLISH) -> Sentence:
    """Return the sentence that speaks `words`."""
    return Sentence(text, tuple(word.text for word in words), *to_symbols(words), pause, language=language)


def place_in_time(
    sentence: Sentence, durations: Sequence[int], frame_rate: float, seconds: float
) -> tuple[tuple[Timed, ...], tuple[Timed, ...]]:
    """Return words and phones in time for `durations` (S,) in frames; the last ends with the sound, `seconds`. None of
    either without durations."""
    if not durations:
        return (), ()
    edges = np.minimum(np.cumsum([0, *durations]) / frame_rate, seconds).tolist()
    phones = tuple(
        Timed(symbol, start, end) for symbol, start, end in zip(sentence.symbols, edges, edges[1:], strict=False)
    )
    words, last = [], 0.0
    for index, text in enumerate(sentence.words):
        own = [phone for phone, owner in zip(phones, sentence.owners, strict=True) if owner == index]
        start, end = (own[0].start, own[-1].end) if own else (last, last)
        words.append(Timed(text, start, end))
        last = end
    return tuple(words), phones


BATCH = 8  # sentences that are spoken at a time, where there are several
MOST_ATTEMPTS = 10  # seeds of a candidate; the next one has others


class PromptMode(StrEnum):
    """How the sentence follows on the prompt."""

    ZERO_SHOT = "zero-shot"  # another sentence in the prompt's voice
    CONTINUAL = "continual"  # the same recording goes on
    CROSS_LINGUAL = "cross-lingual"  # the prompt's voice in another language


class SpeakOptions(TypedDict, total=False):
    """How a text is to be read."""

    markup: Markup | str  # of the text; auto by default. A text in pieces has none
    lexicon: LexiconLike  # pronunciations that come before all others, or a TSV file of them
    mode: PromptMode | str  # how the text follows on the voice; zero-shot by default
    cast: Mapping[str, Voice]  # what names of voices in the text mean; else they are looked up
    language: str  # of the text; empty: as its script shows
    as_one: bool  # speak the whole text as one sentence, however long: what a protocol measures


@dataclass(frozen=True)
class Segment:
    """A sentence to speak: by whom (None: a voice that the model makes up), and the numbers its seed comes from."""

    sentence: Sentence
    voice: Voice | None
    seed: int
    number: int = 0
    spoken: int = 0  # frames spoken before it in the text, about: a stream's windows begin as long as that
    alignment: tuple[int, ...] | None = None  # preset: the sentence's symbol of each step of codebook 1
    candidate: int = 0  # its number, where several are spoken
    mode: PromptMode = PromptMode.ZERO_SHOT
    following: tuple[str, ...] = ()  # symbols of what comes next: read, not spoken; needs alignment

    def follows(self, language: str, spoken: Sequence[str]) -> bool:
        """Whether a prompt in a language may stand before it: in another one if the model has `spoken` both."""
        own = self.sentence.language
        if language == own or self.mode is PromptMode.CROSS_LINGUAL:
            return True
        return self.mode is PromptMode.ZERO_SHOT and {language, own} <= set(spoken)

    def derive_seed(self, attempt: int) -> int:
        """Return the seed of an attempt at it: 63 bits of SHA-256("seed/number/attempt")."""
        attempt += self.candidate * MOST_ATTEMPTS
        digest = hashlib.sha256(f"{self.seed}/{self.number}/{attempt}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class SpeechPlan:
    """The segments of a text, and the seconds of silence around them."""

    segments: Iterator[Segment]
    lead: float
    tail: float


def plan_segments(
    sentences: Iterable[Sentence],
    voice: Voice | None,
    seed: int,
    cast: Mapping[str, Voice] | None = None,
    mode: PromptMode = PromptMode.ZERO_SHOT,
) -> Iterator[Segment]:
    """Yield the segments of a text's sentences in order. `cast`: the voices that sentences name."""
    spoken = 0
    for number, sentence in enumerate(sentences):
        own = (cast or {})[sentence.voice] if sentence.voice else voice
        if mode is PromptMode.CONTINUAL and number == 0:
            yield Segment(sentence.without_pause(), own, seed, number, spoken, mode=mode)
        else:
            how = PromptMode.ZERO_SHOT if mode is PromptMode.CONTINUAL else mode
            yield Segment(sentence, own, seed, number, spoken, mode=how)
        spoken += round(sentence.phones * USUAL_FRAMES)
