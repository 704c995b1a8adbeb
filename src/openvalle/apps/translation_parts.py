"""What a translation that is interrupted goes on from: the segments with their translations, and those that are spoken.

Both lie in a folder under the digest of all that they depend on; the sound as `SentenceStore` keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.apps.narration import digest
from openvalle.apps.segments import SourceSegment
from openvalle.apps.sentence_store import SentenceStore
from openvalle.audio import Audio
from openvalle.config import Syntax, read_data
from openvalle.errors import UserError
from openvalle.files import write_text
from openvalle.safety.detector import Provenance
from openvalle.synth.speech import Quality, Speech, Timed

Segments = tuple[str, Sequence[SourceSegment], Sequence[str]]  # the language, and the translation of each


class TranslationParts:
    """The parts of one translation, in a folder."""

    def __init__(self, folder: Path, rate: int, provenance: Provenance, resume: bool = True) -> None:
        """`rate`, `provenance`: of what is spoken; without `resume` what is there is removed."""
        self.folder, self._provenance = folder, provenance
        self._sounds = SentenceStore(folder, rate)
        if not resume:
            self.remove()

    def find_segments(self, facts: object, make: Callable[[], Segments]) -> Segments:
        """Return the segments of a recording and their translations, made if they are not there; `facts`: all that
        they depend on."""
        path = self.folder / f"segments-{digest(facts)}.json"
        found = _read(path, _to_segments)
        if found is None:
            found = make()
            language, segments, translations = found
            values = {"language": language, "segments": [asdict(each) for each in segments]}
            write_text(path, json.dumps(values | {"translations": list(translations)}, ensure_ascii=False))
        return found

    def find_speech(self, facts: object, say: Callable[[], Speech]) -> Speech:
        """Return a spoken segment as it was kept, spoken if it is not there; `facts`: all that it depends on."""
        key = digest(facts)
        path = self.folder / f"{key}.json"
        about = _read(path, _to_speech) if self._sounds.has(key) else None
        if about is None:
            about = say()
            values = asdict(replace(about, audio=Audio(np.zeros(0, np.float32), about.audio.rate), provenance=None))
            values |= {"audio": None, "codes": about.codes.tolist()}
            write_text(path, json.dumps(values, ensure_ascii=False))
            self._sounds.add(key, about.audio.samples)  # it is there when its sound is
        audio = Audio(self._sounds.read(key), self._sounds.rate)
        return replace(about, audio=audio, provenance=self._provenance)

    def remove(self) -> None:
        """Remove all parts: they are in the new recording, or not wanted."""
        self._sounds.keep_only(())
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)


def _read(path: Path, convert: Callable[[Any], Any]) -> Any:
    """Return what a file holds, None if it is not there or damaged."""
    try:
        return convert(read_data(path, Syntax.JSON))
    except (UserError, KeyError, TypeError, ValueError):
        return None


def _to_segments(values: Any) -> Segments:
    segments = [SourceSegment(**{**one, "words": _to_timed(one["words"])}) for one in values["segments"]]
    return str(values["language"]), segments, [str(text) for text in values["translations"]]


def _to_speech(values: Any) -> Speech:
    quality: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in values["quality"].items()
    }
    return Speech(
        Audio(np.zeros(0, np.float32), 1),
        str(values["text"]),
        _to_timed(values["words"]),
        _to_timed(values["phones"]),
        Quality(**quality),
        np.array(values["codes"], np.uint16).reshape(len(values["codes"]), -1),
        tuple(values["symbols"]),
        tuple(values["durations"]),
        speaker=str(values["speaker"]),
        language=str(values["language"]),
    )


def _to_timed(values: Any) -> tuple[Timed, ...]:
    return tuple(Timed(**one) for one in values)
