"""The nearest English sounds of every segment of the inventory: how an acoustic model of English hears other languages.

A *unit* is a segment with the marks before it, as one symbol with blanks (`tone3 a`): what is aligned with sound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from openvalle.errors import TextError
from openvalle.text.phones import FROM_ARPABET, MARKS, SEGMENTS, Phones
from openvalle.types import ENGLISH, PHONES, SIL

# fmt: off
_SOUNDS = {
    "IY0": "i y ɨ ʉ i̥ ĩ z̩ ʐ̩", "UW0": "ɯ u ɯ̥ ũ", "IH0": "ɪ ʏ", "UH0": "ʊ", "EY0": "e ø ẽ eɪ",
    "AH0": "ɘ ɵ ɤ ə ɜ ɞ ʌ ɐ ɐ̃", "OW0": "o õ oʊ", "EH0": "ɛ œ ɛ̃ œ̃ eə", "AO0": "ɔ ɔ̃", "AE0": "æ ɶ",
    "AA0": "a ɑ ɒ ã ɑ̃", "ER0": "ɚ ɝ", "AY0": "aɪ", "AW0": "aʊ", "OY0": "ɔɪ", "IH0 AH0": "ɪə", "UH0 AH0": "ʊə",
    "P": "p pʰ ɓ", "B": "b ʙ", "T": "t tʰ ʈ ʈʰ ʔ", "D": "d ɖ ɗ ɾ", "K": "c cʰ k kʰ q", "G": "ɟ ɡ ɢ ʄ ɠ ʛ",
    "T S": "ts tsʰ", "D Z": "dz", "CH": "tʃ tʃʰ tɕ tɕʰ ʈʂ ʈʂʰ", "JH": "dʒ dʑ ɖʐ", "P F": "pf",
    "M": "m ɱ", "N": "n ɳ ɴ", "N Y": "ɲ", "NG": "ŋ", "R": "r ʀ ɽ ɹ ɻ ʁ ɺ", "V": "β v ⱱ ʋ",
    "F": "ɸ f", "TH": "θ", "DH": "ð", "S": "s", "Z": "z", "SH": "ʃ ʂ ɕ ɧ", "ZH": "ʒ ʐ ʑ", "HH": "ç x χ ħ h ɦ",
    "Y": "ʝ j ɥ", "G HH": "ɣ", "AA0 HH": "ʕ", "L": "ɬ ɮ l ɫ ɭ ʟ", "L Y": "ʎ", "W": "ɰ w ʍ",
}
# fmt: on
NEAREST: dict[str, Phones] = {
    segment: tuple(sounds.split()) for sounds, segments in _SOUNDS.items() for segment in segments.split()
}
assert set(NEAREST) == set(SEGMENTS), set(NEAREST) ^ set(SEGMENTS)


def to_units(phones: Iterable[str]) -> Phones:
    """Return the phones as units; ARPAbet's stay as they are. Marks without a segment after them are left out."""
    units: list[str] = []
    held: list[str] = []
    for phone in phones:
        if phone in MARKS:
            held.append(phone)
            continue
        units.append(" ".join((*held, phone)))
        held = []
    return tuple(units)


def hear(unit: str) -> Phones:
    """Return the English sounds of a unit; an English phone is itself."""
    if unit in PHONES or unit == SIL or unit in FROM_ARPABET:
        return (unit,)
    return NEAREST[unit.rpartition(" ")[2]]


def find_segments(unit: str, known: Collection[str] = ()) -> Phones:
    """Return the segment of a unit or of an English phone; of those that are not `known` its nearest English sounds'.

    `TextError` for one whose nearest sounds are not known either.
    """
    segment = FROM_ARPABET[unit][-1] if unit in FROM_ARPABET else unit.rpartition(" ")[2]
    if not known or segment in known:
        return (segment,)
    near = tuple(FROM_ARPABET[sound][-1] for sound in NEAREST[segment])
    if not set(near) <= set(known):
        raise TextError(f"nothing near the sound {segment!r} is known", "train with its language")
    return near


def find_ears(language: str, symbols: Collection[str]) -> Callable[[str], Phones] | None:
    """Return how an aligner hears the units of a language; None: as they are.

    `symbols`: the segments that it knows; none: English sounds, ARPAbet.
    """
    if symbols:
        return partial(find_segments, known=symbols)
    return None if language == ENGLISH else hear


def split_units(units: Sequence[str], durations: Sequence[int]) -> tuple[Phones, tuple[int, ...]]:
    """Return the symbols of units with their durations: marks last no time."""
    symbols: list[str] = []
    frames: list[int] = []
    for unit, duration in zip(units, durations, strict=True):
        *marks, sound = unit.split(" ")
        symbols += [*marks, sound]
        frames += [0] * len(marks) + [duration]
    return tuple(symbols), tuple(frames)
