"""The chapters of a book -> spoken sentences on the disk, and how loud each chapter is to be.

A sentence is kept under the digest of all that its sound depends on: its words and phones, its place in the chapter,
the pauses around it, voice, seed, model. So a book that was interrupted goes on where it was, and after a change of a
chapter or a lexicon only what sounds otherwise is spoken anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from openvalle.apps.doubts import Doubts
from openvalle.apps.loudness import QUIETEST, TARGET, LoudnessMeter, choose_gain
from openvalle.apps.quotes import QUOTED, split_quotes
from openvalle.apps.readers.book import Book
from openvalle.apps.sentence_store import SentenceStore
from openvalle.audio import Audio
from openvalle.decode.ar import AROptions
from openvalle.errors import TextError
from openvalle.synth.joints import add_silences, trim_edges
from openvalle.synth.plan import ENGLISH_ALONE, Script, Segment, SpeakOptions, parse_script
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.chapters import Chapter
from openvalle.text.language import UserLexicon
from openvalle.text.spans import Languages

HEAD, TAIL = 0.5, 1.5  # seconds of silence around a chapter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How a book is spoken. `quotes`: who speaks what stands in quotation marks; None: who speaks the rest.

    `loudness`: of every chapter, in LUFS; None leaves the speech as loud as it comes. `markup`: None takes what the
    book says.
    """

    voice: Voice
    seed: int
    options: AROptions
    file_format: str = "flac"
    markup: str | None = None
    lexicon: UserLexicon = field(default_factory=dict)  # pronunciations that come before all others
    quotes: Voice | None = None
    loudness: float | None = TARGET
    language: str = ""  # of the book; empty: as its script shows


@dataclass(frozen=True)
class SpokenChapter:
    """A chapter whose sentences are all on the disk. `samples`: with the silences around it, in whole milliseconds."""

    number: int  # in the book, from 1
    title: str
    keys: tuple[str, ...]  # of its sentences
    samples: int
    gain: float


@dataclass(frozen=True)
class _Joint:
    """A sentence between others: `lead`, `tail`: the pauses before and after it, None at the edges of a chapter, where
    `before` and `after` are silences that the text asks for; all in seconds."""

    segment: Segment
    lead: float | None
    tail: float | None
    before: float
    after: float


def write_script(book: Book, reading: Reading, chapter: Chapter) -> Script:
    """Return a chapter ready to be spoken, its quotations by another voice if there is one."""
    script = parse_script(chapter.text, reading.markup or book.markup, reading.lexicon)
    return split_quotes(script) if reading.quotes else script


def read_doubts(book: Book, reading: Reading, numbers: Sequence[int], languages: Languages = ENGLISH_ALONE) -> Doubts:
    """Return which readings in these chapters are not sure; nothing is spoken."""
    doubts = Doubts(reading.lexicon)
    for number in numbers:
        chapter = book.chapters[number - 1]
        script = write_script(book, reading, chapter)
        doubts.read_chapter(f"chapter {number}", chapter.text, languages)
        with suppress(TextError):  # nothing that can be spoken
            for sentence in script.sentences(languages=languages):
                doubts.read_sentence(f"chapter {number}", sentence, _given_words(script))
    return doubts


