"""Pronunciations that people write: IPA, or ARPAbet, to the phones that models read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from openvalle.text.phones import is_vowel
from openvalle.types import PHONES, VOWELS

Phones = tuple[str, ...]
# fmt: off
_SOUNDS: dict[str, Phones] = {  # General American and the commonest other spellings, by their nearest English sound
    "a\u026a\u025a": ("AY", "ER"), "a\u026a\u0259": ("AY", "AH"), "e\u026a": ("EY",), "a\u026a": ("AY",),
    "\u0254\u026a": ("OY",), "a\u028a": ("AW",), "o\u028a": ("OW",), "\u0259\u028a": ("OW",), "ju\u02d0": ("Y", "UW"),
    "i\u02d0": ("IY",), "u\u02d0": ("UW",), "\u0251\u02d0": ("AA",), "\u0254\u02d0": ("AO",), "\u025c\u02d0": ("ER",),
    "\u0259\u0279": ("ER",), "\u0259r": ("ER",), "\u025c\u0279": ("ER",), "\u025cr": ("ER",), "\u0259\u02de": ("ER",),
    "t\u0283": ("CH",), "d\u0292": ("JH",), "\u02a7": ("CH",), "\u02a4": ("JH",), "n\u0329": ("AH", "N"),
    "l\u0329": ("AH", "L"), "m\u0329": ("AH", "M"), "r\u0329": ("ER",), "\u0279\u0329": ("ER",),
    "i": ("IY",), "u": ("UW",), "\u026a": ("IH",), "\u1d7b": ("IH",), "\u0268": ("IH",), "\u025b": ("EH",),
    "\xe6": ("AE",), "a": ("AE",), "\u0251": ("AA",), "\u0252": ("AA",), "\u0254": ("AO",), "o": ("OW",),
    "e": ("EY",), "\u028a": ("UH",), "\u028c": ("AH",), "\u0250": ("AH",), "\u0259": ("AH",), "\u025a": ("ER",),
    "\u025c": ("ER",), "\u025d": ("ER",), "y": ("UW",), "\xf8": ("ER",), "\u0153": ("ER",),
    "p": ("P",), "b": ("B",), "t": ("T",), "d": ("D",), "k": ("K",), "\u0261": ("G",), "g": ("G",), "f": ("F",),
    "v": ("V",), "\u03b8": ("TH",), "\xf0": ("DH",), "s": ("S",), "z": ("Z",), "\u0283": ("SH",), "\u0292": ("ZH",),
    "h": ("HH",), "m": ("M",), "n": ("N",), "\u014b": ("NG",), "l": ("L",), "\u026b": ("L",), "\u0279": ("R",),
    "r": ("R",), "\u027e": ("T",), "j": ("Y",), "w": ("W",), "\u028d": ("W",), "\u0294": ("T",), "x": ("K",),
    "\xe7": ("HH",), "\u0272": ("N", "Y"), "\u028e": ("L", "Y"), "c": ("K",), "q": ("K",), "\u0281": ("R",),
}
# fmt: on
_LONGEST = max(map(len, _SOUNDS))
_STRESS = {"\u02c8": "1", "'": "1", "\u02cc": "2", ",": "2"}
# length, syllables, ties, spaces and fine detail that English phones do not tell apart
_SILENT = frozenset(" .\u02d0\u02d1-\u203f\u02b0\u02b2\u02b7\u0325\u032f\u0303\u032a\u02de|")
_ARPABET = re.compile(r"[A-Z]{1,2}[012]?(?:\s+[A-Z]{1,2}[012]?)*")


class UnknownSound(Exception):
    """A sign that stands for no sound: which, and where in the transcription (from 0)."""

    def __init__(self, sign: str, at: int) -> None:
        super().__init__(f"{sign!r} at {at} stands for no sound")
        self.sign = sign
        self.at = at


def phones_of(transcription: str) -> Phones:
    """Return the phones of a transcription in IPA or in capitals as ARPAbet; `UnknownSound` where it is neither.

    A stress mark counts for the next vowel. Without any mark the first vowel carries the stress.
    """
    if _ARPABET.fullmatch(transcription.strip()):
        return _arpabet(transcription)
    text = unicodedata.normalize("NFD", transcription).replace("c\u0327", "\xe7")
    text = text.replace("\u0361", "").replace("\u035c", "")  # ties: t and sh are one sound anyhow
    phones: list[str] = []
    stress, at = "0", 0
    while at < len(text):
        if text[at] in _STRESS:
            stress, at = _STRESS[text[at]], at + 1
            continue
        piece = next((text[at : at + size] for size in range(_LONGEST, 0, -1) if text[at : at + size] in _SOUNDS), "")
        if not piece and text[at] not in _SILENT:
            raise UnknownSound(text[at], min(at, len(transcription) - 1))
        for sound in _SOUNDS.get(piece, ()):
            phones.append(sound + stress if sound in VOWELS else sound)
            stress = "0" if sound in VOWELS else stress
        at += len(piece) or 1
    return _stressed(phones)


def _arpabet(transcription: str) -> Phones:
    for found in re.finditer(r"\S+", transcription):
        if found.group() not in PHONES and found.group() not in VOWELS:
            raise UnknownSound(found.group(), found.start())
    return _stressed([phone + "0" if phone in VOWELS else phone for phone in transcription.split()])


def _stressed(phones: Sequence[str]) -> Phones:
    vowels = [index for index, phone in enumerate(phones) if is_vowel(phone)]
    found = list(phones)
    if vowels and not any(phones[index][-1] == "1" for index in vowels):
        found[vowels[0]] = found[vowels[0]][:-1] + "1"
    return tuple(found)
