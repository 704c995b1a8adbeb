"""The one phone inventory of all languages: IPA segments, and marks for what is no sound of its own.

Ids are the places in the table and are frozen: a symbol is only ever appended, and `VERSION` counts up with it, so a
model of an older version reads a prefix of the newer table. A *segment* lasts time and is aligned with sound. A *mark*
(stress, tone, pitch accent, length, word border, fine detail) lasts none and stands before the segment that it
belongs to: /ˈaɪ/ is `ˈ aɪ`, a long /o/ is `ː o`. Diphthongs and affricates are one segment each, because an aligner
hears them as one.

VALL-E X trains on the shared IPA units of BigCiDian (arXiv:2303.03926, 3.1); this table is our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openvalle.errors import TextError
from openvalle.types import PHONES, SIL, STRESSES

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
_TO_ARPABET = {symbols: phone for phone, symbols in FROM_ARPABET.items()}


def from_arpabet(phones: Iterable[str]) -> list[str]:
    """Return ARPAbet phones with stress, and SIL, as symbols of the inventory; `TextError` names a strange one."""
    return [symbol for phone in phones for symbol in _symbols(phone)]


def to_arpabet(symbols: Sequence[str]) -> list[str]:
    """Return symbols that `from_arpabet` gave as ARPAbet again; `TextError` names what English does not have."""
    phones, marks = [], []
    for symbol in symbols:
        if symbol in MARKS:
            marks.append(symbol)
            continue
        phone = _TO_ARPABET.get((*marks, symbol))
        if phone is None:
            raise TextError(f"{''.join([*marks, symbol])!r} is no sound of English", "choose a model of its language")
        phones.append(phone)
        marks = []
    return phones


def _symbols(phone: str) -> tuple[str, ...]:
    try:
        return FROM_ARPABET[phone]
    except KeyError:
        raise TextError(f"unknown phone {phone!r}", "use ARPAbet phones with stress, such as AH0, or SIL") from None
