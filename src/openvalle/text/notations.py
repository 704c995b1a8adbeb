"""How the models of other projects write a text: what the symbols of their tables stand for, a row for each kind.

Models that are trained here read the phone inventory or byte pairs (`openvalle.text.symbols`). Converted ones keep the
symbols that they were trained with; whole texts are read into them, and nothing is aligned. English words that a
notation writes in phones are pronounced by the front end of this package: what they sound like is no part of a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openvalle.errors import TextError, import_extra
from openvalle.text.language import Word, find_language, phonemize, read_out
from openvalle.text.lexicon import cmu_readings
from openvalle.text.phones import PRIMARY, SECONDARY, Phones, is_vowel, load_espeak


@dataclass(frozen=True)
class Notation:
    """`write`: a text and its language -> its symbols; `joint`: what stands between two texts in a row."""

    write: Callable[[str, str], Sequence[str]]
    joint: tuple[str, ...] = ()
    unknown: str = ""  # the symbol of all that the table does not hold; none: such a text is refused

    def spell(self, text: str, language: str, known: frozenset[str]) -> list[str]:
        """Return the symbols of a text, all of them `known`; `TextError` if there is nothing to say, or no symbol."""
        symbols = [
            symbol if symbol in known or not self.unknown else self.unknown for symbol in self.write(text, language)
        ]
        if not symbols:
            raise TextError(f"nothing in the text {text.strip()[:40]!r} can be spoken", "write at least one word")
        if strange := [symbol for symbol in dict.fromkeys(symbols) if symbol not in known]:
            raise TextError(
                f"the model has no symbol {' '.join(strange[:5])} for the text {text.strip()[:40]!r}",
                "write it in other words",
            )
        return symbols


PUNCTUATION = ';:,.!?¡¿—…"«»“”'  # what espeak-ng's phones keep of a text


def _write_espeak(text: str, language: str) -> list[str]:
    """espeak-ng's phones without stress, each punctuation mark by itself, and `_` between words, as lifeiteng/vall-e
    and what came of it read texts."""
    find_language(language)
    backend = load_espeak()("en-us", PUNCTUATION, preserve_punctuation=True, language_switch="keep-flags")
    separator = import_extra("phonemizer.separator", "phonemizer-fork", "espeak").Separator("_", "-", "|")
    read = backend.phonemize([text.strip()], separator=separator, strip=True)
    tokens = [[*re.findall(r"\w+|[^\w\s|]", word), "_"] for line in read for word in line.split("_")]
    return [token for word in tokens for token in word][:-1]


def _write_pinyin(text: str, language: str) -> list[str]:
    raise TextError(
        "this model reads Mandarin in pinyin, for which there is no front end yet", "use a model that reads English"
    )


# Signs of single phones, where they are not their own letters in small.
IPA = {
    "AA": "ɑ",
    "AE": "æ",
    "AH": "ə",
    "AO": "ɔ",
    "AW": "aʊ",
    "AY": "aɪ",
    "CH": "tʃ",
    "DH": "ð",
    "EH": "ɛ",
    "ER": "əɹ",
    "EY": "eɪ",
    "HH": "h",
    "IH": "ɪ",
    "IY": "i",
    "JH": "dʒ",
    "NG": "ŋ",
    "OW": "oʊ",
    "OY": "ɔɪ",
    "R": "ɹ",
    "SH": "ʃ",
    "TH": "θ",
    "UH": "ʊ",
    "UW": "u",
    "Y": "j",
    "ZH": "ʒ",
}
KINDS = {  # of consonants, for where a stress mark stands
    **dict.fromkeys(("P", "B", "T", "D", "K", "G"), "stop"),
    **dict.fromkeys(("F", "V", "TH", "DH", "S", "Z", "SH", "ZH"), "fricative"),
    **dict.fromkeys(("M", "N", "NG"), "nasal"),
}
CLUSTERS = {("S", "P"), ("S", "T"), ("S", "K"), ("F", "R"), ("F", "L")}
HIATUS = {("ER", "IY"), ("IY", "OW"), ("UW", "OW"), ("IY", "AH"), ("IY", "EY"), ("UW", "EH"), ("ER", "EH")}
WEAK = ("a", "and", "in", "the")
MARKS = {"1": PRIMARY, "2": SECONDARY}
_DARK = re.compile("l(?=[^aeiouæɑɔəɛɪʊ_]*(?:_|$))")
_CORE = re.compile(r"^([^a-z0-9]*)((?:.*[a-z0-9])?)([^a-z0-9]*)$", re.S)
_ENDS = ".,!?-…~"


def _write_letters(text: str, language: str) -> list[str]:
    """Characters of IPA, stress marks and punctuation, `_` for spaces, as Plachtaa/VALL-E-X writes English."""
    words = []
    for token in read_out(text, language).lower().replace("...", "…").split():
        before, core, after = _CORE.match(token).groups()  # type: ignore[union-attr]
        words_of_token = phonemize(core, language) if core else []
        sounds = [max(mark_stress(phones) for phones in read_in_cmu(word)) for word in words_of_token]
        words.append(before + "".join(sounds) + after)
    line = _DARK.sub("ɫ", "_".join(words))
    return list(line if not line or line[-1] in _ENDS else line + ".")


def mark_stress(phones: Sequence[str]) -> str:
    """Return a word in IPA, each stress mark before the syllable: about so far back as consonants can begin one.

    The rule is that of the library that the models' texts were read with. Words of one vowel have no mark.
    """
    plain = [phone.rstrip("012") for phone in phones]
    is_vowel = [phone != sound for phone, sound in zip(phones, plain, strict=True)]
    nuclei = sum(
        own and (at == 0 or not is_vowel[at - 1] or (plain[at - 1], plain[at]) in HIATUS)
        for at, own in enumerate(is_vowel)
    )
    marks: dict[int, str] = {}
    for at, phone in enumerate(phones):
        if nuclei > 1 and phone[-1] in MARKS:
            place = _find_onset(plain, is_vowel, at)
            marks[place] = MARKS[phone[-1]]
    signs = [marks.get(at, "") + IPA.get(sound, sound.lower()) for at, sound in enumerate(plain)]
    word = "".join(signs)
    # a stressed ER is written with the mark inside, but at the beginning of a word
    return word[:1] + word[1:].replace("ˈəɹ", "əˈɹ") if word.startswith("ˈəɹ") else word.replace("ˈəɹ", "əˈɹ")


def _find_onset(plain: Sequence[str], is_vowel: Sequence[bool], at: int) -> int:
    """Return where the syllable of the vowel `at` begins."""
    for place in range(at - 1, -1, -1):
        after = place + 1 if place + 1 < at else None  # what follows it, before the vowel
        stops = is_vowel[place] or KINDS.get(plain[place]) in ("nasal", "fricative") or plain[place] == "W"
        if not stops and not (after is not None and KINDS.get(plain[after]) == "stop"):
            continue
        if after is not None and (plain[place], plain[after]) in CLUSTERS:
            return place
        if after is not None:
            return after
        return at if is_vowel[place] else place
    return 0


def read_in_cmu(word: Word) -> list[Phones]:
    """Return the readings of a word in the CMU dictionary, from which other projects read words one by one, with the
    stress that this package's own lexicon gives; its phones as they are for a word that is not there.

    The dictionary stresses words of one vowel, but for a few.
    """
    from openvalle.text.english import add_stress

    found = []
    for phones in cmu_readings().get(word.text.lower(), []):
        stressed = add_stress(phones, word.phones)
        vowels = [at for at, phone in enumerate(stressed) if is_vowel(phone)]
        if len(vowels) == 1:
            mark = "0" if word.text.lower() in WEAK else "1"
            stressed = tuple(phone[:-1] + mark if is_vowel(phone) else phone for phone in stressed)
        found.append(stressed)
    return found or [word.phones]


def _write_arpabet(text: str, language: str) -> list[str]:
    """Phones of ARPAbet with stress; `_` for each space and each punctuation mark."""
    symbols: list[str] = []
    for word in phonemize(text, language):
        symbols += [*read_in_cmu(word)[0], *(["_", "_"] * word.pause), "_"]
    return symbols[:-1]


def _write_places(text: str, language: str) -> list[str]:
    """Phones of ARPAbet with stress and their place in the word: B first or alone, I inner, E last; `|` between words,
    <BOS> and <EOS> around the text."""
    symbols = ["<BOS>"]
    for word in phonemize(text, language):
        symbols += [*place_phones(word), "|"]
    return [*symbols[:-1], "<EOS>"]


def place_phones(word: Word) -> list[str]:
    """Return a word's phones with their places."""
    phones = read_in_cmu(word)[0]
    last = len(phones) - 1
    return [phone + ("B" if at == 0 else "E" if at == last else "I") for at, phone in enumerate(phones)]


NOTATIONS: dict[str, Notation] = {
    "espeak": Notation(_write_espeak, joint=("_",)),
    "pinyin": Notation(_write_pinyin, joint=("_",)),
    "pinyin-parts": Notation(_write_pinyin, joint=("_",)),
    "ipa-letters": Notation(_write_letters, unknown="[UNK]"),
    "arpabet": Notation(_write_arpabet),
    "arpabet-places": Notation(_write_places),
}


def find_notation(name: str) -> Notation:
    """Return the notation of a model's table; `TextError` for one that this version does not know."""
    if name not in NOTATIONS:
        raise TextError(f"the model's texts are written in the notation {name!r}", "update openvalle")
    return NOTATIONS[name]
