"""When each word and phone is spoken, as JSON, SubRip (.srt), WebVTT (.vtt) or Praat's TextGrid."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openvalle.errors import AudioError, TextError, UserError
from openvalle.files import expand_home, write_text
from openvalle.synth.speech import Speech, Timed
from openvalle.text.explain import explain
from openvalle.text.layout import RULES
from openvalle.text.rules import rewrite
from openvalle.text.sentences import even_blanks, find_spoken, measure, sets_words_apart
from openvalle.text.spans import CHINESE, JAPANESE, detect_language
from openvalle.types import ENGLISH

CUE_SECONDS, CUE_CHARACTERS = 6.0, 84  # a subtitle's longest stay, and two lines of 42
LINE_CHARACTERS = 42  # which are 14 signs of Chinese or Japanese
HANGING = 6  # more that a line may have, rather than end inside a clause


@dataclass(frozen=True)
class Cue:
    """A subtitle: its text, when it is shown, and who says it ("": nobody in particular).

    `lines`: the text as it is shown where no player can know between which words it may be broken.
    """

    text: str
    start: float
    end: float
    speaker: str = ""
    lines: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The text in its lines."""
        return "\n".join(self.lines) or self.text


@dataclass
class Timeline:
    """The words, phones and subtitles of pieces that follow each other."""

    seconds: float = 0.0
    words: list[Timed] = field(default_factory=list)
    phones: list[Timed] = field(default_factory=list)
    texts: list[tuple[str, Sequence[Timed], str]] = field(default_factory=list)  # with its words and who says it
    speakers: list[str] = field(default_factory=list)  # of each word

    def add(self, speech: Speech) -> None:
        """Put a piece at the end."""
        self.append(speech.text, [word.shift(self.seconds) for word in speech.words], speech.speaker)
        self.phones += [phone.shift(self.seconds) for phone in speech.phones]
        self.seconds += speech.seconds

    def append(self, text: str, words: Sequence[Timed], speaker: str = "") -> None:
        """Put the words of a text, in seconds from the start of all, at the end; they make it no longer."""
        self.words += words
        self.speakers += [speaker] * len(words)
        self.texts.append((text, words, speaker))

    @property
    def cues(self) -> list[Cue]:
        """The subtitles. The texts are divided when they are asked for: every one is read again for it."""
        return [replace(cue, speaker=who) for text, words, who in self.texts for cue in split_cues(text, words)]

    def write(self, path: str | Path) -> Path:
        """Write the file, in the format of its ending, atomically; `UserError` for another ending."""
        path = check_ending(path)
        write_text(path, WRITERS[path.suffix.lower()](self))
        return path


def check_ending(path: str | Path) -> Path:
    """Return the path if its ending names a format of timestamps."""
    path = expand_home(path)
    if path.suffix.lower() not in WRITERS:
        raise UserError(
            f"cannot write timestamps to {path.name}: unknown format {path.suffix!r}",
            "end it in .json, .srt, .vtt or .TextGrid",
        )
    return path


def with_times(speech: Speech) -> Speech:
    """Return the speech with the times of words and phones: the model's own, by forced alignment if it has none."""
    if speech.words:
        return speech
    from openvalle.speech_models.aligners import load_aligner
    from openvalle.text.language import phonemize
    from openvalle.text.nearest import find_ears, to_units

    try:
        said = phonemize(speech.text, speech.language)
        units = [(word.text, to_units(word.phones)) for word in said]
        aligner = load_aligner(language=speech.language)
        found = aligner.align_scored(speech.audio, units, find_ears(speech.language, aligner.symbols))
    except (AudioError, TextError):  # the model did not say the words: nobody can tell when
        return speech
    words = [Timed(word.text, *times) for word, times in zip(said, found.word_times(), strict=True)]
    phones = [Timed(span.symbol, span.start, span.end) for span in found.spans]
    return replace(speech, words=tuple(words), phones=tuple(phones))


def split_cues(text: str, words: Sequence[Timed]) -> list[Cue]:
    """Return the subtitles of a sentence: the text as it is written, divided where it is too long for one.

    A cue ends at punctuation if there is some in its later half. Nothing that is written together ("$5") is divided.
    """
    if not words:
        return []
    shown = rewrite(text, RULES)
    places = find_places(shown, [word.text for word in words])
    cues: list[Cue] = []
    first = begin = 0  # word of the cue, and where it begins
    while first < len(words):
        last = first
        while last + 1 < len(words) and _fits(shown, places, words, first, last + 1):
            last += 1
        if last + 1 < len(words):
            last = _choose_end(shown, places, first, last)
        until = places[last + 1] if last + 1 < len(words) else len(shown)
        until -= len(_OPENING.search(shown[max(0, until - 8) : until]).group())  # type: ignore[union-attr]
        borders = [place - begin for place in places[first + 1 : last + 1]]
        lines = break_lines(shown[begin:until], borders)
        cues.append(Cue(even_blanks(shown[begin:until]), words[first].start, words[last].end, lines=lines))
        first, begin = last + 1, until
    return cues


_OPENERS = r"\"'(\[\u201c\u2018\u00ab\u300c\u300e\uff08\u3008\u300a\u3010"
_OPENING = re.compile(rf"[{_OPENERS}]*\Z")  # signs that go with the word after them
_MARKED = re.compile(r"[,;:.!?)\u2014\u2013\u2026\u3001\u3002\uff0c\uff1b\uff1a\uff01\uff1f][^\s\w]*\s*\Z")


