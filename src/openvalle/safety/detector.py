"""Is a recording synthetic? What the watermark and the tags can say about it, and what they cannot.

Tags in a sound file that say where it comes from. Whoever has the file can change or remove them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from openvalle.media import read, read_tags
from openvalle.safety.watermark import Detection, Detector

GENERATOR = "openvalle"
KEY = f"{GENERATOR}: "  # what stands before the JSON in the comment
STATEMENT = "Synthetic speech, made by a machine."
# The term of the IPTC's controlled vocabulary for media made by a trained model.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@dataclass(frozen=True)
class Provenance:
    """What made a sound. It names no person, no text and no time, so that equal sounds are equal files."""

    generator: str  # "openvalle 0.1.0"
    model: str  # the bundle's name
    watermark: str = ""  # the mark's name; empty without one

    def tags(self) -> dict[str, str]:
        """Return the tags to write."""
        facts = json.dumps(asdict(self) | {"digital_source_type": SOURCE_TYPE})  # ASCII: MP3 readers differ on the rest
        return {"software": self.generator, "genre": "Speech", "comment": f"{STATEMENT} {KEY}{facts}"}


def read_provenance(path: str | Path) -> Provenance | None:
    """Return what a sound file's tags say about openvalle, None if nothing; `AudioError` if it cannot be read."""
    _, found, facts = read_tags(path).get("comment", "").partition(KEY)
    if not found:
        return None
    try:
        values: Any = json.JSONDecoder().raw_decode(facts)[0]
    except json.JSONDecodeError:
        return None
    if not isinstance(values, dict):
        return None
    generator, model, watermark = (str(values.get(key, "")) for key in ("generator", "model", "watermark"))
    return Provenance(generator, model, watermark) if generator.startswith(GENERATOR) else None


class Verdict(StrEnum):
    """What follows from what was found; never more than that."""

    MARKED = "marked"  # the sound itself carries the watermark
    TAGGED = "tagged"  # only the file's tags speak of openvalle
    UNKNOWN = "unknown"  # nothing was found


MEANINGS = {
    Verdict.MARKED: "if this is speech, it is very likely synthetic, made by openvalle or by another program that uses "
    "the Perth watermark; by which person, or with whose consent, cannot be told (music may be "
    "mistaken for the mark)",
    Verdict.TAGGED: "the file says that openvalle made it, but the sound carries no watermark; anyone can write or "
    "remove such tags",
    Verdict.UNKNOWN: "nothing can be concluded: marks can be removed, and most programs that make speech leave none, "
    "so this does not mean that a person spoke",
}
PARTLY = "the mark is in {share:.0%} of the recording only: it was cut together, or changed in places"


@dataclass(frozen=True)
class Inspection:
    """Everything that was found in a file."""

    path: Path
    detection: Detection
    provenance: Provenance | None

    @property
    def verdict(self) -> Verdict:
        """What follows from it."""
        if self.detection.is_marked:
            return Verdict.MARKED
        return Verdict.TAGGED if self.provenance else Verdict.UNKNOWN

    @property
    def meaning(self) -> str:
        """One sentence for a person."""
        is_partial = self.detection.is_marked and self.detection.share < 1
        return "; ".join([MEANINGS[self.verdict], *([PARTLY.format(share=self.detection.share)] * is_partial)])

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "path": str(self.path),
            "verdict": self.verdict.value,
            "meaning": self.meaning,
            "watermark": self.detection.as_dict(),
            "metadata": asdict(self.provenance) if self.provenance else None,
        }


def inspect(path: str | Path, detector: Detector) -> Inspection:
    """Return what is found in a sound file; `AudioError` if it cannot be read, is silent or too short."""
    return Inspection(Path(path), detector.detect(read(path)), read_provenance(path))
