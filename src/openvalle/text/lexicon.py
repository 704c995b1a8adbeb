"""A user's own pronunciations: a TSV file of `word<TAB>phones`, which beat every built-in source."""

from __future__ import annotations

from pathlib import Path

from openvalle.errors import TextError
from openvalle.files import read_text
from openvalle.text.phones import CONSONANTS, STRESSES, VOWELS, is_vowel

Phones = tuple[str, ...]
_PHONES = frozenset((*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in STRESSES)))


def read_lexicon(path: str | Path) -> dict[str, Phones]:
    """Return word -> phones from a TSV file; blank lines and lines that begin with # are skipped.

    `TextError` names the file, the line and what is wrong with it.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise TextError(f"cannot read the lexicon {path}: {error.strerror}", "give the path of a TSV file") from None
    except UnicodeDecodeError:
        raise TextError(f"the lexicon {path} is not UTF-8 text", "save it as UTF-8") from None
    words: dict[str, Phones] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, phones = _entry(line, f"{path}, line {number}")
        if words.setdefault(word, phones) != phones:
            raise TextError(f"{path}, line {number}: {word!r} has another pronunciation above", "keep one of the two")
    return words


def _entry(line: str, place: str) -> tuple[str, Phones]:
    word, tab, transcription = line.partition("\t")
    word, phones = word.strip(), tuple(transcription.upper().split())
    if not tab or not word or not phones:
        raise TextError(
            f"{place}: not a word, a tab and its phones", "write for example: openvalle<TAB>OW1 P AH0 N V AE1 L"
        )
    if any(part.isspace() for part in word):
        raise TextError(f"{place}: {word!r} is more than one word", "give each word its own line")
    for phone in phones:
        if phone in VOWELS:
            raise TextError(f"{place}: the vowel {phone} has no stress", f"write {phone}0, {phone}1 or {phone}2")
        if phone not in _PHONES:
            raise TextError(f"{place}: {phone!r} is not an ARPAbet phone", "use phones such as AH0, IY1, CH, NG")
    if not any(is_vowel(phone) for phone in phones) and len(phones) > 4:
        raise TextError(f"{place}: {word!r} has no vowel", "add one, such as AH0")
    return word, phones
