"""Is a recording synthetic? What the watermark and the tags can say about it, and what they cannot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from openvalle.audio import read
from openvalle.safety.provenance import Provenance, read_provenance
from openvalle.safety.watermark import Detection, Detector


class Verdict(StrEnum):
    """What follows from what was found; never more than that."""

    MARKED = "marked"  # the sound itself carries the watermark
    TAGGED = "tagged"  # only the file's tags speak of openvalle
    UNKNOWN = "unknown"  # nothing was found


MEANINGS = {
    Verdict.MARKED: "if this is speech, it is very likely synthetic, made by openvalle or by another program that uses "
    "the Perth watermark; by which person, or with whose consent, cannot be told (steady tones, as in music, may be "
    "mistaken for the mark)",
    Verdict.TAGGED: "the file says that openvalle made it, but the sound carries no watermark; anyone can write or "
    "remove such tags",
    Verdict.UNKNOWN: "nothing can be concluded: marks can be removed, and most programs that make speech leave none, "
    "so this does not mean that a person spoke",
}
PARTLY = "the mark is in {share:.0%} of the recording only: it was cut together, or changed in places"


@dataclass(frozen=True)
class Finding:
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


def inspect(path: str | Path, detector: Detector) -> Finding:
    """Return what is found in a sound file; `AudioError` if it cannot be read, is silent or too short."""
    return Finding(Path(path), detector.detect(read(path)), read_provenance(path))
