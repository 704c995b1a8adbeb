"""English pronunciations: misaki's American lexicons and the CMU dictionary, carried as data (see NOTICE), with the
endings that words take; and a user's own, a TSV file of `word<TAB>phones`, which beat every other source.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property, lru_cache
from pathlib import Path

from openvalle.errors import TextError
from openvalle.hub import assets
from openvalle.pipes import read_given_text
from openvalle.text.phones import MISAKI, Phones, UnknownSound, is_vowel, read_ipa
from openvalle.text.written import read_written
from openvalle.types import PHONES, VOWELS


def read_lexicon(path: str | Path) -> dict[str, Phones]:
    """Return word -> phones from a TSV file; blank lines and lines that begin with # are skipped.

    Phones are ARPAbet, pinyin, kana or symbols of the inventory (`openvalle.text.written`).

    `TextError` names the file, the line and what is wrong with it.
    """
    words: dict[str, Phones] = {}
    for number, line in enumerate(read_given_text(path, "the lexicon").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, phones = _entry(line, f"{path}, line {number}")
        if words.setdefault(word, phones) != phones:
            raise TextError(f"{path}, line {number}: {word!r} has another pronunciation above", "keep one of the two")
    return words


def _entry(line: str, place: str) -> tuple[str, Phones]:
    word, tab, transcription = line.partition("\t")
    word, phones = word.strip(), tuple(transcription.upper().split())
    if tab and word and (other := _read_other(transcription, place)):
        return word, other
    if not tab or not word or not phones:
        raise TextError(
            f"{place}: not a word, a tab and its phones", "write for example: openvalle<TAB>OW1 P AH0 N V AE1 L"
        )
    if any(part.isspace() for part in word):
        raise TextError(f"{place}: {word!r} is more than one word", "give each word its own line")
    for phone in phones:
        if phone in VOWELS:
            raise TextError(f"{place}: the vowel {phone} has no stress", f"write {phone}0, {phone}1 or {phone}2")
        if phone not in PHONES:
            raise TextError(f"{place}: {phone!r} is not an ARPAbet phone", "use phones such as AH0, IY1, CH, NG")
    if not any(is_vowel(phone) for phone in phones) and len(phones) > 4:
        raise TextError(f"{place}: {word!r} has no vowel", "add one, such as AH0")
    return word, phones


def _read_other(transcription: str, place: str) -> Phones | None:
    try:
        return read_written(transcription)
    except UnknownSound as error:
        raise TextError(f"{place}: {error.sign!r} is no syllable of pinyin", "write for example yin2 hang2") from None


LONGEST = 64  # letters of a word that is looked up; the longest listed one has fewer
KEPT = 1 << 14  # words that are found at once when they come again
DEFAULT = "DEFAULT"  # the reading of an entry when no part of speech decides


class Lexicon:
    """Word -> pronunciations by part of speech; a hand-checked (gold) and a machine-made (silver) list."""

    def __init__(self, gold: Mapping[str, object], silver: Mapping[str, object]) -> None:
        self._lists = (gold, silver)
        self._read: dict[str, Mapping[str, Phones] | None] = {}
        self._runs: frozenset[str] = frozenset()

    def list_words(self) -> list[str]:
        """Return every listed spelling, gold before silver."""
        return [*self._lists[0], *self._lists[1]]

    def lookup(self, word: str) -> Mapping[str, Phones] | None:
        """Return the readings of a word (`DEFAULT` among them), by rule if it is inflected, or None."""
        if len(word) > LONGEST:
            return None
        if word not in self._read:
            self._read[word] = self.entry(word) or inflect(self, word)
        return self._read[word]

    def is_checked(self, spelling: str) -> bool:
        """Whether the hand-checked list has exactly this spelling."""
        return spelling in self._lists[0]

    def noun_is_spelled(self, capitals: str) -> bool:
        """Whether the word in capitals is said as letters when it is a noun (US, IT, ID)."""
        found = self._lists[0].get(capitals)
        return isinstance(found, dict) and "NOUN" in found and found["NOUN"] is None

    def can_be_word(self, letters: str) -> bool:
        """Whether small letters may be said as a word: every three of them stand so in some listed word."""
        if not self._runs:
            words = (word for word in self._lists[0] if word.isalpha() and word.islower())
            self._runs = frozenset(word[at : at + 3] for word in words for at in range(len(word) - 2))
        return all(letters[at : at + 3] in self._runs for at in range(len(letters) - 2))

    def entry(self, word: str) -> dict[str, Phones] | None:
        """Return the listed readings of a word, whatever its case, or None."""
        for entries in self._lists:
            for spelling in (word, word.lower(), word.capitalize()):
                found = entries.get(spelling)
                if isinstance(found, str):
                    return {DEFAULT: read_ipa(found, MISAKI, ())}
                if isinstance(found, dict):
                    return {tag: read_ipa(reading, MISAKI, ()) for tag, reading in found.items() if reading}
        return None


@cache
def lexicon() -> Lexicon:
    """Return the American English lexicon."""
    return Lexicon(_Listed("us_gold.json.gz"), _Listed("us_silver.json.gz"))


class _Listed(Mapping[str, object]):
    """A list in JSON whose words stand in order, each on a line of its own: they are looked for in the text, which is
    read when the first is. A `dict` of them takes five times as long to read, and six times the memory."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._recall = lru_cache(KEPT)(self._find)

    @cached_property
    def _text(self) -> bytes:
        return _unpack(self._name)

    def __getitem__(self, word: str) -> object:
        found = self._recall(word)
        if found is None:
            raise KeyError(word)
        return found

    def _find(self, word: str) -> object:
        text, wanted = self._text, word.encode("utf-8", "surrogatepass")
        low, high = 1, len(text) - 1  # between the braces
        while low < high:
            start = text.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = text.find(b"\n", start, high)
            line = text[start : high if end < 0 else end]
            own, _, value = line[1:].partition(b'":')
            if own == wanted:
                return json.loads(value.rstrip(b","))
            low, high = (start + len(line) + 1, high) if own < wanted else (low, start - 1)
        return None

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self._text))

    def __len__(self) -> int:
        return self._text.count(b"\n") + 1


