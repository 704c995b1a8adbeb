"""Pronunciations as people of other languages than English write them: pinyin with its tones, kana, phones by name."""

from __future__ import annotations

from openvalle.text.kana import PRONUNCIATION as KANA
from openvalle.text.kana import read_kana
from openvalle.text.phones import MARKS, SEGMENTS, Phones, UnknownSound
from openvalle.text.pinyin import SYLLABLES, NotPinyin, read_pinyin

_SYMBOLS = frozenset((*MARKS, *SEGMENTS))


def read_written(transcription: str) -> Phones | None:
    """Return the phones of pinyin, of kana or of symbols of the inventory; None for a transcription of another kind.

    Pinyin: `yin2 hang2`; kana: `\u2193\u30cf\u30b7`, an arrow before the mora on which the pitch rises or after
    which it falls; symbols: with blanks between.

    `UnknownSound` for a syllable that Mandarin does not have.
    """
    text = transcription.strip()
    if KANA.fullmatch(text) and text.strip(" \u2191\u2193'"):
        return read_kana(text)
    if SYLLABLES.fullmatch(text.lower()):
        try:
            return read_pinyin(text)
        except NotPinyin as error:
            raise UnknownSound(str(error), max(0, text.lower().find(str(error)))) from None
    parts = tuple(text.split())
    if len(parts) > 1 and _SYMBOLS.issuperset(parts):
        return parts
    return None