def break_lines(text: str, borders: Sequence[int]) -> tuple[str, ...]:
    """Return a text of signs that no blanks set apart in lines of `LINE_CHARACTERS`; none where one is enough.

    A line ends between words, of which `borders` tells where they begin: after punctuation where there is some near the
    middle, never before it, and never between a sign that opens and its word.
    """
    if measure(text) <= LINE_CHARACTERS + HANGING or sets_words_apart(text):
        return ()
    ends = {border - len(_OPENING.search(text[:border]).group()) for border in borders}  # type: ignore[union-attr]
    ends = {end for end in ends if text[:end].strip() and text[end:].strip()}
    if not ends:
        return ()
    whole = measure(text)
    count, most = -(-whole // LINE_CHARACTERS), LINE_CHARACTERS + HANGING

    def rank(end: int) -> float:
        own = measure(text[:end])
        over = max(0, own - most, whole - own - (count - 1) * most)  # what does not fit
        marked = LINE_CHARACTERS / 4 if _MARKED.search(text[:end]) else 0.0
        return 10 * over + abs(own - whole / count) - marked

    best = min(ends, key=rank)
    rest, own = text[best:], [border - best for border in borders if border > best]
    return (even_blanks(text[:best]), *(break_lines(rest, own) or (even_blanks(rest),)))


def find_places(text: str, words: Sequence[str]) -> list[int]:
    """Return where what is written for each of the spoken words of a text begins."""
    if detect_language(text, (CHINESE, JAPANESE)) != ENGLISH:  # a word stands as it is said, or is a figure
        return find_spoken(text, words)
    found_words = [word.start for word in explain(text, {})]
    count = len(words)
    if len(found_words) != count:  # words with pronunciations of their own: by their share of the text
        starts = [match.start() for match in re.finditer(r"\S+", text)] or [0]
        return [starts[index * len(starts) // count] for index in range(count)]
    return found_words


def _fits(text: str, places: Sequence[int], words: Sequence[Timed], first: int, last: int) -> bool:
    until = next((place for place in places[last + 1 :] if place > places[last]), len(text))
    return (
        measure(text[places[first] : until]) <= CUE_CHARACTERS and words[last].end - words[first].start <= CUE_SECONDS
    )


def _choose_end(text: str, places: Sequence[int], first: int, last: int) -> int:
    """Return the last word of a cue that may go on to `last`: before a gap, after punctuation if it can be."""
    gaps = [index for index in range(first, last + 1) if places[index + 1] > places[index]]
    part = 2 if sets_words_apart(text) else 3  # in which no blanks guide the eye: punctuation is the better end
    later = [index for index in gaps if index >= first + (last - first) // part]
    marked = [index for index in later if _MARKED.search(text[places[index] : places[index + 1]])]
    return max(marked or gaps or [last])


def as_json(timeline: Timeline) -> str:
    """Return `{duration, words: [{word, start, end}], phones: [{phone, start, end}]}`, times in seconds."""
    words: list[dict[str, Any]] = []
    for word, speaker in zip(timeline.words, timeline.speakers, strict=True):
        words.append(word.as_dict() | ({"speaker": speaker} if speaker else {}))
    phones = [
        {"phone": phone.text, "start": round(phone.start, 3), "end": round(phone.end, 3)} for phone in timeline.phones
    ]
    values = {"duration": round(timeline.seconds, 3), "words": words, "phones": phones}
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def as_srt(timeline: Timeline) -> str:
    """Return SubRip subtitles."""
    blocks = []
    for number, cue in enumerate(timeline.cues, 1):
        name = f"{cue.speaker}: " if cue.speaker else ""
        blocks.append(f"{number}\n{format_time(cue.start, ',')} --> {format_time(cue.end, ',')}\n{name}{cue.shown}\n")
    return "\n".join(blocks)


def as_vtt(timeline: Timeline) -> str:
    """Return WebVTT subtitles."""
    blocks = ["WEBVTT\n"]
    for cue in timeline.cues:
        text = cue.shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        name = f"<v {cue.speaker}>" if cue.speaker else ""
        blocks.append(f"{format_time(cue.start, '.')} --> {format_time(cue.end, '.')}\n{name}{text}\n")
    return "\n".join(blocks)


def as_textgrid(timeline: Timeline) -> str:
    """Return a TextGrid with the tiers `words` and `phones`, which tile the sound."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {timeline.seconds:.6f}"]
    lines += ["tiers? <exists>", "size = 2", "item []:"]
    for number, (name, items) in enumerate((("words", timeline.words), ("phones", timeline.phones)), 1):
        tiles = fill_gaps(items, timeline.seconds)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += [
            "        xmin = 0",
            f"        xmax = {timeline.seconds:.6f}",
            f"        intervals: size = {len(tiles)}",
        ]
        for place, tile in enumerate(tiles, 1):
            quoted = tile.text.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {tile.start:.6f}"]
            lines += [f"            xmax = {tile.end:.6f}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


def fill_gaps(items: Sequence[Timed], seconds: float) -> list[Timed]:
    """Return the items with empty ones between them, so that they tile [0, seconds]; empty words go."""
    tiles: list[Timed] = []
    at = 0.0
    for item in items:
        start, end = max(at, item.start), min(item.end, seconds)
        if end <= start:
            continue
        if start > at:
            tiles.append(Timed("", at, start))
        tiles.append(Timed(item.text, start, end))
        at = end
    if at < seconds or not tiles:
        tiles.append(Timed("", at, seconds))
    return tiles


def format_time(seconds: float, point: str) -> str:
    """Return `00:01:02,345`."""
    total = round(seconds * 1000)
    return f"{total // 3_600_000:02}:{total // 60_000 % 60:02}:{total // 1000 % 60:02}{point}{total % 1000:03}"


WRITERS = {".json": as_json, ".srt": as_srt, ".vtt": as_vtt, ".textgrid": as_textgrid}
