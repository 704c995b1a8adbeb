"""The front end of all languages that espeak-ng reads (GPL-3; the extra `espeak`): text -> words with their phones.

Mandarin, Japanese and American English have front ends of their own: espeak-ng reads no unlisted Chinese sign.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from openvalle.errors import import_extra
from openvalle.text.ipa import from_ipa
from openvalle.text.language import PLACEHOLDER, Language, UserLexicon, Word, keep_apart
from openvalle.text.phones import load_espeak
from openvalle.text.rules import word_set

VOICES = {"fr": "fr-fr", "no": "nb", "zh-hk": "yue", "cantonese": "yue"}  # codes that espeak-ng calls otherwise
CODES = word_set(
    "af am an ar as az ba be bg bn bpy bs ca cs cv cy da de el eo es es-419 et eu fa fi fo fr fr-be fr-ch ga gd gn gu "
    "hak haw he hi hr ht hu hy hyw ia id io is it jbo ka kaa kk kl kn ko kok ku ky la lb lfn lt ltg lv mi mk ml mr ms "
    "mt mto my nb nci ne nl no nog om or pa pap pl pt pt-br qu quc ro ru sd shn si sk sl smj sq sr sv sw ta te th ti "
    "tk tn tr tt ug uk ur uz vi yue"
)
_PAUSES = ',;:.!?…—()[]"«»„“”¿¡।॥،؛؟、。，！？'
_WORD = re.compile(r"\S+")
_BORDER, _NEXT = " ", "_"


def find(code: str) -> Language | None:
    """Return the row of a language that espeak-ng reads, by its code or the first part of it; None for others."""
    base = code.partition("-")[0]
    known = next((name for name in (code, VOICES.get(code, ""), base) if name in CODES), None)
    if known is None or base in ("en", "ja", "zh"):
        return None
    return Language(known, f"{known} (espeak-ng)", lambda: EspeakFrontEnd(known))


@dataclass(frozen=True)
class EspeakFrontEnd:
    """Reads one language with espeak-ng, clause by clause; its figures, too."""

    code: str

    def goes_on(self, before: str, after: str, is_whole: bool = True) -> bool | None:
        """Whether a sentence goes on after a full stop: after an initial or a number, if a small letter follows."""
        last = before.rsplit(maxsplit=1)[-1:] or [""]
        return bool(re.fullmatch(r"(?:[^\W\d_]|\d{1,3})\.", last[0])) and not last[0][0].isspace()

    def is_word(self, word: str) -> bool:
        """Nothing is known of single words."""
        return False

    def read_out(self, text: str) -> str:
        """Return the text as it is: espeak-ng reads figures itself."""
        return text

    def phonemize(self, text: str, backend: str, lexicon: UserLexicon, given: Sequence[Word]) -> list[Word]:
        """Return the words of a text with their phones; none if nothing in it can be spoken (see `EspeakFrontEnd`)."""
        waiting, words = iter(given), []
        clause: list[Word] = []
        for token in _WORD.findall(text):
            bare = token.strip(_PAUSES)
            if PLACEHOLDER.fullmatch(bare):
                clause.append(next(waiting))
            elif any(unicodedata.category(sign)[0] in "LN" for sign in bare):
                clause.append(Word(bare, lexicon.get(bare) or lexicon.get(bare.lower()) or ()))
            if token != bare and token[-1:] in tuple(_PAUSES) and clause:
                clause[-1] = replace(clause[-1], pause=True)
                words += self._read(clause)
                clause = []
        return keep_apart([*words, *self._read(clause)])

    def _read(self, clause: Sequence[Word]) -> list[Word]:
        """Return the words of a clause with their phones, read together, or one by one where their number changes."""
        texts = [word.text for word in clause if not word.phones]
        if not texts:
            return list(clause)
        together = _ask(self.code, " ".join(texts)).split(_BORDER) if len(texts) == len(clause) else []
        read = together if len(together) == len(texts) else [_ask(self.code, text) for text in texts]
        found = iter(read)
        words = [
            word if word.phones else replace(word, phones=from_ipa(next(found).replace(_BORDER, _NEXT)))
            for word in clause
        ]
        return [word for word in words if word.phones]


def _ask(code: str, text: str) -> str:
    """Return espeak-ng's IPA of a text: words with a blank, phones with `_` between."""
    separator = import_extra("phonemizer.separator", "phonemizer-fork", "espeak").Separator(_NEXT, "", _BORDER)
    read = str(_voice(code).phonemize([text], separator=separator, strip=True)[0]).strip()
    return read.replace("ɜ", "3") if code == "vi" else read  # a tone there, no vowel


@cache
def _voice(code: str) -> Any:
    return load_espeak()(VOICES.get(code, code), with_stress=True, language_switch="remove-flags")