class Narrator:
    """Speaks a book's chapters into a store."""

    def __init__(self, synthesizer: Synthesizer, book: Book, reading: Reading, show: Callable[[str], None]) -> None:
        self.book = book
        self.doubts = Doubts(reading.lexicon)
        self.clock = Clock()
        self._synthesizer, self._reading, self._show = synthesizer, reading, show
        voices = {None: reading.voice} | ({QUOTED: reading.quotes} if reading.quotes else {})
        self._voices = {name: digest_voice(voice) for name, voice in voices.items()}
        facts = [synthesizer.describe(), synthesizer.provenance.watermark, reading.options.model_dump_json()]
        self._model = digest([*facts, reading.seed])
        self.settings = digest([self._model, *self._voices.values()])  # all that every sentence depends on

    def speak_chapter(self, store: SentenceStore, number: int) -> SpokenChapter:
        """Speak what is missing of a chapter; it has no `keys` if nothing in it can be spoken."""
        chapter = self.book.chapters[number - 1]
        script = write_script(self.book, self._reading, chapter)
        languages = self._synthesizer.find_languages(self._reading.language, self._reading.voice)
        self.doubts.read_chapter(f"chapter {number}", chapter.text, languages)
        given = _given_words(script)
        keys = []
        for joint in self._plan(chapter, script):
            key = self._digest_sentence(joint)
            self.doubts.read_sentence(f"chapter {number}", joint.segment.sentence, given)
            if not store.has(key):
                self._show(f"chapter {number} of {len(self.book.chapters)}: {chapter.title}{self.clock.estimate()}")
                started = time.monotonic()
                store.add(key, self._speak_sentence(joint))
                self.clock.note(len(joint.segment.sentence.text), time.monotonic() - started)
            keys.append(key)
        self.clock.finish(len(chapter.text))
        meter = LoudnessMeter(self._synthesizer.rate)
        for key in keys:
            meter.push(Audio(store.read(key), self._synthesizer.rate))
        return SpokenChapter(
            number, chapter.title, tuple(keys), self._round(meter.samples), self._choose_gain(meter, chapter.title)
        )

    def read_blocks(self, store: SentenceStore, chapter: SpokenChapter) -> Iterator[np.ndarray]:
        """Yield the samples of a chapter as loud as they are to be, with the silences around it."""
        head = round(HEAD * self._synthesizer.rate)
        yield np.zeros(head, np.float32)
        left = chapter.samples - head
        for key in chapter.keys:
            samples = store.read(key) * np.float32(chapter.gain)
            left -= len(samples)
            yield samples
        yield np.zeros(left, np.float32)

    def _choose_gain(self, meter: LoudnessMeter, title: str) -> float:
        target = self._reading.loudness
        if target is None:
            return 1.0
        gain = choose_gain(meter, target)
        loudness = meter.measure() + 20 * math.log10(gain)
        if -math.inf < loudness < QUIETEST:
            log.warning("%s is %.0f LUFS: its peaks allow no more", title, loudness)
        return gain

    def _round(self, count: int) -> int:
        """Return the samples of a chapter of so many, with its silences, to the next whole millisecond."""
        rate = self._synthesizer.rate
        whole = count + round(HEAD * rate) + round(TAIL * rate)
        return round(math.ceil(whole * 1000 / rate) * rate / 1000)

    def _plan(self, chapter: Chapter, script: Script) -> Iterator[_Joint]:
        """Yield the sentences with what stands before and after each; none where nothing can be spoken."""
        reading = self._reading
        cast = {QUOTED: reading.quotes} if reading.quotes else {}
        how: SpeakOptions = {"cast": cast, "language": reading.language}
        plan = self._synthesizer.plan(script, reading.voice, reading.seed, how, reading.options)
        lead: float | None = None
        held: Segment | None = None
        try:
            for segment in plan.segments:
                if held is not None:
                    yield _Joint(held, lead, held.sentence.pause, 0.0 if lead is not None else plan.lead, 0.0)
                    lead = held.sentence.pause
                held = segment
        except TextError:
            log.warning("chapter %r holds nothing that can be spoken: it is left out", chapter.title)
        if held is not None:
            yield _Joint(held, lead, None, 0.0 if lead is not None else plan.lead, plan.tail)

    def _digest_sentence(self, joint: _Joint) -> str:
        segment, sentence = joint.segment, joint.segment.sentence
        if sentence.voice not in self._voices and segment.voice is not None:  # one that the text names
            self._voices[sentence.voice] = digest_voice(segment.voice)
        return digest(
            [
                *(self._model, self._voices[sentence.voice], segment.number, sentence.language, sentence.speed),
                *(sentence.text, sentence.words, sentence.symbols, sentence.owners),
                *(joint.lead, joint.tail, joint.before, joint.after),
            ]
        )

    def _speak_sentence(self, joint: _Joint) -> np.ndarray:
        """Return the samples of a sentence between its neighbours' pauses, as `say` gives them."""
        speech, _ = next(self._synthesizer.speak_segments([joint.segment], self._reading.options))
        marked = self._synthesizer.mark([trim_edges(speech, joint.lead, joint.tail)])
        return next(add_silences(marked, joint.before, joint.after)).audio.samples


class Clock:
    """Tells how long the rest of a book will take, from how long its characters took."""

    def __init__(self) -> None:
        self.left = 0  # characters of the chapters that are not finished
        self._done = 0  # of those, spoken in this run
        self._characters = 0  # spoken in this run
        self._seconds = 0.0

    def note(self, characters: int, seconds: float) -> None:
        """Note a spoken sentence."""
        self._done += characters
        self._characters += characters
        self._seconds += seconds

    def finish(self, characters: int) -> None:
        """Note that a chapter of so many is finished, whoever spoke it."""
        self.left -= characters
        self._done = 0

    def estimate(self) -> str:
        """Return `, about 2 h 10 min left`; nothing before there is anything to go by."""
        if not self._characters:
            return ""
        minutes = math.ceil(max(0, self.left - self._done) * self._seconds / self._characters / 60)
        return f", about {minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f", about {minutes} min left"


def _given_words(script: Script) -> set[str]:
    return {word.text for passage in script.passages for word in passage.given}


def digest_voice(voice: Voice) -> str:
    """Return 32 hex digits of all that a voice's speech depends on."""
    return digest([voice.text, voice.symbols, voice.durations, hashlib.sha256(voice.codes.tobytes()).hexdigest()])


def digest(facts: object) -> str:
    """Return 32 hex digits of what is said in JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
