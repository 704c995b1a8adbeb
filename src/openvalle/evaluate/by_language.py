"""Figures by language: errors of one language and of another are no one figure, and BLEU is of a whole set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from openvalle.errors import import_extra
from openvalle.evaluate.results import Result, summarise
from openvalle.statistics import Estimate
from openvalle.synth.normalizers import PLAIN, WRITTEN, find_normalizer
from openvalle.types import ENGLISH, UNSPACED

SHOWN = ("wer", "cer", "language_heard", "sim_o", "right_above_wrong")
TOKENIZERS = {"zh": "zh"}  # of sacrebleu, which is given bare words; Japanese: see `choose_tokenizer`


@dataclass(frozen=True)
class LanguageFigures:
    """What one system reached in one language. `bleu`: of what was heard against the texts; None without sacrebleu."""

    system: str
    language: str
    rows: int
    figures: dict[str, Estimate]
    bleu: float | None
    tokenizer: str

    @property
    def title(self) -> str:
        """What its row is called."""
        return f"{self.system}, {self.language}"

    @property
    def shown_bleu(self) -> str:
        """BLEU as a table shows it."""
        return "-" if self.bleu is None else f"{self.bleu:.1f}"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def measure_languages(rows: Sequence[Result]) -> list[LanguageFigures]:
    """Return the figures of each system and language; none where all texts are English."""
    languages = sorted({row.language for row in rows})
    if set(languages) <= {ENGLISH}:
        return []
    found = []
    for system in dict.fromkeys(row.system for row in rows):
        for language in languages:
            own = [row for row in rows if row.system == system and row.language == language]
            if own:
                tokenizer = choose_tokenizer(language)
                bleu = measure_bleu(own, language) if find_spec("sacrebleu") else None
                found.append(LanguageFigures(system, language, len(own), summarise(own), bleu, tokenizer))
    return found


def explain_languages(found: Sequence[LanguageFigures]) -> str:
    """Return what a reader of the table has to know."""
    tokenizers = ", ".join(dict.fromkeys(f"{one.language} {one.tokenizer}" for one in found))
    return (
        "WER of Chinese and Japanese counts signs as words. The language heard is Whisper's: how likely it finds "
        f"the text's. BLEU is sacrebleu's of bare words, by its tokenisers {tokenizers}."
    )


def choose_tokenizer(language: str) -> str:
    """Return sacrebleu's tokeniser of a language: MeCab's words of Japanese where it is installed, else its signs."""
    base = language.partition("-")[0]
    if base == "ja":
        return "ja-mecab" if find_spec("MeCab") and find_spec("ipadic") else "char"
    return TOKENIZERS.get(base, "13a")


def measure_bleu(rows: Sequence[Result], language: str) -> float:
    """Return BLEU (0 to 100) of what was heard against the texts, both as `WRITTEN` normalises them.

    An answer that failed counts as one in which nothing is said. `MissingExtra` without sacrebleu.
    """
    sacrebleu = import_extra("sacrebleu", "sacrebleu", "eval-offline")
    base = language.partition("-")[0]
    normalize = find_normalizer(WRITTEN.get(base, PLAIN))
    blank = "" if base in UNSPACED else " "
    heard, said = ([normalize(text).replace(" ", blank) for text in own] for own in _texts(rows))
    return float(sacrebleu.corpus_bleu(heard, [said], tokenize=choose_tokenizer(language)).score)


def _texts(rows: Sequence[Result]) -> tuple[list[str], list[str]]:
    return [row.heard for row in rows], [row.text for row in rows]
