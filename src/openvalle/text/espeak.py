"""English pronunciations by espeak-ng (GPL-3; the extra `espeak`), in the same phones, for comparison.

Words are read one by one, without context: the words, their pauses and the symbols stay those of the built-in
front end, so that any model can be asked to speak them.
"""

from __future__ import annotations

from collections.abc import Iterable

from openvalle.errors import MissingExtra
from openvalle.text.phones import ESPEAK, Phones, read_ipa


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
    return {word: from_espeak(ipa) for word, ipa in zip(spellings, read, strict=True)}


def from_espeak(ipa: str) -> Phones:
    """Return espeak-ng's IPA as ARPAbet; strange signs are skipped, and an R that an ER already holds is dropped."""
    phones: list[str] = []
    for phone in read_ipa(ipa, ESPEAK):
        if phone != "R" or not phones or not phones[-1].startswith("ER"):
            phones.append(phone)
    return tuple(phones)
