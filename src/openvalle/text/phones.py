"""The one phone inventory of all languages: IPA segments, and marks for what is no sound of its own.

Ids are the places in the table and are frozen: a symbol is only ever appended, and `VERSION` counts up with it, so a
model of an older version reads a prefix of the newer table. A *segment* lasts time and is aligned with sound. A *mark*
(stress, tone, pitch accent, length, word border, fine detail) lasts none and stands before the segment that it
belongs to: /ˈaɪ/ is `ˈ aɪ`, a long /o/ is `ː o`. Diphthongs and affricates are one segment each, because an aligner
hears them as one.

VALL-E X trains on the shared IPA units of BigCiDian (arXiv:2303.03926, 3.1); this table is our own.

English front ends speak ARPAbet (`openvalle.types`), which maps onto the inventory; pronunciations that people, the
lexicons and espeak-ng write in IPA are read as ARPAbet. espeak-ng (GPL-3; the extra `espeak`) is there for comparison:
it reads words one by one, so that the words, their pauses and the symbols stay those of the built-in front end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from openvalle.errors import import_extra
from openvalle.types import PHONES, SIL, STRESSES, VOWELS

Phones = tuple[str, ...]

VERSION = 1
BORDER, PRIMARY, SECONDARY, LONG, RISE, FALL = "|", "ˈ", "ˌ", "ː", "↑", "↓"
TONES = ("tone1", "tone2", "tone3", "tone4", "tone5")  # of Mandarin; 5 is the neutral one
# fmt: off
MARKS = (
    BORDER, PRIMARY, SECONDARY, *TONES, RISE, FALL, LONG,
    "ʰ", "ʲ", "ʷ", "ˠ", "ˤ", "̃", "̩", "̥", "̬", "̤", "̰", "ʼ",  # detail that has no segment of its own
)
SEGMENTS = (
    # vowels, from close to open
    "i", "y", "ɨ", "ʉ", "ɯ", "u", "ɪ", "ʏ", "ʊ", "e", "ø", "ɘ", "ɵ", "ɤ", "o", "ə", "ɛ", "œ", "ɜ", "ɞ", "ʌ", "ɔ",
    "æ", "ɐ", "a", "ɶ", "ɑ", "ɒ", "ɚ", "ɝ", "i̥", "ɯ̥", "z̩", "ʐ̩",
    "ã", "ẽ", "ĩ", "õ", "ũ", "ɑ̃", "ɛ̃", "ɔ̃", "œ̃", "ɐ̃",
    # diphthongs
    "aɪ", "aʊ", "eɪ", "oʊ", "ɔɪ", "ɪə", "eə", "ʊə",
    # stops and affricates
    "p", "b", "t", "d", "ʈ", "ɖ", "c", "ɟ", "k", "ɡ", "q", "ɢ", "ʔ", "pʰ", "tʰ", "ʈʰ", "cʰ", "kʰ",
    "ts", "dz", "tʃ", "dʒ", "tɕ", "dʑ", "ʈʂ", "ɖʐ", "pf", "tsʰ", "tʃʰ", "tɕʰ", "ʈʂʰ", "ɓ", "ɗ", "ʄ", "ɠ", "ʛ",
    # nasals, trills, taps
    "m", "ɱ", "n", "ɳ", "ɲ", "ŋ", "ɴ", "ʙ", "r", "ʀ", "ⱱ", "ɾ", "ɽ", "ɺ",
    # fricatives
    "ɸ", "β", "f", "v", "θ", "ð", "s", "z", "ʃ", "ʒ", "ʂ", "ʐ", "ɕ", "ʑ", "ç", "ʝ", "x", "ɣ", "χ", "ʁ", "ħ", "ʕ",
    "h", "ɦ", "ɬ", "ɮ", "ɧ",
    # approximants
    "ʋ", "ɹ", "ɻ", "j", "ɰ", "l", "ɫ", "ɭ", "ʎ", "ʟ", "w", "ʍ", "ɥ",
)
_ARPABET = {  # every phone but the two vowels that change with their stress
    "AA": "ɑ", "AE": "æ", "AO": "ɔ", "AW": "aʊ", "AY": "aɪ", "EH": "ɛ", "EY": "eɪ", "IH": "ɪ", "IY": "i", "OW": "oʊ",
    "OY": "ɔɪ", "UH": "ʊ", "UW": "u", "B": "b", "CH": "tʃ", "D": "d", "DH": "ð", "F": "f", "G": "ɡ", "HH": "h",
    "JH": "dʒ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t",
    "TH": "θ", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}
# fmt: on
_REDUCED = {"AH": ("ə", "ʌ"), "ER": ("ɚ", "ɝ")}  # without stress, with it
_STRESS = {"0": (), "1": (PRIMARY,), "2": (SECONDARY,)}


def is_vowel(phone: str) -> bool:
    """Whether the ARPAbet phone is a vowel (the only phones that end in a stress digit)."""
    return phone[-1] in STRESSES


def _read(phone: str) -> tuple[str, ...]:
    """Return the marks of an ARPAbet phone and its segment."""
    if not is_vowel(phone):
        return (_ARPABET[phone],)
    vowel, stress = phone[:-1], phone[-1]
    if vowel in _REDUCED:
        weak, strong = _REDUCED[vowel]
        return (*_STRESS[stress], weak if stress == "0" else strong)
    return (*_STRESS[stress], _ARPABET[vowel])


FROM_ARPABET = {SIL: (SIL,)} | {phone: _read(phone) for phone in sorted(PHONES)}

# fmt: off
_IPA: dict[str, Phones] = {  # signs of General American and the commonest others, by their nearest English sound
    "aɪɚ": ("AY", "ER"), "aɪə": ("AY", "AH"), "eɪ": ("EY",), "aɪ": ("AY",), "ɔɪ": ("OY",), "aʊ": ("AW",),
    "oʊ": ("OW",), "juː": ("Y", "UW"), "iː": ("IY",), "uː": ("UW",), "ɑː": ("AA",), "ɔː": ("AO",), "ɜː": ("ER",),
    "tʃ": ("CH",), "dʒ": ("JH",), "ʧ": ("CH",), "ʤ": ("JH",), "n̩": ("AH", "N"),
    "i": ("IY",), "u": ("UW",), "ɪ": ("IH",), "ᵻ": ("IH",), "ɛ": ("EH",), "æ": ("AE",), "a": ("AE",), "ɑ": ("AA",),
    "ɒ": ("AA",), "ɔ": ("AO",), "o": ("OW",), "e": ("EY",), "ʊ": ("UH",), "ʌ": ("AH",), "ɐ": ("AH",), "ə": ("AH",),
    "ɚ": ("ER",), "ɜ": ("ER",),
    "p": ("P",), "b": ("B",), "t": ("T",), "d": ("D",), "k": ("K",), "ɡ": ("G",), "g": ("G",), "f": ("F",),
    "v": ("V",), "θ": ("TH",), "ð": ("DH",), "s": ("S",), "z": ("Z",), "ʃ": ("SH",), "ʒ": ("ZH",), "h": ("HH",),
    "m": ("M",), "n": ("N",), "ŋ": ("NG",), "l": ("L",), "ɹ": ("R",), "r": ("R",), "j": ("Y",), "w": ("W",),
    "ɾ": ("T",), "ʔ": ("T",), "x": ("K",), "ç": ("HH",),  # a flap and a glottal stop are spoken forms of T
}
WRITTEN = _IPA | {  # what people write
    "əʊ": ("OW",), "əɹ": ("ER",), "ər": ("ER",), "ɜɹ": ("ER",), "ɜr": ("ER",), "ə˞": ("ER",), "ɝ": ("ER",),
    "l̩": ("AH", "L"), "m̩": ("AH", "M"), "r̩": ("ER",), "ɹ̩": ("ER",), "ɨ": ("IH",), "y": ("UW",), "ø": ("ER",),
    "œ": ("ER",), "ɫ": ("L",), "ʍ": ("W",), "ɲ": ("N", "Y"), "ʎ": ("L", "Y"), "c": ("K",), "q": ("K",), "ʁ": ("R",),
}
ESPEAK = _IPA | {"oː": ("AO",)}  # espeak-ng's en-us
MISAKI = {sign: phones for sign, phones in _IPA.items() if len(sign) == 1} | {  # one sign for each sound
    "A": ("EY",), "I": ("AY",), "O": ("OW",), "W": ("AW",), "Y": ("OY",), "ᵊ": ("AH",), "əɹ": ("ER",), "ɜɹ": ("ER",),
}
# fmt: on
_STRESS_MARKS = {PRIMARY: "1", "'": "1", SECONDARY: "2", ",": "2"}
# length, syllables, ties, spaces and fine detail that English phones do not tell apart
_SILENT = frozenset(" .ːˑ-‿ʰʲʷ̥̯̪̃˞|")
_ARPABET_TEXT = re.compile(r"[A-Z]{1,2}[012]?(?:\s+[A-Z]{1,2}[012]?)*")


class UnknownSound(Exception):
    """A sign that stands for no sound: which, and where in the transcription (from 0)."""

    def __init__(self, sign: str, at: int) -> None:
        super().__init__(f"{sign!r} at {at} stands for no sound")
        self.sign = sign
        self.at = at


def read_pronunciation(transcription: str) -> Phones:
    """Return the phones of a transcription in IPA or in capitals as ARPAbet; `UnknownSound` where it is neither.

    Without any mark the first vowel carries the stress.
    """
    if _ARPABET_TEXT.fullmatch(transcription.strip()):
        for found in re.finditer(r"\S+", transcription):
            if found.group() not in PHONES and found.group() not in VOWELS:
                raise UnknownSound(found.group(), found.start())
        return _stress_first([phone + "0" if phone in VOWELS else phone for phone in transcription.split()])
    text = unicodedata.normalize("NFD", transcription).replace("c\u0327", "\xe7")
    text = text.replace("\u0361", "").replace("\u035c", "")  # ties: t and sh are one sound anyhow
    try:
        return _stress_first(read_ipa(text, WRITTEN, _SILENT))
    except UnknownSound as error:
        raise UnknownSound(error.sign, min(error.at, len(transcription) - 1)) from None


# fmt: off
_RESPELLED = {  # syllables as newspapers and dictionaries write them: shi-VAWN
    "ah": "AA", "aw": "AO", "ay": "EY", "air": "EH R", "ar": "AA R", "or": "AO R", "ow": "AW", "oh": "OW",
    "oy": "OY", "oo": "UW", "uu": "UH", "uh": "AH", "er": "ER", "ur": "ER", "ir": "ER", "ee": "IY", "eh": "EH",
    "eye": "AY", "igh": "AY", "ih": "IH", "ie": "AY", "oe": "OW", "ew": "Y UW", "a": "AE", "e": "EH", "i": "IH",
    "o": "AA", "u": "AH", "y": "Y", "ch": "CH", "sh": "SH", "th": "TH", "dh": "DH", "zh": "ZH", "ng": "NG",
    "kh": "K", "ph": "F", "wh": "W", "ck": "K", "qu": "K W", "b": "B", "c": "K", "d": "D", "f": "F", "g": "G",
    "h": "HH", "j": "JH", "k": "K", "l": "L", "m": "M", "n": "N", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T",
    "v": "V", "w": "W", "x": "K S", "z": "Z",
}
# fmt: on


def read_respelling(respelling: str) -> Phones:
    """Return the phones of syllables between hyphens, the stressed one in capitals: tuh-MAH-toh.

    Without capitals the first vowel carries the stress. `UnknownSound` where a sign stands for nothing.
    """
    phones: list[str] = []
    at = 0
    for syllable in re.split(r"([-\s]+)", respelling.strip()):
        stress, begin = "1" if syllable.isupper() else "0", 0
        letters = syllable.lower()
        while begin < len(letters) and syllable.strip("- "):
            piece = next(
                (letters[begin : begin + size] for size in (3, 2, 1) if letters[begin : begin + size] in _RESPELLED), ""
            )
            if not piece:
                raise UnknownSound(syllable[begin], at + begin)
            if phones[-1:] and letters[begin] == letters[begin - 1] and begin and piece not in ("ee", "oo", "uu"):
                begin += 1  # a doubled consonant is one
                continue
            phones += [part + stress if part in VOWELS else part for part in _RESPELLED[piece].split()]
            begin += len(piece)
        at += len(syllable)
    return _stress_first(phones)


def read_ipa(text: str, sounds: Mapping[str, Phones], silent: Collection[str] | None = None) -> Phones:
    """Return a transcription as ARPAbet by a table of signs, the longest first.

    A stress mark counts for the next vowel. `silent`: signs that stand for nothing, None: all others do; else
    `UnknownSound`.
    """
    phones: list[str] = []
    stress, at, longest = "0", 0, max(map(len, sounds))
    while at < len(text):
        piece = next((text[at : at + size] for size in range(longest, 0, -1) if text[at : at + size] in sounds), "")
        if text[at] in _STRESS_MARKS:
            stress = _STRESS_MARKS[text[at]]
        elif not piece and silent is not None and text[at] not in silent:
            raise UnknownSound(text[at], at)
        for sound in sounds.get(piece, ()):
            phones.append(sound + stress if sound in VOWELS else sound)
            stress = "0" if sound in VOWELS else stress
        at += len(piece) or 1
    return tuple(phones)


def _stress_first(phones: Sequence[str]) -> Phones:
    vowels = [index for index, phone in enumerate(phones) if is_vowel(phone)]
    found = list(phones)
    if vowels and not any(phones[index][-1] == "1" for index in vowels):
        found[vowels[0]] = found[vowels[0]][:-1] + "1"
    return tuple(found)


def ask_espeak(words: Iterable[str]) -> dict[str, Phones]:
    """Return the phones of each word; `MissingExtra` if espeak-ng is not installed."""
    spellings = sorted(set(words))
    read = load_espeak()("en-us", with_stress=True).phonemize(spellings, strip=True)
    return {word: from_espeak(ipa) for word, ipa in zip(spellings, read, strict=True)}


def load_espeak() -> Any:
    """Return phonemizer's back end, which finds the espeak-ng that came with it; `MissingExtra` if it is not there."""
    loader = import_extra("espeakng_loader", "espeak-ng (espeakng-loader, phonemizer-fork)", "espeak")
    backend = import_extra("phonemizer.backend", "espeak-ng (espeakng-loader, phonemizer-fork)", "espeak")
    library = backend.espeak.wrapper.EspeakWrapper
    library.set_library(loader.get_library_path())
    library.set_data_path(loader.get_data_path())
    return backend.EspeakBackend


def from_espeak(ipa: str) -> Phones:
    """Return espeak-ng's IPA as ARPAbet; strange signs are skipped, and an R that an ER already holds is dropped."""
    phones: list[str] = []
    for phone in read_ipa(ipa, ESPEAK):
        if phone != "R" or not phones or not phones[-1].startswith("ER"):
            phones.append(phone)
    return tuple(phones)
