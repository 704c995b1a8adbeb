"""How the models of other projects write a text: what the symbols of their tables stand for, a row for each kind.

Models that are trained here read the phone inventory or byte pairs (`openvalle.text.symbols`). Converted ones keep the
symbols that they were trained with; whole texts are read into them, and nothing is aligned. English words that a
notation writes in phones are pronounced by the front end of this package: what they sound like is no part of a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from openvalle.errors import TextError, import_extra
from openvalle.text import notation_g2p, notation_ja, notation_zh
from openvalle.text.language import Word, find_language, phonemize, read_out
from openvalle.text.lexicon import stressed_readings
from openvalle.text.phones import PRIMARY, SECONDARY, Phones, load_espeak


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
    """Syllables of Mandarin with the figures of their tones, as lifeiteng/vall-e and icefall read it."""
    return _require_mandarin(language) or notation_zh.write_pinyin(text, parts=False)


def _write_pinyin_parts(text: str, language: str) -> list[str]:
    """The same, initials and finals apart."""
    return _require_mandarin(language) or notation_zh.write_pinyin(text, parts=True)


def _require_mandarin(language: str) -> list[str]:
    if _family(language) != "zh":
        raise TextError(f"this model reads Mandarin, and the text is {language!r}", "give --language zh")
    return []


def _family(language: str) -> str:
    """Return the language of a code such as zh-CN."""
    return language.lower().replace("_", "-").partition("-")[0]


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
MARKS = {"1": PRIMARY, "2": SECONDARY}
_DARK = re.compile("l(?=[^aeiouæɑɔəɛɪʊ_]*(?:_|$))")
_CORE = re.compile(r"^([^a-z0-9]*)((?:.*[a-z0-9])?)([^a-z0-9]*)$", re.S)
_ENDS = ".,!?-…~"


def _write_letters(text: str, language: str) -> list[str]:
    """Characters of IPA, stress marks, arrows and punctuation, `_` for spaces, as Plachtaa/VALL-E-X writes texts."""
    write = {"zh": notation_zh.write_letters, "ja": notation_ja.write_letters}.get(_family(language))
    line = write(text) if write else _write_english(text, language)
    line = line.strip().replace(" ", "_")
    return list(line if not line or line[-1] in _ENDS else line + ".")


def _write_english(text: str, language: str) -> str:
    words = []
    for token in read_out(text, language).lower().replace("...", "…").split():
        before, core, after = _CORE.match(token).groups()  # type: ignore[union-attr]
        words_of_token = phonemize(core, language) if core else []
        sounds = [choose_reading(map(mark_stress, read_in_cmu(word))) for word in words_of_token]
        words.append(before + "".join(sounds) + after)
    return _DARK.sub("ɫ", "_".join(words))


def choose_reading(readings: Iterable[str]) -> str:
    """Return the reading that is taken there: the last in the order of the letters that sounds are written in first."""
    return max(readings, key=lambda said: said.replace("ɹ", "r").replace("tʃ", "ʧ").replace("dʒ", "ʤ"))


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
    """Return the readings of a word in the CMU dictionary, from which other projects read words one by one; its phones
    as they are for a word that is not there."""
    return stressed_readings().get(word.text.lower(), []) or [word.phones]


NOTATIONS: dict[str, Notation] = {
    "espeak": Notation(_write_espeak, joint=("_",)),
    "pinyin": Notation(_write_pinyin, joint=("_",)),
    "pinyin-parts": Notation(_write_pinyin_parts, joint=("_",)),
    "ipa-letters": Notation(_write_letters, unknown="[UNK]"),
    "arpabet": Notation(notation_g2p.write_arpabet),
    "arpabet-places": Notation(notation_g2p.write_places),
}


def find_notation(name: str) -> Notation:
    """Return the notation of a model's table; `TextError` for one that this version does not know."""
    if name not in NOTATIONS:
        raise TextError(f"the model's texts are written in the notation {name!r}", "update openvalle")
    return NOTATIONS[name]