@cache
def cmu_lexicon() -> dict[str, Phones]:
    """Return the CMU dictionary's first readings: lower-case words, phones without stress."""
    return {word: readings[0] for word, readings in cmu_readings().items()}


@cache
def cmu_readings() -> dict[str, list[Phones]]:
    """Return all readings of the CMU dictionary: lower-case words, phones without stress."""
    readings: dict[str, list[Phones]] = {}
    for line in _unpack("cmudict.dict.gz").decode("utf-8").splitlines():
        word, _, phones = line.partition(" ")
        readings.setdefault(word.partition("(")[0], []).append(tuple(phones.split()))
    return readings


@cache
def stressed_readings() -> dict[str, list[Phones]]:
    """Return all readings of the CMU dictionary 0.7b with its stress, which other projects read words from."""
    readings: dict[str, list[str]] = json.loads(_unpack("cmudict_stressed.json.gz"))
    return {word: [tuple(phones.upper().split()) for phones in said] for word, said in readings.items()}


@cache
def recorded_readings() -> tuple[dict[str, Phones], dict[str, tuple[Phones, Phones]]]:
    """Return what g2p_en says for words that it does not say as the CMU dictionary 0.7b has them first, and both
    readings of words that it says in two ways (tools/record_g2p.py)."""
    values = json.loads(_unpack("g2p_en.json.gz"))
    words = {word: tuple(phones.split()) for word, phones in values["words"].items()}
    return words, {word: (tuple(one.split()), tuple(two.split())) for word, (one, two) in values["twice"].items()}


def _unpack(name: str) -> bytes:
    return gzip.decompress((assets() / "lexicon" / name).read_bytes())


_INTERJECTIONS: tuple[tuple[re.Pattern[str], Phones], ...] = tuple(  # sounds that people spell as long as they like
    (re.compile(spelling), tuple(phones.split()))
    for spelling, phones in (
        (r"s+h+", "SH"), (r"p+s+h+", "P SH"), (r"p+s+t+", "P S T"), (r"p+f+t*", "P F T"), (r"b+r{2,}", "B ER1"),
        (r"g+r{2,}", "G ER1"), (r"z{2,}", "Z"), (r"tsk", "T IH1 S K"), (r"h+m+", "HH M"), (r"m{2,}", "M"),
        (r"m+h+m+", "M HH M"), (r"m{2,}h+m+", "M HH M"), (r"a+h{2,}|a{2,}h+", "AA1"), (r"o+h{2,}|o{3,}h+", "OW1"),
        (r"u+h{2,}|u{2,}h+", "AH1"), (r"u+m{2,}", "AH1 M"), (r"e+r+m{1,}", "ER1 M"), (r"e+w{2,}|e{2,}w+", "IY1 UW2"),
        (r"a+w{2,}|a{2,}w+", "AO1"), (r"o+w{2,}", "AW1"), (r"a+r+g+h+", "AA1 R G"), (r"u+g+h{2,}|u{2,}g+h+", "AH1 G"),
        (r"w+h*o+a+h*", "W OW1"), (r"o{2,}h+|o{2,}", "UW1"), (r"y+a+y{2,}", "Y EY1"), (r"hu+h+", "HH AH1"),
        (r"ph?e+w+", "F Y UW1"), (r"e+k{2,}", "IY1 K"), (r"ha(?:ha)+h?", "HH AA1 HH AA1"), (r"n+o{3,}", "N OW1"),
        (r"he(?:he)+", "HH EH1 HH EH2"), (r"a{2,}", "AA1"), (r"y+e+s{2,}", "Y EH1 S"), (r"s+o{3,}", "S OW1"),
        (r"o+k{2,}", "OW1 K EY1"),
    )
)  # fmt: skip


