"""Word and character errors between what should be said and what was heard, under a named text normaliser."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openvalle.errors import UserError, import_extra
from openvalle.number_words import NAMED, cardinal_words, figure_words, ordinal_words

NORMALIZER = "openvalle-en-1"  # the default; print it beside every error rate; a change of rules is a new name
SPELLED_OUT = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "st": "saint",
    "ok": "okay",
    "&": "and",
    "%": "percent",
}
NUMBER = re.compile(r"(?<![\w.])(\d+(?:,\d{3})*(?:\.\d+)?)(st|nd|rd|th)?(?![\w.]*\d)")


@dataclass(frozen=True)
class WordErrors:
    """Counts that add up over utterances."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0  # in the reference

    @property
    def errors(self) -> int:
        """All errors together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference word (may pass 1); nan without reference words."""
        return self.errors / self.words if self.words else float("nan")


Normalize = Callable[[str], str]


def word_errors(reference: str, hypothesis: str, normalizer: str | Normalize = NORMALIZER) -> WordErrors:
    """Return the word errors of `hypothesis` against `reference`, both normalised by `normalizer`, a name or rules."""
    normalize = find_normalizer(normalizer) if isinstance(normalizer, str) else normalizer
    expected, heard = normalize(reference), normalize(hypothesis)
    return _count("process_words", expected, heard, len(expected.split()), len(heard.split()))


def character_errors(reference: str, hypothesis: str, normalizer: str | Normalize = NORMALIZER) -> WordErrors:
    """Return the character errors, without the spaces: the measure for languages that write none."""
    normalize = find_normalizer(normalizer) if isinstance(normalizer, str) else normalizer
    expected, heard = (normalize(text).replace(" ", "") for text in (reference, hypothesis))
    return _count("process_characters", expected, heard, len(expected), len(heard))


def _count(measure: str, expected: str, heard: str, count: int, heard_count: int) -> WordErrors:
    jiwer = import_extra("jiwer", "jiwer", "eval-offline")
    if not expected:
        return WordErrors(insertions=heard_count)
    found = getattr(jiwer, measure)(expected, heard)
    return WordErrors(found.substitutions, found.deletions, found.insertions, count)


def normalize_words(text: str) -> str:
    """Return `text` as bare lower-case words, by the rules named `NORMALIZER`.

    Accents are dropped, curly apostrophes made straight, numbers and ordinals spelled out, titles and the
    signs & and % written as words; apostrophes stay only inside words; all else that is no letter separates.
    """
    text = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower())
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = NUMBER.sub(lambda found: f" {_spell(found[1], bool(found[2]))} ", text)
    tokens = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[&%]", text)
    return " ".join(SPELLED_OUT.get(token, token) for token in tokens)


def plain_words(text: str) -> str:
    """Return `text` in lower case without punctuation, by the rules named `plain-1`: nothing is spelled out."""
    text = unicodedata.normalize("NFKC", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower())
    kept = (char if unicodedata.category(char)[0] in "LMN" or char == "'" else " " for char in text)
    return " ".join("".join(kept).split())


NORMALIZERS: dict[str, Normalize] = {NORMALIZER: normalize_words, "plain-1": plain_words}


def find_normalizer(name: str, known: Mapping[str, Normalize] = NORMALIZERS) -> Normalize:
    """Return the normaliser called `name` of those that are known; `UserError` lists them."""
    if name not in known:
        raise UserError(f"there is no text normaliser {name!r}", f"there are: {', '.join(known)}")
    return known[name]


def _spell(number: str, ordinal: bool) -> str:
    whole, _, part = number.replace(",", "").partition(".")
    is_whole, part = not part, part.rstrip("0")  # 2.50 is two point five, 2.00 is two
    if len(whole) > NAMED:
        words = figure_words(whole)
    else:
        words = ordinal_words(int(whole)) if ordinal and is_whole else cardinal_words(int(whole))
    return f"{words} point {figure_words(part)}" if part else words
