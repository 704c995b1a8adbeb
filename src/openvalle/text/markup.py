"""Markup in text: pauses, voices, rates, pronunciations. What is no markup is text; what cannot be honoured is noted.

`[pause:0.8s]`, `[voice:name]`, `[rate:0.9]`, `[lang:en]`, `[word](/IPA/)`, `[S1]` for speakers; `\\[` is a bracket.
SSML is read by `openvalle.text.ssml` into the same passages.
"""

from __future__ import annotations

import re
from enum import StrEnum

from openvalle.errors import TextError
from openvalle.text.passages import (
    LONGEST_PAUSE,
    RATES,
    Builder,
    Marked,
    Passage,
    Places,
    note_language,
    read_phones,
    read_rate,
    read_seconds,
)
from openvalle.text.ssml import parse_ssml

NAMES = ("pause", "voice", "rate", "lang")
SOUNDS = "laugh laughs laughter chuckle sigh sighs gasp cough coughs breath sniff groan yawn music applause whisper"
_TOKEN = re.compile(
    r"\\(?P<bracket>[\[\]])"
    r"|\[(?P<word>[^\[\]\n]+)\]\(/(?P<sounds>[^/\n\[\]]*)(?P<closed>/\))?"
    r"|\[(?P<name>[a-z]+):(?P<value>(?=[^\s\]])[^\[\]\n]*|)(?P<end>\])?"
    r"|\[(?P<speaker>S\d+)\]"
    r"|\[(?P<bare>pause)\]"
    rf"|\[(?P<sound>{'|'.join(SOUNDS.split())})\]"
)


class Markup(StrEnum):
    """How a text is marked up."""

    AUTO = "auto"  # SSML if the text begins with <speak>, else tags
    TAGS = "tags"
    SSML = "ssml"
    NONE = "none"  # the text is read as it stands


def parse(text: str, markup: Markup | str = Markup.AUTO) -> Marked:
    """Return the passages of a text; `TextError` says where markup is malformed."""
    try:
        markup = Markup(markup)
    except ValueError:
        raise TextError(f"there is no markup {markup!r}", f"use one of: {', '.join(Markup)}") from None
    is_ssml = re.match(r"\s*(<\?xml[^>]*>\s*)?<speak[\s>/]", text) is not None
    if markup is Markup.SSML or (markup is Markup.AUTO and is_ssml):
        return parse_ssml(text)
    if markup is Markup.NONE:
        return Marked((Passage(text),))
    return _parse_tags(text)


def _parse_tags(text: str) -> Marked:
    builder, places = Builder(text), Places(text)
    at = 0
    for found in _TOKEN.finditer(text):
        builder.say(text[at : found.start()])
        at = found.end()
        _apply(builder, found, places.at(found.start()))
    builder.say(text[at:])
    return builder.finish()


def _apply(builder: Builder, found: re.Match[str], place: str) -> None:
    """Do what a tag says."""
    if found["bracket"]:
        builder.say(found["bracket"])
    elif found["word"]:
        if not found["closed"]:
            raise TextError(f"{place}: the pronunciation of {found['word']!r} does not end", "close it with /)")
        builder.mark(found["word"].strip(), read_phones(found["sounds"], place))
    elif found["speaker"]:
        builder.turn(place)
        builder.voice = found["speaker"]
    elif found["sound"]:
        builder.note(place, f"{found.group()} cannot be made: it is left out")
    elif found["bare"]:
        raise TextError(f"{place}: [pause] has no length", "write for example [pause:0.8s]")
    else:
        _set(builder, found, place)


def _set(builder: Builder, found: re.Match[str], place: str) -> None:
    """Apply `[name:value]`."""
    name, value = found["name"], found["value"].strip()
    if not found["end"]:
        if name in NAMES:
            raise TextError(f"{place}: the tag [{name}: does not end", "close it with ]")
        builder.say(found.group())
        return
    if name == "pause":
        builder.pause(_require(read_seconds(value), found, place, f"0 to {LONGEST_PAUSE:.0f} seconds, as [pause:0.8s]"))
    elif name == "rate":
        rate = _require(read_rate(value), found, place, f"a rate from {RATES[0]} to {RATES[1]}, as [rate:0.9]")
        builder.turn()
        builder.rate = rate
    elif name == "voice":
        builder.turn(place)
        builder.voice = value or None
    elif name == "lang":
        note_language(builder, value, place)
    else:
        builder.note(place, f"{found.group()} is not known: it is left out")


def _require(value: float | None, found: re.Match[str], place: str, what: str) -> float:
    if value is None:
        raise TextError(f"{place}: {found.group()} cannot be read", f"write {what}")
    return value
