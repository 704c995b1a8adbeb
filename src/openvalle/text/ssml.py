"""A subset of SSML 1.1: speak, p, s, break, phoneme, sub, say-as, prosody rate, voice, lang.

The parser reads no DTD and knows no entities but XML's own five, so that a text cannot grow while it is read or name
other files. What cannot be honoured is noted; its words are spoken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from openvalle.errors import TextError
from openvalle.text.markup import SPEEDS, Builder, MarkedText, change_language, read_phones, read_seconds, read_speed
from openvalle.text.sentences import PARAGRAPH, SENTENCE

DEEPEST = 50  # elements inside each other
STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.7, "x-strong": 1.0}
SPEED_NAMES = {"x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.5}
SPELLED = ("characters", "spell-out", "digits", "telephone", "verbatim")
AS_WRITTEN = ("cardinal", "number", "date", "time", "currency", "unit", "fraction", "address", "name")
HIDDEN = ("desc", "metadata", "meta", "lexicon")  # their content is not for the listener
_RELATIVE = re.compile(r"([+-]\d+(?:\.\d+)?)%")
PLAIN = ("speak", "p", "s", "break", "phoneme", "sub", "say-as", "prosody", "voice", "lang")
SPEAKING = ("speak", "p", "s", "voice", "lang")  # may say in which language their words are


@dataclass
class _Element:
    """An open element: the manner before it, and how its words are read."""

    name: str
    voice: str | None
    speed: float
    language: str | None
    is_hidden: bool
    ending: str = ""  # what `say-as` makes of the words
    written: list[str] = field(default_factory=list)  # the words, while something else is said for them
    phones: tuple[str, ...] = ()


def parse_ssml(text: str) -> MarkedText:
    """Return the passages of an SSML document; `TextError` names line and column of what is wrong."""
    return _Reader(text).read()


class _Reader:
    """One document."""

    def __init__(self, text: str) -> None:
        self.text = re.sub("[\ud800-\udfff]", "\ufffd", text)  # half a character: dropped, with a word, as elsewhere
        self.builder = Builder()
        self.open: list[_Element] = []
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._words
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype

    def read(self) -> MarkedText:
        """Read it all."""
        start = len(self.text) - len(self.text.lstrip())
        # an XML declaration may only stand first, and may name an encoding that a Python string no longer has
        declaration = re.compile(r"<\?xml[^>]*\?>").match(self.text, start)
        body = " " * len(declaration.group()) + self.text[declaration.end() :] if declaration else self.text[start:]
        try:
            self.parser.Parse((self.text[:start] + body).encode("utf-8"), True)
        except expat.ExpatError as error:
            place = f"line {error.lineno}, column {error.offset + 1}"
            raise TextError(f"SSML, {place}: {expat.errors.messages[error.code]}", "mend the markup") from None
        return self.builder.finish()

    @property
    def place(self) -> str:
        """Where the parser is."""
        return f"line {self.parser.CurrentLineNumber}, column {self.parser.CurrentColumnNumber + 1}"

    def _refuse_doctype(self, *_: object) -> None:
        raise TextError(f"SSML, {self.place}: a DOCTYPE is not read", "leave it out")

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if not self.open and name != "speak":
            raise TextError(f"SSML, {self.place}: the document begins with <{tag}>", "begin it with <speak>")
        if len(self.open) >= DEEPEST:
            raise TextError(f"SSML, {self.place}: elements are nested more than {DEEPEST} deep", "nest them less")
        is_hidden = name in HIDDEN or (bool(self.open) and self.open[-1].is_hidden)
        self.open.append(_Element(name, self.builder.voice, self.builder.speed, self.builder.language, is_hidden))
        if is_hidden:
            return
        if attributes.get("xml:lang") and name in SPEAKING:
            change_language(self.builder, attributes["xml:lang"], self.place)
        if name not in PLAIN:
            self.builder.note(self.place, f"<{tag}> cannot be honoured: only its words are spoken")
        elif name in ("p", "s"):
            self.builder.turn()
        elif name == "break":
            self._break(attributes)
        elif name == "prosody":
            self._prosody(attributes)
        elif name == "voice":
            self._voice(attributes)
        elif name == "lang":
            pass  # its xml:lang says it all
        elif name != "speak":
            self._replacement(name, attributes)

    def _end(self, _: str) -> None:
        element = self.open.pop()
        builder = self.builder
        if element.is_hidden:
            return
        if element.phones:
            builder.mark(" ".join("".join(element.written).split()) or "?", element.phones)
        elif element.ending:
            builder.say(_said_as("".join(element.written), element.ending))
        if element.name in ("p", "s"):
            builder.pause(PARAGRAPH if element.name == "p" else SENTENCE, at_least=True)
        elif element.name in ("prosody", "voice"):
            builder.turn()
            builder.voice, builder.speed = element.voice, element.speed
        if element.name in SPEAKING and builder.language != element.language:
            builder.turn()
            builder.language = element.language

    def _words(self, text: str) -> None:
        if self.open[-1].is_hidden:
            return
        for element in self.open[::-1]:
            if element.name == "sub":  # its alias was said already
                return
            if element.phones or element.ending:
                element.written.append(text)
                return
        self.builder.say(re.sub(r"\s+", " ", text))

    def _break(self, attributes: Mapping[str, str]) -> None:
        if "time" in attributes:
            seconds = read_seconds(attributes["time"])
        else:
            seconds = STRENGTHS.get(attributes.get("strength", "medium"))
        if seconds is None:
            raise self._bad("break", attributes, 'write time="500ms" or strength="strong"')
        self.builder.pause(seconds)

    def _prosody(self, attributes: Mapping[str, str]) -> None:
        for key in sorted(set(attributes) - {"rate"}):
            self.builder.note(self.place, f'<prosody {key}="{attributes[key]}"> cannot be honoured')
        if "rate" not in attributes:
            return
        value = attributes["rate"].strip()
        relative = _RELATIVE.fullmatch(value)
        speed = 1 + float(relative[1]) / 100 if relative else SPEED_NAMES.get(value) or read_speed(value)
        speed = None if speed is None else speed * self.builder.speed
        if speed is None or not SPEEDS[0] <= speed <= SPEEDS[1]:
            raise self._bad(
                "prosody", attributes, f'write rate="90%" or rate="slow"; {SPEEDS[0]} to {SPEEDS[1]} in all'
            )
        self.builder.turn()
        self.builder.speed = speed

    def _voice(self, attributes: Mapping[str, str]) -> None:
        for key in sorted(set(attributes) - {"name"}):
            self.builder.note(self.place, f'<voice {key}="{attributes[key]}"> cannot be honoured')
        if attributes.get("name"):
            self.builder.turn(self.place)
            self.builder.voice = attributes["name"]

    def _replacement(self, name: str, attributes: Mapping[str, str]) -> None:
        """Set what is said instead of the words of phoneme, sub and say-as."""
        element = self.open[-1]
        key = {"phoneme": "ph", "sub": "alias", "say-as": "interpret-as"}[name]
        value = attributes.get(key, "").strip()
        if not value:
            raise self._bad(name, attributes, f"give it {key}=...")
        alphabet = attributes.get("alphabet", "ipa")
        if name == "sub":
            self.builder.say(value)
        elif name == "phoneme" and alphabet.removeprefix("x-") not in ("ipa", "arpabet", "cmu-arpabet"):
            self.builder.note(self.place, f"the alphabet {alphabet!r} is not known: the word is read as spelled")
        elif name == "phoneme":
            element.phones = read_phones(value, f"SSML, {self.place}")
        elif value in (*SPELLED, "ordinal"):
            element.ending = value
        elif value not in AS_WRITTEN:
            self.builder.note(self.place, f'<say-as interpret-as="{value}"> is not known: its words are read as usual')

    def _bad(self, name: str, attributes: Mapping[str, str], hint: str) -> TextError:
        shown = "".join(f' {key}="{value}"' for key, value in attributes.items())
        return TextError(f"SSML, {self.place}: <{name}{shown}> cannot be read", hint)


def _said_as(text: str, kind: str) -> str:
    """Return the text as `say-as` wants it."""
    text = " ".join(text.split())
    if kind == "ordinal" and text.isdigit():
        ending = "th" if text[-2:] in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(text[-1], "th")
        return text + ending
    if kind == "ordinal":
        return text
    return ", ".join(" ".join(part) for part in re.findall(r"[A-Za-z0-9]+", text))
