"""Which language the parts of a text are in, as their script shows.

Kana is Japanese, and so are the Chinese signs beside it; other Chinese signs are Chinese; Latin letters in a Chinese or
Japanese text are English.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from openvalle.text.rules import regex
from openvalle.types import ENGLISH

CHINESE, JAPANESE = "zh", "ja"
HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9d"
# A run of the signs of East Asia with what stands between them: figures, blanks, their punctuation.
_RUN = regex(
    rf"[{HAN}{KANA}](?:[{HAN}{KANA}\u3001-\u3003\u3008-\u3011\uff01-\uff0f\uff1a-\uff20\d]"
    rf"|[ \t](?=[{HAN}{KANA}])|[.,:](?=\d))*"
)
_KANA_RUN = regex(rf"[{KANA}]+")  # in a Chinese text its own signs are Chinese
_KANA = regex(f"[{KANA}]")
_ANY = regex(f"[{HAN}{KANA}]")
_LETTER = regex(r"[^\W\d_\U00010400-\U0001044f]")  # without what holds the place of a word


def find_spans(text: str, language: str, spoken: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the parts of a text with the language of each; joined they are the text.

    `language`: of the text; `spoken`: the others that may be found in it. Chinese and Japanese front ends read the
    Latin words in their texts themselves, with their figures.
    """
    if text.isascii() or not set(spoken) - {language} or not _ANY.search(text):
        yield language, text
        return
    if language == JAPANESE:  # has the signs of both
        yield language, text
        return
    pattern = _KANA_RUN if language == CHINESE else _RUN
    at = 0
    for found in pattern.finditer(text):
        code = _name(found.group(), text, language)
        if code not in spoken:
            continue
        if text[at : found.start()]:
            yield language, text[at : found.start()]
        yield code, found.group()
        at = found.end()
    if text[at:]:
        yield language, text[at:]


def _name(run: str, text: str, language: str) -> str:
    return JAPANESE if _KANA.search(run if language == CHINESE else text) else CHINESE


@dataclass(frozen=True)
class Languages:
    """Which languages a text may be in."""

    spoken: tuple[str, ...] = (ENGLISH,)  # what speaks knows these
    chosen: str = ""  # the text's; empty: as its script shows
    usual: str = ENGLISH  # where its script does not tell

    def find(self, text: str, own: str | None = None) -> str:
        """Return the language of a part of the text; `own`: what its markup says."""
        return own or self.chosen or detect_language(text, self.spoken, self.usual)


def detect_language(text: str, spoken: Collection[str], usual: str = ENGLISH) -> str:
    """Return the language that a text is most likely in, of those that can be `spoken`; the `usual` one where its
    script does not tell."""
    if text.isascii():
        return usual
    count = len(_ANY.findall(text))
    if 4 * count <= len(_LETTER.findall(text)):  # `count` of them; a sign of these says as much as three letters
        return usual
    found = JAPANESE if _KANA.search(text) else CHINESE
    return found if found in spoken else usual
