"""English pronunciations by espeak-ng (GPL-3; the extra `espeak`), in the same phones, for comparison.

Words are read one by one, without context: the words, their pauses and the symbols stay those of the built-in
front end, so that any model can be asked to speak them.
"""

from __future__ import annotations

from collections.abc import Iterable

from openvalle.errors import MissingExtra
from openvalle.types import VOWELS

Phones = tuple[str, ...]
# fmt: off
_IPA = {  # espeak-ng's en-us transcription, longest piece first; a flap and a glottal stop are spoken forms of T
    "a\u026a\u025a": ("AY", "ER"), "a\u026a\u0259": ("AY", "AH"), "e\u026a": ("EY",), "a\u026a": ("AY",),
    "\u0254\u026a": ("OY",), "a\u028a": ("AW",), "o\u028a": ("OW",), "i\u0259": ("IY", "AH"), "ju\u02d0": ("Y", "UW"),
    "i\u02d0": ("IY",), "u\u02d0": ("UW",), "\u0251\u02d0": ("AA",), "\u0254\u02d0": ("AO",), "o\u02d0": ("AO",),
    "\u025c\u02d0": ("ER",), "\u0259l": ("AH", "L"), "t\u0283": ("CH",), "d\u0292": ("JH",), "n\u0329": ("AH", "N"),
    "i": ("IY",), "u": ("UW",), "\u026a": ("IH",), "\u1d7b": ("IH",), "\u025b": ("EH",), "\xe6": ("AE",),
    "a": ("AE",), "\u0251": ("AA",), "\u0252": ("AA",), "\u0254": ("AO",), "o": ("OW",), "e": ("EY",),
    "\u028a": ("UH",), "\u028c": ("AH",), "\u0250": ("AH",), "\u0259": ("AH",), "\u025a": ("ER",),
    "\u025c": ("ER",), "p": ("P",), "b": ("B",), "t": ("T",), "d": ("D",), "k": ("K",), "\u0261": ("G",), "g": ("G",),
    "f": ("F",), "v": ("V",), "\u03b8": ("TH",), "\xf0": ("DH",), "s": ("S",), "z": ("Z",), "\u0283": ("SH",),
    "\u0292": ("ZH",), "h": ("HH",), "m": ("M",), "n": ("N",), "\u014b": ("NG",), "l": ("L",), "\u0279": ("R",),
    "r": ("R",), "j": ("Y",), "w": ("W",), "\u027e": ("T",), "\u0294": ("T",), "x": ("K",), "\xe7": ("HH",),
}
# fmt: on
_LONGEST = max(map(len, _IPA))
_STRESS = {"\u02c8": "1", "\u02cc": "2"}


def pronunciations(words: Iterable[str]) -> dict[str, Phones]:
    """Return the phones of each word; `MissingExtra` if espeak-ng is not installed."""
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
    except ImportError:
        raise MissingExtra("espeak-ng (espeakng-loader, phonemizer-fork)", "espeak") from None
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    spellings = sorted(set(words))
    read = EspeakBackend("en-us", with_stress=True).phonemize(spellings, strip=True)
    return {word: from_ipa(ipa) for word, ipa in zip(spellings, read, strict=True)}


def from_ipa(ipa: str) -> Phones:
    """Return espeak-ng's IPA as ARPAbet; a stress mark counts for the next vowel, strange signs are skipped."""
    phones: list[str] = []
    stress, at = "0", 0
    while at < len(ipa):
        if ipa[at] in _STRESS:
            stress = _STRESS[ipa[at]]
            at += 1
            continue
        piece = next((ipa[at : at + size] for size in range(_LONGEST, 0, -1) if ipa[at : at + size] in _IPA), "")
        for sound in _IPA.get(piece, ()):
            if sound in VOWELS:
                phones.append(sound + stress)
                stress = "0"
            else:
                phones.append(sound)
        at += len(piece) or 1
    return _rhotic(phones)


def _rhotic(phones: list[str]) -> Phones:
    """Join a reduced vowel and the R of its syllable, and drop an R that ER already holds."""
    joined: list[str] = []
    for phone in phones:
        if phone == "R" and joined and joined[-1].startswith("ER"):
            continue
        joined.append(phone)
    return tuple(joined)
