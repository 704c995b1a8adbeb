"""Japanese in the IPA letters that VALL-E X reads: sounds, `↑` and `↓` where the pitch rises and falls, `*` after
voiceless vowels.

Readings and accents are those of Open JTalk's own dictionary rules (pyopenjtalk-plus, the extra `ja`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from openvalle.errors import import_extra

EXTRA = "ja"
_SPOKEN = "A-Za-z\\d\u3005\u3040-\u30ff\u4e00-\u9fff\uff11-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9d"
_PART = re.compile(f"([{_SPOKEN}]+)|(.)", re.S)
_MARKS = {"、": ",", "。": ".", "「": "[", "」": "]", "『": "{", "』": "}", "…": "...", "―": "--", "—": "--", "〜": "~"}
_LABEL = re.compile(r"-(?P<sound>[^+]*)\+.*/A:(?P<fall>-?\w+)\+(?P<mora>\w+)\+(?P<left>\w+)/")
_SILENT = ("sil", "pau")
_SIGNS = {"ch": "ʧ", "sh": "ʃ", "cl": "Q"}
# What a stop before a consonant, and `N` before one, sound like; arrows may stand between.
_ASSIMILATED = (
    ("Q([↑↓]*[kg])", r"k#\1"),
    ("Q([↑↓]*[tdjʧ])", r"t#\1"),
    ("Q([↑↓]*[sʃ])", r"s\1"),
    ("Q([↑↓]*[pb])", r"p#\1"),
    ("N([↑↓]*[pbm])", r"m\1"),
    ("N([↑↓]*[ʧʥj])", r"n^\1"),
    ("N([↑↓]*[tdn])", r"n\1"),
    ("N([↑↓]*[kg])", r"ŋ\1"),
)
_LETTERS = (
    ("u", "ɯ"), ("ʧ", "tʃ"), ("j", "dʑ"), ("y", "j"), ("ni", "n^i"), ("nj", "n^"), ("hi", "çi"), ("hj", "ç"),
    ("f", "ɸ"), ("I", "i*"), ("U", "ɯ*"), ("r", "ɾ"),
)  # fmt: skip


def write_letters(text: str) -> str:
    """Return a text in IPA letters, spaces between accent phrases."""
    said = ""
    for spoken, mark in _PART.findall(text.replace("％", "パーセント")):
        if spoken:
            said += (" " if said else "") + _write_romaji(_openjtalk().extract_fullcontext(spoken))
        else:
            said += _MARKS.get(mark, unicodedata.normalize("NFKC", mark)).strip()
    said = said.replace("...", "…")
    for pattern, sound in (*_ASSIMILATED, *_LETTERS):
        said = re.sub(pattern, sound, said)
    return said


def _openjtalk() -> Any:
    return import_extra("pyopenjtalk", "pyopenjtalk-plus, the readings and accents of Japanese,", EXTRA)


def _write_romaji(labels: Sequence[str]) -> str:
    """Return the sounds of full-context labels with spaces between accent phrases and arrows for the pitch."""
    found = [match for label in labels if (match := _LABEL.search(label))]
    said = ""
    for label, after in zip(found, [*found[1:], None], strict=True):
        if label["sound"] in _SILENT:
            continue
        sound = label["sound"]
        for romaji, sign in _SIGNS.items():
            sound = sound.replace(romaji, sign)
        said += sound
        mora, following = int(label["mora"]), -1
        if after is not None and after["sound"] not in _SILENT:
            following = int(after["mora"])
        if int(label["left"]) == 1 and following == 1:
            said += " "  # the next accent phrase
        elif int(label["fall"]) == 0 and following == mora + 1:
            said += "↓"
        elif mora == 1 and following == 2:
            said += "↑"
    return said
