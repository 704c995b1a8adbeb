"""Word errors between what should be said and what was heard, under a named text normaliser."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from openvalle.errors import MissingExtra

NORMALIZER = "openvalle-en-1"  # print it beside every word error rate; a change of rules is a new name
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

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Return the errors of `hypothesis` against `reference`, both normalised by `NORMALIZER`."""
    try:
        import jiwer
    except ImportError:
        raise MissingExtra("jiwer", "eval-offline") from None
    expected, heard = normalize_words(reference), normalize_words(hypothesis)
    if not expected:
        return WordErrors(insertions=len(heard.split()))
    found = jiwer.process_words(expected, heard)
    return WordErrors(found.substitutions, found.deletions, found.insertions, len(expected.split()))


def total(errors: Iterable[WordErrors]) -> WordErrors:
    """Return the sum, whose rate is the corpus word error rate."""
    return sum(errors, WordErrors())


def normalize_words(text: str) -> str:
    """Return `text` as bare lower-case words, by the rules named `NORMALIZER`.

    Accents are dropped, curly apostrophes made straight, numbers and ordinals spelled out, titles and the
    signs & and % written as words; apostrophes stay only inside words; all else that is no letter separates.
    """
    text = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower())
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = NUMBER.sub(lambda found: f" {_spelled(found[1], bool(found[2]))} ", text)
    tokens = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[&%]", text)
    return " ".join(SPELLED_OUT.get(token, token) for token in tokens)


def _spelled(number: str, ordinal: bool) -> str:
    from num2words import num2words

    digits = number.replace(",", "")
    value = float(digits) if "." in digits else int(digits)
    return num2words(value, ordinal=ordinal and isinstance(value, int)).replace("-", " ")
