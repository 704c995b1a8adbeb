"""Tags in a sound file that say where it comes from. Whoever has the file can change or remove them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openvalle.audio import read_tags

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
