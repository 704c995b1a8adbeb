"""A recording -> its sentences in time: recognised, or aligned with words that are given, and cut."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from openvalle.apps.subtitles import find_places
from openvalle.audio import Audio, find_sounding
from openvalle.errors import TextError
from openvalle.speech_models.asr import best_available, transcribe_timed
from openvalle.synth.enrol import align_transcript
from openvalle.synth.plan import Sentence, place_in_time
from openvalle.synth.speech import Timed
from openvalle.text.language import find_language
from openvalle.text.sentences import even_blanks, find_sentences

PAUSE = 1.0  # seconds without a word that end a segment inside a sentence
MOST_SECONDS = 15.0  # of a segment; a longer one is cut at its longest pause
MARGIN = 0.15  # seconds of the pauses around a segment that are its own, at most: speech has such edges
MARGIN_HEARD = 0.3  # seconds of silence around speech that a recogniser gets to hear
ALIGNED_RATE = 100.0  # frames a second in which words that are given are placed


@dataclass(frozen=True)
class Heard:
    """What is said in a recording. `words` in time, in seconds; `places`: where each begins in `text`."""

    text: str
    words: tuple[Timed, ...]
    places: tuple[int, ...]
    language: str


@dataclass(frozen=True)
class SourceSegment:
    """A sentence of a recording, or part of a long one; `start`, `end`: in seconds, with the edges of its pauses."""

    text: str
    words: tuple[Timed, ...]
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end - self.start


def recognize(audio: Audio, label: str, language: str = "", asr: str = "") -> Heard:
    """Return what is said, by the recogniser called `asr`, else the best one here; its language is found if need be."""
    first, end = find_sounding(audio, margin_seconds=MARGIN_HEARD)  # Whisper hears words in the silence around speech
    sounding = Audio(audio.samples[first:end], audio.rate)
    found = transcribe_timed(best_available(asr, language), sounding, language)
    if not found.words:
        raise TextError(f"no words were heard in {label}", "say what is spoken in it with --transcript")
    places, at = [], 0
    for word in found.words:
        place = found.text.find(word.text, at)
        places.append(max(place, at))
        at = place + len(word.text) if place >= 0 else at
    words, last = [], 0.0
    for word in found.words:  # recognisers let words overlap by a frame
        start = min(max(word.start + first / audio.rate, last), audio.seconds)
        last = min(max(word.end + first / audio.rate, start), audio.seconds)
        words.append(Timed(word.text, start, last))
    return Heard(found.text, tuple(words), tuple(places), find_language(found.language).code)


def place_words(audio: Audio, label: str, transcript: str, language: str) -> Heard:
    """Return what is said, which is known, with the times of its words by forced alignment."""
    rate = ALIGNED_RATE
    aligned = align_transcript(audio, transcript, label, int(audio.seconds * rate), rate, language=language)
    names = tuple(word.text for word in aligned.words)
    words, _ = place_in_time(
        Sentence(transcript, names, aligned.symbols, aligned.owners), aligned.durations, rate, audio.seconds
    )
    return Heard(transcript, words, tuple(find_places(transcript, names)), language)


def cut_segments(heard: Heard, seconds: float) -> list[SourceSegment]:
    """Return the sentences of a recording that lasts `seconds`: cut after each, at long pauses, and where one is long.

    Each has half of the pauses around it, up to `MARGIN`.
    """
    words = heard.words
    ends = [end for _, end in find_sentences(heard.text, find_language(heard.language).front_end.goes_on)]
    sentence = [bisect_right(ends, place) for place in heard.places]
    spans, first = [], 0
    for index in range(1, len(words) + 1):
        is_over = index == len(words) or sentence[index] != sentence[index - 1]
        if is_over or words[index].start - words[index - 1].end >= PAUSE:
            spans += _cut_long(words, first, index)
            first = index
    segments = []
    for first, last in spans:
        before = words[first - 1].end if first else 0.0
        after = words[last].start if last < len(words) else seconds
        start, end = words[first].start, words[last - 1].end
        start -= min(MARGIN, (start - before) / (2 if first else 1))
        end += min(MARGIN, (after - end) / (2 if last < len(words) else 1))
        until = heard.places[last] if last < len(words) else len(heard.text)
        text = even_blanks(heard.text[heard.places[first] if first else 0 : until])
        segments.append(SourceSegment(text, words[first:last], start, end))
    return segments


def _cut_long(words: Sequence[Timed], first: int, last: int) -> list[tuple[int, int]]:
    """Return the words [first, last) in parts of at most `MOST_SECONDS`, each cut at the longest pause in its later
    half."""
    parts = []
    while words[last - 1].end - words[first].start > MOST_SECONDS and last - first > 1:
        fits = [
            index for index in range(first + 1, last) if words[index - 1].end - words[first].start <= MOST_SECONDS
        ] or [first + 1]
        later = fits[len(fits) // 2 :]
        cut = max(later, key=lambda index: (words[index].start - words[index - 1].end, index))
        parts.append((first, cut))
        first = cut
    return [*parts, (first, last)]
