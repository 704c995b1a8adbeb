"""Languages and the ids models know them by; the ids are frozen, for they are stored in models."""

from __future__ import annotations

from enum import StrEnum

from openvalle.errors import TextError


class Language(StrEnum):
    """The languages that can be spoken."""

    ENGLISH = "en"  # American English, built in


_IDS = {Language.ENGLISH: 0}
_ALIASES = {"english": Language.ENGLISH, "en-us": Language.ENGLISH, "eng": Language.ENGLISH}
_EXTRAS = {"zh": "zh", "ja": "ja"}  # every other language would come with espeak-ng


def language(name: str) -> Language:
    """Return the language of a name such as `en` or `en-US`; `TextError` for one that cannot be spoken yet."""
    key = name.strip().lower().replace("_", "-")
    if key in _ALIASES:
        return _ALIASES[key]
    if key in tuple(Language):
        return Language(key)
    extra = _EXTRAS.get(key.partition("-")[0], "espeak")
    raise TextError(
        f"the language {name!r} cannot be spoken",
        f"use {', '.join(Language)}; {name!r} needs models and phones that the extra '{extra}' does not bring yet",
    )


def language_id(name: str) -> int:
    """Return the number of a language in models."""
    return _IDS[language(name)]