def read_interjection(word: str) -> Phones | None:
    """Return the phones of a sound such as "shhh" or "brrr", None for other words."""
    lower = word.lower()
    if lower[:1] not in "spbgztahmouewyfn" or len(lower) > LONGEST:
        return None
    return next((phones for spelling, phones in _INTERJECTIONS if spelling.fullmatch(lower)), None)


def letter(spelling: str) -> Phones | None:
    """Return the name of a letter, also with 's; None if it is not one letter."""
    name, apostrophe, rest = spelling.partition("'")
    found = lexicon().entry(name.upper()) if len(name) == 1 and name.isascii() and name.isalpha() else None
    if not found or rest not in ("", "s"):
        return None
    return plural(found[DEFAULT]) if apostrophe and rest else found[DEFAULT]


# Endings go by the last phone of the stem: voiceless takes S or T; a sibilant or a dental stop a vowel too.
_SIBILANTS = frozenset({"S", "Z", "SH", "ZH", "CH", "JH"})
_VOICELESS = frozenset({"P", "T", "K", "F", "TH", "S", "SH", "CH"})
_CLITICS: dict[str, tuple[Phones, Phones]] = {  # after a vowel, after a consonant
    "'ll": (("L",), ("AH0", "L")),
    "'ve": (("V",), ("AH0", "V")),
    "'re": (("R",), ("ER0",)),
    "'d": (("D",), ("D",)),
    "'m": (("M",), ("AH0", "M")),
    "n't": (("N", "T"), ("AH0", "N", "T")),
}


def plural(stem: Phones) -> Phones:
    """Return the stem with the ending -s or -'s."""
    if stem[-1] in _SIBILANTS:
        return (*stem, "IH0", "Z")
    return (*stem, "S" if stem[-1] in _VOICELESS else "Z")


def inflect(words: Lexicon, word: str) -> dict[str, Phones] | None:
    """Return the readings of an inflected form (-s, -'s, -ed, -ing, a clitic) of a listed word, or None."""
    lower = word.lower()
    for clitic, (after_vowel, after_consonant) in _CLITICS.items():
        stem = words.entry(word[: -len(clitic)]) if lower.endswith(clitic) else None
        if stem:
            return {
                tag: (*phones, *(after_vowel if is_vowel(phones[-1]) else after_consonant))
                for tag, phones in stem.items()
            }
    for ending, spellings in _stems(word, lower):
        for spelling in spellings:
            stem = words.entry(spelling) if len(spelling) > 1 else None
            if stem:
                if ending != "s" and "VERB" in stem:  # -ed and -ing make verbs: recording
                    stem = {DEFAULT: stem["VERB"]}
                return {tag: _join_ending(phones, ending) for tag, phones in stem.items()}
    return None


def _stems(word: str, lower: str) -> list[tuple[str, list[str]]]:
    """Return the endings the spelling may carry, each with the spellings its stem may have."""
    if lower.endswith("'s"):
        return [("s", [word[:-2]])]
    if lower.endswith("s'"):
        return [("", [word[:-1]]), ("s", [word[:-2]])]
    if lower.endswith("'"):
        stem = word[:-1].removesuffix("in")
        return [("", [word[:-1]]), ("in", [stem + "e", stem, *_undouble(stem)])]  # sittin' is sitting
    if lower.endswith("ies"):
        return [("s", [word[:-3] + "y", word[:-1]])]
    if lower.endswith("s") and not lower.endswith(("ss", "us", "is")):
        return [("s", [word[:-1], *([word[:-2]] if lower.endswith("es") else [])])]
    if lower.endswith("ied"):
        return [("ed", [word[:-3] + "y"])]
    if lower.endswith("ed") and not lower.endswith("eed"):
        return [("ed", [word[:-1], word[:-2], *_undouble(word[:-2])])]
    if lower.endswith("ing") and len(word) > 4:
        return [("ing", [word[:-3] + "e", word[:-3], *_undouble(word[:-3])])]
    return []


def _undouble(stem: str) -> list[str]:
    return [stem[:-1]] if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "aeiou" else []


def _join_ending(stem: Phones, ending: str) -> Phones:
    if ending == "s":
        return plural(stem)
    if ending == "ed" and stem[-1] not in ("T", "D"):
        return (*stem, "T" if stem[-1] in _VOICELESS else "D")
    return (*stem, *{"ed": ("IH0", "D"), "ing": ("IH0", "NG"), "in": ("IH0", "N"), "": ()}[ending])
